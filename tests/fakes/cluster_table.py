"""A cluster, its queue and its clock in one chain of calls, for tests that read like tables:

    cluster(nodes=2, devices=8).submit("a", workers=2, devices=8).submit("b").expect(started="a")

Every plan made here is checked against `core.invariants`. Ids are given or a, b, c, ...; time starts at 1,000 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import AdvanceReservation, PendingJob, Plan, Policy, RunningJob, Start, TenantPolicy
from scheduler.core.demand import Constraints, Demand, DeviceFacts, Labels, Level, NodeFacts, Placement
from scheduler.core.explain import Explanation, explain
from scheduler.core.invariants import check
from scheduler.core.plan import plan
from scheduler.core.queue import Queue
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
    rack: str | None = None,
    island: str | Sequence[str | None] | None = None,
    mig: str | Sequence[str | None] | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
    device_labels: Mapping[str, str] = MappingProxyType({}),
) -> NodeFacts:
    """`model`, `island` and `mig` (a profile) may list one a device; an island's name is the same for all nodes."""
    models = [model] * devices if isinstance(model, str) else list(model)
    islands = [island] * len(models) if island is None or isinstance(island, str) else list(island)
    profiles = [mig] * len(models) if mig is None or isinstance(mig, str) else list(mig)
    return NodeFacts(
        name=name,
        site=site,
        address="127.0.0.1",
        devices=tuple(
            DeviceFacts(
                i, f"{name}-{i}", each, vendor, 80 * GIB, simulated, islands[i], profiles[i], label_pairs(device_labels)
            )
            for i, each in enumerate(models)
        ),
        cpus_milli=round(cpus * 1000),
        memory_bytes=round(memory_gib * GIB),
        simulated=simulated,
        labels=label_pairs(labels),
        rack=rack,
    )


def label_pairs(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def demand(
    devices: int = 1,
    *,
    share: float = 0,
    cpus: float = 1,
    memory_gib: float = 0,
    mig: str | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
    device_labels: Mapping[str, str] = MappingProxyType({}),
    **pins: object,
) -> Demand:
    """`pins`: model, vendor, simulated, node, site."""
    return Demand(
        devices=0 if share else devices,
        share_milli=round(share * 1000),
        cpus_milli=round(cpus * 1000),
        memory_bytes=round(memory_gib * GIB),
        mig_profile=mig,
        node_labels=label_pairs(labels),
        device_labels=label_pairs(device_labels),
        **pins,  # type: ignore[arg-type]
    )


def cluster(nodes: int = 1, devices: int = 8, prefix: str = "n", **facts: object) -> ClusterTable:
    return ClusterTable().nodes(nodes, devices, prefix, **facts)


class ClusterTable:
    """Each call changes the table and returns it. `last` is the last plan made.

    `kept` is a queue that is told of each change as it comes, as the service's is; plans are made with it. `queue` is
    the same made anew.
    """

    def __init__(self) -> None:
        self.state = ClusterState()
        self.pending: dict[str, PendingJob] = {}
        self.running: dict[str, RunningJob] = {}
        self.kept = Queue()
        self.settings = Policy()
        self.now_s = NOW_S
        self.last = Plan()
        self.asked: dict[str, PendingJob] = {}  # every job as it was submitted
        self.preempted: dict[str, int] = {}
        self._seq = 0

    def __repr__(self) -> str:
        """All there is, for an example that fails."""
        nodes = [self.state.facts(name) for name in self.state.node_names]
        things = [*nodes, *self.pending.values(), *self.running.values(), self.settings, dict(self.state.unschedulable)]
        return "\n".join(["ClusterTable", *(f"  {thing}" for thing in things), f"  {self.kept.usage}, {self.now_s}"])

    # ---- the table -----------------------------------------------------------------------------------------------

    def nodes(self, count: int, devices: int = 8, prefix: str = "n", **facts: object) -> ClusterTable:
        """`prefix`0, `prefix`1, ... `facts` as in node_facts()."""
        for i in range(count):
            self.state.add_node(node_facts(f"{prefix}{i}", devices, **facts))  # type: ignore[arg-type]
        return self

    def policy(self, **settings: object) -> ClusterTable:
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        return self

    def tenant(
        self,
        name: str,
        *,
        weight: float = 1.0,
        guaranteed: float = 0,
        maximum: float | None = None,
        running: int | None = None,
        used: float = 0.0,
    ) -> ClusterTable:
        """Devices guaranteed and at most, jobs at a time; `used`: its decayed average share, 0 to 1."""
        due = TenantPolicy(
            weight=weight,
            guaranteed_milli=round(1000 * guaranteed),
            maximum_milli=None if maximum is None else round(1000 * maximum),
            max_running_jobs=running,
        )
        if used:
            self.kept.usage[name] = used
        return self.policy(tenants={**self.settings.tenants, name: due})

    def reserve(self, name: str, nodes: str, starts_in: float, lasts: float) -> ClusterTable:
        """An advance reservation of these nodes ("n0 n1")."""
        start_s = self.now_s + starts_in
        reservation = AdvanceReservation(name, tuple(nodes.split()), start_s, start_s + lasts)
        return self.policy(reservations=(*self.settings.reservations, reservation))

    def unschedulable(self, node: str, reason: str | None) -> ClusterTable:
        """None: it may be given work again."""
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
        tenant: str = "t",
        simulated: bool = False,
        preempted: int = 0,
        **facts: object,
    ) -> ClusterTable:
        """A job that holds devices of one node (these, or the first so many); called again, one more worker of it.
        `preempted`: how often it was; `facts`: others of RunningJob."""
        before = self.running.get(job_id)
        worker = len(before.placements) if before else 0
        indices = tuple(range(devices)) if isinstance(devices, int) else tuple(devices)
        placement = Placement(
            worker, node, indices, round(share * 1000), round(cpus * 1000), round(memory_gib * GIB), 0
        )
        self.state.take(job_id, [placement])
        self._runs(
            RunningJob(
                job_id=job_id,
                tenant=tenant,
                priority=priority,
                started_s=self.now_s - (saved_ago if started_ago is None else started_ago),
                ends_by_s=None if ends_in is None else self.now_s + ends_in,
                saved_s=self.now_s - saved_ago,
                placements=(*(before.placements if before else ()), placement),
                stopping=stopping or stopping_for is not None,
                stopping_for=stopping_for,
                simulated=simulated,
                preemptions=preempted,
                **facts,  # type: ignore[arg-type]
            )
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
        within: Level | None = None,
        spread: Level | None = None,
        one_per: Level | None = None,
        apart_from: tuple[str, ...] = (),
        beside: tuple[str, ...] = (),
        name: str = "",
        waited: float = 0.0,
        due_in: float | None = None,
        reservation: str | None = None,
        holds_slo: bool = False,
        **one: object,
    ) -> ClusterTable:
        """A waiting job: `alternatives`, or one demand given as in demand(); `within` and so on are its constraints.
        It was submitted `waited` seconds ago, and is to start by `due_in` seconds from now."""
        given = job_id or "abcdefghijklmnopqrstuvwxyz"[self._seq]
        least, most = (workers, workers) if isinstance(workers, int) else workers
        self.wait(
            PendingJob(
                job_id=given,
                seq=self._seq,
                tenant=tenant,
                priority=priority,
                submitted_s=self.now_s - waited,
                workers_min=least,
                workers_max=most,
                alternatives=alternatives or (demand(**one),),  # type: ignore[arg-type]
                time_limit_s=limit,
                may_preempt=may_preempt,
                name=name,
                deadline_s=None if due_in is None else self.now_s + due_in,
                constraints=Constraints(within, spread, one_per, apart_from),
                reservation=reservation,
                holds_slo=holds_slo,
                beside=beside,
            )
        )
        self._seq += 1
        return self

    def wait(self, job: PendingJob) -> ClusterTable:
        self.asked[job.job_id] = self.pending[job.job_id] = job
        self.kept.submit(job)
        return self

    def withdraw(self, job_id: str) -> ClusterTable:
        del self.pending[job_id]
        self.kept.withdraw(job_id)
        return self

    def _runs(self, job: RunningJob) -> None:
        self.running[job.job_id] = job
        self.kept.run(job)

    # ---- what follows --------------------------------------------------------------------------------------------

    @property
    def queue(self) -> Queue:
        queue = Queue(tuple(self.pending.values()), tuple(self.running.values()), usage=self.kept.usage)
        queue.owed.update(self.kept.owed)
        return queue

    def plan(self) -> Plan:
        self.last = plan(self.state, self.kept, self.settings, now_s=self.now_s)
        check(self.state, self.kept, self.last, self.settings, self.now_s)
        return self.last

    def expect(
        self,
        *,
        started: str | int | None = None,
        waiting: str | None = None,
        preempted: str | None = None,
        grown: str | None = None,
        released: str | None = None,
    ) -> ClusterTable:
        """Plan, and compare: ids in one string ("a b", in the order of starting), or how many. `grown` as "a:4",
        `released` as "a:2,3"."""
        made = self.plan()
        ids = [start.job_id for start in made.starts]
        if isinstance(started, int):
            assert len(ids) == started, (ids, dict(made.reasons))
        elif started is not None:
            assert ids == started.split(), (ids, dict(made.reasons))
        if waiting is not None:
            assert sorted(made.reasons) == sorted(waiting.split()), dict(made.reasons)
        if preempted is not None:
            victims = sorted(victim for preempt in made.preemptions for victim in preempt.victims)
            assert victims == sorted(preempted.split()), (victims, dict(made.reasons))
        if grown is not None:
            assert [f"{each.job_id}:{each.workers}" for each in made.resizes] == grown.split(), made.resizes
        if released is not None:
            told = [f"{each.job_id}:{','.join(map(str, each.workers))}" for each in made.releases]
            assert told == released.split(), made.releases
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
        return explain(self.state, self.kept, self.settings, self.pending[job_id], now_s=self.now_s)

    def apply(self) -> ClusterTable:
        """Carry the last plan out: starts hold their devices, victims and what is to grow are stopping, workers that
        are too many have gone."""
        for start in self.last.starts:
            self._start(start)
        for preempt in self.last.preemptions:
            for victim in preempt.victims:
                self.preempted[victim] = self.preempted.get(victim, 0) + 1
                self._runs(replace(self.running[victim], stopping=True, stopping_for=preempt.for_job))
        for resize in self.last.resizes:
            self._runs(replace(self.running[resize.job_id], stopping=True))
        for release in self.last.releases:
            job = self.running[release.job_id]
            for worker in release.workers:
                self.state.give_back_workers(job.job_id, (worker,))
            left = tuple(placement for placement in job.placements if placement.worker not in release.workers)
            self._runs(replace(job, placements=left, workers_wanted=None))
        return self

    def _start(self, start: Start) -> None:
        job = self.pending.pop(start.job_id)
        self.kept.withdraw(start.job_id)
        self.state.take(start.job_id, start.placements)
        self._runs(
            RunningJob(
                job_id=start.job_id,
                tenant=job.tenant,
                priority=job.priority,
                started_s=self.now_s,
                ends_by_s=None if job.time_limit_s is None else self.now_s + job.time_limit_s,
                saved_s=self.now_s,
                placements=start.placements,
                name=job.name,
                apart_from=job.constraints.apart_from,
                preemptions=self.preempted.get(start.job_id, 0),
                simulated=any(each.simulated for each in job.alternatives),
                workers_max=job.workers_max if job.workers_max > job.workers_min else None,
                alternatives=job.alternatives,
                constraints=job.constraints,
            )
        )

    def gone(self, job_id: str, *, requeued: bool = False) -> ClusterTable:
        """A running job has left; `requeued`: it waits again as it was submitted (never submitted: with its
        old devices as demand, behind all others)."""
        job = self.running.pop(job_id)
        self.kept.end(job_id)
        self.state.give_back(job_id)
        if requeued and job_id in self.asked:
            self.wait(self.asked[job_id])
        elif requeued:
            each = len(job.placements[0].devices)
            self.submit(job_id, workers=len(job.placements), devices=each, priority=job.priority)
        return self

    def asked_to_go(self, job_id: str) -> ClusterTable:
        """A running job is on its way out, for nobody who waits."""
        self._runs(replace(self.running[job_id], stopping=True))
        return self

    def due(self) -> list[str]:
        """Ids of running jobs that are asked to go or past their time limit."""
        return sorted(
            job.job_id
            for job in self.running.values()
            if job.stopping or (job.ends_by_s is not None and job.ends_by_s <= self.now_s)
        )

    def all_due_leave(self) -> ClusterTable:
        """Those asked to go wait again, those at the end of their time are over."""
        for job_id in self.due():
            self.gone(job_id, requeued=self.running[job_id].stopping)
        return self

    def scale(self, job_id: str, workers: int) -> ClusterTable:
        """A running service wants so many workers from now on."""
        self._runs(replace(self.running[job_id], workers_wanted=workers))
        return self

    def after(self, seconds: float) -> ClusterTable:
        self.now_s += seconds
        return self
