"""A job's way through the service, one test a way."""

from __future__ import annotations

import pytest

from node_agent.messages import Checkpointed, Forget, Prepare, RenewLease, RunKey, Stop
from scheduler.core.demand import Demand
from scheduler.core.jobs import Cancelled, EndCause, Failed, Pending, Running, Starting, Stopping, Succeeded
from scheduler.core.reasons import BackingOff
from scheduler.service.endings import MOST_UNSTARTED
from tests.fakes.fake_engine import node_facts
from tests.fakes.service_world import OPERATOR, Make, World, gang, spec

# ---- one worker --------------------------------------------------------------------------------------------------


def test_a_job_of_one_worker_is_prepared_and_released_in_one_command(world: World) -> None:
    job = world.one(devices=2, env=(("A", "1"),), working_dir="/w")
    (prepare,) = world.sent(Prepare)
    assert prepare.release
    assert prepare.key == RunKey(job, 1, 0, "n1")
    assert (prepare.spec.argv, prepare.spec.env, prepare.spec.working_dir) == (("true",), (("A", "1"),), "/w")
    assert (prepare.spec.world_size, prepare.spec.lease_bound, prepare.spec.serves) == (1, True, False)
    assert len(prepare.spec.device_indices) == 2
    assert world.words(job) == "running"
    assert world.used_milli() == 2000

    world.engine.exit(job, result='{"loss": 1.5}')
    world.run()
    assert world.job(job).state == Succeeded(world.clock.now_s())
    assert world.events(job) == "submitted placed started succeeded"
    assert world.store.results(job) == {(1, 0): '{"loss": 1.5}'}
    assert world.view(job)["results"] == [{"attempt": 1, "worker": 0, "result": {"loss": 1.5}}]
    assert world.used_milli() == 0
    assert world.sent(Forget) == [Forget(1, prepare.key)]


def test_array_tasks_run_side_by_side_and_know_their_index(world: World) -> None:
    ids = world.submit(spec(array_size=6))
    assert world.words(*ids) == "running running running running pending pending"
    env = {prepare.key.job_id: dict(prepare.spec.env) for prepare in world.sent(Prepare)}
    assert [env[job]["SUANLI_ARRAY_INDEX"] for job in ids[:4]] == ["0", "1", "2", "3"]
    for job in ids[:4]:
        world.engine.exit(job)
    world.run()
    assert world.words(*ids) == "succeeded succeeded succeeded succeeded running running"


@pytest.mark.parametrize(
    ("how", "code", "cause", "exit_code", "says"),
    [
        ("exit", 7, EndCause.EXIT_CODE, 7, "exited with code 7: No such file"),
        ("signal", 11, EndCause.SIGNAL, -11, "was ended by SIGSEGV"),
        ("out_of_memory", 9, EndCause.OUT_OF_MEMORY, -9, "killed for memory; ask for more"),
    ],
)
def test_a_bad_end_without_retries_fails_the_job_with_a_sentence(
    world: World, how: str, code: int, cause: EndCause, exit_code: int, says: str
) -> None:
    job = world.one()
    world.engine.exit(job, code, how=how, detail="No such file")
    world.run()
    state = world.job(job).state
    assert isinstance(state, Failed)
    assert state.cause is cause
    assert "worker 0 on node n1" in state.detail
    assert says in state.detail
    assert world.job(job).failures == 1


def test_retries_back_off_from_one_second_doubling_then_the_job_fails(world: World) -> None:
    job = world.one(retries=2)
    for attempt, wait_s in ((1, 1.0), (2, 2.0)):
        assert world.job(job).attempts == attempt
        world.engine.exit(job, 3)
        world.run()
        state = world.job(job).state
        assert isinstance(state, Pending)
        assert isinstance(state.reason, BackingOff)
        assert state.not_before_s == pytest.approx(world.clock.now_s() + wait_s)
        assert world.pass_time(wait_s - 0.1).words(job) == "pending"
        assert world.pass_time(0.1).words(job) == "running"
    world.engine.exit(job, 3)
    world.run()
    assert world.words(job) == "failed"
    assert "its 2 retries are used up" in world.job(job).state.detail  # type: ignore[union-attr]
    assert (world.job(job).attempts, world.job(job).failures) == (3, 3)


@pytest.mark.parametrize("how", ["unknown", "lease"])
def test_ends_that_are_not_the_jobs_fault_use_no_retry(world: World, how: str) -> None:
    job = world.one(retries=0)
    (key,) = world.engine.live(job)
    world.engine.end(key, how, None)
    world.run()
    assert world.words(job) == "pending"
    assert world.job(job).failures == 0
    assert world.pass_time(1).words(job) == "running"
    assert world.job(job).attempts == 2


# ---- attempts that never start -----------------------------------------------------------------------------------


def test_a_job_that_no_launcher_starts_backs_off_and_fails_in_the_end(world: World) -> None:
    world.engine.refuses["n1"] = "exec format error"
    job = world.one(retries=0)
    for attempt, wait_s in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[60.0] * (MOST_UNSTARTED - 7)), start=1):
        state = world.job(job).state
        assert isinstance(state, Pending)
        assert isinstance(state.reason, BackingOff)
        assert (world.job(job).attempts, state.not_before_s) == (attempt, world.clock.now_s() + wait_s)
        world.pass_time(wait_s)
    failed = world.job(job).state
    assert isinstance(failed, Failed)
    assert failed.cause is EndCause.UNKNOWN
    assert failed.detail.startswith("worker 0 on node n1 was not started: exec format error. 15 attempts in a row")
    assert (world.job(job).attempts, world.job(job).failures) == (MOST_UNSTARTED, 0)
    assert world.engine.launched == []


def test_a_gang_of_which_one_worker_never_starts_fails_in_the_end(make: Make) -> None:
    world, job = gang(make)
    world.engine.refuses["n2"] = "no memory for a process"
    for key in world.engine.live(job):
        world.engine.end(key, "unknown", None)
    world.run().pass_time(60)
    # Its peer did start each time: something of the job runs, so it is not given up.
    assert world.words(job) == "pending"
    world.engine.refuses["n1"] = "no memory for a process"
    world.pass_time(60.0 * MOST_UNSTARTED)
    assert world.words(job) == "failed"


def test_an_attempt_that_has_started_makes_the_count_begin_again(world: World) -> None:
    world.engine.refuses["n1"] = "busy"
    job = world.one()
    world.pass_time(1).pass_time(2)  # three in vain
    world.engine.refuses.clear()
    world.pass_time(4)
    (key,) = world.engine.live(job)
    world.engine.end(key, "unknown", None)
    world.run()
    assert world.job(job).state.not_before_s == world.clock.now_s() + 8  # type: ignore[union-attr]
    world.engine.refuses["n1"] = "busy"
    for wait_s in (8, 16, 32, *[60] * (MOST_UNSTARTED - 4)):  # all but one more in vain
        world.pass_time(wait_s)
        assert world.words(job) == "pending"
    assert world.pass_time(60).words(job) == "failed"
    assert world.job(job).attempts == 4 + MOST_UNSTARTED


def test_back_off_counts_unseen_ends_and_not_preemptions(world: World) -> None:
    job = world.one(devices=4, priority=0)
    for _ in range(4):
        urgent = world.one(devices=4, priority=90)
        world.engine.exit(urgent)
        world.run()
    (key,) = world.engine.live(job)
    world.engine.end(key, "unknown", None)
    world.run()
    assert world.job(job).attempts == 5
    assert world.job(job).state.not_before_s == world.clock.now_s() + 1  # type: ignore[union-attr]


def test_a_restart_does_not_make_the_count_begin_again(world: World) -> None:
    world.engine.refuses["n1"] = "busy"
    job = world.one()
    for wait_s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[60.0] * (MOST_UNSTARTED - 8)):
        world.pass_time(wait_s).restart()
        assert world.words(job) == "pending"
    assert world.pass_time(60).words(job) == "failed"


# ---- limits and wishes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saves", "does_save", "says"),
    [
        (True, True, "time limit of 5 min; its work is saved in /ck/1/attempt-1"),
        (True, False, "did not save its work in time"),
        (False, False, "has no checkpoint, so its work is lost"),
    ],
)
def test_a_job_past_its_time_limit_is_stopped_and_fails(world: World, saves: bool, does_save: bool, says: str) -> None:
    job = world.one(time_limit_s=300.0, saves=saves, retries=3)
    if does_save:
        world.engine.saves.add(job)
    assert world.pass_time(299).words(job) == "running"
    world.pass_time(1)
    assert world.sent(Stop)[0].checkpoint is saves
    world.pass_time(40)
    state = world.job(job).state
    assert isinstance(state, Failed)
    assert state.cause is EndCause.TIME_LIMIT
    assert says in state.detail


def test_only_a_gangs_first_worker_says_that_its_work_is_saved(make: Make) -> None:
    """A worker of higher rank acknowledges before the first one has written what all of them resume from."""
    world, job = gang(make, saves=True)
    saved = f"/ck/{job}/attempt-1"
    for worker, resume_from in ((1, None), (0, saved)):
        (key,) = [key for key in world.engine.live(job) if key.worker == worker]
        world.engine._emit(key.node, Checkpointed(key, world.clock.now_s()))
        world.run()
        assert world.job(job).resume_from == resume_from
        assert world.engine.nodes[key.node].events == []  # acknowledged
    alone = world.one(alternatives=(Demand(devices=0, share_milli=500),), saves=True)
    assert world.job(alone).resume_from is None


def test_the_time_limit_counts_from_the_start_of_each_attempt(world: World) -> None:
    job = world.one(time_limit_s=300.0, retries=1)
    world.pass_time(200)
    world.engine.exit(job, 1)
    world.run().pass_time(1)
    assert world.pass_time(250).words(job) == "running"
    assert world.pass_time(50).words(job) == "failed"


def test_cancel_of_a_waiting_a_running_and_a_starting_job(world: World) -> None:
    running = world.one(devices=4)
    waiting = world.one(devices=4)
    assert world.service.cancel(waiting, OPERATOR, reason="not needed")["state"] == "cancelled"
    assert world.job(waiting).state == Cancelled(world.clock.now_s(), "wang", "not needed")
    world.service.cancel(running, OPERATOR, reason="")
    world.run()
    assert world.words(running) == "cancelled"
    assert world.used_milli() == 0
    world.engine.silent_starts = True
    starting = world.one()
    assert isinstance(world.job(starting).state, Starting)
    world.service.cancel(starting, OPERATOR, reason="")
    assert isinstance(world.job(starting).state, Stopping)


def test_cancelling_a_job_that_is_being_preempted_cancels_it(world: World) -> None:
    victim = world.one(devices=4, priority=0)
    world.engine.stubborn.add(victim)
    urgent = world.one(devices=4, priority=90)
    world.service.cancel(victim, OPERATOR, reason="enough")
    world.pass_time(11)
    assert world.words(victim, urgent) == "cancelled running"


# ---- after -------------------------------------------------------------------------------------------------------


def test_a_job_waits_for_those_it_comes_after(world: World) -> None:
    first, second = world.submit(spec(), spec())
    third = world.one(after=(first, second))
    fourth = world.one(after=(third,))
    assert world.view(third)["reason"]["jobs"] == (first, second)
    world.engine.exit(first)
    world.run()
    assert world.view(third)["reason"]["jobs"] == (second,)
    world.engine.exit(second)
    world.run()
    assert world.words(third, fourth) == "running pending"
    assert world.words(world.one(after=(first,))) == "running"


def test_a_failed_dependency_fails_all_that_come_after_it(world: World) -> None:
    first = world.one()
    second = world.one(after=(first,))
    third = world.one(after=(second,))
    world.service.cancel(first, OPERATOR, reason="")
    world.run()
    assert world.words(first, second, third) == "cancelled failed failed"
    assert world.view(third)["cause"] == "dependency failed"
    late = world.one(after=(first,))
    assert world.words(late) == "failed"


def test_after_an_array_means_after_each_of_its_tasks(world: World) -> None:
    tasks = world.submit(spec(array_size=2))
    last = world.one(after=("1",))
    assert world.view(last)["after"] == tasks
    for task in tasks:
        world.engine.exit(task)
    world.run()
    assert world.words(last) == "running"


# ---- drains and leases -------------------------------------------------------------------------------------------


def test_a_drained_node_gets_nothing_new_and_keeps_what_it_has(make: Make) -> None:
    world = make(node_facts("n1"), node_facts("n2"))
    job = world.one(alternatives=(Demand(node="n1"),))
    shown = world.service.drain("n1", OPERATOR, reason="fan")
    assert (shown["state"], shown["drain"]["reason"]) == ("draining", "fan")
    waiting = world.one(alternatives=(Demand(node="n1"),))
    assert world.words(job, waiting) == "running pending"
    assert "1 node: draining" in world.view(waiting)["reason"]["text"]
    world.restart()
    assert world.words(job, waiting) == "running pending"
    world.engine.exit(job)
    world.run()
    (node,) = [view for view in world.service.nodes(OPERATOR)["nodes"] if view["name"] == "n1"]
    assert node["state"] == "drained"  # now it may be opened
    assert world.service.resume("n1", OPERATOR)["state"] == "ready"
    assert world.run().words(job, waiting) == "succeeded running"
    assert world.store.drains() == []


def test_leases_are_renewed_at_once_and_then_four_times_a_lease(world: World) -> None:
    first = len(world.sent(RenewLease))
    assert first >= 1
    for _ in range(8):
        world.pass_time(7.5)
    assert len(world.sent(RenewLease)) - first == 4


def test_running_shows_where_and_since_when(world: World) -> None:
    job = world.one(devices=1)
    state = world.job(job).state
    assert isinstance(state, Running)
    view = world.view(job)
    assert view["workers"] == [
        {
            "worker": 0,
            "attempt": 1,
            "node": "n1",
            "devices": [state.workers[0].placement.devices[0]],
            "share_milli": 0,
            "phase": "running",
            "address": None,
            "exit_code": None,
            "simulated": False,
            "share_by": None,
        }
    ]
    assert view["started_s"] == world.clock.now_s()
