"""What becomes of a job that cannot start now: may it have what is leaving, ask others to go, or be promised a time?

In this order: if what is already on its way out makes room, that is kept for it, and nobody else need go; otherwise it
may preempt (`preemption.py`); otherwise, as the first blocked job of its pool, it is promised the first slot that time
limits show (EASY backfill; conservative backfill promises one to each blocked job, up to a depth).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from scheduler.core.arrays import Bools
from scheduler.core.carried import Carried, NodesThen, nodes_now
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Policy, Preempt
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Gang
from scheduler.core.node_sets import NodeSet
from scheduler.core.part import Part
from scheduler.core.pass_books import Found, PassBooks, end_of
from scheduler.core.placement import Fit, how_many, place
from scheduler.core.preemption import GIVES_WAY, Victims, below, choose_victims, is_polite
from scheduler.core.queue import Queue
from scheduler.core.quotas import borrowed_milli, may_reclaim
from scheduler.core.reasons import BehindReservation, NoFit, Reason, Unsatisfiable, WaitingForVictims
from scheduler.core.satisfiable import demand_text
from scheduler.core.timeline import Slot
from scheduler.core.victim_bound import devices_suffice, is_bounded
from scheduler.core.victim_losses import Losses
from scheduler.core.victims_in_vain import InVain, Sought
from scheduler.core.waiting import Shape
from scheduler.core.waiting_reasons import Unsaid

_HIGHEST = int(np.iinfo(np.int64).max)


class Blocking(PassBooks):
    """The pass, where it deals with jobs that wait."""

    def __init__(
        self, cluster: ClusterState, queue: Queue, policy: Policy, *, now_s: float, only_decisions: bool = False
    ) -> None:
        super().__init__(cluster, queue, policy, now_s=now_s)
        self._promised_pools: set[frozenset[tuple[object, ...]]] = set()
        self._lowest: dict[int, tuple[Bools, int]] = {}
        self._lowest_of_all: int | None = None
        self._losses: Losses | None = None
        self._in_vain = InVain()
        # By the shape and who asks (the tenant, where it may reclaim, and whether for an SLO): the priority at which,
        # and below, no preemption makes room.
        self._hopeless: dict[tuple[Shape, str | None, bool], int] = {}
        # What is said of a job, by its shape and what it must heed.
        self._no_fit: dict[tuple[object, ...], NoFit] = {}
        self.carried = Carried.of(self.plain)
        # Jobs that are due a promise by time limits which nobody has come near yet, and their nodes.
        self._puts_off = only_decisions and policy.backfill == "easy" and not self.unschedulable and not self.reserved
        self._node_sets = self.carried.node_sets
        self._due: list[tuple[PendingJob, Found, NodeSet]] = []
        self._due_bits = 0  # of these sets

    def _block(self, job: PendingJob, found: Found) -> tuple[Reason | Unsaid, bool]:
        """Why it waits, and whether it was promised something (then the next of its kind may fare otherwise)."""
        shape = found.shape
        if not found.satisfiable and found.unsatisfiable is None:
            nearest = self.carried.nearest_possible(self.cluster.nodes, shape)
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
        return found.behind or Unsaid(found.shape, job), promised

    def _wait_for_leavers(self, job: PendingJob, found: Found) -> Reason | Unsaid | None:
        """If what is on its way out already makes room, it is kept for this job: it need not preempt (again)."""
        if found.victims_seen == len(self.preemptions):
            return None
        timeline, nodes = self.timeline(), self.plain.nodes_of(found.shape.alternatives)
        if timeline.something_leaves_now(nodes) and self._devices_could_suffice(job, found):
            self.make_due(nodes)
            fit = self._fit_in(timeline.now(), job, found)
            if fit is not None:
                self.promise(job, fit, timeline.now(), self.now_s)
                mine = self.queue.holding.stopping_for(job.job_id)
                return WaitingForVictims(mine) if mine else Unsaid(found.shape, job)
        found.victims_seen = len(self.preemptions)
        return None

    def _fit_in(self, free: FreeColumns, job: PendingJob, found: Found) -> Fit | None:
        least = job.workers_min
        return place(
            self.plain, free, found.shape.alternatives, wanted=least, at_least=least, **self.where_now(job, found)
        )

    def _asks_others(self, job: PendingJob) -> bool:
        """Whether the job may ask running ones to go, and there may be any."""
        if not (self.policy.preemption and job.may_preempt):
            return False
        return self._asks_all_below(job) or self._lowest_anywhere() < GIVES_WAY

    def _asks_all_below(self, job: PendingJob) -> bool:
        """Whether it may ask whatever has a lower priority."""
        return self.policy.preemption and job.may_preempt and not is_polite(job, self.policy)

    def _preempt(self, job: PendingJob, found: Found) -> Reason | None:
        if not self._asks_others(job):
            return None
        reach = below(job, self.policy)
        polite = is_polite(job, self.policy)
        reclaims = not polite and self.guarantees and may_reclaim(self.policy, self.ledger, job)
        if not reclaims and reach <= self._lowest_on(found):
            return None
        asker = (found.shape, job.tenant if reclaims else None, job.holds_slo)
        hopeless = self._hopeless.get(asker)
        if hopeless is not None and reach <= hopeless:
            return None
        victims = self._victims_unless_in_vain(job, found, reach, reclaims=reclaims)
        if victims is None:
            self._hopeless[asker] = reach
            return None
        timeline = self.timeline()
        if self._due:
            theirs = timeline.holdings.nodes_of(victims.which, len(self.cluster.nodes))
            self._make(_bits([there for _, _, there in self._due if np.count_nonzero(there.nodes & theirs)]))
        timeline.evict(victims.which)
        ids = timeline.holdings.ids(victims.which)
        for victim in ids:
            running = self.queue.running_job(victim)
            assert running is not None, victim
            self.ledger.evict(running)
        self.preemptions.append(Preempt(job.job_id, ids))
        self.promise(job, victims.fit, victims.free, self.now_s)
        return WaitingForVictims((*self.queue.holding.stopping_for(job.job_id), *ids))

    def _devices_could_suffice(self, job: PendingJob, found: Found, reach: int | None = None) -> bool:
        """Whether there would be devices enough with all that leaves gone, and all of classes below `reach`, if any.
        What it does not count it takes to be so, and it heeds no promises, which only keep more from the job: those put
        off need not be made for it."""
        alternatives = found.shape.alternatives
        nodes, where = self.plain.nodes_of(alternatives), self.where_now(job, found)
        part = Part.serving(self.plain, nodes, where)
        if part is None:
            gang = Gang(self.plain, alternatives, job.workers_min, where)
        else:
            gang = Gang(part.pools, alternatives, job.workers_min, part.where(where))
        return not is_bounded(gang) or devices_suffice(gang, self.timeline().could_be_free(nodes, part, reach))

    def _victims_unless_in_vain(self, job: PendingJob, found: Found, reach: int, *, reclaims: bool) -> Victims | None:
        """Who goes, unless it is known that nobody's going makes room: from a pass before, or as there are not devices
        enough. Who reclaims asks others than those of lower classes: it is always looked for."""
        nodes = self.plain.nodes_of(found.shape.alternatives)
        if reclaims:
            self.make_due(nodes)
            return self.victims_for(job, found, reclaims=True)
        is_due = self.is_due(nodes)
        if not is_due and self._known_in_vain(found, reach):
            return None
        if not self._devices_could_suffice(job, found, reach):
            return None
        if is_due:
            self.make_due(nodes)
            if self._known_in_vain(found, reach):
                return None
        question = self._question(job, found, reach)
        if question is None or not self._in_vain.covers(question):
            victims = self.victims_for(job, found, reclaims=False)
            if victims is not None:
                return victims
            if question is not None:
                self._in_vain.add(question)
        now = self._nodes_now(found)
        if now is not None:
            self.carried.found_hopeless(found.shape, reach, now, self.policy, self.timeline().holdings, self.now_s)
        return None

    def _known_in_vain(self, found: Found, reach: int) -> bool:
        """Whether a pass before found that nobody's going makes room, and nothing has changed on the nodes since."""
        then = self.carried.hopeless_then(found.shape, reach, self.policy, self.now_s)
        if then is None:
            return False
        now = self._nodes_now(found)
        return now is not None and then.same_as(now)

    def _question(self, job: PendingJob, found: Found, reach: int) -> Sought | None:
        """What victims are looked for, where its size is all that matters."""
        alternatives = found.shape.alternatives
        if len(alternatives) > 1 or self.where_now(job, found):
            return None
        demand, nodes = alternatives[0], self.plain.nodes_of(alternatives)
        devices = self.plain.nodes.pool(demand).devices
        return Sought(nodes, devices, demand, found.shape.workers_min, reach, len(self.preemptions))

    def _lowest_anywhere(self) -> int:
        """The lowest class that holds anything."""
        if self._lowest_of_all is None:
            lowest = self.queue.holding.lowest_priority()
            self._lowest_of_all = _HIGHEST if lowest is None else lowest
        return self._lowest_of_all

    def _lowest_on(self, found: Found) -> int:
        """The lowest class that holds anything on the shape's nodes."""
        nodes = self.plain.nodes_of(found.shape.alternatives)
        found_before = self._lowest.get(id(nodes))
        if found_before is not None:
            return found_before[1]
        holds = self.timeline().holdings.lowest_on(nodes)
        lowest = _HIGHEST if holds is None else holds
        self._lowest[id(nodes)] = (nodes, lowest)
        return lowest

    def victims_for(self, job: PendingJob, found: Found, *, reclaims: bool) -> Victims | None:
        timeline = self.timeline()
        if self._losses is None:
            self._losses = Losses(timeline.holdings, self.now_s)
        return choose_victims(
            self.plain,
            timeline.now(),
            timeline.holdings,
            job,
            self.policy,
            now_s=self.now_s,
            reclaimable_milli=self._borrowed(job, found.shape.simulated) if reclaims else {},
            where=self.where_now(job, found),
            harm=self.cluster.harm,
            losses=self._losses,
        )

    def _borrowed(self, job: PendingJob, simulated: bool) -> dict[str, int]:
        """What each other tenant holds above its guarantee."""
        borrowed = {
            tenant: borrowed_milli(self.policy, tenant, simulated, self.ledger)
            for tenant in self.ledger.tenants()
            if tenant != job.tenant
        }
        return {tenant: milli for tenant, milli in borrowed.items() if milli}

    def _reserve(self, job: PendingJob, found: Found) -> bool:
        """A promise by time limits: for the first blocked job of a pool, or for each up to the policy's depth."""
        conservative = self.policy.backfill == "conservative"
        if conservative:
            if len(self.promises.promises) >= self.policy.reservation_depth:
                return False
        else:
            if found.slot_searched:
                return False
            found.slot_searched = True
            if found.shape.pool_key in self._promised_pools:
                return False
            if self._may_put_off(found):
                self._promised_pools.add(found.shape.pool_key)
                there = self._node_sets.of(self.plain.nodes_of(found.shape.alternatives))
                self._due.append((job, found, there))
                self._due_bits |= there.bit
                return True
        self.make_due(self.plain.nodes_of(found.shape.alternatives))  # those ahead have the first choice
        return self._promise_slot(job, found)

    def _may_put_off(self, found: Found) -> bool:
        """Whether a promise to the shape can wait until somebody comes near. Then it is the same as now, since nothing
        was decided about its nodes meanwhile. It is certain that there will be one: the gang fits into the empty nodes,
        and nothing else keeps it off them."""
        shape = found.shape
        if not self._puts_off or shape.tenant is not None or shape.service is not None or shape.reservation is not None:
            return False
        return not self.timeline().something_leaves_now(self.plain.nodes_of(shape.alternatives))

    def is_due(self, nodes: Bools) -> bool:
        """Whether a promise was put off that looks at these nodes, which are not to be changed later."""
        return self._due_bits != 0 and self._node_sets.meeting(nodes, self._due_bits) != 0

    def make_due(self, nodes: Bools) -> None:
        """Make those of the promises put off that look at these nodes, which are not to be changed later."""
        if self.is_due(nodes):
            self._make(self._node_sets.meeting(nodes, self._due_bits))

    def _make(self, wanted: int) -> None:
        """Make those of the promises put off that look at these sets of nodes (their bits), and those before them that
        look at nodes of theirs, as one that is made heeds them: in the order of the line."""
        due, left = [], []
        for each in reversed(self._due):
            there = each[2]
            if there.bit & wanted:
                wanted |= self._node_sets.meeting(there.nodes, self._due_bits)
                due.append(each)
            else:
                left.append(each)
        self._due, self._due_bits = left[::-1], _bits([there for _, _, there in left])
        for job, found, _ in reversed(due):
            self._promise_slot(job, found)

    def _promise_slot(self, job: PendingJob, found: Found) -> bool:
        slot = self._first_slot(job, found)
        if slot is None:
            return False  # only drained or silent nodes could take it: it waits for them and keeps nothing from others
        self._promised_pools.add(found.shape.pool_key)
        self.promise(job, slot.fit, slot.free, slot.at_s)
        if self.policy.backfill == "none":
            self.closed.append(self.as_closed(found, job.job_id))
        return True

    def _first_slot(self, job: PendingJob, found: Found) -> Slot | None:
        limit_s = math.inf if job.time_limit_s is None else job.time_limit_s
        nodes = self._nodes_now(found)
        slot = None if nodes is None else self.carried.slot(found.shape, limit_s, nodes, self.now_s)
        if slot is None:
            slot = self.timeline().first_slot(
                self.plain,
                found.shape.alternatives,
                job.workers_min,
                limit_s=limit_s,
                exempt=job.reservation,
                where=self.where(found),
            )
            if nodes is not None and slot is not None:
                self.carried.found_slot(found.shape, limit_s, nodes, slot, self.now_s)
        return slot

    def _nodes_now(self, found: Found) -> NodesThen | None:
        """How the shape's nodes are, where that is all that its answers depend on."""
        shape = found.shape
        if len(self.reserved) or shape.tenant is not None or shape.service is not None or shape.reservation is not None:
            return None
        timeline = self.timeline()
        if found.nodes is None or found.nodes[0] != timeline.decisions:
            found.nodes = (timeline.decisions, nodes_now(timeline, self.plain.nodes_of(shape.alternatives)))
        return found.nodes[1]

    def _is_closed_to(self, found: Found) -> bool:
        """Whether a job ahead closed a part of the pool; then all of it is, or later jobs would pass this one."""
        mine = self.as_closed(found, "")
        for closed in self.closed:
            if closed.kinds & mine.kinds and bool((closed.nodes & mine.nodes).any()):
                found.closed, found.behind = True, BehindReservation(closed.job_id)
                self.closed.append(replace(mine, job_id=closed.job_id))
                return True
        return False

    def say(self, unsaid: Unsaid) -> NoFit:
        """How many workers and which nodes fall short, as things are at the end of the pass."""
        found, job = self.found[unsaid.shape], unsaid.job
        shape, end_s = found.shape, end_of(job, self.now_s)
        heeded = self.promises.heeded(end_s, found.rows)
        kept_off = self.reserved.held_against(self.now_s, end_s, exempt=job.reservation)
        no_fit = self._no_fit.get((shape, heeded, kept_off))
        if no_fit is None:
            free, where = self.open_to(job, found), self.where_now(job, found)
            no_fit = self._no_fit[shape, heeded, kept_off] = NoFit(
                demand=demand_text(shape.alternatives, shape.workers_min, shape.constraints),
                wanted_workers=shape.workers_min,
                placeable_workers=how_many(self.plain, free, shape.alternatives, shape.workers_min, **where),
                nodes_by_reason=self.nodes_by_reason(job, free, found),
            )
        return no_fit


def _bits(sets: Iterable[NodeSet]) -> int:
    bits = 0
    for each in sets:
        bits |= each.bit
    return bits
