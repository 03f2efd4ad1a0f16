"""Which waiting jobs start now and where, which running ones must go for them, and why do the others wait?

`plan()` is one pass over the queue in strict order (`order.py`). Each job in turn, if its tenant's quota and its
reservation let it: it starts if its gang fits in what is free and not promised; otherwise, if what is already on its
way out makes room, that is promised to it; otherwise it may preempt; otherwise, as the first blocked job of its pool,
it is promised the first slot that time limits show (EASY backfill; conservative backfill promises one to each blocked
job, up to a depth: see `reservations.py`). A job blocked on one pool never blocks another: what it is promised is all
it keeps from others.

The pass only ever takes away from what later jobs may use, so what failed once need not be tried again: jobs of one
kind share the answer of the first (`waiting.py`), and kinds of one shape share what the search found
(`pass_books.py`). What becomes of a job that cannot start is in `blocked.py`.

Pure: `cluster` and `queue` are not changed, time is an argument, ties are broken by `policy.tie_seed`.
"""

from __future__ import annotations

import math

import numpy as np

from scheduler.core.arrays import Bools
from scheduler.core.blocked import Blocking
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, Release, Resize
from scheduler.core.group_choice import with_constraints
from scheduler.core.order import Line
from scheduler.core.pass_books import Found, Settled, end_of
from scheduler.core.placement import Fit, Where, fits, how_many, place
from scheduler.core.queue import Queue
from scheduler.core.quotas import allowed_workers, held_on
from scheduler.core.reasons import (
    BehindReservation,
    JobLimitReached,
    NodesReserved,
    QuotaReached,
    Reason,
    ReservationTooShort,
    WaitingForReservation,
)
from scheduler.core.reservations import Promise
from scheduler.core.scaling import may_grow, releases, worth_growing_to
from scheduler.core.waiting import Kind
from scheduler.core.waiting_reasons import Unsaid, WaitingReasons

_ESTIMATES = 4  # blocked jobs without a promise that get an expected start all the same: each costs a search
_FEW = 16


def plan(
    cluster: ClusterState,
    queue: Queue,
    policy: Policy,
    *,
    now_s: float,
    estimates: bool = True,
    most_workers: int | None = None,
    only_decisions: bool = False,
) -> Plan:
    """One pass. Without `estimates`, expected starts are those of promises alone; all else is the same. With
    `most_workers` it is broken off, `partial`, when so many are to start: what is left is for the next pass, which is
    due at once. With `only_decisions` there are no estimates, and promises that no other job comes near are not worked
    out: where no device is barred decisions are the same, and so is the kind of each reason, but what would be kept by
    such a promise is told as free. Raises ValueError for a packing policy that does not exist."""
    planning = Pass(cluster, queue, policy, now_s=now_s, only_decisions=only_decisions)
    planning.walk(most_workers=most_workers)
    return planning.finish(estimates=estimates and not only_decisions)


class Pass(Blocking):
    """One pass under way: `walk` the line, then `finish`. `core.explain` stops in the middle and looks around."""

    def __init__(
        self, cluster: ClusterState, queue: Queue, policy: Policy, *, now_s: float, only_decisions: bool = False
    ) -> None:
        super().__init__(cluster, queue, policy, now_s=now_s, only_decisions=only_decisions)
        self.line = Line(queue.waiting, policy, queue.usage, self.ledger.shares(cluster.totals), now_s, queue.owed)
        self.turn: tuple[PendingJob, Kind] | None = None
        self.of_job: dict[str, Reason | Unsaid] = {}
        self.of_kind: dict[Kind, Reason | Unsaid] = {}
        self.partial = False
        self._unpromised: list[PendingJob] = []

    # ---- the walk ------------------------------------------------------------------------------------------------

    def walk(self, *, until: str | None = None, most_workers: int | None = None) -> bool:
        """Consider jobs in order: all, or until it is the turn of the kind of job `until`, which is then not considered
        yet (True; `turn` holds who is), or until `most_workers` are to start."""
        stop_at = None if until is None else self.queue.waiting.kind_of(until)
        starting = counted = 0
        while True:
            if most_workers is not None:
                starting += sum(len(start.placements) for start in self.starts[counted:])
                counted = len(self.starts)
                if starting >= most_workers:
                    self.partial = True
                    return False
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
        found = self.found[kind.shape]
        reason: Reason | Unsaid | None = None
        if found.settled is not None:
            reason = self._settled(job, found, found.settled)
        if reason is None and job.reservation is not None:
            reason = self._kept_out(job, job.reservation)
        if reason is None:
            workers = allowed_workers(self.policy, self.ledger, job)
            if isinstance(workers, int):
                fit = self._find(job, found, workers)
                if fit is not None:
                    self._start(job, fit)
                    return
                reason, promised = self._block(job, found)
                found.settled = None if promised else Settled(reason, len(self.preemptions), self._asks_all_below(job))
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

    def _settled(self, job: PendingJob, found: Found, settled: Settled) -> Reason | Unsaid | None:
        """What was said of the last job of the shape, where nothing can have changed for this one: it comes later in
        the line, so that it has no more right to anything, and waits at least as long for its end."""
        if settled.preemptions != len(self.preemptions) or self.guarantees or job.holds_slo:
            return None
        if not settled.asked_others and self._asks_others(job):
            return None
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        if limit_s < found.failed_from_s or self.policy.backfill == "conservative":
            return None
        return settled.reason

    def _kept_out(self, job: PendingJob, name: str) -> Reason | None:
        """A job that names a reservation runs in its time alone."""
        reservation = self.reserved.get(name)
        if reservation is None:
            return WaitingForReservation(name, None)
        if reservation.start_s > self.now_s:
            return WaitingForReservation(name, reservation.start_s)
        if not self.reserved.admits(name, self.now_s, end_of(job, self.now_s)):
            return ReservationTooShort(name, reservation.end_s)
        return None

    def _find(self, job: PendingJob, found: Found, workers: int) -> Fit | None:
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        if found.searched and limit_s >= found.failed_from_s:
            return None
        if self.closed and self._is_closed_to(found):
            found.searched, found.failed_from_s = True, 0.0
            return None
        alternatives, where = found.shape.alternatives, self.where(found)
        where_now, reserved = where, None
        nodes, end_s = found.rows, self.now_s + limit_s
        if self.any_reserved:
            where_now = self.where_now(job, found)
            reserved = self.reserved.blocked(self.now_s, end_s, exempt=job.reservation)
        promises, due = self.promises.heeded(end_s, nodes), self.is_due(nodes)
        fit, kept_back = None, due or bool(promises) or reserved is not None
        # Most that do not fit would not, either, if nothing were kept for others: that is soon said.
        if not kept_back or fits(self.plain, self.promises.free, alternatives, job.workers_min, **where):
            if due:
                self.make_due(nodes)
                promises = self.promises.heeded(end_s, nodes)
                kept_back = bool(promises) or reserved is not None
            free = self.open_to(job, found) if kept_back else self.promises.free
            if where_now:
                fit = place(self.pools, free, alternatives, wanted=workers, at_least=job.workers_min, **where_now)
            else:  # of nearly all: nothing to be put together
                fit = place(self.pools, free, alternatives, wanted=workers, at_least=job.workers_min)
        else:
            kept_back = False
        if fit is None:
            found.searched = True
            found.behind = self._behind(job, found, promises) if kept_back else None
            found.failed_from_s = limit_s if found.behind else 0.0
        return fit

    def _behind(
        self, job: PendingJob, found: Found, promises: tuple[Promise, ...]
    ) -> BehindReservation | NodesReserved | None:
        """What is in the way of a job that would fit without promises (those that it heeds) and reservations."""
        alternatives = found.shape.alternatives
        counted = len(alternatives) == 1 and not with_constraints(found.shape.constraints)
        if counted and len(promises) == 1 and not self.any_reserved:
            return BehindReservation(promises[0].job_id)  # it was found to fit but for that one
        end_s = end_of(job, self.now_s)
        free, where = self.promises.free, self.where(found)
        for promise in promises:
            free = promise.kept_from(free)
            if not fits(self.plain, free, alternatives, job.workers_min, **where):
                return BehindReservation(promise.job_id)
        for kept in self.reserved.held_against(self.now_s, end_s, exempt=job.reservation):
            if bool((kept.rows & found.rows).any()):
                return NodesReserved(kept.reservation.name, kept.reservation.start_s, kept.reservation.end_s)
        return None

    def _start(self, job: PendingJob, fit: Fit) -> None:
        claim = fit.claim
        if len(fit.placements) < _FEW:
            more = held_on(fit.placements)
        else:
            more = (int(claim.milli.sum()), int(claim.cpus_milli.sum()), int(claim.memory_bytes.sum()))
        self.line.started(job, max(self.take(job, fit, more), 0.0))

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
        for kind, reason in self.of_kind.items():
            if isinstance(reason, QuotaReached | JobLimitReached) or not self.found[kind.shape].satisfiable:
                continue
            for job in kind:
                if left <= 0:
                    return
                if job.job_id not in heads:
                    self.estimate(job)
                    left -= 1

    def finish(self, *, estimates: bool = True) -> Plan:
        """The plan. Nothing may be considered afterwards: estimates use up the timeline."""
        resizes = () if self.partial else self._resizes()
        if estimates and not self.partial:
            self._estimates()
        started = frozenset([start.job_id for start in self.starts])
        return Plan(
            tuple(self.starts),
            tuple(self.preemptions),
            WaitingReasons(self.queue.waiting, self.of_job, self.of_kind, started, self.say),
            self.expected_start_s,
            resizes,
            self._releases(),
            self.partial,
            self.promises.free,
        )
