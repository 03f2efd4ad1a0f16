"""What a planning pass knows at each point of its way: what is free, promised, reserved and started, and what the
search for a place has found out about each shape of job.

The pass only ever takes away from what later jobs may use, so what failed once need not be tried again: kinds of one
shape share what the search found (`Found`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools
from scheduler.core.carried import NodesThen
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Policy, Preempt, Start
from scheduler.core.demand import UNCONSTRAINED, Demand
from scheduler.core.fair_share import Held
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_reasons import nodes_by_reason
from scheduler.core.placement import Fit, Where
from scheduler.core.pools import Pools, has_room
from scheduler.core.queue import Queue
from scheduler.core.quick import quick
from scheduler.core.quotas import QuotaLedger
from scheduler.core.reasons import BehindReservation, NodesReserved, Reason, Unsatisfiable
from scheduler.core.reservations import FreeThen, Promise, Promises
from scheduler.core.reserved_nodes import ReservedNodes
from scheduler.core.timeline import Timeline
from scheduler.core.waiting import Shape
from scheduler.core.waiting_reasons import Unsaid


def end_of(job: PendingJob, now_s: float) -> float:
    """When the job would be over if it started now: infinity without a time limit."""
    return math.inf if job.time_limit_s is None else now_s + job.time_limit_s


@quick
@dataclass(frozen=True, slots=True)
class Settled:
    """The reason of a job that was promised nothing, how many preemptions there were then, and whether it asked all
    running ones of lower classes to go."""

    reason: Reason | Unsaid
    preemptions: int
    asked_others: bool


@dataclass(slots=True)
class Found:
    """What a pass found out about a shape: it holds for every later job of that shape.

    `failed_from_s`: jobs of at least this time limit do not fit (0: none does). `behind`: what is in the way of those
    that would fit but for it. `victims_seen`: how many preemptions there were when nothing that leaves made room.
    `closed`: without backfill, a job ahead keeps the pool. `nodes`: how its nodes were after so many decisions. `rows`:
    these nodes themselves, one object for equal sets.
    """

    shape: Shape
    rows: Bools
    failed_from_s: float = math.inf
    searched: bool = False
    behind: BehindReservation | NodesReserved | None = None
    unsatisfiable: Unsatisfiable | None = None
    satisfiable: bool = False
    victims_seen: int = -1
    slot_searched: bool = False
    closed: bool = False
    where: Where | None = None
    settled: Settled | None = None
    nodes: tuple[int, NodesThen | None] | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """Without backfill: what nobody gets any more in this pass, because `job_id` is first for it."""

    job_id: str
    nodes: Bools
    kinds: frozenset[bool]  # devices (True), CPUs alone (False), or either


class Findings(dict[Shape, Found]):
    """What a pass found out about each shape: nothing yet, of one that it has not come to."""

    __slots__ = ("_pools",)

    def __init__(self, pools: Pools) -> None:
        super().__init__()
        self._pools = pools

    def __missing__(self, shape: Shape) -> Found:
        found = self[shape] = Found(shape, self._pools.nodes_of(shape.alternatives))
        return found


class PassBooks:
    """The books of one pass. `starts`, `preemptions` and `expected_start_s` are what it has decided so far."""

    def __init__(self, cluster: ClusterState, queue: Queue, policy: Policy, *, now_s: float) -> None:
        self.cluster = cluster
        self.queue = queue
        self.policy = policy
        self.now_s = now_s
        self.pools = cluster.pools(policy.packing, policy.tie_seed)
        # Where only whether and when something fits matters, best fit answers for every policy: scores are kept for
        # what is free now, and would have to be made anew for each "what if".
        self.plain = cluster.plain_pools(policy.tie_seed)
        self.reserved = ReservedNodes.of(policy.reservations, cluster.nodes, now_s=now_s)
        self.any_reserved = len(self.reserved) > 0
        self.promises = Promises(cluster.free.tried(), self.reserved)
        self.ledger: QuotaLedger = queue.held.copy()
        self.starts: list[Start] = []
        self.preemptions: list[Preempt] = []
        self.expected_start_s: dict[str, float] = {}
        self.closed: list[Closed] = []
        self.started: list[tuple[PendingJob, float, Fit]] = []
        self._timeline: Timeline | None = None
        self.found = Findings(self.plain)
        self.unschedulable = dict(cluster.unschedulable)  # as it is now: reasons may be asked for later
        self.guarantees = any(tenant.guaranteed_milli for tenant in policy.tenants.values())

    # ---- what is open to a job -----------------------------------------------------------------------------------

    def open_to(self, job: PendingJob, found: Found) -> FreeColumns:
        """What the job, of the shape `found` tells of, may use of its nodes if it starts now. Not to be changed."""
        if not self.promises.promises and not self.any_reserved:
            return self.promises.free
        return self.promises.free_until(end_of(job, self.now_s), exempt=job.reservation, nodes=found.rows)

    def where(self, found: Found) -> Where:
        """What else than capacity bounds the places of the shape: keyword arguments for `place` and its like."""
        shape = found.shape
        if found.where is not None and shape.tenant is None and shape.service is None:
            return found.where
        where: Where = {}
        if shape.constraints is not UNCONSTRAINED:
            where["constraints"] = shape.constraints
        if shape.beside or shape.service is not None:
            where["beside"] = (*shape.beside, *self._siblings(shape))
        if shape.tenant is not None:
            where["excluded"] = self.kept_apart(shape, shape.constraints.apart_from)
        if shape.reservation is not None and self.reserved.get(shape.reservation) is not None:
            where["only"] = self.reserved.rows(shape.reservation)
        found.where = where
        return where

    def where_now(self, job: PendingJob, found: Found) -> Where:
        """The same as `where`, without the rows that are reserved for others."""
        where = self.where(found)
        if not self.any_reserved:
            return where
        blocked = self.reserved.blocked(self.now_s, end_of(job, self.now_s), exempt=job.reservation)
        if blocked is None:
            return where
        excluded = where.get("excluded")
        return {**where, "excluded": blocked if excluded is None else blocked | excluded}

    def _siblings(self, shape: Shape) -> list[str]:
        """Nodes of replicas of the same service that were started in this pass."""
        if shape.service is None:
            return []
        mine = (fit for job, _, fit in self.started if job.service == shape.service)
        return [placement.node for fit in mine for placement in fit.placements]

    def kept_apart(self, shape: Shape, apart_from: tuple[str, ...]) -> Bools:
        """Rows where a job stands that the shape's jobs must be apart from if they name these, or that names them;
        those started in this pass included."""
        assert shape.tenant is not None
        names = self.queue.kept_apart(shape.tenant, shape.name, apart_from)
        for job, _, fit in self.started:
            if job.tenant == shape.tenant and (
                job.name in apart_from or (shape.name is not None and shape.name in job.constraints.apart_from)
            ):
                names.update(placement.node for placement in fit.placements)
        rows = np.zeros(len(self.cluster.nodes), np.bool_)
        rows[[self.cluster.nodes.row_of[name] for name in names if name in self.cluster]] = True
        return rows

    def closed_to(self, alternatives: tuple[Demand, ...]) -> Bools | None:
        """Without backfill: rows that a job ahead keeps from such demands. None where there are none."""
        kinds = frozenset(bool(demand.milli) for demand in alternatives)
        closed = [each.nodes for each in self.closed if each.kinds & kinds]
        return np.logical_or.reduce(closed) if closed else None

    def as_closed(self, found: Found, job_id: str) -> Closed:
        alternatives = found.shape.alternatives
        kinds = frozenset(bool(demand.milli) for demand in alternatives)
        return Closed(job_id, found.rows, kinds)

    # ---- what is decided -----------------------------------------------------------------------------------------

    def take(self, job: PendingJob, fit: Fit, more: Held) -> float:
        """The job starts there, and holds so much. By how much that raises its account's dominant share."""
        end_s = end_of(job, self.now_s)
        self.starts.append(Start(job.job_id, fit.placements))
        self.promises.start(fit.claim, end_s=end_s)
        rise = self.ledger.start(job, more, self.cluster.totals)
        self.started.append((job, end_s, fit))
        if self._timeline is not None:
            self._timeline.occupy(fit.claim, until_s=end_s)
        return rise

    def promise(self, job: PendingJob, fit: Fit, free: FreeThen, start_s: float) -> None:
        """Keep `fit` for the job, in `free`: what there will be at `start_s` (now: once what is leaving has left)."""
        # A promise for now holds against every job, also one that would be over at once.
        holds_from_s = start_s if start_s > self.now_s else -math.inf
        self.promises.add(Promise(job.job_id, holds_from_s, free, fit.claim))
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        self.timeline().occupy(fit.claim, until_s=start_s + limit_s, from_s=start_s)
        if start_s <= self.now_s:
            self.ledger.promise(job)
        if start_s < math.inf:
            self.expected_start_s[job.job_id] = start_s

    # ---- time and reasons ----------------------------------------------------------------------------------------

    def timeline(self) -> Timeline:
        """What is free when, made when first asked for: a pass in which everything starts never needs it."""
        if self._timeline is None:
            holdings = self.queue.holding.view(self.cluster.nodes, self.now_s)
            self._timeline = Timeline(
                self.cluster.free, holdings, now_s=self.now_s, reserved=self.reserved, started=self.promises.free
            )
            for _, end_s, fit in self.started:
                self._timeline.occupy(fit.claim, until_s=end_s)
        return self._timeline

    def estimate(self, job: PendingJob) -> None:
        """Expected start of a job without a promise, behind everything promised or estimated so far."""
        timeline = self.timeline()
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        found = self.found[self.queue.waiting.kind_of(job.job_id).shape]
        slot = timeline.first_slot(
            self.plain,
            job.alternatives,
            job.workers_min,
            limit_s=limit_s,
            exempt=job.reservation,
            where=self.where(found),
        )
        if slot is not None and slot.at_s < math.inf:
            self.expected_start_s[job.job_id] = slot.at_s
            timeline.occupy(slot.fit.claim, until_s=slot.at_s + limit_s, from_s=slot.at_s)

    def nodes_by_reason(self, job: PendingJob, free: FreeColumns, found: Found) -> tuple[tuple[str, int], ...]:
        alternatives = found.shape.alternatives
        blocked = self.reserved.blocked(self.now_s, end_of(job, self.now_s), exempt=job.reservation)
        excluded, word = self.where(found).get("excluded"), "holds a job to be apart from"
        if blocked is not None:
            excluded, word = blocked, "reserved"
        elif excluded is None and self.promises.promises:
            # What is promised to others is free all the same: a node with room but for that says so.
            excluded = self._with_room(self.promises.free, alternatives) & ~self._with_room(free, alternatives)
            free, word = self.promises.free, "free, but promised to a job ahead"
        return nodes_by_reason(
            self.plain, free, alternatives, self.unschedulable, excluded=excluded, excluded_word=word
        )

    def _with_room(self, free: FreeColumns, alternatives: tuple[Demand, ...]) -> Bools:
        """Rows that have room for one worker."""
        rooms: Bools = np.zeros(len(self.cluster.nodes), np.bool_)
        for demand in alternatives:
            for part in self.plain.of(demand):
                rooms |= has_room(part, free, demand)
        return rooms
