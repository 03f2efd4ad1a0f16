"""Which running jobs must go so that a more urgent gang fits, at the least loss?

Who may go: jobs of a lower priority (for a job of a class that preempts nobody: those below 0, which give way to
everybody); and, where the gang's tenant reclaims what it is guaranteed, jobs of equal
priority of tenants that hold more than their guarantee: of each the cheapest, as long as the tenant was still over its
guarantee before that one went. Nobody who is leaving already. A job that was preempted before has run for the policy's
minimum since, so that two jobs never chase each other for the same devices.

Only if the whole gang then fits, else nobody goes. Loss is what the victims would have to do again: device-seconds
since each one's last checkpoint: the rework of checkpoint-and-restart theory (Young, "A first order approximation to
the optimum checkpoint interval", CACM 17(9), 1974), times the devices that have to do it. Of answers of equal loss the
one that leaves the least harm to packing, then the one with fewest jobs, then the one of the lowest classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.decisions import PendingJob, Policy
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import ANYWHERE, Gang
from scheduler.core.holdings import Holdings
from scheduler.core.part import Part, PutTogether
from scheduler.core.placement import Fit, Pools, Where
from scheduler.core.victim_bound import least_loss
from scheduler.core.victim_losses import DEVICE_SECOND, Losses
from scheduler.core.victim_search import VictimSearch

Harm = Callable[[FreeColumns, Ints], float]
"""Of what is free then on these rows (row i of it is rows[i]), how much is of no use to typical work."""
GIVES_WAY = 0
"""What has a lower priority gives way to everybody."""
NOTHING_TO_RECLAIM: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Victims:
    """Who goes (bool[slots]), what is free without them, where the gang would then stand, and the device-seconds since
    the victims' last checkpoints."""

    which: Bools
    free: FreeColumns | PutTogether
    fit: Fit
    loss_device_s: float


def choose_victims(
    pools: Pools,
    free: FreeColumns,
    holdings: Holdings,
    job: PendingJob,
    policy: Policy,
    *,
    now_s: float,
    reclaimable_milli: Mapping[str, int] = NOTHING_TO_RECLAIM,
    where: Where = ANYWHERE,
    harm: Harm | None = None,
    losses: Losses | None = None,
) -> Victims | None:
    """The victims for `job`, or None if no set of permitted ones makes room for its smallest gang.

    `free` is what is free now, counting what is on its way out, less what is promised to others. `reclaimable_milli`
    says what each borrower holds above its guarantee, among jobs that allow simulated devices or among the others,
    whichever `job` is: empty where its tenant may not reclaim. `harm` is asked of what is free once the victims have
    gone and the gang stands. `losses`: of these holdings now, where they are known. Whether the job may preempt at
    all is for the caller to know.
    """
    nodes = pools.nodes_of(job.alternatives)
    part = Part.serving(pools, nodes, where)
    losses = losses or Losses(holdings, now_s)
    if part is None:
        gang = Gang(pools, job.alternatives, job.workers_min, where)
        return _chosen(gang, free, holdings.on(nodes), job, policy, now_s, reclaimable_milli, harm, losses)
    gang = Gang(part.pools, job.alternatives, job.workers_min, part.where(where))
    harm_there = None if harm is None else _harm_within(part, harm)
    inside, there = part.of(free), holdings.within(part)
    found = _chosen(gang, inside, there, job, policy, now_s, reclaimable_milli, harm_there, losses)
    if found is None:
        return None
    assert isinstance(found.free, FreeColumns)
    return replace(found, free=PutTogether(part, found.free, free), fit=part.fit(found.fit))


def _harm_within(part: Part, harm: Harm) -> Harm:
    return lambda there, rows: harm(there, part.rows.take(rows))


def _chosen(
    gang: Gang,
    free: FreeColumns,
    holdings: Holdings,
    job: PendingJob,
    policy: Policy,
    now_s: float,
    reclaimable_milli: Mapping[str, int],
    harm: Harm | None,
    losses: Losses,
) -> Victims | None:
    standing = holdings.standing_on(gang.nodes()) if reclaimable_milli else None
    allowed = permitted(holdings, job, policy, losses, now_s, reclaimable_milli, among=standing)
    bound = least_loss(gang, free, holdings, allowed, losses)
    if bound is not None and bound.all_workers == math.inf:
        return None
    if standing is None:
        allowed &= holdings.standing_on(gang.nodes())
    if not allowed.any():
        return None
    search = VictimSearch(gang, free, holdings, allowed, losses, bound)
    return _least(search, search.answers(), harm)


def below(job: PendingJob, policy: Policy) -> int:
    """Whom it may ask to go: jobs of a lower priority than this."""
    return min(job.priority, GIVES_WAY) if is_polite(job, policy) else job.priority


def is_polite(job: PendingJob, policy: Policy) -> bool:
    """It is of a class that preempts nobody."""
    return job.priority in policy.non_preempting and not job.holds_slo


def permitted(
    holdings: Holdings,
    job: PendingJob,
    policy: Policy,
    losses: Losses,
    now_s: float,
    reclaimable_milli: Mapping[str, int] = NOTHING_TO_RECLAIM,
    *,
    among: Bools | None = None,
) -> Bools:
    """bool[slots]: jobs that may go for this one; `among` those where they stand on nodes that it could use."""
    slots = holdings.slots
    rested = (slots.preemptions == 0) | (slots.started_s <= now_s - policy.min_run_before_preemption_s)
    present = slots.alive & rested & (holdings.leaves_s > now_s)
    if among is not None:
        present &= among
    may_go: Bools = present & (slots.priority < below(job, policy))
    if not reclaimable_milli:
        return may_go
    return may_go | _borrowed(holdings, job, losses, present & (slots.priority == job.priority), reclaimable_milli)


def _borrowed(
    holdings: Holdings, job: PendingJob, losses: Losses, equals: Bools, reclaimable_milli: Mapping[str, int]
) -> Bools:
    """Of each borrower the cheapest jobs, as long as those before leave it above its guarantee.

    Jobs of lower classes need no such excuse and count as going after these.
    """
    slots = holdings.slots
    over_milli = np.zeros(1 + int(slots.tenant.max(initial=0)), np.int64)
    for tenant, milli in reclaimable_milli.items():
        number = holdings.tenant_number(tenant)
        if (
            0 <= number < len(over_milli) and tenant != job.tenant
        ):  # beyond: nothing of the tenant runs, but in this plan
            over_milli[number] = max(0, milli)
    simulated = any(demand.simulated for demand in job.alternatives)
    borrowing = equals & (slots.simulated == simulated) & (slots.milli > 0)
    candidates = np.flatnonzero(borrowing)
    candidates = losses.cheapest_first(candidates[over_milli[slots.tenant[candidates]] > 0], losses.work)
    candidates = candidates[np.argsort(slots.tenant[candidates], kind="stable")]
    of, taken = slots.tenant[candidates], slots.milli[candidates]
    before = np.cumsum(taken) - taken
    first = np.searchsorted(of, of)  # of the same tenant
    chosen: Bools = np.zeros(len(holdings), np.bool_)
    chosen[candidates[before - before[first] < over_milli[of]]] = True
    return chosen


def _least(search: VictimSearch, answers: Sequence[Bools], harm: Harm | None) -> Victims | None:
    """The best of these answers. The order is total: the ids of the jobs decide where all else is equal."""
    if not answers:
        return None
    losses = [search.losses.of(answer) for answer in answers]
    least = min(losses)
    options = []
    for answer, loss in zip(answers, losses, strict=True):
        if loss == least:
            free = search.without(answer)
            fit = search.gang.place(free)
            assert fit is not None, f"victims {np.flatnonzero(answer)} no longer make room"
            options.append(Victims(answer, free, fit, loss / DEVICE_SECOND))
    if len(options) == 1:
        return options[0]
    if harm is not None:
        nodes = np.zeros(len(search.gang.pools.nodes), np.bool_)  # elsewhere they leave the same
        for victims in options:
            nodes |= search.holdings.nodes_of(victims.which, len(nodes))
            nodes[victims.fit.claim.worker_rows] = True
        rows = np.flatnonzero(nodes)
        harms = [_harm(harm, victims, rows) for victims in options]
        options = [option for option, each in zip(options, harms, strict=True) if each == min(harms)]
    return min(options, key=lambda victims: search.losses.rank_of(victims.which))


def _harm(harm: Harm, victims: Victims, rows: Ints) -> float:
    free = victims.free.copy()
    free.take(victims.fit.claim)
    return harm(free.on(rows), rows)
