"""Jobs that somebody wants not to start (hold), may start again (release), or give their place back (requeue).

A hold stands beside whatever else a job waits for: a dependency, a back-off or a lease goes on and ends as ever, and
the hold is what is left. It keeps only what waits. What runs is taken back by a requeue: asked to save its work as if
it made room for another, it waits again without having used up a retry.

A request names many jobs; each is left as it is where it cannot be done, and the request says why.
"""

from __future__ import annotations

from dataclasses import replace

from scheduler.core import transitions
from scheduler.core.jobs import EndCause, Hold, Job, Pending, Running, Starting, Stopping
from scheduler.errors import Conflict, Forbidden, SuanliError
from scheduler.service import views
from scheduler.service.endings import stop
from scheduler.service.outcome import HoldRequested, Outcome, ReleaseRequested, RequeueRequested
from scheduler.service.state import ServiceState

# What a job is being stopped for that waits again afterwards.
WAITS_AGAIN = frozenset(
    {
        EndCause.PREEMPTED,
        EndCause.RESIZED,
        EndCause.REQUEUED,
        EndCause.DRAINED,
        EndCause.UNHEALTHY,
        EndCause.SITE_DOWN,
    }
)


def hold(state: ServiceState, out: Outcome, event: HoldRequested, now_s: float) -> None:
    for job_id in event.job_ids:
        try:
            event.became[job_id] = _hold(state, out, _live(state, job_id, "held"), event.hold, now_s)
        except SuanliError as error:
            event.refused[job_id] = error


def release(state: ServiceState, out: Outcome, event: ReleaseRequested, now_s: float) -> None:
    for job_id in event.job_ids:
        try:
            job = _live(state, job_id, "released")
            if job.held is None:
                raise Conflict(f"job {job.id} is not held; see: suanli why {job.id}")
            _may_replace(job, job.held, by_operator=event.by_operator)
            released = transitions.release(job)
            state.put(out, released, "hold_released", now_s, {"by": event.by})
            event.became[job_id] = released
        except SuanliError as error:
            event.refused[job_id] = error


def requeue(state: ServiceState, out: Outcome, event: RequeueRequested, now_s: float) -> None:
    for job_id in event.job_ids:
        try:
            event.became[job_id] = _requeue(state, out, _live(state, job_id, "requeued"), event, now_s)
        except SuanliError as error:
            event.refused[job_id] = error


def _hold(state: ServiceState, out: Outcome, job: Job, wanted: Hold, now_s: float) -> Job:
    if not isinstance(job.state, Pending):
        raise Conflict(
            f"job {job.id} is {views.word(job)}, and a hold keeps only what waits: take it back with"
            f" `suanli requeue {job.id} --hold --reason ...`, or end it with `suanli cancel {job.id}`"
        )
    return _put_hold(state, out, job, wanted, now_s)


def _put_hold(state: ServiceState, out: Outcome, job: Job, wanted: Hold, now_s: float) -> Job:
    if job.held is not None:
        _may_replace(job, job.held, by_operator=wanted.by_operator)
    held = transitions.hold(job, wanted)
    state.put(out, held, "held", now_s, {"by": wanted.by, "reason": wanted.reason})
    fenced = state.fenced.get(job.id)
    if fenced is not None:  # were its node to come back in time, it would simply go on
        state.fenced[job.id] = replace(fenced, before=None)
    return held


def _requeue(state: ServiceState, out: Outcome, job: Job, event: RequeueRequested, now_s: float) -> Job:
    match job.state:
        case Starting() | Running():
            pass
        case Stopping(cause=cause) if event.hold is not None and cause in WAITS_AGAIN:
            return _put_hold(state, out, job, event.hold, now_s)  # it is on its way back already
        case Stopping(cause=cause) if cause in WAITS_AGAIN:
            raise Conflict(f"job {job.id} is on its way back to the queue already ({cause.value})")
        case Stopping(cause=cause):
            raise Conflict(f"job {job.id} is being stopped ({cause.value}); once it has ended, requeue submits it anew")
        case _:
            what = "is held" if job.held is not None else "waits already"
            raise Conflict(f"job {job.id} {what}; there is nothing to take back. See: suanli why {job.id}")
    stop(state, out, job, EndCause.REQUEUED, by=event.by, detail=event.reason, now_s=now_s)
    if event.hold is not None:
        _put_hold(state, out, state.jobs[job.id], event.hold, now_s)
    return state.jobs[job.id]


def _live(state: ServiceState, job_id: str, done: str) -> Job:
    job = state.jobs.get(job_id)
    if job is None:
        raise Conflict(f"job {job_id} has ended and cannot be {done}")
    return job


def _may_replace(job: Job, held: Hold, *, by_operator: bool) -> None:
    if held.by_operator and not by_operator:
        raise Forbidden(f"job {job.id} is held by the operator {held.by} ({held.reason}): only operators release it")
