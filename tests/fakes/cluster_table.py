"""A cluster, its queue and its clock in one chain of calls, for tests that read like tables:

    cluster(nodes=2, devices=8).submit("a", workers=2, devices=8).submit("b").expect(started="a")

Every plan made here is checked against `core.invariants`. Ids are given or a, b, c, ...; time starts at 1,000 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, Queue, RunningJob
from scheduler.core.demand import Demand, DeviceFacts, NodeFacts, Placement
from scheduler.core.explain import Explanation, explain
from scheduler.core.invariants import check
from scheduler.core.plan import plan
from scheduler.core.reasons import Reason

GIB = 2**30
NOW_S = 1_000.0


def node_facts(
    name: str,
    devices: int = 8,
    *,
    model: str | Iterable[str] = "H100 SXM",
    vendor: str = "nvidia",
    site: str = "north",
    cpus: float = 64,
    memory_gib: float = 512,
    simulated: bool = False,
) -> NodeFacts:
    """`model` may list one name a device."""
    models = [model] * devices if isinstance(model, str) else list(model)
    return NodeFacts(
        name=name,
        site=site,
        address="127.0.0.1",
        devices=tuple(
            DeviceFacts(i, f"{name}-{i}", each, vendor, 80 * GIB, simulated) for i, each in enumerate(models)
        ),
        cpus_milli=round(cpus * 1000),
        memory_bytes=round(memory_gib * GIB),
        simulated=simulated,
    )


def demand(devices: int = 1, *, share: float = 0, cpus: float = 1, memory_gib: float = 0, **pins: object) -> Demand:
    """`pins`: model, vendor, simulated, node, site."""
    return Demand(
        devices=0 if share else devices,
        share_milli=round(share * 1000),
        cpus_milli=round(cpus * 1000),
        memory_bytes=round(memory_gib * GIB),
        **pins,  # type: ignore[arg-type]
    )


def cluster(nodes: int = 1, devices: int = 8, prefix: str = "n", **facts: object) -> ClusterTable:
    return ClusterTable().nodes(nodes, devices, prefix, **facts)


class ClusterTable:
    """Each call changes the table and returns it. `last` is the last plan made."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.pending: dict[str, PendingJob] = {}
        self.running: dict[str, RunningJob] = {}
        self.settings = Policy()
        self.now_s = NOW_S
        self.last = Plan()
        self._seq = 0

    # ---- the table -----------------------------------------------------------------------------------------------

    def nodes(self, count: int, devices: int = 8, prefix: str = "n", **facts: object) -> ClusterTable:
        """`prefix`0, `prefix`1, ... `facts` as in node_facts()."""
        for i in range(count):
            self.state.add_node(node_facts(f"{prefix}{i}", devices, **facts))  # type: ignore[arg-type]
        return self

    def policy(self, **settings: object) -> ClusterTable:
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        return self

    def unschedulable(self, node: str, reason: str) -> ClusterTable:
        self.state.set_schedulable(node, reason)
        return self

    def run(
        self,
        job_id: str,
        node: str = "n0",
        devices: Iterable[int] | int = 1,
        *,
        share: float = 0,
        priority: int = 0,
        ends_in: float | None = 100.0,
        saved_ago: float = 0.0,
        started_ago: float | None = None,
        cpus: float = 1,
        memory_gib: float = 0,
        stopping: bool = False,
        stopping_for: str | None = None,
    ) -> ClusterTable:
        """A job that holds devices of one node (these, or the first so many); called again, one more worker of it."""
        before = self.running.get(job_id)
        worker = len(before.placements) if before else 0
        indices = tuple(range(devices)) if isinstance(devices, int) else tuple(devices)
        placement = Placement(
            worker, node, indices, round(share * 1000), round(cpus * 1000), round(memory_gib * GIB), 0
        )
        self.state.take(job_id, [placement])
        self.running[job_id] = RunningJob(
            job_id=job_id,
            tenant="t",
            priority=priority,
            started_s=self.now_s - (saved_ago if started_ago is None else started_ago),
            ends_by_s=None if ends_in is None else self.now_s + ends_in,
            saved_s=self.now_s - saved_ago,
            placements=(*(before.placements if before else ()), placement),
            stopping=stopping or stopping_for is not None,
            stopping_for=stopping_for,
        )
        return self

    def submit(
        self,
        job_id: str | None = None,
        *alternatives: Demand,
        workers: int | tuple[int, int] = 1,
        priority: int = 0,
        limit: float | None = 100.0,
        tenant: str = "t",
        may_preempt: bool = True,
        **one: object,
    ) -> ClusterTable:
        """A waiting job: `alternatives`, or one demand given as in demand()."""
        name = job_id or "abcdefghijklmnopqrstuvwxyz"[self._seq]
        least, most = (workers, workers) if isinstance(workers, int) else workers
        self.pending[name] = PendingJob(
            job_id=name,
            seq=self._seq,
            tenant=tenant,
            priority=priority,
            submitted_s=self.now_s,
            workers_min=least,
            workers_max=most,
            alternatives=alternatives or (demand(**one),),  # type: ignore[arg-type]
            time_limit_s=limit,
            may_preempt=may_preempt,
        )
        self._seq += 1
        return self

    # ---- what follows --------------------------------------------------------------------------------------------

    @property
    def queue(self) -> Queue:
        return Queue(tuple(self.pending.values()), tuple(self.running.values()))

    def plan(self) -> Plan:
        self.last = plan(self.state, self.queue, self.settings, now_s=self.now_s)
        check(self.state, self.queue, self.last)
        return self.last

    def expect(
        self, *, started: str | int | None = None, waiting: str | None = None, preempted: str | None = None
    ) -> ClusterTable:
        """Plan, and compare: ids in one string ("a b", in the order of starting), or how many."""
        made = self.plan()
        ids = [start.job_id for start in made.starts]
        if isinstance(started, int):
            assert len(ids) == started, (ids, made.reasons)
        elif started is not None:
            assert ids == started.split(), (ids, made.reasons)
        if waiting is not None:
            assert sorted(made.reasons) == sorted(waiting.split()), made.reasons
        if preempted is not None:
            victims = sorted(victim for preempt in made.preemptions for victim in preempt.victims)
            assert victims == sorted(preempted.split()), (victims, made.reasons)
        return self

    def reason(self, job_id: str) -> Reason:
        return self.plan().reasons[job_id]

    def placements(self, job_id: str) -> tuple[Placement, ...]:
        """Of the last plan."""
        return next(start.placements for start in self.last.starts if start.job_id == job_id)

    def where(self, job_id: str) -> dict[str, list[int]]:
        """Node -> devices of the last plan's start, workers joined."""
        found: dict[str, list[int]] = {}
        for placement in self.placements(job_id):
            found.setdefault(placement.node, []).extend(placement.devices)
        return found

    def explain(self, job_id: str) -> Explanation:
        return explain(self.state, self.queue, self.settings, self.pending[job_id], now_s=self.now_s)

    def apply(self) -> ClusterTable:
        """Carry the last plan out: starts hold their devices, victims are stopping."""
        for start in self.last.starts:
            job = self.pending.pop(start.job_id)
            self.state.take(start.job_id, start.placements)
            ends_by_s = None if job.time_limit_s is None else self.now_s + job.time_limit_s
            self.running[start.job_id] = RunningJob(
                start.job_id, job.tenant, job.priority, self.now_s, ends_by_s, self.now_s, start.placements
            )
        for preempt in self.last.preemptions:
            for victim in preempt.victims:
                self.running[victim] = replace(self.running[victim], stopping=True, stopping_for=preempt.for_job)
        return self

    def gone(self, job_id: str, *, requeued: bool = False) -> ClusterTable:
        """A running job has left; `requeued`: it waits again, with its old devices as demand, behind all others."""
        job = self.running.pop(job_id)
        self.state.give_back(job_id)
        if requeued:
            each = len(job.placements[0].devices)
            self.submit(job_id, workers=len(job.placements), devices=each, priority=job.priority)
        return self

    def after(self, seconds: float) -> ClusterTable:
        self.now_s += seconds
        return self
