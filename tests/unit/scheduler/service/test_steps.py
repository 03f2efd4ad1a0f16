"""The service without threads: what a kill between any two steps leaves, and that no real time is asked for."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

import scheduler.service
from scheduler.core.usage_records import UsageEntry
from scheduler.ports import Change
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, spec

ROOM = Path(scheduler.service.__file__).parent
MAY_KNOW_THREADS = {"loop.py", "together.py"}
REAL = {"threading", "concurrent", "time", "asyncio", "queue", "multiprocessing", "sched"}


class Killed(BaseException):
    """kill -9."""


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_threads_and_real_time_stay_at_the_doors() -> None:
    found = {path.name: sorted(imported(path) & REAL) for path in sorted(ROOM.glob("*.py"))}
    assert {name for name, names in found.items() if names} == MAY_KNOW_THREADS
    assert found["together.py"] == ["threading"]


@pytest.mark.parametrize("where", ["commit", "send", "ack", "publish"])
def test_a_kill_passes_through_wherever_it_strikes(make: Make, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is it taken for a bug, nor does anything happen after it."""
    world = make(node_facts("n1", 2))
    world.one()
    victim = {"commit": world.store, "send": world.engine, "ack": world.engine, "publish": world.gateway}[where]
    real = getattr(victim, where)

    def kill(*_args: object, **_given: object) -> None:
        raise Killed

    world.service.submit([spec()], OPERATOR)
    world.service.loop._steps.state.published = None  # a table is published anew
    monkeypatch.setattr(victim, where, kill)
    with pytest.raises(Killed):
        world.run()
    monkeypatch.setattr(victim, where, real)
    assert world.service.loop.bugs == 0
    assert world.restart().words("1", "2") == "running running"


def test_a_kill_passes_through_a_question(make: Make) -> None:
    def killed(_state: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        make().service.loop.call(killed)


def test_without_a_thread_nobody_waits_for_what_cannot_come(make: Make) -> None:
    """`wait` would be the longest test of all."""
    world = make()
    job = world.one()
    assert world.service.wait(job, OPERATOR, timeout_s=1e6)["state"] == "running"


def test_how_long_until_something_is_due(make: Make) -> None:
    world = make()
    steps = world.service.loop._steps
    assert steps.wait_s() == 1.0  # never longer
    world.engine.disconnect()
    world.clock.advance(14.75)
    assert steps.wait_s() == 0.25  # the leases, four times in 60 s


def test_a_batch_that_could_not_be_committed_rests_by_the_clock_that_was_given(make: Make) -> None:
    world = make()
    steps = world.service.loop._steps
    tried: list[float] = []
    real = world.store.commit

    def commit(changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
        tried.append(world.clock.now_s())
        real(changes, usage_records)

    world.service.submit([spec()], OPERATOR)
    world.store.commit = commit  # type: ignore[method-assign]
    world.store.full, steps.retry_s = True, 0.5
    start_s = world.clock.now_s()
    for _ in range(8):
        world.once()
        world.clock.advance(0.125)
    assert steps.blocked
    assert steps.wait_s() == pytest.approx(0.0)
    world.clock.advance(-1e6)  # a clock that is set back holds nothing up
    world.once()
    assert [at_s - start_s for at_s in tried] == [0.0, 0.5, 1.0 - 1e6]
    world.store.full = False
    world.clock.advance(1e6)
    assert world.run().words("1") == "running"
