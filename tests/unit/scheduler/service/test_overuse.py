"""More memory in use than the shares given out: seen in readings, and said on the node."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.demand import Demand
from scheduler.ports import NodeUp
from scheduler.service.overuse import CONTEXT_BYTES, SharedDevice, overuse_notes
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, World

GIB = 1 << 30
DEVICE = SharedDevice(index=3, uuid="GPU-a", used_milli=500, jobs=2, since_s=100.0)


def readings(used: float, total: float = 80 * GIB, *, at_s: float = 105.0, quality: str = "measured") -> dict[str, Any]:
    def reading(value: float) -> dict[str, Any]:
        return {"value": value, "unit": "bytes", "at_s": at_s, "quality": quality}

    return {"GPU-a": {"memory_used_bytes": reading(used), "memory_total_bytes": reading(total)}}


def test_more_than_the_shares_is_said_with_its_figures() -> None:
    (note,) = overuse_notes([DEVICE], readings(60 * GIB), held=False)
    assert note == (
        "device 3 has 60.0 GiB of memory in use, more than the 40.0 GiB of the shares that were given out of it, and"
        " nothing holds jobs to theirs"
    )
    (note,) = overuse_notes([DEVICE], readings(60 * GIB), held=True)
    assert note.endswith("although a daemon holds jobs to theirs")


@pytest.mark.parametrize(
    "seen",
    [
        {},
        {"GPU-a": {}},
        {"GPU-b": readings(60 * GIB)["GPU-a"]},
        {"GPU-a": {"memory_used_bytes": {"unavailable": "device lost"}, "memory_total_bytes": {"unavailable": "x"}}},
        readings(40 * GIB),
        readings(40 * GIB + 2 * CONTEXT_BYTES),
        readings(60 * GIB, quality="simulated"),
        readings(60 * GIB, at_s=99.0),
    ],
    ids=["none", "empty", "another's", "unavailable", "just so", "contexts", "simulated", "before these jobs"],
)
def test_what_shows_nothing_says_nothing(seen: dict[str, Any]) -> None:
    assert overuse_notes([DEVICE], seen, held=False) == []


@given(st.integers(1, 999), st.integers(0, 80 * GIB), st.integers(1, 8))
def test_it_is_said_exactly_beyond_the_shares_and_their_contexts(used_milli: int, used: int, jobs: int) -> None:
    device = SharedDevice(0, "GPU-a", used_milli, jobs, 0.0)
    said = overuse_notes([device], readings(used), held=False)
    assert bool(said) == (used - jobs * CONTEXT_BYTES > 80 * GIB * used_milli / 1000)


# ---- through the service ---------------------------------------------------------------------------------------------


def shared_world() -> tuple[World, list[str]]:
    world = World(node_facts("n1", 1))
    jobs = [world.one(alternatives=(Demand(devices=0, share_milli=250),)) for _ in range(2)]
    assert world.words(*jobs) == "running running"
    return world, jobs


def show(world: World, used: float, at_s: float) -> list[str]:
    world.engine.shown_readings = {"n1": {"n1-dev0": readings(used, at_s=at_s)["GPU-a"]}}
    (node,) = world.service.nodes(OPERATOR)["nodes"]
    notes: list[str] = node["notes"]
    return notes


def test_a_node_s_notes_tell_of_it_while_it_lasts() -> None:
    world, _ = shared_world()
    now_s = world.clock.now_s()
    assert show(world, 10 * GIB, now_s) == []
    (note,) = show(world, 60 * GIB, now_s)
    assert "more than the 40.0 GiB" in note
    assert show(world, 60 * GIB, now_s - 1.0) == [], "that was before these jobs had it"


def test_a_device_that_somebody_has_whole_is_no_shared_one() -> None:
    world = World(node_facts("n1", 1))
    world.one()
    assert show(world, 79 * GIB, world.clock.now_s()) == []


@pytest.mark.parametrize("shares", ["advisory", "mps"])
def test_a_job_s_view_says_what_holds_it_to_its_share(shares: Literal["advisory", "mps"]) -> None:
    world, jobs = shared_world()
    whole = world.one(alternatives=(Demand(devices=0, share_milli=0),))
    world.service.loop.post(NodeUp(node_facts("n1", 1), (), (), 1, shares=shares))
    world.run()
    (node,) = world.service.nodes(OPERATOR)["nodes"]
    assert node["shares"] == shares
    job = world.one(alternatives=(Demand(devices=0, share_milli=250),))
    assert [worker["share_by"] for worker in world.view(job)["workers"]] == [shares]
    assert all(worker["share_by"] is None for worker in world.view(whole)["workers"])
    assert jobs
