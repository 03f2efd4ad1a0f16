"""A service that was woken finds no room: then services that nobody asks give up their replicas (`core.eviction`).

Looked at before the planner is: while idle replicas leave to make room, nobody else is preempted for it. What is asked
for keeps its place in the queue, so a job of a higher class still goes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scheduler.core.claims import Claim
from scheduler.core.decisions import PendingJob
from scheduler.core.eviction import IdleService, choose
from scheduler.core.gang import Gang
from scheduler.core.jobs import Job, Running, Starting
from scheduler.core.quotas import allowed_workers, worker_milli
from scheduler.core.reasons import QuotaReached
from scheduler.service import autoscaling
from scheduler.service.job_facts import workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.state import Asked, ServiceState

AGAIN_AFTER_S = 10.0
"""For one replica that was made room for and got none: others were faster, or its place is kept from it."""


def make_room(state: ServiceState, out: Outcome, now_s: float) -> bool:
    """Whether somebody was told to go."""
    for name in state.making_room.keys() - state.asked.keys():
        del state.making_room[name]
    told = False
    for name, asked in state.asked.items():
        job = state.jobs[asked.job_id]
        waited = state.making_room.get(name)
        if waited is not None and now_s >= waited + AGAIN_AFTER_S:
            del state.making_room[name]
            waited = None
        if waited is None and asked.replaces is None and not workers_of(job) and autoscaling.may_sleep(job):
            told |= _make_room_for(state, out, name, asked, now_s)
    return told


def _make_room_for(state: ServiceState, out: Outcome, name: str, asked: Asked, now_s: float) -> bool:
    pending = asked.pending
    kept_out = allowed_workers(state.policy, state.queue.held, pending)
    short_milli = 0
    if isinstance(kept_out, QuotaReached):
        short_milli = kept_out.used_milli + kept_out.wanted_milli - kept_out.maximum_milli
    elif not isinstance(kept_out, int):
        return False
    if not short_milli and _fits(state, pending, ()):
        return False
    idle = [job for job in _idle(state, asked.job_id) if not short_milli or job.spec.tenant == pending.tenant]
    by_id = {job.id: job for job in idle}

    def makes_room(ids: Sequence[str]) -> bool:
        going = [by_id[job_id] for job_id in ids]
        milli = sum(len(workers_of(job)) * worker_milli(job.spec.alternatives) for job in going)
        return milli >= short_milli and _fits(state, pending, going)

    chosen = choose(
        [IdleService(job.id, job.spec.priority, state.loads.of(job.id, now_s).used_s) for job in idle],
        pending.priority,
        now_s,
        makes_room,
    )
    if chosen is None:
        return False
    state.making_room[name] = now_s
    for job_id in chosen:
        used_s = state.loads.of(job_id, now_s).used_s
        said = f"no request for {now_s - used_s:.0f} s, and job {asked.job_id} ({pending.name}) needs its room"
        detail = {"by": autoscaling.BY, "why": "evicted", "detail": said, "for_job": asked.job_id}
        autoscaling.give(state, out, state.jobs[job_id], 0, "scaled", now_s, detail)
    state.evictions += len(chosen)
    return True


def _idle(state: ServiceState, asker: str) -> list[Job]:
    """Services that may have no replica and have some that could be told to go."""
    found = []
    for job_id in sorted(state.scaled):
        job = state.jobs[job_id]
        if job_id == asker or not job.workers_wanted or not isinstance(job.state, Starting | Running):
            continue
        if workers_of(job) and autoscaling.may_sleep(job) and autoscaling.bounds(state, job)[0] == 0:
            found.append(job)
    return found


def _fits(state: ServiceState, pending: PendingJob, without: Sequence[Job]) -> bool:
    """Is there room for it, when those have gone and all that are on their way out?"""
    going = [run.placement for job in without for run in workers_of(job)]
    gone = {job.id for job in without}
    for job_id, worker in state.leaving:
        if job_id not in gone and job_id in state.jobs:
            going += [run.placement for run in workers_of(state.jobs[job_id]) if run.placement.worker == worker]
    free = state.cluster.free.copy()
    there = [place for place in going if place.node in state.cluster]
    if there:
        free.give(Claim.of(state.cluster.nodes, there))
    pools = state.cluster.plain_pools(state.policy.tie_seed)
    where = {"constraints": pending.constraints, "beside": pending.beside}
    return Gang(pools, pending.alternatives, 1, where).fits(free)  # type: ignore[arg-type]


def polite(state: ServiceState, pending: PendingJob) -> PendingJob:
    """While room is made for it, it asks nobody else to go."""
    return replace(pending, may_preempt=False) if pending.job_id in state.making_room else pending
