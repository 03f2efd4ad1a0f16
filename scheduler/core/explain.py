"""Why does this job wait, who is in the way, when could it start, and what small change would start it now?

Pure, and made on demand: it repeats the pass, so its answer is the planner's own, and looks around at the job's turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Policy, Queue
from scheduler.core.demand import Demand, Placement
from scheduler.core.node_reasons import nodes_by_reason
from scheduler.core.order import in_order
from scheduler.core.placement import fits, how_many
from scheduler.core.plan import Pass
from scheduler.core.reasons import BehindReservation, Reason, Unsatisfiable
from scheduler.core.satisfiable import nearest_possible as _nearest_possible

_MOST_BLOCKERS = 20
_MOST_MODELS = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """`reason` is None for a job that would start now, at `placements`. `blocked_by`: the job ahead of it for the same
    devices, then running jobs that hold devices it could use, the highest priority first. `preempts` names victims it
    asks for in this pass. `expected_start_s` is absent where no time limit bounds it."""

    job_id: str
    reason: Reason | None
    nodes_by_reason: tuple[tuple[str, int], ...]
    blocked_by: tuple[str, ...]
    expected_start_s: float | None
    suggestions: tuple[str, ...]
    placements: tuple[Placement, ...] = ()
    preempts: tuple[str, ...] = ()


def explain(cluster: ClusterState, queue: Queue, policy: Policy, job: PendingJob, *, now_s: float) -> Explanation:
    """The answer for `job` at its place in the queue; a job not in the queue (a dry run) is put where it belongs."""
    planning = Pass(cluster, queue, policy, now_s=now_s)
    ordered = in_order([*(other for other in queue.pending if other.job_id != job.job_id), job])
    place_in_line = next(i for i, other in enumerate(ordered) if other.job_id == job.job_id)
    for other in ordered[:place_in_line]:
        planning.consider(other)
    by_reason = nodes_by_reason(planning.pools, planning.open_to(job), job.alternatives, cluster.unschedulable)
    suggestions = _suggestions(planning, job)
    planning.consider(job)
    reason = planning.reasons.get(job.job_id)
    if reason is None:
        placements = planning.starts[-1].placements
        return Explanation(job.job_id, None, by_reason, (), now_s, (), placements)
    if isinstance(reason, Unsatisfiable):
        return Explanation(job.job_id, reason, by_reason, (), None, (f"nearest possible: {reason.nearest}",))
    for other in ordered[place_in_line + 1 :]:
        planning.consider(other)  # what slips past a job that has no promise may well delay it
    expected_start_s = planning.finish().expected_start_s
    if job.job_id not in expected_start_s:
        planning.estimate(job)  # it was not among the first that wait
    return Explanation(
        job_id=job.job_id,
        reason=reason,
        nodes_by_reason=by_reason,
        blocked_by=_blocked_by(planning, job, reason),
        expected_start_s=expected_start_s.get(job.job_id),
        suggestions=suggestions,
        preempts=tuple(v for preempt in planning.preemptions if preempt.for_job == job.job_id for v in preempt.victims),
    )


def nearest_possible(cluster: ClusterState, alternatives: Sequence[Demand], workers: int) -> str | None:
    """None if the cluster, empty and with every node up, could take `workers` such workers; otherwise the nearest
    demand that it could take, in words. For refusing a job when it is submitted."""
    return _nearest_possible(cluster.nodes, alternatives, workers)


def _blocked_by(planning: Pass, job: PendingJob, reason: Reason) -> tuple[str, ...]:
    ahead = [reason.ahead] if isinstance(reason, BehindReservation) else []
    if not planning.queue.running:
        return tuple(ahead)
    holdings = planning.timeline().holdings
    in_pool = holdings.standing_on(planning.pools.nodes_of(job.alternatives))
    wants_devices = any(demand.devices or demand.share_milli for demand in job.alternatives)
    holders = [
        running
        for running, here in zip(planning.queue.running, in_pool.tolist(), strict=True)
        if here and (not wants_devices or any(placement.devices for placement in running.placements))
    ]
    holders.sort(key=lambda running: (-running.priority, running.started_s, running.job_id))
    return (*ahead, *(running.job_id for running in holders[: _MOST_BLOCKERS - len(ahead)]))


def _suggestions(planning: Pass, job: PendingJob) -> tuple[str, ...]:
    """Changes that would start the job now, each tried on what is open to it. Empty where it starts as it is."""
    free = planning.open_to(job)
    placeable = how_many(planning.pools, free, job.alternatives, job.workers_min)
    if placeable >= job.workers_min:
        return ()
    found: list[str] = []
    if placeable:
        found.append(f"with {placeable} worker{'' if placeable == 1 else 's'} it would start now")
    for change, alternatives in _other_demands(planning.cluster, job.alternatives):
        if len(found) > _MOST_MODELS:
            break
        if fits(planning.pools, free, alternatives, job.workers_min):
            found.append(f"with {change} it would start now")
    limit_s = _limit_for_backfill(planning, job)
    if limit_s is not None:
        found.append(f"with time_limit up to {limit_s:.0f} s it would start now, by backfill")
    return tuple(found)


def _other_demands(cluster: ClusterState, alternatives: Sequence[Demand]) -> list[tuple[str, tuple[Demand, ...]]]:
    """Each a change in words and the demands it leads to: other models, fewer devices, no pin; never simulated ones."""
    demand = alternatives[0]
    asked = {alternative.model for alternative in alternatives}
    changes: list[tuple[str, Demand]] = []
    if demand.node is not None or demand.site is not None:
        changes.append(("no node or site named", replace(demand, node=None, site=None)))
    if demand.model is not None:
        models = {
            device.model
            for facts in cluster.nodes.facts
            if demand.simulated or not facts.simulated
            for device in facts.devices
        }
        changes += [(f"device {m}", replace(demand, model=m, vendor=None)) for m in sorted(models) if m not in asked]
    if demand.devices > 1:
        half = demand.devices // 2
        changes.append((f"{half} device{'' if half == 1 else 's'} a worker", replace(demand, devices=half)))
    return [(words, (changed,)) for words, changed in changes]


def _limit_for_backfill(planning: Pass, job: PendingJob) -> float | None:
    """The longest time limit with which the job would slip in before the promises in its way."""
    limits = {promise.start_s - planning.now_s for promise in planning.promises.promises}
    own_s = math.inf if job.time_limit_s is None else job.time_limit_s
    for limit_s in sorted((s for s in limits if 0 < s < min(own_s, math.inf)), reverse=True):
        free = planning.promises.free_until(planning.now_s + limit_s)
        if fits(planning.pools, free, job.alternatives, job.workers_min):
            return limit_s
    return None
