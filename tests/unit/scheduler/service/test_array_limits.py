"""Arrays that run no more than so many of their tasks at a time, whatever becomes of these."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core import transitions
from scheduler.core.jobs import Job
from scheduler.core.reasons import ArrayLimit
from scheduler.service.array_windows import ArrayWindows
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, spec


def tasks(size: int = 10, limit: int = 2, **given: Any) -> Any:
    return spec(array_size=size, array_limit=limit, **given)


def running(world: World) -> list[str]:
    return sorted({key.job_id for key in world.engine.live()})


def test_no_more_run_at_a_time_and_the_next_starts_when_one_ends(world: World) -> None:
    world.submit(tasks(6))
    seen = []
    while live := running(world):
        assert len(live) <= 2
        seen += [job_id for job_id in live if job_id not in seen]
        world.engine.exit(live[0])
        world.run()
    assert seen == [f"1.{i}" for i in range(6)]
    assert world.words(*seen) == " ".join(["succeeded"] * 6)


def test_why_says_what_the_limit_is_and_who_has_the_places(world: World) -> None:
    (first, *_) = world.submit(tasks(5))
    view = world.view("1.4")
    assert view["array_limit"] == 2
    assert view["reason"] == {
        "kind": "array_limit",
        "text": "2 of at most 2 tasks of its array run at a time",
        **{"running": 2, "taken": 2, "maximum": 2},
    }
    why = world.service.why("1.4", OPERATOR)
    assert why["blocked_by"] == [first, "1.1"]
    assert "  its array     job 1.0, 1.1\n                1.0 (job, normal) is running, over in 1 h" in why["text"]
    assert "submit with a higher array.limit" in why["text"]


def test_tasks_that_are_next_take_places_too(world: World) -> None:
    world.one(devices=4)
    world.submit(tasks(5, 3))
    assert world.view("2.4")["reason"]["text"] == "0 of at most 3 tasks of its array run at a time, and 3 are next"
    assert "0 of 4 devices free" in world.view("2.2")["reason"]["text"]
    world.service.cancel("2.0", OPERATOR, reason="")
    world.run()
    assert world.view("2.3")["reason"]["kind"] == "no_fit"  # it has moved up


@pytest.mark.parametrize("how", ["cancel", "fail", "hold", "requeue --hold", "back-off"])
def test_whatever_takes_a_task_away_gives_its_place_to_the_next(world: World, how: str) -> None:
    world.submit(tasks(4, 2, retries=1 if how == "back-off" else 0, devices=1))
    assert running(world) == ["1.0", "1.1"]
    match how:
        case "cancel":
            world.service.cancel("1.0", OPERATOR, reason="")
        case "fail" | "back-off":
            world.engine.exit("1.0", code=3)
        case "hold":
            world.service.hold_jobs(["1.2"], OPERATOR, reason="r")
            world.engine.exit("1.0")
        case "requeue --hold":
            world.service.requeue_jobs(["1.0"], OPERATOR, reason="r", hold=True)
    world.run()
    assert running(world) == (["1.1", "1.3"] if how == "hold" else ["1.1", "1.2"])
    if how == "back-off":
        world.pass_time(5)
        assert running(world) == ["1.1", "1.2"]  # it is first among those that wait, but takes nobody's place
        world.engine.exit("1.1")
        world.run()
        assert running(world) == ["1.0", "1.2"]
    if how.endswith("hold"):
        world.service.release_jobs(["1"], OPERATOR)
        world.run()
        assert len(running(world)) == 2


def test_a_requeued_task_keeps_its_place(world: World) -> None:
    world.submit(tasks(4, 2))
    world.service.requeue_jobs(["1.0"], OPERATOR, reason="r", hold=False)
    world.run()
    assert running(world) == ["1.0", "1.1"]


def test_while_an_old_run_may_live_on_a_silent_node_its_place_is_taken(make: Make) -> None:
    world = make(node_facts("n1", 1), node_facts("n2", 4))
    world.submit(tasks(4, 2))
    (key,) = [key for key in world.engine.live() if key.node == "n1"]
    world.engine.vanish("n1")
    world.pass_time(30)
    assert world.view(key.job_id)["reason"]["kind"] == "waiting_for_lease"
    assert len(running(world)) == 2
    world.restart().pass_time(200)
    assert len([job_id for job_id in running(world) if job_id != key.job_id]) <= 2
    assert world.words(key.job_id) in ("running", "starting")
    world.engine.come_back("n1")
    world.run()
    assert len(running(world)) == 2


def test_the_limit_holds_after_a_restart_also_where_late_tasks_run_and_early_ones_wait(world: World) -> None:
    world.submit(tasks(6, 2, devices=2))
    world.service.requeue_jobs(["1.0", "1.1"], OPERATOR, reason="r", hold=True)
    world.run()
    assert running(world) == ["1.2", "1.3"]
    world.service.release_jobs(["1.0", "1.1"], OPERATOR)
    world.run()
    for _ in range(2):
        world.restart()
        assert running(world) == ["1.2", "1.3"]
        assert world.view("1.0")["reason"]["kind"] == "array_limit"
    world.engine.exit("1.3")
    world.run()
    assert running(world) == ["1.0", "1.2"]


def test_an_array_that_waits_for_others_takes_no_places_before(world: World) -> None:
    before = world.one(devices=4)
    world.submit(tasks(4, 2, after=(before,)))
    assert world.view("2.3")["reason"]["kind"] == "waiting_for_jobs"
    world.engine.exit(before)
    world.run()
    assert running(world) == ["2.0", "2.1"]


def test_arrays_are_counted_apart_and_their_tasks_as_queued(world: World) -> None:
    world.submit(tasks(3, 1), tasks(3, 1), spec(array_size=3))
    assert running(world) == ["1.0", "2.0", "3.0", "3.1"]
    studio = next(t for t in world.service.tenants(OPERATOR)["tenants"] if t["name"] == "studio")
    assert studio["queued_jobs"] == 5


def test_a_whole_array_is_cancelled_without_anything_starting(world: World) -> None:
    world.submit(tasks(200, 3))
    answer = world.service.cancel_jobs(["1"], OPERATOR, reason="")
    assert (answer["cancelled"], answer["stopping"]) == (197, 3)
    world.run()
    assert len(world.engine.launched) == 3
    assert not world.store.live_jobs()


def test_an_array_submitted_anew_keeps_its_limit(world: World) -> None:
    world.submit(tasks(3, 1))
    world.service.cancel_jobs(["1"], OPERATOR, reason="")
    world.run()
    world.service.requeue_jobs(["1"], OPERATOR, reason="r", hold=False)
    world.run()
    assert running(world) == ["2.0"]


# ---- any order of events -----------------------------------------------------------------------------------------

SIZE, LIMIT = 6, 2
BECOMES = st.sampled_from(["could start", "runs", "waits for else", "ended"])


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), BECOMES), max_size=60))
def test_places_are_never_too_many_nor_left_empty(steps: list[tuple[int, str]]) -> None:
    """`queued` is what the service would hold in its queue by what it is told."""
    windows = ArrayWindows()
    jobs = [_task(i) for i in range(SIZE)]
    became: dict[str, str] = {}
    queued: set[str] = set()
    for number, word in steps:
        job = jobs[number]
        became[job.id] = word
        may, changed = windows.settle(job, could_start=word == "could start", may_run=word == "runs")
        queued.discard(job.id)
        if may:
            queued.add(job.id)
        for other in changed:
            (queued.discard if isinstance(windows.reason(jobs[int(other[2:])]), ArrayLimit) else queued.add)(other)
        runs = {job_id for job_id, said in became.items() if said == "runs"}
        could = {job_id for job_id, said in became.items() if said == "could start"}
        assert queued <= could
        # What the planner may start never comes to more than the limit, unless more run already.
        assert len(runs) + len(queued) <= max(LIMIT, len(runs))
        # And no place stays empty while somebody waits for one.
        assert len(runs) + len(queued) >= min(LIMIT, len(runs) + len(could))
        for each in jobs:
            assert (windows.reason(each) is not None) == (each.id in could - queued)


def _task(index: int) -> Job:
    wanted = spec(array_size=SIZE, array_limit=LIMIT)
    return transitions.submitted(f"1.{index}", index + 1, wanted, submitted_s=0.0, array_index=index)
