"""How an attempt is stopped, and what its job becomes when the last worker is gone.

Two writers are never let loose on one checkpoint: a job with a run on a silent node waits until that node's lease, the
run's grace and a margin for clocks have passed, whatever the reason it goes back to the queue.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from scheduler.core import transitions
from scheduler.core.jobs import EndCause, Job, Stopping, WorkerRun
from scheduler.core.reasons import BackingOff, Reason, Requeued
from scheduler.service import dispatch, fencing
from scheduler.service.job_facts import alive, workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.planner_words import replica_name
from scheduler.service.state import ServiceState, UnseenEnds

FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
# So many attempts in a row that ended unseen and had never started, over nine minutes by the back-off below: something
# is wrong that time alone does not mend. (A device that is reset, a lease that lapsed or a full disk may take minutes.)
MOST_UNSTARTED = 15


def back_off_s(failures: int) -> float:
    """1 s after the first failure, doubling, 60 s at most."""
    return min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** min(max(0, failures - 1), 10))


def count_unseen(state: ServiceState, name: str, *, started: bool) -> UnseenEnds:
    """One more end that nobody saw of the job (or `replica_name`), of an attempt that had started or not."""
    before = state.unseen_ends.get(name, UnseenEnds())
    ends = UnseenEnds(before.in_a_row + 1, 0 if started else before.unstarted + 1)
    state.unseen_ends[name] = ends
    return ends


def never_started_text(detail: str) -> str:
    """The sentence for a job that is given up because it cannot be started."""
    return (
        f"{detail}. {MOST_UNSTARTED} attempts in a row ended before they had started, so it is not tried again:"
        " look at that node (suanli nodes, and its agent's log), then submit it again"
    )


def duration_text(seconds: float) -> str:
    """`90 s`, `5 min`, `2 h 30 min`."""
    if seconds < 120:
        return f"{seconds:g} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{rest_s} s" if rest_s else ""]
    return " ".join(part for part in parts if part)


def stop(
    state: ServiceState,
    out: Outcome,
    job: Job,
    cause: EndCause,
    *,
    by: str,
    detail: str,
    now_s: float,
) -> None:
    """Ask the attempt's workers to go, saving their work first where the cause leaves the time.

    A job without a worker that lives ends at once.
    """
    stopping = transitions.stop(job, cause, by, detail, now_s)
    if not alive(job):
        conclude(state, out, stopping, cause, by=by, detail=detail, now_s=now_s)
        return
    event = {EndCause.PREEMPTED: "preempting", EndCause.RESIZED: "resizing"}.get(cause, "stopping")
    state.put(out, stopping, event, now_s, {"cause": cause.value, "by": by, "detail": detail})
    for run in alive(stopping):
        out.send(run.placement.node, dispatch.stop(state.epoch, job, run, cause))


def worker_ended(
    state: ServiceState, out: Outcome, job: Job, run: WorkerRun, cause: EndCause, detail: str, now_s: float
) -> None:
    """A worker of a gang (or the one worker) has ended; `job` has it as EXITED already and is not yet committed so.

    The first one that ends badly brings the others down; the attempt is over when none is left.
    """
    facts = {"worker": run.placement.worker, "attempt": run.attempt, "exit_code": run.exit_code, "cause": cause.value}
    if isinstance(job.state, Stopping):
        if alive(job):
            state.put(out, job, "worker_ended", now_s, facts)
            return
        first = job.state
        own = [state.own_ends.get(dispatch.key_of(job, each)) for each in first.workers]
        failed = next((end for end in own if end is not None and end[0] is not EndCause.SUCCEEDED), None)
        if failed is not None and first.cause is EndCause.TIME_LIMIT:
            # It had failed before its time was over, and nobody had heard of it yet: it may be tried again.
            conclude(state, out, job, failed[0], by="", detail=failed[1], now_s=now_s)
            return
        if failed is None and all(own) and not dispatch.is_service(job):
            # It had finished before the request to stop reached it: that work is done.
            conclude(state, out, job, EndCause.SUCCEEDED, by="", detail="", now_s=now_s)
            return
        conclude(state, out, job, first.cause, by=first.by, detail=first.detail, now_s=now_s)
        return
    if cause is not EndCause.SUCCEEDED:
        state.keep(job, now_s)
        by = run.placement.node if cause is EndCause.NODE_LOST else f"worker {run.placement.worker}"
        stop(state, out, job, cause, by=by, detail=detail, now_s=now_s)
    elif alive(job):
        state.put(out, job, "worker_ended", now_s, facts)
    else:
        conclude(state, out, job, EndCause.SUCCEEDED, by="", detail="", now_s=now_s)


def conclude(
    state: ServiceState, out: Outcome, job: Job, cause: EndCause, *, by: str, detail: str, now_s: float
) -> None:
    """The attempt is over: its devices go back, and the job ends, or waits for its next attempt."""
    for run in workers_of(job):
        state.own_ends.pop(dispatch.key_of(job, run), None)
        state.prepared.pop(dispatch.key_of(job, run), None)
        state.restarts.pop((job.id, run.placement.worker), None)
        state.unseen_ends.pop(replica_name(job.id, run.placement.worker), None)
        state.leaving.discard((job.id, run.placement.worker))
    match cause:
        case EndCause.SUCCEEDED:
            state.put(out, transitions.succeed(job, now_s), "succeeded", now_s)
        case EndCause.CANCELLED:
            state.put(out, transitions.cancel(job, by, detail, now_s), "cancelled", now_s, {"by": by})
        case EndCause.TIME_LIMIT:
            _fail(state, out, job, cause, f"{detail}; {_saved_text(job)}", now_s)
        case EndCause.PREPARE_FAILED:
            _fail(state, out, job, cause, detail, now_s)
        case EndCause.EXIT_CODE | EndCause.SIGNAL | EndCause.OUT_OF_MEMORY:
            counted = transitions.count_failure(job)
            if job.failures >= job.spec.retries:
                tried = f" (attempt {job.attempts}, its {job.spec.retries} retries are used up)"
                _fail(state, out, counted, cause, detail + (tried if job.spec.retries else ""), now_s)
            else:
                state.unseen_ends.pop(job.id, None)
                _requeue(state, out, counted, cause, detail, back_off_s(counted.failures), now_s)
        case EndCause.PREEMPTED | EndCause.NODE_LOST | EndCause.RESIZED:
            if had_started(job):
                state.unseen_ends.pop(job.id, None)
            if cause is EndCause.PREEMPTED:
                job = replace(job, preemptions=job.preemptions + 1)
            said = {EndCause.PREEMPTED: f"preempted by job {by}", EndCause.NODE_LOST: f"node {by} was lost"}
            _requeue(state, out, job, cause, said.get(cause, f"resized, {detail}"), 0.0, now_s)
        case EndCause.SITE_DOWN:
            _requeue(state, out, job, cause, "the site was taken down", 0.0, now_s)
        case EndCause.REQUEUED | EndCause.DRAINED | EndCause.UNHEALTHY:
            if had_started(job):
                state.unseen_ends.pop(job.id, None)
            why = f"by {by}: {detail}" if cause is EndCause.REQUEUED else detail
            _requeue(state, out, job, cause, why, 0.0, now_s)
        case EndCause.LEASE_LAPSED | EndCause.UNKNOWN:
            _conclude_unseen(state, out, job, cause, detail or cause.value, now_s)
        case EndCause.GANG_PEER | EndCause.DEPENDENCY_FAILED:
            raise AssertionError(f"job {job.id}: no attempt ends for {cause}: {job}")
        case _:
            assert_never(cause)


def _conclude_unseen(state: ServiceState, out: Outcome, job: Job, cause: EndCause, detail: str, now_s: float) -> None:
    """Not its fault, but it may happen again at once: do not start it in a tight circle, and not for ever."""
    if dispatch.is_service(job):
        _fail(state, out, job, cause, detail, now_s)  # its replicas were counted one by one
        return
    ends = count_unseen(state, job.id, started=cause is EndCause.LEASE_LAPSED or had_started(job))
    if ends.unstarted >= MOST_UNSTARTED:
        _fail(state, out, job, cause, never_started_text(detail), now_s)
    else:
        _requeue(state, out, job, cause, detail, back_off_s(ends.in_a_row), now_s)


def had_started(job: Job) -> bool:
    """Has any process of the present attempt run?"""
    return any(run.started_s is not None for run in workers_of(job))


def _fail(state: ServiceState, out: Outcome, job: Job, cause: EndCause, detail: str, now_s: float) -> None:
    failed = transitions.fail(job, cause, detail, now_s)
    state.put(out, failed, "failed", now_s, {"cause": cause.value, "detail": detail})


def _requeue(
    state: ServiceState, out: Outcome, job: Job, cause: EndCause, detail: str, wait_s: float, now_s: float
) -> None:
    not_before_s = now_s + wait_s if wait_s else 0.0
    reason: Reason = BackingOff(not_before_s, detail) if wait_s else Requeued(detail)
    doubtful = fencing.doubtful_runs(state, job)
    lease = fencing.wait_for(state, job, doubtful)
    fenced = lease is not None and lease.until_s > now_s
    if lease is not None and fenced:
        # Also where the back-off is the longer one: what it waits for must be known after a restart, too.
        not_before_s = max(not_before_s, lease.until_s)
        reason = replace(lease, until_s=not_before_s)
    pending = transitions.requeue(job, reason, now_s, not_before_s=not_before_s)
    ends = state.unseen_ends.get(job.id, UnseenEnds())
    facts = {"cause": cause.value, "detail": detail, "not_before_s": not_before_s, "resume_from": job.resume_from}
    state.put(
        out, pending, "requeued", now_s, {**facts, "reason": reason.kind, "unseen": [ends.in_a_row, ends.unstarted]}
    )
    if fenced:
        fencing.fence(state, job.id, doubtful)


def _saved_text(job: Job) -> str:
    if job.spec.checkpoint is None:
        return "it has no checkpoint, so its work is lost; give it a longer time_limit or a checkpoint"
    if job.resume_from is None:
        return "it did not save its work in time; give it a longer time_limit or checkpoint.grace"
    return f"its work is saved in {job.resume_from}"
