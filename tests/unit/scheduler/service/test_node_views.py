"""The list of nodes: the thread that plans says what only it can say, and whoever asked builds the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from scheduler.core.demand import Demand
from scheduler.service import node_views
from scheduler.service.state import ServiceState
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import HOSPITAL, OPERATOR, STUDIO, World

T = TypeVar("T")


def test_the_planning_thread_builds_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(node_facts("n1", 8), node_facts("n2", 8))
    call, is_asking = world.service.loop.call, False
    build, built = node_views.node_view, 0

    def asked(question: Callable[[ServiceState], T]) -> T:
        def ask(state: ServiceState) -> T:
            nonlocal is_asking
            is_asking = True
            try:
                return question(state)
            finally:
                is_asking = False

        return call(ask)

    def node_view(*told: object) -> object:
        nonlocal built
        assert not is_asking
        built += 1
        return build(*told)  # type: ignore[arg-type]

    monkeypatch.setattr(world.service.loop, "call", asked)
    monkeypatch.setattr(node_views, "node_view", node_view)
    assert [node["name"] for node in world.service.nodes(OPERATOR)["nodes"]] == ["n1", "n2"]
    assert world.service.node("n2", OPERATOR)["name"] == "n2"
    assert built == 3


def test_that_a_device_is_taken_is_everybodys_business_and_by_whom_is_not() -> None:
    world = World(node_facts("n1", 2))
    whole = world.one(devices=1)
    shares = [world.one(alternatives=(Demand(devices=0, share_milli=250),)) for _ in range(2)]
    for by, jobs in ((OPERATOR, [[whole], shares]), (STUDIO, [[whole], shares]), (HOSPITAL, [[], []])):
        for node in (world.service.node("n1", by), *world.service.nodes(by)["nodes"]):
            devices = sorted(node["devices"], key=lambda device: -device["used_milli"])
            assert [device["used_milli"] for device in devices] == [1000, 500]
            assert [device["jobs"] for device in devices] == jobs
