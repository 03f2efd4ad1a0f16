"""Which waiting jobs start now and where, which running ones must go for them, and why do the others wait?

`plan()` is one pass over the queue in strict order. Each job in turn: it starts if its gang fits in what is free and
not promised; otherwise, if what is already on its way out makes room, that is promised to it; otherwise it may preempt;
otherwise, as the first blocked job of its pool, it is promised the first slot that time limits show (EASY backfill:
see `reservations.py`). A job blocked on one pool never blocks another: what it is promised is all it keeps from others.

The pass only ever takes away from what later jobs may use, so a demand that failed once need not be searched again:
jobs with the same alternatives and workers share one `_Class`, with its answers and its reason.

Pure: `cluster` is not changed, time is an argument, ties are broken by `policy.tie_seed`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, Preempt, Queue, Start
from scheduler.core.demand import Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.holdings import Holdings
from scheduler.core.node_columns import Bools
from scheduler.core.node_reasons import nodes_by_reason
from scheduler.core.order import in_order
from scheduler.core.placement import Fit, Pools, fits, how_many, place
from scheduler.core.preemption import choose_victims
from scheduler.core.reasons import BehindReservation, NoFit, Reason, Unsatisfiable, WaitingForVictims
from scheduler.core.reservations import Promise, Promises
from scheduler.core.satisfiable import demand_text, nearest_possible
from scheduler.core.timeline import Timeline

PACKINGS = frozenset({"best-fit"})
_ESTIMATES = (
    8  # blocked jobs without a promise that get an expected start all the same, first come: each costs a search
)


def plan(cluster: ClusterState, queue: Queue, policy: Policy, *, now_s: float) -> Plan:
    """One pass. Raises ValueError for a packing policy that does not exist."""
    planning = Pass(cluster, queue, policy, now_s=now_s)
    for job in in_order(queue.pending):
        planning.consider(job)
    return planning.finish()


def end_of(job: PendingJob, now_s: float) -> float:
    """When the job would be over if it started now: infinity without a time limit."""
    return math.inf if job.time_limit_s is None else now_s + job.time_limit_s


@dataclass(slots=True)
class _Class:
    """Jobs that ask for the same. What failed for one of them fails for the next in the same pass.

    `failed_from_s`: jobs of at least this time limit do not fit (0: none does). `behind`: the promise in the way of
    those that would fit but for it. `hopeless_priority`: at this priority, and below, no preemption makes room.
    `victims_seen`: how many preemptions there were when nothing that leaves made room. `closed`: without backfill, a
    job ahead keeps the pool.
    """

    alternatives: tuple[Demand, ...]
    workers_min: int
    failed_from_s: float = math.inf
    searched: bool = False
    behind: BehindReservation | None = None
    no_fit: NoFit | None = None
    unsatisfiable: Unsatisfiable | None = None
    satisfiable: bool = False
    hopeless_priority: int | None = None
    victims_seen: int = -1
    slot_searched: bool = False
    closed: bool = False

    @property
    def pool_key(self) -> frozenset[tuple[object, ...]]:
        """Equal for demands that the same nodes and devices serve, whatever their size."""
        return frozenset(
            (d.vendor, d.model, bool(d.devices or d.share_milli), d.simulated, d.node, d.site)
            for d in self.alternatives
        )


@dataclass(frozen=True, slots=True)
class _Closed:
    """Without backfill: what nobody gets any more in this pass, because `job_id` is first for it."""

    job_id: str
    nodes: Bools
    kinds: frozenset[bool]  # devices (True), CPUs alone (False), or either


class Pass:
    """One pass under way: `consider` jobs in order, then `finish`. `core.explain` looks in the middle."""

    def __init__(self, cluster: ClusterState, queue: Queue, policy: Policy, *, now_s: float) -> None:
        if policy.packing not in PACKINGS:
            raise ValueError(f"there is no packing policy {policy.packing!r}; known: {', '.join(sorted(PACKINGS))}")
        self.cluster = cluster
        self.queue = queue
        self.policy = policy
        self.now_s = now_s
        self.pools = Pools(cluster.nodes, cluster.schedulable, cluster.nodes.tie_rank(policy.tie_seed))
        self.promises = Promises(cluster.free.copy())
        self.starts: list[Start] = []
        self.preemptions: list[Preempt] = []
        self.reasons: dict[str, Reason] = {}
        self.expected_start_s: dict[str, float] = {}
        self._started: list[tuple[float, Fit]] = []
        self._timeline: Timeline | None = None
        self._classes: dict[tuple[tuple[Demand, ...], int], _Class] = {}
        self._class_of_tuple: dict[tuple[int, int], _Class] = {}
        self._promised_pools: set[frozenset[tuple[object, ...]]] = set()
        self._closed: list[_Closed] = []
        self._unpromised: list[PendingJob] = []

    # ---- one job -------------------------------------------------------------------------------------------------

    def consider(self, job: PendingJob) -> None:
        """Start the job, or record why it waits and what it keeps from the jobs after it."""
        kind = self.class_of(job)
        fit = self._find(job, kind)
        if fit is not None:
            self._start(job, fit)
            return
        self.reasons[job.job_id] = self._block(job, kind)
        if job.job_id not in self.expected_start_s and len(self._unpromised) < _ESTIMATES and kind.satisfiable:
            self._unpromised.append(job)

    def class_of(self, job: PendingJob) -> _Class:
        # Tasks of one array share the tuple itself, and hashing a number is cheaper than hashing demands.
        quick = (id(job.alternatives), job.workers_min)
        kind = self._class_of_tuple.get(quick)
        if kind is None:
            key = (job.alternatives, job.workers_min)
            kind = self._classes.get(key)
            if kind is None:
                kind = self._classes[key] = _Class(job.alternatives, job.workers_min)
            self._class_of_tuple[quick] = kind
        return kind

    def open_to(self, job: PendingJob) -> FreeColumns:
        """What the job may use if it starts now. Not to be changed."""
        return self.promises.free_until(end_of(job, self.now_s))

    def _find(self, job: PendingJob, kind: _Class) -> Fit | None:
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        if kind.searched and limit_s >= kind.failed_from_s:
            return None
        if self._closed and self._is_closed_to(kind):
            kind.searched, kind.failed_from_s = True, 0.0
            return None
        fit = place(self.pools, self.open_to(job), kind.alternatives, wanted=job.workers_max, at_least=job.workers_min)
        if fit is None:
            kind.searched = True
            kind.behind = self._behind(job, kind)
            kind.failed_from_s = limit_s if kind.behind else 0.0
        return fit

    def _behind(self, job: PendingJob, kind: _Class) -> BehindReservation | None:
        """The promise in the way, if the job would fit without promises."""
        free = self.promises.free
        if not self.promises.promises or not fits(self.pools, free, kind.alternatives, kind.workers_min):
            return None
        end_s = end_of(job, self.now_s)
        for promise in self.promises.promises:
            if promise.delayed_by(end_s):
                free = free.lesser(promise.after)
                if not fits(self.pools, free, kind.alternatives, kind.workers_min):
                    return BehindReservation(promise.job_id)
        return None

    def _start(self, job: PendingJob, fit: Fit) -> None:
        end_s = end_of(job, self.now_s)
        self.starts.append(Start(job.job_id, fit.placements))
        self.promises.start(fit.claim, end_s=end_s)
        self._started.append((end_s, fit))
        if self._timeline is not None:
            self._timeline.occupy(fit.claim, until_s=end_s)

    # ---- a job that does not start -------------------------------------------------------------------------------

    def _block(self, job: PendingJob, kind: _Class) -> Reason:
        if not kind.satisfiable and kind.unsatisfiable is None:
            nearest = nearest_possible(self.cluster.nodes, kind.alternatives, kind.workers_min)
            kind.satisfiable = nearest is None
            if nearest is not None:
                kind.unsatisfiable = Unsatisfiable(demand_text(kind.alternatives, kind.workers_min), nearest)
        if kind.unsatisfiable is not None:
            return kind.unsatisfiable
        if kind.closed:
            assert kind.behind is not None
            return kind.behind
        waiting = self._wait_for_leavers(job, kind) or self._preempt(job, kind)
        if waiting is not None:
            return waiting
        self._reserve(job, kind)
        return kind.behind or self._no_fit(job, kind)

    def _wait_for_leavers(self, job: PendingJob, kind: _Class) -> Reason | None:
        """If what is on its way out already makes room, it is kept for this job: it need not preempt (again)."""
        if kind.victims_seen == len(self.preemptions):
            return None
        timeline = self.timeline()
        if timeline.something_leaves_now:
            free = timeline.at(self.now_s)
            fit = place(self.pools, free, kind.alternatives, wanted=kind.workers_min, at_least=kind.workers_min)
            if fit is not None:
                self._promise(job, fit, free, self.now_s)
                mine = self._leaving_for(job)
                return WaitingForVictims(mine) if mine else self._no_fit(job, kind)
        kind.victims_seen = len(self.preemptions)
        return None

    def _preempt(self, job: PendingJob, kind: _Class) -> Reason | None:
        if not (self.policy.preemption and job.may_preempt) or job.priority in self.policy.non_preempting:
            return None
        if kind.hopeless_priority is not None and job.priority <= kind.hopeless_priority:
            return None
        timeline = self.timeline()
        free = timeline.at(self.now_s)
        victims = choose_victims(self.pools, free, timeline.holdings, job, self.policy, now_s=self.now_s)
        if victims is None:
            kind.hopeless_priority = job.priority
            return None
        timeline.evict(victims.which)
        ids = tuple(self.queue.running[i].job_id for i in np.flatnonzero(victims.which).tolist())
        self.preemptions.append(Preempt(job.job_id, ids))
        self._promise(job, victims.fit, victims.free, self.now_s)
        return WaitingForVictims((*self._leaving_for(job), *ids))

    def _leaving_for(self, job: PendingJob) -> tuple[str, ...]:
        return tuple(running.job_id for running in self.queue.running if running.stopping_for == job.job_id)

    def _reserve(self, job: PendingJob, kind: _Class) -> None:
        """One promise by time limits for the first blocked job of a pool."""
        if kind.slot_searched:
            return
        kind.slot_searched = True
        if kind.pool_key in self._promised_pools:
            return
        slot = self.timeline().first_slot(self.pools, kind.alternatives, kind.workers_min)
        if slot is None:
            return  # only drained or silent nodes could take it: it waits for them without keeping anything from others
        self._promised_pools.add(kind.pool_key)
        self._promise(job, slot.fit, slot.free, slot.at_s)
        if not self.policy.backfill:
            self._closed.append(self._as_closed(kind, job.job_id))

    def _promise(self, job: PendingJob, fit: Fit, free: FreeColumns, start_s: float) -> None:
        """Keep `fit` for the job, in `free`: what there will be at `start_s` (now: once what is leaving has left)."""
        after = free.copy()
        after.take(fit.claim)
        # A promise for now holds against every job, also one that would be over at once.
        self.promises.add(Promise(job.job_id, start_s if start_s > self.now_s else -math.inf, after))
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        self.timeline().occupy(fit.claim, until_s=start_s + limit_s)
        if start_s < math.inf:
            self.expected_start_s[job.job_id] = start_s

    def _is_closed_to(self, kind: _Class) -> bool:
        """Whether a job ahead closed a part of the pool; then all of it is, or later jobs would pass this one."""
        mine = self._as_closed(kind, "")
        for closed in self._closed:
            if closed.kinds & mine.kinds and bool((closed.nodes & mine.nodes).any()):
                kind.closed, kind.behind = True, BehindReservation(closed.job_id)
                self._closed.append(replace(mine, job_id=closed.job_id))
                return True
        return False

    def _as_closed(self, kind: _Class, job_id: str) -> _Closed:
        kinds = frozenset(bool(demand.devices or demand.share_milli) for demand in kind.alternatives)
        return _Closed(job_id, self.pools.nodes_of(kind.alternatives), kinds)

    def _no_fit(self, job: PendingJob, kind: _Class) -> NoFit:
        if kind.no_fit is None:
            free = self.open_to(job)
            kind.no_fit = NoFit(
                demand=demand_text(kind.alternatives, kind.workers_min),
                wanted_workers=kind.workers_min,
                placeable_workers=how_many(self.pools, free, kind.alternatives, kind.workers_min),
                nodes_by_reason=nodes_by_reason(self.pools, free, kind.alternatives, self.cluster.unschedulable),
            )
        return kind.no_fit

    # ---- time ----------------------------------------------------------------------------------------------------

    def timeline(self) -> Timeline:
        """What is free when, made when first asked for: a pass in which everything starts never needs it."""
        if self._timeline is None:
            holdings = Holdings(self.cluster.nodes, self.queue.running, now_s=self.now_s)
            self._timeline = Timeline(self.cluster.free, holdings, now_s=self.now_s)
            for end_s, fit in self._started:
                self._timeline.occupy(fit.claim, until_s=end_s)
        return self._timeline

    def estimate(self, job: PendingJob) -> None:
        """Expected start of a job without a promise, behind everything promised or estimated so far."""
        timeline = self.timeline()
        slot = timeline.first_slot(self.pools, job.alternatives, job.workers_min)
        if slot is not None and slot.at_s < math.inf:
            self.expected_start_s[job.job_id] = slot.at_s
            limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
            timeline.occupy(slot.fit.claim, until_s=slot.at_s + limit_s)

    def finish(self) -> Plan:
        """The plan. Nothing may be considered afterwards: estimates use up the timeline."""
        for job in self._unpromised:
            self.estimate(job)
        return Plan(tuple(self.starts), tuple(self.preemptions), self.reasons, self.expected_start_s)
