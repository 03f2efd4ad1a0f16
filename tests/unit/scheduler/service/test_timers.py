"""Of each thing only its newest time counts, and what no longer counts does not pile up."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.service.timers import REBUILD_FROM, Timer, Timers
from tests.fakes.service_world import World


def test_the_newest_time_of_a_thing_is_the_one_that_counts() -> None:
    timers = Timers()
    for due_s in (5.0, 9.0, 9.0, 7.0):
        timers.add(Timer(due_s, "not_before", "1"))
    timers.add(Timer(6.0, "time_limit", "1"))
    timers.add(Timer(6.5, "replica", "1", 1))
    assert timers.next_due_s() == 6.0
    assert [timer.kind for timer in timers.pop_due(6.9)] == ["time_limit", "replica"]
    assert [timer.due_s for timer in timers.pop_due(100.0)] == [7.0]
    assert timers.next_due_s() is None


def test_what_is_dropped_does_not_come() -> None:
    timers = Timers()
    timers.add(Timer(5.0, "time_limit", "1"))
    timers.add(Timer(6.0, "time_limit", "2"))
    timers.drop("time_limit", "1")
    timers.drop("time_limit", "never-set")
    assert timers.next_due_s() == 6.0
    assert [timer.subject for timer in timers.pop_due(100.0)] == ["2"]
    timers.add(Timer(5.0, "time_limit", "1"))
    assert [timer.subject for timer in timers.pop_due(100.0)] == ["1"]


def test_the_heap_holds_at_most_twice_what_is_to_happen() -> None:
    """A week's limit of a job that ended after a second was held for a week: millions of them filled the memory."""
    timers = Timers()
    for number in range(10):
        timers.add(Timer(1_000.0 + number, "time_limit", f"long-{number}"))
    for number in range(20_000):
        timers.add(Timer(604_800.0, "time_limit", str(number)))
        timers.drop("time_limit", str(number))
        assert len(timers) <= REBUILD_FROM
    assert [timer.subject for timer in timers.pop_due(2_000.0)] == [f"long-{number}" for number in range(10)]


def test_a_job_that_has_ended_leaves_no_timer(make: Callable[..., World]) -> None:
    world = make()
    timers = world.service.loop._state.timers
    job = world.one(retries=1, time_limit_s=1e6)
    assert timers.next_due_s() == world.clock.now_s() + 1e6
    world.engine.exit(job, 1)
    world.run()
    assert timers.next_due_s() == world.clock.now_s() + 1
    world.pass_time(1)
    world.engine.exit(job)
    world.run()
    assert timers.next_due_s() is None
