"""kill -9 at every place of the way: between any two batches, and with any command after the commit unsent."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from node_agent.messages import Command
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, spec


def to_the_end(world: World) -> None:
    for _ in range(3):
        for key in world.engine.live():
            world.engine.end(key, "exit", 0)
        world.run().pass_time(2)


@pytest.mark.parametrize("batches", range(9))
def test_between_two_batches(make: Make, batches: int) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    world.service.submit([spec(workers=3), spec(), spec(workers=2, devices=2, after=())], OPERATOR)
    for batch in range(batches):
        world.once()
        if batch == 4:
            for key in world.engine.live("2"):
                world.engine.end(key, "exit", 0)
    world.restart()
    assert world.words("1", "2") in ("running running", "running succeeded")
    to_the_end(world)
    assert world.words("1", "2", "3") == "succeeded succeeded succeeded"
    assert [world.job(job).attempts for job in ("1", "2", "3")] == [1, 1, 1]
    assert len(world.engine.launched) == 6


@pytest.mark.parametrize("delivered", range(10))
def test_with_only_the_first_commands_delivered(make: Make, delivered: int) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 2))
    real_send = world.engine.send
    left = delivered

    def send(node: str, commands: Sequence[Command]) -> None:
        nonlocal left
        now, left = commands[:left], left - len(commands[:left])
        real_send(node, now)

    world.engine.send = send  # type: ignore[method-assign]
    world.service.submit([spec(workers=2), spec()], OPERATOR)
    world.run()
    world.engine.send = real_send  # type: ignore[method-assign]
    world.restart()
    assert world.words("1", "2") == "running running"
    assert len(set(world.engine.launched)) == len(world.engine.launched) == 3
    assert len({world.engine.masters[key] for key in world.engine.launched if key.job_id == "1"}) == 1
    to_the_end(world)
    assert world.words("1", "2") == "succeeded succeeded"


@pytest.mark.parametrize("batches", range(6))
def test_in_the_middle_of_a_preemption(make: Make, batches: int) -> None:
    world = make(node_facts("n1", 2), node_facts("n2", 2))
    victim = world.one(workers=2, devices=2, priority=0, saves=True)
    world.engine.saves.add(victim)
    urgent = world.service.submit([spec(devices=2, priority=90)], OPERATOR)["jobs"][0]["id"]
    for _ in range(batches):
        world.once()
    world.restart()
    assert world.words(victim, urgent) == "pending running"
    assert world.job(victim).resume_from == f"/ck/{victim}/attempt-1"
    world.engine.exit(urgent)
    world.run()
    assert world.words(victim, urgent) == "running succeeded"
    assert world.job(victim).attempts == 2
