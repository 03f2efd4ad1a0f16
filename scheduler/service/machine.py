"""The service as a step function: what follows from one event, in (event, state, now_s) -> Outcome.

`step` changes the state in place (it is large, and one thread owns it) and performs nothing: its Outcome says what is
to be committed, sent, acknowledged and published. Several events may share one Outcome and one planning pass: `apply`
each of them, then `finish`. The same functions run live, in tests and in the simulator.
"""

from __future__ import annotations

from typing import assert_never

from scheduler.core import transitions
from scheduler.core.jobs import EndCause, Job, Pending, Running, Starting, Stopping
from scheduler.core.reasons import NotConsidered, WaitingForJobs
from scheduler.errors import Conflict, NotFound
from scheduler.ports import NodeDown, NodeUp, RunEvent
from scheduler.service import (
    autoscaling,
    checks,
    deployment_requests,
    deployments,
    draining,
    fairness,
    fencing,
    health,
    health_notes,
    holding,
    nodes,
    recurring,
    reserving,
    scaling,
    served,
    typical_work,
)
from scheduler.service.dispatch import is_service
from scheduler.service.endings import duration_text, stop
from scheduler.service.job_facts import alive, time_limit_due_s, workers_of
from scheduler.service.loads import LoadsReported
from scheduler.service.node_status import NodeStatus
from scheduler.service.outcome import (
    CancelJobsRequested,
    CancelRequested,
    CloseDownRequested,
    DrainRequested,
    Event,
    FlagsReported,
    HoldRequested,
    JobsSubmitted,
    Outcome,
    PauseRequested,
    ReleaseRequested,
    RequeueRequested,
    ReserveRequested,
    ResumeRequested,
    ScaleRequested,
    ScheduleFired,
    ScheduleRequested,
    ServiceDeleteRequested,
    ServiceRollbackRequested,
    SupersededBy,
    Tick,
    UnpauseRequested,
    UnreserveRequested,
    UnscheduleRequested,
)
from scheduler.service.planning import plan_now
from scheduler.service.routes import routes
from scheduler.service.runs import on_run_event
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

# A time limit that is over is looked at again so often while a node of the job is not heard of.
ASK_AGAIN_S = 1.0


def step(state: ServiceState, event: Event, now_s: float) -> Outcome:
    """One event and a planning pass. Raises Conflict or NotFound (nothing is changed then) for requests alone."""
    out = Outcome()
    apply(state, out, event, now_s)
    finish(state, out, now_s)
    return out


def apply(state: ServiceState, out: Outcome, event: Event, now_s: float) -> None:
    """What follows from the event itself."""
    match event:
        case JobsSubmitted():
            for job in event.jobs:
                _submitted(state, out, job, event, now_s)
        case CancelRequested():
            _cancel(state, out, event, now_s)
        case CancelJobsRequested():
            _cancel_jobs(state, out, event, now_s)
        case HoldRequested():
            holding.hold(state, out, event, now_s)
        case ReleaseRequested():
            holding.release(state, out, event, now_s)
        case RequeueRequested():
            holding.requeue(state, out, event, now_s)
        case ScaleRequested():
            scaling.scale(state, out, event, now_s)
        case ServiceRollbackRequested():
            deployment_requests.roll_back(state, out, event, now_s)
        case ServiceDeleteRequested():
            deployment_requests.delete(state, out, event, now_s)
        case LoadsReported():
            autoscaling.take_loads(state, out, event, now_s)
        case ReserveRequested(reservation=reservation):
            for node in reservation.nodes:
                known_node(state, node)
            reserving.reserve(state, out, reservation, now_s)
        case UnreserveRequested(name=name):
            reserving.unreserve(state, out, name)
        case ScheduleRequested():
            recurring.schedule(state, out, event, now_s)
        case PauseRequested():
            recurring.pause(state, out, event)
        case UnpauseRequested():
            recurring.unpause(state, out, event, now_s)
        case UnscheduleRequested():
            recurring.unschedule(state, out, event)
        case ScheduleFired(jobs=jobs):
            recurring.fired(state, event)
            for job in jobs:
                _submitted(state, out, job, JobsSubmitted(jobs), now_s)
        case DrainRequested(drain=drain):
            known_node(state, drain.node)
            draining.drain(state, out, drain)
        case ResumeRequested(node=node):
            known_node(state, node)
            draining.resume(state, out, node)
            checks.forgive(state, node)
        case FlagsReported():
            health_notes.flagged(state, out, event, now_s)
        case CloseDownRequested(by=by):
            _close_down(state, out, by, now_s)
        case NodeUp():
            nodes.node_up(state, out, event, now_s)
        case NodeDown():
            nodes.node_down(state, out, event, now_s)
        case RunEvent():
            on_run_event(state, out, event, now_s)
        case SupersededBy(epoch=epoch):
            state.superseded_by = max(epoch, state.superseded_by or 0)
        case Tick():
            nodes.renew_leases(state, out, now_s)
            for timer in state.timers.pop_due(now_s):
                _fire(state, out, timer, now_s)
        case _:
            assert_never(event)


def finish(state: ServiceState, out: Outcome, now_s: float) -> None:
    """What follows from all events together: jobs that waited for others, the plan, the gateway's table."""
    while state.just_ended:
        _ended(state, out, state.just_ended.pop(), now_s)
    health.settle(state, out, now_s)
    if state.superseded_by is None and not state.closing_down:
        deployments.advance(state, out, now_s)
        checks.withdraw(state, out, now_s, also_new=False)
        plan_now(state, out, now_s)
        checks.withdraw(state, out, now_s, also_new=not state.plan_goes_on)
        checks.order(state, out, now_s)
    while state.just_ended:
        _ended(state, out, state.just_ended.pop(), now_s)
    fairness.keep(state, out, now_s)
    served.keep(state, out, now_s)
    table = routes(state)
    if table is not None:
        out.routes = state.published = table


def _ended(state: ServiceState, out: Outcome, job_id: str, now_s: float) -> None:
    _settle_dependents(state, out, job_id, now_s)
    if job_id in state.version_of:
        change = next((each for each in reversed(out.changes) if each.job.id == job_id), None)
        why = "its job ended" if change is None else deployments.ended_text(change.job)
        deployments.job_ended(state, out, job_id, why, now_s)


# ---- jobs that wait for others -----------------------------------------------------------------------------------


def _submitted(state: ServiceState, out: Outcome, job: Job, event: JobsSubmitted, now_s: float) -> None:
    if job.id in state.jobs or job.id in state.ended:
        return  # heard before
    typical_work.saw(state, [job])
    checks.saw(state, job)
    state.keep(job, now_s)
    ended = {before: state.ended[before] for before in job.spec.waits_for if before in state.ended}
    ended |= {before: event.ended[before] for before in job.spec.waits_for if before in event.ended}
    waits_for = [before for before in job.spec.waits_for if before in state.jobs]
    for before in waits_for:
        state.dependents.setdefault(before, set()).add(job.id)
    bad = [b for b in job.spec.after if b not in state.jobs and not ended.get(b, False)]
    if bad:
        _dependency_failed(state, out, job, bad[0], now_s)
    elif waits_for:
        _wait_for_jobs(state, out, job, tuple(waits_for), now_s)
    elif isinstance(job.state, Pending) and isinstance(job.state.reason, WaitingForJobs):
        state.put(out, transitions.wait(job, NotConsidered(), now_s), "released_by_jobs", now_s)
    if is_service(job) and job.id in state.jobs:
        if job.spec.deployed:
            deployments.adopt(state, out, state.jobs[job.id], now_s)
        else:
            autoscaling.begin(state, out, state.jobs[job.id], now_s)
            autoscaling.watch(state, state.jobs[job.id], now_s)


def _wait_for_jobs(state: ServiceState, out: Outcome, job: Job, waits_for: tuple[str, ...], now_s: float) -> None:
    waiting = transitions.wait(job, WaitingForJobs(waits_for), now_s)
    if waiting is not job:
        state.put(out, waiting, "waiting_for_jobs", now_s, {"jobs": list(waits_for)})


def _settle_dependents(state: ServiceState, out: Outcome, ended: str, now_s: float) -> None:
    """A job has ended: those that wait for it wait for one less, or fail with it."""
    for job_id in sorted(state.dependents.pop(ended, ())):
        job = state.jobs.get(job_id)
        if job is None or not isinstance(job.state, Pending) or not isinstance(job.state.reason, WaitingForJobs):
            continue
        rest = tuple(before for before in job.state.reason.jobs if before != ended)
        if ended in job.spec.after and not state.ended.get(ended, False):
            _dependency_failed(state, out, job, ended, now_s)
        elif rest:
            _wait_for_jobs(state, out, job, rest, now_s)
        else:
            state.put(out, transitions.wait(job, NotConsidered(), now_s), "released_by_jobs", now_s)


def _dependency_failed(state: ServiceState, out: Outcome, job: Job, before: str, now_s: float) -> None:
    detail = f"it was to run after job {before}, which did not succeed"
    failed = transitions.fail(job, EndCause.DEPENDENCY_FAILED, detail, now_s)
    state.put(out, failed, "failed", now_s, {"cause": EndCause.DEPENDENCY_FAILED.value, "detail": detail})


def _close_down(state: ServiceState, out: Outcome, by: str, now_s: float) -> None:
    """As if everything were preempted at once, by nobody in particular. A repeated request asks what came up since."""
    state.closing_down = True
    for job in list(state.jobs.values()):
        if isinstance(job.state, Starting | Running) and workers_of(job):
            detail = "the site is being taken down"
            stop(state, out, job, EndCause.SITE_DOWN, by=by, detail=detail, now_s=now_s)


# ---- requests ----------------------------------------------------------------------------------------------------


def _cancel(state: ServiceState, out: Outcome, event: CancelRequested, now_s: float) -> None:
    job = state.jobs.get(event.job_id)
    if job is None:
        raise Conflict(f"job {event.job_id} has ended already; there is nothing to cancel")
    _cancel_one(state, out, job, event.by, event.reason, now_s)


def _cancel_jobs(state: ServiceState, out: Outcome, event: CancelJobsRequested, now_s: float) -> None:
    """No pass comes between them, so no task that waits takes the place of one that goes."""
    for job_id in event.job_ids:
        if (job := state.jobs.get(job_id)) is not None:
            event.became[job_id] = _cancel_one(state, out, job, event.by, event.reason, now_s)


def _cancel_one(state: ServiceState, out: Outcome, job: Job, by: str, reason: str, now_s: float) -> Job:
    """The job as it becomes: cancelled, or being stopped."""
    match job.state:
        case Pending():
            cancelled = transitions.cancel(job, by, reason, now_s)
            state.put(out, cancelled, "cancelled", now_s, {"by": by, "reason": reason})
        case Starting() | Running() | Stopping():
            stop(state, out, job, EndCause.CANCELLED, by=by, detail=reason, now_s=now_s)
        case _:
            raise AssertionError(f"an ended job among the live ones: {job}")
    became = out.changes[-1].job
    assert became.id == job.id, (became, job)
    return became


def known_node(state: ServiceState, node: str) -> NodeStatus:
    """Raises NotFound."""
    status = state.nodes.get(node)
    if status is None or status.facts is None:
        names = ", ".join(sorted(state.nodes)[:20]) or "none yet"
        raise NotFound(f"there is no node {node}; nodes: {names}", field="node")
    return status


# ---- time --------------------------------------------------------------------------------------------------------


def _fire(state: ServiceState, out: Outcome, timer: Timer, now_s: float) -> None:
    match timer.kind:
        case "time_limit":
            job = state.jobs.get(timer.subject)
            due_s = None if job is None else time_limit_due_s(job)
            if job is not None and due_s is not None and due_s <= now_s:
                if any(not state.is_up(run.placement.node) for run in alive(job)):
                    # It may have ended long ago, and its node will say so, or be given up, before long.
                    state.timers.add(Timer(now_s + ASK_AGAIN_S, "time_limit", job.id))
                    return
                assert job.spec.time_limit_s is not None
                detail = f"it ran longer than its time limit of {duration_text(job.spec.time_limit_s)}"
                stop(state, out, job, EndCause.TIME_LIMIT, by="its time limit", detail=detail, now_s=now_s)
        case "not_before":
            job = state.jobs.get(timer.subject)
            over = job is not None and isinstance(job.state, Pending) and job.state.not_before_s <= now_s
            if job is not None and over and not fencing.push_out(state, out, job.id, now_s):
                state.keep(job, now_s)
        case "replica" | "reservation" | "rollout":
            pass  # looked at in every batch
        case "autoscale":
            if (job := state.jobs.get(timer.subject)) is not None:
                autoscaling.ask(state, out, job, now_s)
        case "drain":
            draining.deadline_over(state, out, timer.subject, now_s)
        case "schedule":
            recurring.fire(state, out, timer.subject, now_s)
        case "silence":
            nodes.silence_over(state, out, timer.subject, now_s)
        case "first_contact":
            nodes.first_contact_over(state, out, timer.subject, now_s)
        case _:
            assert_never(timer.kind)
