"""Why does this job wait, what is in its way, when could it start, and what small change would start it now?

Pure, and made on demand: it repeats the pass, so its answer is the planner's own, and looks around at the job's turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Policy
from scheduler.core.demand import UNCONSTRAINED, Constraints, Demand, Placement
from scheduler.core.plan import Pass
from scheduler.core.queue import Queue
from scheduler.core.quotas import borrowed_milli
from scheduler.core.reasons import (
    BehindReservation,
    JobLimitReached,
    QuotaReached,
    Reason,
    ReservationTooShort,
    Unsatisfiable,
    WaitingForReservation,
)
from scheduler.core.satisfiable import nearest_possible as _nearest_possible
from scheduler.core.waiting import Kind
from scheduler.core.what_if import Change, changes_for

_MOST_BLOCKERS = 20
_MOST_AHEAD = 64  # of the same kind, that are given an expected start for the sake of one behind them
# Waits that no time limit of a running job bounds: of a job kept out by these nobody can say when its devices come.
_NO_TIME = (QuotaReached, JobLimitReached, ReservationTooShort, WaitingForReservation)


@dataclass(frozen=True, slots=True)
class TenantUse:
    """Thousandths of devices that a tenant holds, against its quota; `borrowed_milli` of them above its guarantee."""

    tenant: str
    used_milli: int
    guaranteed_milli: int
    maximum_milli: int | None
    borrowed_milli: int
    simulated: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """`reason` is None for a job that would start now, at `placements`. `blocked_by`: the job ahead of it for the same
    devices, then running jobs that hold devices it could use (or its tenant's, where a quota or limit keeps it out),
    the highest priority first. `preempts` names victims it asks for in this pass. `expected_start_s` is absent where no
    time limit bounds it. `quota`: the job's own tenant; `borrowers`: other tenants that hold more than their guarantee,
    the most first. `changes`: each alone would start it now, the smallest first; `suggestions` are the same in words.
    """

    job_id: str
    reason: Reason | None
    nodes_by_reason: tuple[tuple[str, int], ...]
    blocked_by: tuple[str, ...]
    expected_start_s: float | None
    suggestions: tuple[str, ...]
    placements: tuple[Placement, ...] = ()
    preempts: tuple[str, ...] = ()
    quota: TenantUse | None = None
    borrowers: tuple[TenantUse, ...] = ()
    changes: tuple[Change, ...] = ()


def explain(cluster: ClusterState, queue: Queue, policy: Policy, job: PendingJob, *, now_s: float) -> Explanation:
    """The answer for `job` at its place in the queue. A job that is not in the queue (a dry run) is put where it
    belongs meanwhile; the queue is afterwards as it was before."""
    if queue.pending_job(job.job_id) is not None:
        return _explained(cluster, queue, policy, job, now_s)
    queue.submit(job)
    try:
        return _explained(cluster, queue, policy, job, now_s)
    finally:
        queue.withdraw(job.job_id)


def nearest_possible(
    cluster: ClusterState, alternatives: Sequence[Demand], workers: int, constraints: Constraints = UNCONSTRAINED
) -> str | None:
    """None if the cluster, empty and with every node up, could take `workers` such workers; otherwise the nearest
    demand that it could take, in words. For refusing a job when it is submitted."""
    return _nearest_possible(cluster.nodes, alternatives, workers, constraints)


def _explained(cluster: ClusterState, queue: Queue, policy: Policy, job: PendingJob, now_s: float) -> Explanation:
    planning = Pass(cluster, queue, policy, now_s=now_s)
    kind = queue.waiting.kind_of(job.job_id)
    while planning.walk(until=job.job_id):
        assert planning.turn is not None
        if planning.turn[0].job_id == job.job_id:
            break
        planning.take_turn()  # one of its kind before it: if that blocks the kind, nothing more is said of this one
    found = planning.found[kind.shape]
    free = planning.open_to(job, found)
    by_reason = planning.nodes_by_reason(job, free, found)
    changes = changes_for(planning, job)
    while planning.take_turn() is not None:
        pass  # what slips past a job that has no promise may well delay it
    started = {start.job_id: start.placements for start in planning.starts}
    made = planning.finish()
    quota, borrowers = _tenants(planning, job, simulated=kind.shape.simulated)
    if job.job_id in started:
        return Explanation(job.job_id, None, by_reason, (), now_s, (), started[job.job_id], quota=quota)
    reason = made.reasons[job.job_id]
    if isinstance(reason, Unsatisfiable):
        return Explanation(job.job_id, reason, by_reason, (), None, (f"nearest possible: {reason.nearest}",))
    if job.job_id not in planning.expected_start_s and not isinstance(reason, _NO_TIME):
        _estimate_behind_its_like(planning, kind, job, started.keys())
    return Explanation(
        job_id=job.job_id,
        reason=reason,
        nodes_by_reason=by_reason,
        blocked_by=_blocked_by(planning, job, reason),
        expected_start_s=planning.expected_start_s.get(job.job_id),
        suggestions=tuple(change.text for change in changes),
        preempts=tuple(v for preempt in planning.preemptions if preempt.for_job == job.job_id for v in preempt.victims),
        quota=quota,
        borrowers=borrowers,
        changes=changes,
    )


def _estimate_behind_its_like(planning: Pass, kind: Kind, job: PendingJob, started: Collection[str]) -> None:
    """It was not among the first that wait, so those of its kind before it are expected first. Where they are too many
    to be gone through no time is said: one that leaves them out would be far too early."""
    ahead = takewhile(lambda other: other.job_id != job.job_id, kind)
    known = planning.expected_start_s
    waiting = [other for other in ahead if other.job_id not in started and other.job_id not in known]
    if len(waiting) <= _MOST_AHEAD:
        for other in (*waiting, job):
            planning.estimate(other)


def _blocked_by(planning: Pass, job: PendingJob, reason: Reason) -> tuple[str, ...]:
    if isinstance(reason, WaitingForReservation | ReservationTooShort):
        return ()
    ahead = [reason.ahead] if isinstance(reason, BehindReservation) else []
    holdings = planning.timeline().holdings
    if isinstance(reason, QuotaReached | JobLimitReached):
        standing = holdings.slots.alive & (holdings.slots.tenant == holdings.tenant_number(job.tenant))
    else:
        standing = holdings.standing_on(planning.plain.nodes_of(job.alternatives))
        if any(demand.milli for demand in job.alternatives):
            standing &= holdings.slots.milli > 0
    slots, most = holdings.slots, _MOST_BLOCKERS - len(ahead)
    standing_slots = np.flatnonzero(standing)
    order = np.lexsort(
        (slots.id_hash[standing_slots], slots.started_s[standing_slots], -slots.priority[standing_slots])
    )
    holders = [holdings.job(slot) for slot in standing_slots[order[:most]].tolist()]
    return (*ahead, *(running.job_id for running in holders))


def _tenants(planning: Pass, job: PendingJob, *, simulated: bool) -> tuple[TenantUse, tuple[TenantUse, ...]]:
    """The job's tenant, and the others that hold more than they are guaranteed."""
    ledger, policy = planning.queue.held, planning.policy

    def use(tenant: str) -> TenantUse:
        limits = policy.tenant(tenant)
        return TenantUse(
            tenant,
            ledger.used_milli(tenant, simulated),
            limits.guaranteed_milli,
            limits.maximum_milli,
            borrowed_milli(policy, tenant, simulated, ledger),
            simulated,
        )

    others = [use(tenant) for tenant in ledger.tenants() if tenant != job.tenant]
    borrowers = sorted((u for u in others if u.borrowed_milli), key=lambda u: (-u.borrowed_milli, u.tenant))
    return use(job.tenant), tuple(borrowers)
