"""What must hold of every plan, whatever the policy: checked in tests and in the simulator after each pass.

`check` works from the plan's words (placements, ids) and the cluster's facts with plain loops, on purpose: it shares no
arithmetic with the columns that made the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Queue, RunningJob, Start
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, NodeFacts, Placement
from scheduler.core.order import in_order
from scheduler.core.reasons import BehindReservation


class _Ledger:
    """Free thousandths of each device, CPUs and bytes of each node, by name."""

    def __init__(self) -> None:
        self.devices: dict[tuple[str, int], int] = {}
        self.cpus: dict[str, int] = {}
        self.memory: dict[str, int] = {}

    @staticmethod
    def of(cluster: ClusterState) -> _Ledger:
        """What the books leave: from the facts and the placements, not from the free columns."""
        ledger = _Ledger()
        for name in cluster.node_names:
            ledger.add_node(cluster.facts(name))
        for job_id in cluster.holders:
            ledger.add(cluster.held(job_id), -1)
        return ledger

    def add_node(self, facts: NodeFacts) -> None:
        self.cpus[facts.name] = facts.cpus_milli
        self.memory[facts.name] = facts.memory_bytes
        for device in facts.devices:
            self.devices[facts.name, device.index] = WHOLE_DEVICE_MILLI

    def add(self, placements: Iterable[Placement], sign: int) -> None:
        for placement in placements:
            if placement.node not in self.cpus:
                continue
            self.cpus[placement.node] += sign * placement.cpus_milli
            self.memory[placement.node] += sign * placement.memory_bytes
            for device in placement.devices:
                if (placement.node, device) in self.devices:
                    self.devices[placement.node, device] += sign * (placement.share_milli or WHOLE_DEVICE_MILLI)


def check(cluster: ClusterState, queue: Queue, plan: Plan) -> None:
    """Raise AssertionError, with the facts, if `plan` breaks a promise that holds for every plan of this cluster and
    queue. `cluster` is as it was when the plan was made."""
    pending = {job.job_id: job for job in queue.pending}
    running = {job.job_id: job for job in queue.running}
    started = {start.job_id: start for start in plan.starts}
    assert len(started) == len(plan.starts), f"a job starts twice: {[start.job_id for start in plan.starts]}"
    for start in plan.starts:
        assert start.job_id in pending, f"job {start.job_id} starts but does not wait"
        _check_gang(cluster, pending[start.job_id], start)
    waiting = set(pending) - set(started)
    assert waiting == set(plan.reasons), f"reasons are for {sorted(plan.reasons)}, waiting are {sorted(waiting)}"
    _check_room(cluster, plan)
    _check_victims(plan, pending, running)
    _check_order(cluster, queue, plan)


def _check_gang(cluster: ClusterState, job: PendingJob, start: Start) -> None:
    count = len(start.placements)
    assert job.workers_min <= count <= job.workers_max, f"job {job.job_id}: partial gang, {count} workers of {job}"
    workers = [placement.worker for placement in start.placements]
    assert workers == list(range(count)), f"job {job.job_id}: workers are numbered {workers}"
    for placement in start.placements:
        demand = job.alternatives[placement.alternative]
        assert cluster.unschedulable_reason(placement.node) is None, f"job {job.job_id} on {placement.node}: drained"
        wrong = _mismatch(cluster.facts(placement.node), demand, placement)
        assert wrong is None, f"job {job.job_id}: {placement} does not meet {demand}: {wrong}"


def _mismatch(node: NodeFacts, demand: Demand, placement: Placement) -> str | None:
    """What of the placement is not what the demand says; None where all is."""
    devices = {device.index: device for device in node.devices}
    checks = {
        "simulated": demand.simulated or not node.simulated,
        "node": demand.node in (None, node.name),
        "site": demand.site in (None, node.site),
        "number of devices": len(set(placement.devices)) == (demand.devices or (1 if demand.share_milli else 0)),
        "devices that exist": all(index in devices for index in placement.devices),
        "model": all(demand.model in (None, devices[i].model) for i in placement.devices if i in devices),
        "vendor": all(demand.vendor in (None, devices[i].vendor) for i in placement.devices if i in devices),
        "share": placement.share_milli == demand.share_milli,
        "cpus": placement.cpus_milli == demand.cpus_milli,
        "memory": placement.memory_bytes == demand.memory_bytes,
    }
    return next((what for what, holds in checks.items() if not holds), None)


def _check_room(cluster: ClusterState, plan: Plan) -> None:
    before, after = _Ledger.of(cluster), _Ledger.of(cluster)
    for start in plan.starts:
        after.add(start.placements, -1)
    touched = {placement.node for start in plan.starts for placement in start.placements}
    for (node, device), milli in after.devices.items():
        assert milli >= 0 or milli == before.devices[node, device], (
            f"device {device} of node {node} holds {WHOLE_DEVICE_MILLI - milli} of {WHOLE_DEVICE_MILLI} thousandths"
        )
    for node in touched:
        assert after.cpus[node] >= min(0, before.cpus[node]), f"node {node} is {-after.cpus[node]} milli-CPUs over"
        assert after.memory[node] >= min(0, before.memory[node]), f"node {node} is {-after.memory[node]} bytes over"


def _check_victims(plan: Plan, pending: dict[str, PendingJob], running: dict[str, RunningJob]) -> None:
    gone: set[str] = set()
    starting = {start.job_id for start in plan.starts}
    for preempt in plan.preemptions:
        job = pending.get(preempt.for_job)
        assert job is not None, f"job {preempt.for_job} preempts but does not wait"
        assert preempt.for_job not in starting, f"job {preempt.for_job} both starts and preempts"
        assert job.may_preempt, f"job {preempt.for_job} may not preempt"
        assert preempt.victims, f"job {preempt.for_job} preempts nobody"
        for victim_id in preempt.victims:
            victim = running.get(victim_id)
            assert victim is not None, f"victim {victim_id} of job {job.job_id} does not run"
            assert victim.priority < job.priority, (
                f"victim {victim_id} has priority {victim.priority}, its preemptor {job.job_id} {job.priority}"
            )
            assert not victim.stopping, f"victim {victim_id} of job {job.job_id} is stopping already"
            assert victim_id not in gone, f"job {victim_id} is a victim twice"
            gone.add(victim_id)


def _check_order(cluster: ClusterState, queue: Queue, plan: Plan) -> None:
    """No job started on devices that a job before it in the order, which still waits, could have had for its gang.

    A job that waits only because it would delay a third (BehindReservation) does not count against a shorter one:
    that is backfill.
    """
    started = {start.job_id: start for start in plan.starts}
    ahead: list[PendingJob] = []
    for job in in_order(queue.pending):
        start = started.get(job.job_id)
        if start is None:
            ahead.append(job)
            continue
        for waiter in ahead:
            if isinstance(plan.reasons[waiter.job_id], BehindReservation) and _limit_s(job) < _limit_s(waiter):
                continue
            assert not _could_have(cluster, waiter, start), (
                f"job {job.job_id} (priority {job.priority}) started on {start.placements} while job {waiter.job_id} "
                f"(priority {waiter.priority}), before it in the queue, fits there: {plan.reasons[waiter.job_id]}"
            )


def _limit_s(job: PendingJob) -> float:
    return math.inf if job.time_limit_s is None else job.time_limit_s


def _could_have(cluster: ClusterState, job: PendingJob, start: Start) -> bool:
    """Whether the smallest gang of `job` fits in nothing but what `start` took, under one of its alternatives."""
    taken = _Ledger()
    for placement in start.placements:
        taken.cpus.setdefault(placement.node, 0)
        taken.memory.setdefault(placement.node, 0)
        for device in placement.devices:
            taken.devices.setdefault((placement.node, device), 0)
    taken.add(start.placements, +1)
    return any(
        sum(_room(taken, cluster.facts(node), demand) for node in taken.cpus) >= job.workers_min
        for demand in job.alternatives
    )


def _room(taken: _Ledger, node: NodeFacts, demand: Demand) -> int:
    """Workers of `demand` that fit on the node in what the ledger holds of it."""
    if (node.simulated and not demand.simulated) or demand.node not in (None, node.name):
        return 0
    if demand.site not in (None, node.site):
        return 0
    free = [
        taken.devices.get((node.name, device.index), 0)
        for device in node.devices
        if demand.model in (None, device.model) and demand.vendor in (None, device.vendor)
    ]
    limits: list[int] = []
    if demand.devices:
        limits.append(sum(milli == WHOLE_DEVICE_MILLI for milli in free) // demand.devices)
    if demand.share_milli:
        limits.append(sum(milli // demand.share_milli for milli in free))
    if demand.cpus_milli:
        limits.append(taken.cpus[node.name] // demand.cpus_milli)
    if demand.memory_bytes:
        limits.append(taken.memory[node.name] // demand.memory_bytes)
    return min(limits, default=0)
