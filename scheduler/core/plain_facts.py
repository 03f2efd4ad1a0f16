"""What a plan says, beside the facts that it was made from, by plain loops: for `invariants.py` alone.

Who stands before whom is compared here anew, and only where it is certain: of two accounts of one class, starts made in
the pass itself decide, which a plan does not tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import AdvanceReservation, PendingJob, Plan, Policy, RunningJob
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, Level, NodeFacts, Placement
from scheduler.core.plain_room import Domain, Room, domains_at, is_exact, most_workers
from scheduler.core.queue import Queue


class PlanFacts:
    """The plan, cluster and queue by name. `before` and `after`: what is free without its starts and with them."""

    def __init__(self, cluster: ClusterState, queue: Queue, plan: Plan, policy: Policy, now_s: float) -> None:
        self.cluster = cluster
        self.owed = frozenset(queue.owed)
        self.plan = plan
        self.policy = policy
        self.now_s = now_s
        self.nodes = [cluster.facts(name) for name in cluster.node_names]
        self.pending = {job.job_id: job for job in queue.pending}
        self.running = {job.job_id: job for job in queue.running}
        self.started = {start.job_id: start for start in plan.starts}
        self.reasons = {job_id: plan.reasons[job_id] for job_id in plan.reasons}
        self.waiting = [job for job in self.pending.values() if job.job_id not in self.started]
        self.victims = {victim for preempt in plan.preemptions for victim in preempt.victims}
        self.before = Room.of(cluster)
        self.after = self.before.copy()
        for start in plan.starts:
            self.after.take(start.placements)

    # ---- who stands before whom --------------------------------------------------------------------------------------

    def is_before(self, job: PendingJob, other: PendingJob) -> bool:
        """Whether it is certain that `job` had its turn before `other`."""
        if job.priority != other.priority:
            return job.priority > other.priority
        owed = self.owed
        if job.job_id in owed and other.job_id in owed:
            return (_deadline_s(job), job.seq, job.job_id) < (_deadline_s(other), other.seq, other.job_id)
        if job.job_id in owed or other.job_id in owed:
            return job.job_id in owed
        starved, others = self.starved(job), self.starved(other)
        if starved and others:
            return (job.submitted_s, job.seq, job.job_id) < (other.submitted_s, other.seq, other.job_id)
        if starved or others:
            return starved
        if (job.tenant, is_simulated(job)) != (other.tenant, is_simulated(other)):
            return False
        return (_deadline_s(job), job.seq, job.job_id) < (_deadline_s(other), other.seq, other.job_id)

    def starved(self, job: PendingJob) -> bool:
        return self.now_s - job.submitted_s > self.policy.starve_after_s

    # ---- what tenants hold -------------------------------------------------------------------------------------------

    def used(self, *, staying: bool = False) -> Counter[tuple[str, bool]]:
        used: Counter[tuple[str, bool]] = Counter()
        for job in self.running.values():
            if not (staying and job.stopping):
                used[job.tenant, job.simulated] += held_milli(job.placements)
        return used

    def given(self) -> Counter[tuple[str, bool]]:
        """What this pass starts."""
        given: Counter[tuple[str, bool]] = Counter()
        for start in self.plan.starts:
            job = self.pending[start.job_id]
            given[job.tenant, is_simulated(job)] += held_milli(start.placements)
        return given

    # ---- what fits -------------------------------------------------------------------------------------------------

    def surely_fits(self, room: Room, job: PendingJob) -> bool:
        """Whether its smallest gang fits there now: certainly, under a single one of its alternatives."""
        nodes = [node for node in self.open_to(job, self.now_s) if node.name not in self.apart_nodes(job)]
        siblings = self.siblings(job)
        return any(
            is_exact(room, nodes, (demand,), job.constraints)
            and most_workers(room, nodes, (demand,), job.constraints, siblings) >= job.workers_min
            for demand in job.alternatives
        )

    def might_fit(self, room: Room, job: PendingJob, start_s: float) -> bool:
        """Whether its smallest gang fits there, as far as counting workers tells. False is certain."""
        nodes = self.open_to(job, start_s)
        return most_workers(room, nodes, job.alternatives, job.constraints, self.siblings(job)) >= job.workers_min

    def schedulable(self) -> Iterator[NodeFacts]:
        for node in self.nodes:
            if self.cluster.unschedulable_reason(node.name) is None:
                yield node

    def open_to(self, job: PendingJob, start_s: float) -> list[NodeFacts]:
        """Nodes that may be given work and are not reserved from the job, were it to run from then on."""
        kept = self.kept_by_others(job, start_s)
        own = self.reservation(job)
        return [
            node
            for node in self.schedulable()
            if node.name not in kept and (job.reservation is None or (own is not None and node.name in own.nodes))
        ]

    def kept_by_others(self, job: PendingJob, start_s: float) -> set[str]:
        """Nodes of reservations that it does not name and would run into; one that has begun holds against all."""
        end_s = self.end_s(job, start_s)
        return {
            name
            for each in self.policy.reservations
            if each.name != job.reservation
            and each.end_s > max(start_s, self.now_s)
            and (end_s > each.start_s or each.start_s <= self.now_s)
            for name in each.nodes
        }

    def apart_nodes(self, job: PendingJob) -> set[str]:
        """Where something stands, at the end of the pass, that the job must be apart from."""
        others: list[tuple[str, str, tuple[str, ...], tuple[Placement, ...]]] = [
            (running.tenant, running.name, running.apart_from, running.placements) for running in self.running.values()
        ]
        for start in self.plan.starts:
            mate = self.pending[start.job_id]
            others.append((mate.tenant, mate.name, mate.constraints.apart_from, start.placements))
        return {
            placement.node
            for tenant, name, apart_from, placements in others
            if tenant == job.tenant
            and ((name and name in job.constraints.apart_from) or (job.name and job.name in apart_from))
            for placement in placements
        }

    def siblings(self, job: PendingJob) -> list[NodeFacts]:
        return [self.cluster.facts(name) for name in job.beside if name in self.cluster]

    def domains(self, placement: Placement, level: Level) -> set[Domain]:
        return domains_at(self.cluster.facts(placement.node), level, placement.devices)

    def reservation(self, job: PendingJob) -> AdvanceReservation | None:
        """The one that it names, if there is one that is not over."""
        named = (each for each in self.policy.reservations if each.name == job.reservation and each.end_s > self.now_s)
        return next(named, None)

    def end_s(self, job: PendingJob, start_s: float) -> float:
        return math.inf if job.time_limit_s is None else start_s + job.time_limit_s

    def limit_end_s(self, job: RunningJob) -> float:
        return math.inf if job.ends_by_s is None else job.ends_by_s

    def leaves_s(self, job: RunningJob) -> float:
        """When it is gone, as far as time limits tell; a victim and what is stopping leave now."""
        if job.stopping or job.job_id in self.victims:
            return self.now_s
        return self.limit_end_s(job)


def is_simulated(job: PendingJob) -> bool:
    return any(demand.simulated for demand in job.alternatives)


def _deadline_s(job: PendingJob) -> float:
    return math.inf if job.deadline_s is None else job.deadline_s


def wants_devices(job: PendingJob) -> frozenset[bool]:
    return frozenset(demand.milli > 0 for demand in job.alternatives)


def held_milli(placements: Iterable[Placement]) -> int:
    return sum((each.share_milli or WHOLE_DEVICE_MILLI) * len(each.devices) for each in placements)


def least_milli(job: PendingJob) -> int:
    """What its smallest gang would hold, under its largest alternative."""
    return job.workers_min * max((_milli(demand) for demand in job.alternatives), default=0)


def _milli(demand: Demand) -> int:
    return demand.share_milli or WHOLE_DEVICE_MILLI * demand.devices
