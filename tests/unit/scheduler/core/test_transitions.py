"""Every move between states, and every move there must not be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scheduler.core import transitions as move
from scheduler.core.demand import Placement
from scheduler.core.jobs import (
    Cancelled,
    EndCause,
    Failed,
    Hold,
    Job,
    JobKind,
    JobSpec,
    Pending,
    Running,
    Starting,
    Stopping,
    Succeeded,
    WorkerPhase,
)
from scheduler.core.reasons import BackingOff, NotConsidered, Requeued, WaitingForJobs
from scheduler.core.transitions import ImpossibleTransition
from tests.fakes.cluster_table import demand


def spec(kind: JobKind = JobKind.TRAINING, workers: tuple[int, int] = (2, 2), after: tuple[str, ...] = ()) -> JobSpec:
    return JobSpec(
        name="j",
        tenant="t",
        kind=kind,
        priority_class="normal",
        priority=1,
        command=("true",),
        model=None,
        workers_min=workers[0],
        workers_max=workers[1],
        alternatives=(demand(),),
        time_limit_s=60.0,
        retries=2,
        after=after,
    )


def placements(count: int = 2) -> list[Placement]:
    return [Placement(i, f"n{i}", (0,), 0, 1000, 0, 0) for i in range(count)]


def pending(kind: JobKind = JobKind.TRAINING) -> Job:
    return move.submitted("7", 7, spec(kind), submitted_s=1.0)


def starting(kind: JobKind = JobKind.TRAINING) -> Job:
    return move.place(pending(kind), placements(), 2.0)


def running(kind: JobKind = JobKind.TRAINING) -> Job:
    job = starting(kind)
    for worker in (0, 1):
        job = move.worker_started(job, worker, 3.0)
    return move.run(job, 3.5)


def stopping(cause: EndCause = EndCause.PREEMPTED) -> Job:
    return move.stop(running(), cause, "9", "made room", 4.0)


def exited(job: Job, *codes: int | None) -> Job:
    for worker, code in enumerate(codes):
        job = move.worker_exited(job, worker, code)
    return job


def succeeded() -> Job:
    return move.succeed(exited(running(), 0, 0), 5.0)


def failed() -> Job:
    return move.fail(running(), EndCause.EXIT_CODE, "worker 1 exited with 3", 5.0)


def cancelled() -> Job:
    return move.cancel(pending(), "ann", "not needed", 5.0)


EVERY = {
    "pending": pending,
    "starting": starting,
    "running": running,
    "stopping": stopping,
    "succeeded": succeeded,
    "failed": failed,
    "cancelled": cancelled,
}

MOVES: dict[str, tuple[Callable[[Job], Job], set[str]]] = {
    "wait": (lambda j: move.wait(j, Requeued("x"), 9.0), {"pending"}),
    "place": (lambda j: move.place(j, placements(), 9.0), {"pending"}),
    "began": (lambda j: move.began(j, placements(), 9.0), {"pending"}),
    "worker_prepared": (lambda j: move.worker_prepared(j, 0), {"starting", "running", "stopping"}),
    "worker_started": (lambda j: move.worker_started(j, 0, 9.0), {"starting", "running", "stopping"}),
    "worker_ready": (lambda j: move.worker_ready(j, 0, "h:1", 9.0), {"starting", "running", "stopping"}),
    "worker_exited": (lambda j: move.worker_exited(j, 0, 0), {"starting", "running", "stopping"}),
    "run": (lambda j: move.run(j, 9.0), set()),  # a gang whose workers have not started cannot run either
    "stop": (lambda j: move.stop(j, EndCause.TIME_LIMIT, "limit", "", 9.0), {"starting", "running"}),
    "stop for cancel": (lambda j: move.stop(j, EndCause.CANCELLED, "a", "", 9.0), {"starting", "running", "stopping"}),
    "requeue": (lambda j: move.requeue(j, Requeued("x"), 9.0), {"starting", "running", "stopping"}),
    "count_failure": (move.count_failure, {"starting", "running", "stopping"}),
    "succeed": (lambda j: move.succeed(j, 9.0), set()),  # workers still live
    "fail": (lambda j: move.fail(j, EndCause.SIGNAL, "", 9.0), {"pending", "starting", "running", "stopping"}),
    "cancel": (lambda j: move.cancel(j, "ann", "", 9.0), {"pending"}),
    "restart_replica": (lambda j: move.restart_replica(j, 0), set()),  # not a service
}


@pytest.mark.parametrize("state", EVERY)
@pytest.mark.parametrize("name", MOVES)
def test_what_is_possible_from_where(name: str, state: str) -> None:
    act, possible = MOVES[name]
    job = EVERY[state]()
    if state in possible:
        act(job)
        return
    with pytest.raises(ImpossibleTransition) as raised:
        act(job)
    assert raised.value.job_id == "7"
    assert raised.value.state is job.state
    assert raised.value.tried
    assert "job 7 is " in str(raised.value)


def test_the_way_of_a_job_that_succeeds() -> None:
    job = pending()
    assert job.state == Pending(NotConsidered(), 1.0)
    job = move.place(job, placements(), 2.0)
    assert isinstance(job.state, Starting)
    assert (job.attempts, [run.attempt for run in job.state.workers]) == (1, [1, 1])
    for worker in (0, 1):
        assert not move.every_worker_started(job)
        job = move.worker_started(move.worker_prepared(job, worker), worker, 3.0)
    job = move.run(job, 3.5)
    assert isinstance(job.state, Running)
    assert job.first_started_s == 3.5
    job = move.succeed(exited(job, 0, 0), 5.0)
    assert job.state == Succeeded(5.0)
    assert job.failures == 0


def test_preempted_requeued_and_placed_again() -> None:
    job = move.requeue(exited(stopping(), 0, -15), Requeued("preempted by job 9"), 6.0, resume_from="/c/attempt-1")
    assert job.state == Pending(Requeued("preempted by job 9"), 6.0)
    assert (job.resume_from, job.failures, job.attempts) == ("/c/attempt-1", 0, 1)
    job = move.place(job, placements(), 7.0)
    assert job.attempts == 2
    for worker in (0, 1):
        job = move.worker_started(job, worker, 8.0)
    job = move.run(job, 8.0)
    assert job.first_started_s == 3.5  # set once
    job = move.requeue(move.stop(job, EndCause.NODE_LOST, "n1", "", 9.0), Requeued("node n1 was lost"), 9.0)
    assert job.resume_from == "/c/attempt-1"  # the last checkpoint stays


def test_a_failed_attempt_uses_up_a_retry_and_backs_off() -> None:
    job = move.stop(exited(running(), 3), EndCause.EXIT_CODE, "worker 0", "exit code 3", 4.0)
    job = move.requeue(move.count_failure(exited(job, 3, -15)), BackingOff(8.0, "exit code 3"), 5.0, not_before_s=8.0)
    assert job.failures == 1
    assert job.state == Pending(BackingOff(8.0, "exit code 3"), 5.0, 8.0)


def test_waiting_for_the_same_reason_changes_nothing() -> None:
    job = move.submitted("8", 8, spec(after=("7",)), submitted_s=1.0)
    assert job.state == Pending(WaitingForJobs(("7",)), 1.0)
    assert move.wait(job, WaitingForJobs(("7",)), 2.0) is job
    assert move.wait(job, NotConsidered(), 2.0).state == Pending(NotConsidered(), 1.0)


def test_news_that_comes_twice_changes_nothing() -> None:
    job = running()
    assert move.worker_prepared(job, 0) is job
    assert move.worker_started(job, 0, 9.0) is job
    job = move.worker_exited(job, 0, 0)
    assert move.worker_exited(job, 0, 1) is job
    assert move.worker_ready(job, 0, "h:1", 9.0) is job
    assert isinstance(job.state, Running)
    assert job.state.workers[0].exit_code == 0
    with pytest.raises(ImpossibleTransition, match="no worker 5"):
        move.worker_started(job, 5, 9.0)


def test_news_of_an_earlier_attempt_is_not_current() -> None:
    job = move.place(move.requeue(exited(stopping(), 0, 0), Requeued("x"), 6.0), placements(), 7.0)
    assert not move.is_current(job, 0, 1)
    assert move.is_current(job, 0, 2)
    assert not move.is_current(job, 2, 2)
    assert not move.is_current(succeeded(), 0, 1)


def test_only_a_cancel_changes_what_a_job_stops_for() -> None:
    job = move.stop(stopping(), EndCause.CANCELLED, "ann", "no longer needed", 5.0)
    assert isinstance(job.state, Stopping)
    assert (job.state.cause, job.state.by, job.state.since_s) == (EndCause.CANCELLED, "ann", 4.0)
    assert move.stop(job, EndCause.CANCELLED, "bob", "", 6.0) is job
    with pytest.raises(ImpossibleTransition, match="cancelled"):
        move.requeue(exited(job, 0, 0), Requeued("x"), 6.0)
    with pytest.raises(ImpossibleTransition, match="stop it first"):
        move.cancel(job, "ann", "", 6.0)
    assert move.cancel(exited(job, 0, -15), "ann", "no longer needed", 6.0).state == Cancelled(
        6.0, "ann", "no longer needed"
    )


def test_success_takes_every_worker() -> None:
    with pytest.raises(ImpossibleTransition, match=r"workers \[1\]"):
        move.succeed(exited(running(), 0, 1), 5.0)
    assert move.succeed(exited(stopping(), 0, 0), 5.0).state == Succeeded(5.0)  # done before the request reached it


def test_failure_keeps_its_sentence() -> None:
    assert failed().state == Failed(5.0, EndCause.EXIT_CODE, "worker 1 exited with 3")


@pytest.mark.parametrize("count", [1, 3])
def test_a_gang_is_placed_whole(count: int) -> None:
    with pytest.raises(ImpossibleTransition, match="not 2 to 2"):
        move.place(pending(), placements(count), 2.0)


def test_one_replica_is_restarted_alone() -> None:
    job = running(JobKind.INFERENCE)
    for worker in (0, 1):
        job = move.worker_ready(job, worker, f"h:{worker}", 4.0)
    with pytest.raises(ImpossibleTransition, match="has not exited"):
        move.restart_replica(job, 0)
    job = move.restart_replica(move.worker_exited(job, 0, -9), 0)
    assert isinstance(job.state, Running)
    first, second = job.state.workers
    assert (first.attempt, first.phase, first.address, first.exit_code) == (2, WorkerPhase.ASSIGNED, None, None)
    assert (second.attempt, second.phase, second.address) == (1, WorkerPhase.READY, "h:1")
    assert job.attempts == 2
    elsewhere = Placement(1, "n5", (3,), 0, 1000, 0, 0)
    job = move.restart_replica(move.worker_exited(job, 1, None), 1, place=elsewhere)
    assert isinstance(job.state, Running)
    assert (job.state.workers[1].placement, job.state.workers[1].attempt) == (elsewhere, 3)


# ---- holds -------------------------------------------------------------------------------------------------------


def test_a_hold_stands_beside_what_a_job_waits_for_and_keeps_it_from_starting() -> None:
    hold = Hold("wang", "no data yet", 2.0)
    held = move.hold(pending(), hold)
    assert (held.held, held.state) == (hold, pending().state)
    assert move.hold(held, hold) is held
    assert move.wait(held, WaitingForJobs(("3",)), 3.0).held == hold
    with pytest.raises(ImpossibleTransition, match="held by wang"):
        move.place(held, placements(), 4.0)
    assert move.release(held) == pending()
    assert move.release(pending()) == pending()


def test_what_is_being_stopped_waits_held_and_what_runs_or_has_ended_is_not_held() -> None:
    hold = Hold("wang", "no data yet", 2.0)
    assert move.requeue(move.hold(stopping(), hold), Requeued("by wang"), 5.0).held == hold
    ended = move.cancel(pending(), "wang", "", 5.0)
    for job in (starting(), running(), ended):
        with pytest.raises(ImpossibleTransition, match="be held"):
            move.hold(job, hold)
    with pytest.raises(ImpossibleTransition, match="be released"):
        move.release(ended)


def test_began_is_place_and_started_and_run_at_one_moment() -> None:
    again = move.requeue(running(), Requeued("x"), 4.0)
    for job in (pending(), again):
        slowly = move.place(job, placements(), 9.0)
        for worker in (0, 1):
            slowly = move.worker_started(slowly, worker, 9.0)
        assert move.began(job, placements(), 9.0) == move.run(slowly, 9.0)
    with pytest.raises(ImpossibleTransition, match="1 workers, not 2 to 2"):
        move.began(pending(), placements(1), 9.0)
