"""One planning pass: the core's decisions about the queue, carried out on the state."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core import transitions
from scheduler.core.decisions import Plan, Start
from scheduler.core.jobs import EndCause
from scheduler.core.plan import plan
from scheduler.service import dispatch, evicting, fairness, replicas, reserving, scaling, typical_work
from scheduler.service.endings import stop
from scheduler.service.job_facts import workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.places import places_detail
from scheduler.service.state import Asked, ServiceState

# What time alone decides (an elastic job has run long enough to grow, a preempted one long enough to be preempted
# again) is looked at this often, and estimates are made anew.
REPLAN_EVERY_S = 30.0
# Beyond so many starting workers a pass is broken off, and what is left comes in the next batch: the nodes begin with
# the first of a flood while the rest is planned, and no batch, with its commit, keeps those waiting who ask meanwhile.
MOST_WORKERS = 128
# A preemption of a job without a living worker frees its devices at once: then the pass is worth repeating.
MAX_PASSES = 3


def plan_now(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Plan until nothing that matters has changed. Restarts of single replicas come first: they hold their places."""
    reserving.refresh(state, out, now_s)
    fairness.advance(state, now_s)
    typical_work.tell(state, now_s)
    state.needs_plan |= now_s - state.planned_s >= REPLAN_EVERY_S and bool(state.queue.waiting or state.queue.holding)
    for _ in range(MAX_PASSES):
        replicas.restart_due(state, out, now_s)
        replicas.ask_places(state, now_s)
        if evicting.make_room(state, out, now_s):
            replicas.ask_places(state, now_s)
        if not state.needs_plan:
            break
        state.needs_plan = False
        state.plan_goes_on = _pass(state, out, now_s)
        if state.plan_goes_on:
            state.needs_plan = True
            break
    fairness.note_held(state)


def _pass(state: ServiceState, out: Outcome, now_s: float) -> bool:
    """Whether it was broken off."""
    asked = dict(state.asked)
    state.planned_s = now_s
    planned = plan(state.cluster, state.queue, state.policy, now_s=now_s, most_workers=MOST_WORKERS)
    state.reasons, state.expected_start_s = planned.reasons, planned.expected_start_s
    for start in planned.starts:
        if start.job_id in asked:
            _place_replica(state, out, asked[start.job_id], start, now_s)
        else:
            _place(state, out, start, now_s)
    _stop(state, out, planned, now_s)
    return planned.partial


def _stop(state: ServiceState, out: Outcome, planned: Plan, now_s: float) -> None:
    """What is to go, or to give back a part."""
    for preemption in planned.preemptions:
        for victim in preemption.victims:
            detail = f"making room for job {preemption.for_job}"
            job = state.jobs[victim]
            stop(state, out, job, EndCause.PREEMPTED, by=preemption.for_job, detail=detail, now_s=now_s)
    for resize in planned.resizes:
        job = state.jobs[resize.job_id]
        detail = f"to go on with {resize.workers} workers instead of {len(workers_of(job))}"
        stop(state, out, job, EndCause.RESIZED, by="the planner", detail=detail, now_s=now_s)
    for release in planned.releases:
        scaling.release(state, out, state.jobs[release.job_id], release.workers, now_s)


def _place(state: ServiceState, out: Outcome, start: Start, now_s: float) -> None:
    job = transitions.place(state.jobs[start.job_id], start.placements, now_s)
    runs = workers_of(job)
    state.put(out, job, "placed", now_s, {"attempt": job.attempts, **places_detail(state, job, runs)})
    for run in runs:
        out.send(
            run.placement.node, dispatch.prepare(state.epoch, job, run, len(runs), state.secret, state.run_settings)
        )


def _place_replica(state: ServiceState, out: Outcome, asked: Asked, start: Start, now_s: float) -> None:
    """One that lost its place, or one more."""
    (place,) = start.placements
    place = replace(place, worker=asked.worker)
    job = state.jobs[asked.job_id]
    if (asked.job_id, asked.worker) in state.restarts:
        replicas.start_again(state, out, job, asked.worker, place, now_s)
    else:
        scaling.add_replica(state, out, job, place, now_s, replaces=asked.replaces)
