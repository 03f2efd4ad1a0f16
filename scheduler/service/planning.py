"""One planning pass: the core's decisions about the queue, carried out on the state."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core import transitions
from scheduler.core.decisions import Queue, RunningJob, Start
from scheduler.core.jobs import EndCause
from scheduler.core.plan import plan
from scheduler.service import dispatch, replicas
from scheduler.service.endings import stop
from scheduler.service.outcome import Outcome
from scheduler.service.places import places_detail
from scheduler.service.state import ServiceState, workers_of

# A preemption of a job without a living worker frees its devices at once: then the pass is worth repeating.
MAX_PASSES = 3


def plan_now(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Plan until nothing that matters has changed. Restarts of single replicas come first: they hold their places."""
    for _ in range(MAX_PASSES):
        replicas.restart_due(state, out, now_s)
        if not state.needs_plan:
            return
        state.needs_plan = False
        _pass(state, out, now_s)


def queue_of(state: ServiceState, now_s: float) -> Queue:
    homeless = replicas.homeless(state, now_s)
    return Queue((*state.queue.values(), *(asked for asked, _, _ in homeless.values())), running_of(state))


def running_of(state: ServiceState) -> tuple[RunningJob, ...]:
    return tuple(state.running.values())


def _pass(state: ServiceState, out: Outcome, now_s: float) -> None:
    homeless = replicas.homeless(state, now_s)
    if not state.queue and not homeless:
        state.reasons, state.expected_start_s = {}, {}
        return
    planned = plan(state.cluster, queue_of(state, now_s), state.policy, now_s=now_s)
    state.reasons = dict(planned.reasons)
    state.expected_start_s = dict(planned.expected_start_s)
    for start in planned.starts:
        if start.job_id in homeless:
            _, job, worker = homeless[start.job_id]
            (place,) = start.placements
            replicas.start_again(state, out, state.jobs[job.id], worker, replace(place, worker=worker), now_s)
        else:
            _place(state, out, start, now_s)
    for preemption in planned.preemptions:
        for victim in preemption.victims:
            job = state.jobs[victim]
            detail = f"making room for job {preemption.for_job}"
            stop(state, out, job, EndCause.PREEMPTED, by=preemption.for_job, detail=detail, now_s=now_s)


def _place(state: ServiceState, out: Outcome, start: Start, now_s: float) -> None:
    job = transitions.place(state.jobs[start.job_id], start.placements, now_s)
    runs = workers_of(job)
    state.put(out, job, "placed", now_s, {"attempt": job.attempts, **places_detail(state, job, runs)})
    for run in runs:
        out.send(run.placement.node, dispatch.prepare(state.epoch, job, run, len(runs), state.secret))
