"""Which waiting jobs start now and where, which running ones must go for them, and why do the others wait?

`plan()` is one pass over the queue in strict order (`order.py`). Each job in turn, if its tenant's quota and its
reservation let it: it starts if its gang fits in what is free and not promised; otherwise, if what is already on its
way out makes room, that is promised to it; otherwise it may preempt; otherwise, as the first blocked job of its pool,
it is promised the first slot that time limits show (EASY backfill; conservative backfill promises one to each blocked
job, up to a depth: see `reservations.py`). A job blocked on one pool never blocks another: what it is promised is all
it keeps from others.

The pass only ever takes away from what later jobs may use, so what failed once need not be tried again: jobs of one
kind share the answer of the first (`waiting.py`), and kinds of one shape share what the search found (`_Found`).

Pure: `cluster` and `queue` are not changed, time is an argument, ties are broken by `policy.tie_seed`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, Preempt, Release, Resize, Start
from scheduler.core.demand import UNCONSTRAINED, Demand
from scheduler.core.fair_share import Amount, raised_share
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Where
from scheduler.core.node_columns import Bools
from scheduler.core.node_reasons import nodes_by_reason
from scheduler.core.order import Line
from scheduler.core.placement import Fit, fits, how_many, place
from scheduler.core.preemption import Victims, choose_victims
from scheduler.core.queue import Queue
from scheduler.core.quotas import QuotaLedger, allowed_workers, borrowed_milli, may_reclaim
from scheduler.core.reasons import (
    BehindReservation,
    NodesReserved,
    NoFit,
    Reason,
    ReservationTooShort,
    Unsatisfiable,
    WaitingForReservation,
    WaitingForVictims,
)
from scheduler.core.reservations import Promise, Promises
from scheduler.core.reserved_nodes import ReservedNodes
from scheduler.core.satisfiable import demand_text, nearest_possible
from scheduler.core.scaling import may_grow, releases, worth_growing_to
from scheduler.core.timeline import Timeline
from scheduler.core.waiting import Kind, Shape
from scheduler.core.waiting_reasons import WaitingReasons

_ESTIMATES = 4  # blocked jobs without a promise that get an expected start all the same: each costs a search
_FEW = 16
_HIGHEST = int(np.iinfo(np.int64).max)


def plan(cluster: ClusterState, queue: Queue, policy: Policy, *, now_s: float) -> Plan:
    """One pass. Raises ValueError for a packing policy that does not exist."""
    planning = Pass(cluster, queue, policy, now_s=now_s)
    planning.walk()
    return planning.finish()


def end_of(job: PendingJob, now_s: float) -> float:
    """When the job would be over if it started now: infinity without a time limit."""
    return math.inf if job.time_limit_s is None else now_s + job.time_limit_s


@dataclass(frozen=True, slots=True)
class _Settled:
    """The reason of a job that was promised nothing, how many preemptions there were then, and whether it asked running
    ones to go."""

    reason: Reason
    preemptions: int
    asked_others: bool


@dataclass(slots=True)
class _Found:
    """What a pass found out about a shape: it holds for every later job of that shape.

    `failed_from_s`: jobs of at least this time limit do not fit (0: none does). `behind`: what is in the way of those
    that would fit but for it. `hopeless`: by who asks (the tenant, where it may reclaim, and whether for an SLO), the
    priority at which, and below, no preemption makes room. `victims_seen`: how many preemptions there were when nothing
    that leaves made room. `closed`: without backfill, a job ahead keeps the pool.
    """

    shape: Shape
    failed_from_s: float = math.inf
    searched: bool = False
    behind: BehindReservation | NodesReserved | None = None
    no_fit: NoFit | None = None
    unsatisfiable: Unsatisfiable | None = None
    satisfiable: bool = False
    hopeless: dict[tuple[str | None, bool], int] = field(default_factory=dict)
    victims_seen: int = -1
    slot_searched: bool = False
    closed: bool = False
    where: Where | None = None
    settled: _Settled | None = None

    @property
    def pool_key(self) -> frozenset[tuple[object, ...]]:
        """Equal for demands that the same nodes and devices serve, whatever their size."""
        return frozenset(
            (
                d.vendor,
                d.model,
                bool(d.milli),
                d.simulated,
                d.node,
                d.site,
                d.mig_profile,
                d.node_labels,
                d.device_labels,
            )
            for d in self.shape.alternatives
        )


@dataclass(frozen=True, slots=True)
class _Closed:
    """Without backfill: what nobody gets any more in this pass, because `job_id` is first for it."""

    job_id: str
    nodes: Bools
    kinds: frozenset[bool]  # devices (True), CPUs alone (False), or either


class Pass:
    """One pass under way: `walk` the line, then `finish`. `core.explain` stops in the middle and looks around."""

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
        self.promises = Promises(cluster.free.copy(), self.reserved)
        self.ledger: QuotaLedger = queue.held.copy()
        self.line = Line(queue.waiting, policy, queue.usage, self.ledger.shares(cluster.totals), now_s)
        self.starts: list[Start] = []
        self.preemptions: list[Preempt] = []
        self.of_job: dict[str, Reason] = {}
        self.of_kind: dict[Kind, Reason] = {}
        self.expected_start_s: dict[str, float] = {}
        self.turn: tuple[PendingJob, Kind] | None = None
        self._started: list[tuple[PendingJob, float, Fit]] = []
        self._timeline: Timeline | None = None
        self._found: dict[Shape, _Found] = {}
        self._promised_pools: set[frozenset[tuple[object, ...]]] = set()
        self._closed: list[_Closed] = []
        self._unpromised: list[PendingJob] = []
        self._guarantees = any(tenant.guaranteed_milli for tenant in policy.tenants.values())
        self._lowest: int | None = None

    # ---- the walk ------------------------------------------------------------------------------------------------

    def walk(self, *, until: str | None = None) -> bool:
        """Consider jobs in order: all, or until it is the turn of the kind of job `until`, which is then not considered
        yet (True; `turn` holds who is)."""
        stop_at = None if until is None else self.queue.waiting.kind_of(until)
        while True:
            if self.turn is None:
                self.turn = self.line.next()
            if self.turn is None:
                return False
            job, kind = self.turn
            if kind is stop_at:
                return True
            self.turn = None
            self._consider(job, kind)

    def take_turn(self) -> str | None:
        """After `walk(until=...)`: consider the job whose turn it is. Returns its id; None where nobody is left."""
        if self.turn is None:
            self.turn = self.line.next()
        if self.turn is None:
            return None
        job, kind = self.turn
        self.turn = None
        self._consider(job, kind)
        return job.job_id

    def _consider(self, job: PendingJob, kind: Kind) -> None:
        """Start the job, or say why it waits, what it keeps from those after it, and whether its like may be tried."""
        found = self.found_of(kind.shape)
        reason = self._settled(job, found) or self._kept_out(job)
        if reason is None:
            workers = allowed_workers(self.policy, self.ledger, job)
            if isinstance(workers, int):
                fit = self._find(job, found, workers)
                if fit is not None:
                    self._start(job, kind, fit)
                    return
                reason, promised = self._block(job, found)
                found.settled = None if promised else _Settled(reason, len(self.preemptions), self._asks_others(job))
                if job.job_id not in self.expected_start_s and len(self._unpromised) < _ESTIMATES and found.satisfiable:
                    self._unpromised.append(job)
                if promised:
                    self.of_job[job.job_id] = reason
                    self.line.passed(job)
                    return
            else:
                reason = workers
        self.of_kind[kind] = reason
        self.line.blocked(kind)

    def _settled(self, job: PendingJob, found: _Found) -> Reason | None:
        """What was said of the last job of the shape, where nothing can have changed for this one: it comes later in
        the line, so that it has no more right to anything, and waits at least as long for its end."""
        settled = found.settled
        if settled is None or settled.preemptions != len(self.preemptions) or self._guarantees or job.holds_slo:
            return None
        if self._asks_others(job) and not settled.asked_others:
            return None
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        if limit_s < found.failed_from_s or self.policy.backfill == "conservative":
            return None
        return settled.reason

    def _asks_others(self, job: PendingJob) -> bool:
        """Whether the job may ask running ones to go."""
        if not (self.policy.preemption and job.may_preempt):
            return False
        return job.holds_slo or job.priority not in self.policy.non_preempting

    def found_of(self, shape: Shape) -> _Found:
        found = self._found.get(shape)
        if found is None:
            found = self._found[shape] = _Found(shape)
        return found

    def where(self, found: _Found) -> Where:
        """What else than capacity bounds the places of the shape: keyword arguments for `place` and its like."""
        shape = found.shape
        if found.where is not None and shape.tenant is None:
            return found.where
        where: Where = {}
        if shape.constraints is not UNCONSTRAINED and shape.constraints != UNCONSTRAINED:
            where["constraints"] = shape.constraints
        if shape.beside:
            where["beside"] = shape.beside
        if shape.tenant is not None:
            where["excluded"] = self.kept_apart(shape, shape.constraints.apart_from)
        if shape.reservation is not None and self.reserved.get(shape.reservation) is not None:
            where["only"] = self.reserved.rows(shape.reservation)
        found.where = where
        return where

    def kept_apart(self, shape: Shape, apart_from: tuple[str, ...]) -> Bools:
        """Rows where a job stands that the shape's jobs must be apart from if they name these, or that names them;
        those started in this pass included."""
        assert shape.tenant is not None
        names = self.queue.kept_apart(shape.tenant, shape.name, apart_from)
        for job, _, fit in self._started:
            if job.tenant == shape.tenant and (
                job.name in apart_from or (shape.name is not None and shape.name in job.constraints.apart_from)
            ):
                names.update(placement.node for placement in fit.placements)
        rows = np.zeros(len(self.cluster.nodes), np.bool_)
        rows[[self.cluster.nodes.row_of[name] for name in names if name in self.cluster]] = True
        return rows

    def _kept_out(self, job: PendingJob) -> Reason | None:
        """A job that names a reservation runs in its time alone."""
        if job.reservation is None:
            return None
        reservation = self.reserved.get(job.reservation)
        if reservation is None:
            return WaitingForReservation(job.reservation, None)
        if reservation.start_s > self.now_s:
            return WaitingForReservation(job.reservation, reservation.start_s)
        if not self.reserved.admits(job.reservation, self.now_s, end_of(job, self.now_s)):
            return ReservationTooShort(job.reservation, reservation.end_s)
        return None

    def open_to(self, job: PendingJob) -> FreeColumns:
        """What the job may use if it starts now. Not to be changed."""
        return self.promises.free_until(end_of(job, self.now_s), exempt=job.reservation)

    def _find(self, job: PendingJob, found: _Found, workers: int) -> Fit | None:
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        if found.searched and limit_s >= found.failed_from_s:
            return None
        if self._closed and self._is_closed_to(found):
            found.searched, found.failed_from_s = True, 0.0
            return None
        alternatives, where = found.shape.alternatives, self._where_now(job, found)
        fit = place(self.pools, self.open_to(job), alternatives, wanted=workers, at_least=job.workers_min, **where)
        if fit is None:
            found.searched = True
            found.behind = self._behind(job, found)
            found.failed_from_s = limit_s if found.behind else 0.0
        return fit

    def _behind(self, job: PendingJob, found: _Found) -> BehindReservation | NodesReserved | None:
        """What is in the way, if the job would fit without promises and reservations."""
        end_s = end_of(job, self.now_s)
        free, where = self.promises.free, self.where(found)
        alternatives = found.shape.alternatives
        promises = self.promises.heeded(end_s)
        reserved = self.reserved.blocked(self.now_s, end_s, exempt=job.reservation)
        if not promises and reserved is None:
            return None
        if not fits(self.plain, free, alternatives, job.workers_min, **where):
            return None
        for promise in promises:
            free = free.lesser(promise.after)
            if not fits(self.plain, free, alternatives, job.workers_min, **where):
                return BehindReservation(promise.job_id)
        rows = self.pools.nodes_of(alternatives)
        for kept in self.reserved.held_against(self.now_s, end_s, exempt=job.reservation):
            if bool((kept.rows & rows).any()):
                return NodesReserved(kept.reservation.name, kept.reservation.start_s, kept.reservation.end_s)
        return None

    def _start(self, job: PendingJob, kind: Kind, fit: Fit) -> None:
        end_s = end_of(job, self.now_s)
        claim = fit.claim
        if len(fit.placements) < _FEW:
            more = Amount.of(fit.placements)
        else:
            more = Amount(int(claim.milli.sum()), int(claim.cpus_milli.sum()), int(claim.memory_bytes.sum()))
        simulated = kind.shape.simulated
        rise = raised_share(self.ledger.held(job.tenant, simulated), more, self.cluster.totals.whole(simulated))
        self.starts.append(Start(job.job_id, fit.placements))
        self.promises.start(claim, end_s=end_s)
        self.ledger.start(job, more)
        self._started.append((job, end_s, fit))
        if self._timeline is not None:
            self._timeline.occupy(claim, until_s=end_s)
        self.line.started(job, max(rise, 0.0))

    # ---- a job that does not start -------------------------------------------------------------------------------

    def _block(self, job: PendingJob, found: _Found) -> tuple[Reason, bool]:
        """Why it waits, and whether it was promised something (then the next of its kind may fare otherwise)."""
        shape = found.shape
        if not found.satisfiable and found.unsatisfiable is None:
            nearest = nearest_possible(self.cluster.nodes, shape.alternatives, shape.workers_min, shape.constraints)
            found.satisfiable = nearest is None
            if nearest is not None:
                text = demand_text(shape.alternatives, shape.workers_min, shape.constraints)
                found.unsatisfiable = Unsatisfiable(text, nearest)
        if found.unsatisfiable is not None:
            return found.unsatisfiable, False
        if found.closed:
            assert found.behind is not None
            return found.behind, False
        waiting = self._wait_for_leavers(job, found) or self._preempt(job, found)
        if waiting is not None:
            return waiting, True
        promised = self._reserve(job, found)
        return found.behind or self._no_fit(job, found), promised

    def _wait_for_leavers(self, job: PendingJob, found: _Found) -> Reason | None:
        """If what is on its way out already makes room, it is kept for this job: it need not preempt (again)."""
        if found.victims_seen == len(self.preemptions):
            return None
        timeline = self.timeline()
        if timeline.something_leaves_now:
            fit = self._fit_in(timeline.now(), job, found)
            if fit is not None:
                self._promise(job, fit, timeline.now(), self.now_s)
                mine = self.queue.holding.stopping_for(job.job_id)
                return WaitingForVictims(mine) if mine else self._no_fit(job, found)
        found.victims_seen = len(self.preemptions)
        return None

    def _fit_in(self, free: FreeColumns, job: PendingJob, found: _Found) -> Fit | None:
        least = job.workers_min
        return place(
            self.plain, free, found.shape.alternatives, wanted=least, at_least=least, **self._where_now(job, found)
        )

    def _where_now(self, job: PendingJob, found: _Found) -> Where:
        """The same as `where`, without the rows that are reserved for others."""
        where = self.where(found)
        if not len(self.reserved):
            return where
        blocked = self.reserved.blocked(self.now_s, end_of(job, self.now_s), exempt=job.reservation)
        if blocked is None:
            return where
        excluded = where.get("excluded")
        return {**where, "excluded": blocked if excluded is None else blocked | excluded}

    def _preempt(self, job: PendingJob, found: _Found) -> Reason | None:
        if not self._asks_others(job):
            return None
        reclaims = self._guarantees and may_reclaim(self.policy, self.ledger, job)
        if not reclaims and job.priority <= self._lowest_running():
            return None
        asker = (job.tenant if reclaims else None, job.holds_slo)
        hopeless = found.hopeless.get(asker)
        if hopeless is not None and job.priority <= hopeless:
            return None
        victims = self.victims_for(job, found, reclaims=reclaims)
        if victims is None:
            found.hopeless[asker] = job.priority
            return None
        timeline = self.timeline()
        timeline.evict(victims.which)
        ids = timeline.holdings.ids(victims.which)
        for victim in ids:
            running = self.queue.running_job(victim)
            assert running is not None, victim
            self.ledger.evict(running)
        self.preemptions.append(Preempt(job.job_id, ids))
        self._promise(job, victims.fit, victims.free, self.now_s)
        return WaitingForVictims((*self.queue.holding.stopping_for(job.job_id), *ids))

    def _lowest_running(self) -> int:
        """The lowest class that holds anything."""
        if self._lowest is None:
            slots = self.timeline().holdings.slots
            self._lowest = int(np.where(slots.alive, slots.priority, _HIGHEST).min(initial=_HIGHEST))
        return self._lowest

    def victims_for(self, job: PendingJob, found: _Found, *, reclaims: bool) -> Victims | None:
        timeline = self.timeline()
        return choose_victims(
            self.plain,
            timeline.now(),
            timeline.holdings,
            job,
            self.policy,
            now_s=self.now_s,
            reclaimable_milli=self._borrowed(job, found.shape.simulated) if reclaims else {},
            where=self._where_now(job, found),
            harm=self.cluster.harm,
        )

    def _borrowed(self, job: PendingJob, simulated: bool) -> dict[str, int]:
        """What each other tenant holds above its guarantee."""
        borrowed = {
            tenant: borrowed_milli(self.policy, tenant, simulated, self.ledger)
            for tenant in self.ledger.tenants()
            if tenant != job.tenant
        }
        return {tenant: milli for tenant, milli in borrowed.items() if milli}

    def _reserve(self, job: PendingJob, found: _Found) -> bool:
        """A promise by time limits: for the first blocked job of a pool, or for each up to the policy's depth."""
        conservative = self.policy.backfill == "conservative"
        if conservative:
            if len(self.promises.promises) >= self.policy.reservation_depth:
                return False
        else:
            if found.slot_searched:
                return False
            found.slot_searched = True
            if found.pool_key in self._promised_pools:
                return False
        slot = self.timeline().first_slot(
            self.plain,
            found.shape.alternatives,
            job.workers_min,
            limit_s=math.inf if job.time_limit_s is None else job.time_limit_s,
            exempt=job.reservation,
            where=self.where(found),
        )
        if slot is None:
            return False  # only drained or silent nodes could take it: it waits for them and keeps nothing from others
        self._promised_pools.add(found.pool_key)
        self._promise(job, slot.fit, slot.free, slot.at_s)
        if self.policy.backfill == "none":
            self._closed.append(self._as_closed(found, job.job_id))
        return True

    def _promise(self, job: PendingJob, fit: Fit, free: FreeColumns, start_s: float) -> None:
        """Keep `fit` for the job, in `free`: what there will be at `start_s` (now: once what is leaving has left)."""
        # A promise for now holds against every job, also one that would be over at once.
        holds_from_s = start_s if start_s > self.now_s else -math.inf
        self.promises.add(Promise(job.job_id, holds_from_s, free, fit.claim))
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        self.timeline().occupy(fit.claim, until_s=start_s + limit_s)
        if start_s <= self.now_s:
            self.ledger.promise(job)
        if start_s < math.inf:
            self.expected_start_s[job.job_id] = start_s

    def _is_closed_to(self, found: _Found) -> bool:
        """Whether a job ahead closed a part of the pool; then all of it is, or later jobs would pass this one."""
        mine = self._as_closed(found, "")
        for closed in self._closed:
            if closed.kinds & mine.kinds and bool((closed.nodes & mine.nodes).any()):
                found.closed, found.behind = True, BehindReservation(closed.job_id)
                self._closed.append(replace(mine, job_id=closed.job_id))
                return True
        return False

    def closed_to(self, alternatives: tuple[Demand, ...]) -> Bools | None:
        """Without backfill: rows that a job ahead keeps from such demands. None where there are none."""
        kinds = frozenset(bool(demand.milli) for demand in alternatives)
        closed = [each.nodes for each in self._closed if each.kinds & kinds]
        return np.logical_or.reduce(closed) if closed else None

    def _as_closed(self, found: _Found, job_id: str) -> _Closed:
        alternatives = found.shape.alternatives
        kinds = frozenset(bool(demand.milli) for demand in alternatives)
        return _Closed(job_id, self.pools.nodes_of(alternatives), kinds)

    def _no_fit(self, job: PendingJob, found: _Found) -> NoFit:
        if found.no_fit is None:
            shape, free, where = found.shape, self.open_to(job), self._where_now(job, found)
            found.no_fit = NoFit(
                demand=demand_text(shape.alternatives, shape.workers_min, shape.constraints),
                wanted_workers=shape.workers_min,
                placeable_workers=how_many(self.plain, free, shape.alternatives, shape.workers_min, **where),
                nodes_by_reason=self.nodes_by_reason(job, free, found),
            )
        return found.no_fit

    def nodes_by_reason(self, job: PendingJob, free: FreeColumns, found: _Found) -> tuple[tuple[str, int], ...]:
        blocked = self.reserved.blocked(self.now_s, end_of(job, self.now_s), exempt=job.reservation)
        excluded = self.where(found).get("excluded")
        return nodes_by_reason(
            self.plain,
            free,
            found.shape.alternatives,
            self.cluster.unschedulable,
            excluded=excluded if blocked is None else blocked,
            excluded_word="holds a job to be apart from" if blocked is None else "reserved",
        )

    # ---- time ----------------------------------------------------------------------------------------------------

    def timeline(self) -> Timeline:
        """What is free when, made when first asked for: a pass in which everything starts never needs it."""
        if self._timeline is None:
            holdings = self.queue.holding.view(self.cluster.nodes, self.now_s)
            self._timeline = Timeline(self.cluster.free, holdings, now_s=self.now_s, reserved=self.reserved)
            for _, end_s, fit in self._started:
                self._timeline.occupy(fit.claim, until_s=end_s)
        return self._timeline

    def estimate(self, job: PendingJob) -> None:
        """Expected start of a job without a promise, behind everything promised or estimated so far."""
        timeline = self.timeline()
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        found = self.found_of(self.queue.waiting.kind_of(job.job_id).shape)
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
            timeline.occupy(slot.fit.claim, until_s=slot.at_s + limit_s)

    # ---- what is over --------------------------------------------------------------------------------------------

    def _resizes(self) -> tuple[Resize, ...]:
        """At most one elastic job a pass goes on larger, on devices that no waiting job could use."""
        if not self.queue.elastic:
            return ()
        wanted: Bools = np.zeros(len(self.cluster.nodes), np.bool_)
        for kind in (*self.of_kind, *(self.queue.waiting.kind_of(job_id) for job_id in self.of_job)):
            wanted |= self.pools.nodes_of(kind.shape.alternatives)
        free = self.promises.free_until(math.inf)
        gone = {victim for preempt in self.preemptions for victim in preempt.victims}
        ordered = sorted(self.queue.elastic.values(), key=lambda job: (-job.priority, job.started_s, job.job_id))
        for job in ordered:
            assert job.workers_max is not None
            if job.job_id in gone or not may_grow(job, self.policy, self.now_s):
                continue
            room = job.workers_max - len(job.placements)
            limits = self.policy.tenant(job.tenant)
            each = max(demand.milli for demand in job.alternatives)
            if limits.maximum_milli is not None and each:
                claimed = self.ledger.claimed_milli(job.tenant, job.simulated)
                room = min(room, (limits.maximum_milli - claimed) // each)
            if room <= 0:
                continue
            beside = tuple(placement.node for placement in job.placements)
            where: Where = {"constraints": job.constraints, "excluded": wanted, "beside": beside}
            workers = len(job.placements) + how_many(self.plain, free, job.alternatives, room, **where)
            if worth_growing_to(job, workers):
                return (Resize(job.job_id, workers),)
        return ()

    def _releases(self) -> tuple[Release, ...]:
        return releases(self.cluster, self.queue.shrinking.values()) if self.queue.shrinking else ()

    def _estimates(self) -> None:
        """Expected starts of the first that have no promise: heads of kinds, in order, then the next of their kinds."""
        left = _ESTIMATES - len(self._unpromised)
        for job in self._unpromised:
            self.estimate(job)
        heads = {job.job_id for job in self._unpromised} | {start.job_id for start in self.starts} | self.of_job.keys()
        for kind in self.of_kind:
            if not self.found_of(kind.shape).satisfiable:
                continue
            for job in kind:
                if left <= 0:
                    return
                if job.job_id not in heads:
                    self.estimate(job)
                    left -= 1

    def finish(self) -> Plan:
        """The plan. Nothing may be considered afterwards: estimates use up the timeline."""
        resizes = self._resizes()
        self._estimates()
        started = frozenset(start.job_id for start in self.starts)
        return Plan(
            tuple(self.starts),
            tuple(self.preemptions),
            WaitingReasons(self.queue.waiting, self.of_job, self.of_kind, started),
            self.expected_start_s,
            resizes,
            self._releases(),
        )
