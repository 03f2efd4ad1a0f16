"""What small change would start a job now? Each one tried on what is open to the job at its turn in the pass.

From what its owner can do (fewer workers, another model, fewer devices, a shorter time limit, no pin, a looser
constraint) to what only an operator can (resume a drained node, take back what others borrowed).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from scheduler.core.arrays import Bools
from scheduler.core.cluster import CPU_VENDOR
from scheduler.core.decisions import PendingJob
from scheduler.core.demand import UNCONSTRAINED, WHOLE_DEVICE_MILLI, Constraints, Demand, Level
from scheduler.core.free_columns import FreeColumns
from scheduler.core.placement import Pools, Where, fits, how_many
from scheduler.core.plan import Pass
from scheduler.core.quotas import allowed_workers

_MOST_MODELS = 3
_MOST_NODES = 8
_MOST_CHANGES = 6


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` says what would be changed, `text` in full: "with 6 workers it would start now"."""

    kind: Literal["workers", "device", "devices", "time_limit", "pin", "constraint", "resume", "reclaim"]
    text: str


def changes_for(planning: Pass, job: PendingJob) -> tuple[Change, ...]:
    """The changes that would start it, the smallest first. Empty where it starts as it is, where its quota or its
    reservation keep it out (no other demand would help), and where nothing small helps."""
    if not isinstance(allowed_workers(planning.policy, planning.ledger, job), int) or job.reservation is not None:
        return ()
    found_out = planning.found[planning.queue.waiting.kind_of(job.job_id).shape]
    free, open_to_all = planning.open_to(job, found_out), planning.where(found_out)
    where = _without_closed(planning, open_to_all, job.alternatives)
    if fits(planning.plain, free, job.alternatives, job.workers_min, **where):
        return ()
    found: list[Change] = []
    for change in _all(planning, job, free, where, open_to_all):
        found.append(change)
        if len(found) == _MOST_CHANGES:
            break
    return tuple(found)


def _without_closed(planning: Pass, where: Where, alternatives: tuple[Demand, ...]) -> Where:
    """Without backfill a pool of which a job ahead keeps a part is closed as a whole to those behind it."""
    closed, pool = planning.closed_to(alternatives), planning.pools.nodes_of(alternatives)
    if closed is None or not bool((closed & pool).any()):
        return where
    excluded = where.get("excluded")
    return {**where, "excluded": pool if excluded is None else pool | excluded}


def _all(planning: Pass, job: PendingJob, free: FreeColumns, where: Where, open_to_all: Where) -> Iterator[Change]:
    """`where`: for the job as it is; `open_to_all`: the same before what is closed to its demand is left out."""
    pools = planning.plain
    placeable = how_many(pools, free, job.alternatives, job.workers_min, **where)
    if placeable:
        yield Change("workers", f"with {placeable} worker{'' if placeable == 1 else 's'} it would start now")
    models = 0
    for change, alternatives in _other_demands(planning, job):
        if (change.kind != "device" or models < _MOST_MODELS) and fits(
            pools, free, alternatives, job.workers_min, **_without_closed(planning, open_to_all, alternatives)
        ):
            models += change.kind == "device"
            yield change
    limit_s = _limit_for_backfill(planning, job, where)
    if limit_s is not None:
        yield Change("time_limit", f"with time_limit up to {_span(limit_s)} it would start now, by backfill")
    yield from _looser(planning, job, free, where)
    yield from _resumed(planning, job, free, where)
    yield from _reclaimed(planning, job)


def _other_demands(planning: Pass, job: PendingJob) -> Iterator[tuple[Change, tuple[Demand, ...]]]:
    """Each a change and the demand it leads to: no pin, other models, fewer devices; never simulated ones."""
    demand = job.alternatives[0]
    asked = {alternative.model for alternative in job.alternatives}
    if demand.node is not None or demand.site is not None:
        yield (
            Change("pin", "with no node or site named it would start now"),
            (replace(demand, node=None, site=None),),
        )
    if demand.node_labels or demand.device_labels:
        yield (
            Change("pin", "with no labels asked for it would start now"),
            (replace(demand, node_labels=(), device_labels=()),),
        )
    if demand.model is not None:
        for model in _models(planning, simulated=demand.simulated):
            if model not in asked:
                change = Change("device", f"with device {model} it would start now")
                yield change, (replace(demand, model=model, vendor=None),)
    if demand.devices > 1:
        half = demand.devices // 2
        change = Change("devices", f"with {half} device{'' if half == 1 else 's'} a worker it would start now")
        yield change, (replace(demand, devices=half),)


def _models(planning: Pass, *, simulated: bool) -> list[str]:
    """Whole cards alone: a MIG instance is not another model, and a core is no card."""
    return sorted(
        {
            device.model
            for facts in planning.cluster.nodes.facts
            if simulated or not facts.simulated
            for device in facts.devices
            if device.mig_profile is None and device.vendor != CPU_VENDOR
        }
    )


def _limit_for_backfill(planning: Pass, job: PendingJob, where: Where) -> float | None:
    """The longest time limit with which the job would slip in before the promises and reservations in its way."""
    now_s = planning.now_s
    limits = {promise.start_s - now_s for promise in planning.promises.promises}
    limits |= {reservation.start_s - now_s for reservation in planning.policy.reservations}
    own_s = math.inf if job.time_limit_s is None else job.time_limit_s
    for limit_s in sorted((s for s in limits if 0 < s < min(own_s, math.inf)), reverse=True):
        free = planning.promises.free_until(now_s + limit_s)
        if fits(planning.plain, free, job.alternatives, job.workers_min, **where):
            return limit_s
    return None


def _looser(planning: Pass, job: PendingJob, free: FreeColumns, where: Where) -> Iterator[Change]:
    constraints, pools = job.constraints, planning.plain
    if constraints == UNCONSTRAINED:
        return
    tries: list[tuple[str, Constraints, Bools | None]] = []
    excluded = where.get("excluded")
    if constraints.within is not None:
        wider = list(Level)[list(Level).index(constraints.within) + 1 :]
        tries += [(f"within a {level.value}", replace(constraints, within=level), excluded) for level in wider]
        tries.append(("no `within`", replace(constraints, within=None), excluded))
    if constraints.one_per is not None:
        tries.append(("no `one_per`", replace(constraints, one_per=None), excluded))
    if constraints.apart_from and planning.closed_to(job.alternatives) is None:
        shape = planning.queue.waiting.kind_of(job.job_id).shape
        avoided = planning.kept_apart(shape, ())  # others may still keep off this job
        tries.append(("no `apart_from`", replace(constraints, apart_from=()), avoided))
    for words, looser, kept_off in tries:
        changed: Where = {**where, "constraints": looser, "excluded": kept_off}
        if fits(pools, free, job.alternatives, job.workers_min, **changed):
            yield Change("constraint", f"with {words} it would start now")
            return


def _resumed(planning: Pass, job: PendingJob, free: FreeColumns, where: Where) -> Iterator[Change]:
    """Drained nodes that would make room, one alone or all together."""
    cluster, pools = planning.cluster, planning.plain
    serving = sum(
        (cluster.nodes.pool(demand).nodes for demand in job.alternatives[1:]),
        cluster.nodes.pool(job.alternatives[0]).nodes,
    )
    drained = [
        name
        for name, why in cluster.unschedulable.items()
        if why.startswith("draining") and name in cluster and serving[cluster.nodes.row_of[name]]
    ]

    def would_fit(names: list[str]) -> bool:
        schedulable = pools.schedulable.copy()
        schedulable[[cluster.nodes.row_of[name] for name in names]] = True
        opened = Pools(cluster.nodes, schedulable, pools.tie_rank)
        return fits(opened, free, job.alternatives, job.workers_min, **where) and would_start(names)

    def would_start(names: list[str]) -> bool:
        """Jobs ahead see the node too: only the pass itself can tell."""
        resumed = cluster.copy()
        for name in names:
            resumed.set_schedulable(name, None)
        again = Pass(resumed, planning.queue, planning.policy, now_s=planning.now_s)
        again.walk()
        return any(start.job_id == job.job_id for start in again.starts)

    for name in drained[:_MOST_NODES]:
        if would_fit([name]):
            yield Change(
                "resume", f"if node {name} ({cluster.unschedulable_reason(name)}) were resumed it would start now"
            )
            return
    if len(drained) > 1 and would_fit(drained):
        yield Change("resume", f"if the {len(drained)} drained nodes that serve it were resumed it would start now")


def _reclaimed(planning: Pass, job: PendingJob) -> Iterator[Change]:
    """What others borrowed, were it taken back for this job: its tenant may have no right to it."""
    found = planning.found[planning.queue.waiting.kind_of(job.job_id).shape]
    victims = planning.victims_for(job, found, reclaims=True)
    if victims is None:
        return
    milli: dict[str, int] = {}
    lower = 0
    for job_id in planning.timeline().holdings.ids(victims.which):
        running = planning.queue.running_job(job_id)
        assert running is not None, job_id
        if running.priority < job.priority:
            lower += 1
        else:
            milli[running.tenant] = milli.get(running.tenant, 0) + running.milli
    if not milli or lower:
        return
    parts = [
        f"tenant {tenant}'s borrowed {held / WHOLE_DEVICE_MILLI:g} devices" for tenant, held in sorted(milli.items())
    ]
    yield Change("reclaim", f"if {' and '.join(parts)} were reclaimed it would start now")


def _span(seconds: float) -> str:
    """2 h, 90 min, 45 s: rounded down, since a little more would be too long."""
    if seconds >= 2 * 3600:
        return f"{math.floor(seconds / 360) / 10:g} h"
    if seconds >= 2 * 60:
        return f"{math.floor(seconds / 6) / 10:g} min"
    return f"{math.floor(seconds)} s"
