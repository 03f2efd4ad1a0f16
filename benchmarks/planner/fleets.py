"""Synthetic clusters, queues and arrivals for measuring the planner: seeded, equal seeds give equal sites.

A `Site` is what a scheduling service keeps: the cluster, what waits, what runs, and a clock, which here stands where it
is put. Its nodes, devices and jobs exist nowhere; what is true about it is how long the planner takes over it.

How jobs come to stand where they stand does not depend on the planner, so that two versions of it are measured on the
same state: nodes are carved one after the other until full, and then jobs end at random until the level is reached,
which leaves the holes that departures leave.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Plan, Policy, RunningJob
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, DeviceFacts, NodeFacts, Placement
from scheduler.core.packing.shapes import TypicalShapes
from scheduler.core.plan import plan
from scheduler.core.queue import Queue

GIB = 2**30
NOW_S = 1_000_000.0
DEVICES = 8
NODES_A_RACK = 8
CPUS_MILLI, MEMORY_BYTES = 128_000, 2_048 * GIB
MODELS = (("H100 SXM", "nvidia", 6), ("A100 SXM", "nvidia", 3), ("Ascend 910B", "huawei", 1))  # of ten nodes
TENANTS = ("film", "drones", "magnets", "hospital", "university", "city")
CLASSES = (0, 1, 2)
LIMITS_S = (600.0, 3_600.0, 14_400.0, 86_400.0)
_TYPICAL_DRAWS = 4_000


# ---- nodes -------------------------------------------------------------------------------------------------------


def grid(nodes: int, devices: int = DEVICES) -> tuple[NodeFacts, ...]:
    """That many nodes of as many devices each; each node is an NVLink island, eight are a rack."""
    models = [(model, vendor) for model, vendor, count in MODELS for _ in range(count)]
    return tuple(
        _node(f"n{i:05d}", *models[i * 7 % 10], devices, rack=f"r{i // NODES_A_RACK:04d}") for i in range(nodes)
    )


def _node(name: str, model: str, vendor: str, devices: int, rack: str) -> NodeFacts:
    return NodeFacts(
        name=name,
        site="site",
        address="127.0.0.1",
        devices=tuple(
            DeviceFacts(i, f"{name}-{i}", model, vendor, 80 * GIB, False, island=f"{name}-i") for i in range(devices)
        ),
        cpus_milli=CPUS_MILLI,
        memory_bytes=MEMORY_BYTES,
        simulated=False,
        rack=rack,
    )


# ---- what is asked for -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sort:
    """One sort of job: so many workers of one demand, any or one model. `weight`: how often it comes, relatively."""

    weight: float
    workers: int
    devices: int
    share_milli: int = 0

    def demand(self, model: str | None, cpus_a_device_milli: int) -> Demand:
        milli = self.devices * WHOLE_DEVICE_MILLI + self.share_milli
        # CPUs and memory go with the devices; a worker without any takes as much as two devices' worth.
        cpus_milli = cpus_a_device_milli * (milli or 2 * WHOLE_DEVICE_MILLI) // WHOLE_DEVICE_MILLI
        return Demand(
            model=model if milli else None,
            devices=self.devices,
            share_milli=self.share_milli,
            cpus_milli=cpus_milli,
            memory_bytes=cpus_milli // 1000 * 8 * GIB,
        )


SORTS = (
    Sort(36, 1, 1),
    Sort(12, 1, 2),
    Sort(10, 1, 4),
    Sort(9, 1, 8),
    Sort(10, 1, 0, 250),
    Sort(7, 1, 0, 500),
    Sort(9, 1, 0),
    Sort(3, 2, 8),
    Sort(2, 4, 8),
    Sort(2, 8, 1),
)
_MODEL_WEIGHTS = ((None, 45), ("H100 SXM", 35), ("A100 SXM", 15), ("Ascend 910B", 5))
_CPUS_A_DEVICE_MILLI = (4_000, 8_000, 10_000)


class Arrivals:
    """Jobs that come one after the other, drawn from `SORTS`, all of one priority class."""

    __slots__ = ("_alternatives", "_number", "_prefix", "_priority", "_rng")

    def __init__(self, seed: int, *, prefix: str = "a", priority: int = 0) -> None:
        self._rng = random.Random(f"arrivals {seed} {prefix}")
        self._prefix = prefix
        self._priority = priority
        self._number = 0
        self._alternatives: dict[Demand, tuple[Demand, ...]] = {}  # one tuple for equal ones, as in an array of jobs

    def next(self, now_s: float) -> PendingJob:
        rng = self._rng
        sort = rng.choices(SORTS, [each.weight for each in SORTS])[0]
        model = rng.choices([name for name, _ in _MODEL_WEIGHTS], [weight for _, weight in _MODEL_WEIGHTS])[0]
        demand = sort.demand(model, rng.choice(_CPUS_A_DEVICE_MILLI))
        alternatives = self._alternatives.setdefault(demand, (demand,))
        self._number += 1
        return waiting(
            f"{self._prefix}{self._number}",
            alternatives,
            workers=sort.workers,
            seq=self._number,
            priority=self._priority,
            tenant=rng.choice(TENANTS),
            submitted_s=now_s,
            limit_s=rng.choice(LIMITS_S),
        )


@lru_cache(maxsize=4)  # every case of a run asks for the same
def typical_shapes(seed: int) -> TypicalShapes:
    """What the arrivals are in the long run, a gang's demand once a worker."""
    arrivals = Arrivals(seed, prefix="typical")
    drawn = (arrivals.next(NOW_S) for _ in range(_TYPICAL_DRAWS))
    return TypicalShapes.of_demands(job.alternatives[0] for job in drawn for _ in range(job.workers_min))


def waiting(
    job_id: str,
    alternatives: tuple[Demand, ...],
    *,
    workers: int = 1,
    seq: int = 1,
    priority: int = 0,
    tenant: str = TENANTS[0],
    submitted_s: float = NOW_S,
    limit_s: float | None = 3_600.0,
) -> PendingJob:
    return PendingJob(job_id, seq, tenant, priority, submitted_s, workers, workers, alternatives, limit_s)


def sixty_demands() -> tuple[tuple[int, Demand], ...]:
    """Workers and demand of sixty distinct kinds of work, each of which wants devices."""
    models = (None, "H100 SXM", "A100 SXM")
    singles = (Sort(1, 1, 1), Sort(1, 1, 2), Sort(1, 1, 3), Sort(1, 1, 4), Sort(1, 1, 8))
    shares = (Sort(1, 1, 0, 250), Sort(1, 1, 0, 500))
    gangs = (Sort(1, 2, 8), Sort(1, 4, 8), Sort(1, 8, 8), Sort(1, 16, 8), Sort(1, 4, 4), Sort(1, 8, 1))
    twice = [(sort, cpus) for sort in (*singles, *shares) for cpus in (4_000, 8_000)]
    once = [(sort, 8_000) for sort in gangs]
    return tuple((sort.workers, sort.demand(model, cpus)) for sort, cpus in (*twice, *once) for model in models)


class Backlog:
    """Jobs of `sixty_demands`, of six tenants and three classes at random. Each demand has one time limit."""

    __slots__ = ("_kinds", "_number", "_rng")

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"backlog {seed}")
        self._number = 0
        self._kinds = [(workers, (demand,), self._rng.choice(LIMITS_S)) for workers, demand in sixty_demands()]

    def next(self, submitted_s: float) -> PendingJob:
        workers, alternatives, limit_s = self._rng.choice(self._kinds)
        self._number += 1
        return waiting(
            f"b{self._number}",
            alternatives,
            workers=workers,
            seq=self._number,
            priority=self._rng.randrange(len(CLASSES)),
            tenant=self._rng.choice(TENANTS),
            submitted_s=submitted_s,
            limit_s=limit_s,
        )


# ---- a site ------------------------------------------------------------------------------------------------------


class Site:
    """A cluster, what waits and what runs on it. `held_milli`: thousandths of devices that are held."""

    __slots__ = (
        "_ends",
        "_replaced",
        "_with_devices",
        "_without",
        "capacity_milli",
        "cluster",
        "held_milli",
        "now_s",
        "policy",
        "queue",
    )

    def __init__(self, nodes: Iterable[NodeFacts], *, seed: int, shapes: TypicalShapes) -> None:
        self.cluster = ClusterState(nodes)
        self.cluster.set_shapes(shapes)
        self.queue = Queue(usage={tenant: 0.02 * i for i, tenant in enumerate(TENANTS)})
        self.policy = Policy(tie_seed=seed)
        self.now_s = NOW_S
        self.capacity_milli = sum(len(facts.devices) for facts in self.cluster.nodes.facts) * WHOLE_DEVICE_MILLI
        self.held_milli = 0
        self._ends = random.Random(f"ends {seed}")
        self._replaced = 0
        self._with_devices: list[str] = []
        self._without: list[str] = []

    @property
    def level(self) -> float:
        """The held part of all devices, 0 to 1."""
        return self.held_milli / self.capacity_milli

    def plan(self) -> Plan:
        return plan(self.cluster, self.queue, self.policy, now_s=self.now_s)

    def run(self, job: RunningJob) -> None:
        self.cluster.take(job.job_id, job.placements)
        self.queue.run(job)
        self.held_milli += job.milli
        (self._with_devices if job.milli else self._without).append(job.job_id)

    def carry_out(self, made: Plan) -> tuple[RunningJob, ...]:
        """What the plan starts runs from now on; whom it preempts is left alone."""
        started = []
        for start in made.starts:
            job = self.queue.pending_job(start.job_id)
            assert job is not None, start
            self.queue.withdraw(job.job_id)
            ends_by_s = None if job.time_limit_s is None else self.now_s + job.time_limit_s
            running = RunningJob(
                job.job_id, job.tenant, job.priority, self.now_s, ends_by_s, self.now_s, start.placements
            )
            self.run(running)
            started.append(running)
        return tuple(started)

    def end_one(self, *, with_devices: bool = True) -> RunningJob | None:
        """A running job ends, drawn from those that hold devices or from the others. None where there is none."""
        ids = self._with_devices if with_devices else self._without
        if not ids:
            return None
        drawn = self._ends.randrange(len(ids))
        ids[drawn], ids[-1] = ids[-1], ids[drawn]
        job = self.queue.running_job(ids.pop())
        assert job is not None, "the site and its queue disagree about what runs"
        self.cluster.give_back(job.job_id)
        self.queue.end(job.job_id)
        self.held_milli -= job.milli
        return job

    def end_down_to(self, level: float) -> None:
        """Jobs end until no more than that part of the devices is held."""
        while self.held_milli > level * self.capacity_milli and self.end_one():
            pass

    def replace_one(self) -> None:
        """A job ends and another takes its place: the books and columns change, the level does not."""
        job = self.end_one()
        if job is not None:
            self._replaced += 1
            self.run(replace(job, job_id=f"x{self._replaced}", started_s=self.now_s, saved_s=self.now_s))


def empty_site(nodes: int, *, seed: int) -> Site:
    return Site(grid(nodes), seed=seed, shapes=typical_shapes(seed))


def mixed_site(nodes: int, level: float, *, seed: int, priority: int = 0) -> Site:
    """Jobs of all `SORTS` hold that part of the devices; all of one priority class."""
    site = empty_site(nodes, seed=seed)
    for job in _carved(site.cluster.nodes.facts, random.Random(f"carve {seed}"), priority):
        site.run(job)
    site.end_down_to(level)
    return site


def one_device_site(nodes: int, *, seed: int, priorities: Sequence[int] = (0,)) -> Site:
    """Every device is held by a job of its own, of one of these priorities."""
    site = empty_site(nodes, seed=seed)
    rng = random.Random(f"singles {seed}")
    for facts in site.cluster.nodes.facts:
        for device in facts.devices:
            placement = Placement(0, facts.name, (device.index,), 0, 8_000, 64 * GIB, 0)
            job_id = f"r{len(site.queue.holding)}"
            site.run(_running(job_id, (placement,), rng, rng.choice(priorities)))
    return site


def backlog_site(nodes: int, pending: int, *, seed: int) -> tuple[Site, Backlog]:
    """Every device is held, by jobs that none of the `pending` ones may preempt; and where more of these come from."""
    site, coming = one_device_site(nodes, seed=seed, priorities=CLASSES[-1:]), Backlog(seed)
    for number in range(pending):
        site.queue.submit(coming.next(site.now_s - 43_200.0 * (1 - number / pending)))
    return site, coming


def _running(job_id: str, placements: tuple[Placement, ...], rng: random.Random, priority: int) -> RunningJob:
    """One job in ten has no time limit; the others end within a day."""
    started_s = NOW_S - rng.uniform(0, 21_600)
    return RunningJob(
        job_id=job_id,
        tenant=rng.choice(TENANTS),
        priority=priority,
        started_s=started_s,
        ends_by_s=None if rng.random() < 0.1 else NOW_S + rng.uniform(600, 86_400),
        saved_s=rng.uniform(started_s, NOW_S),
        placements=placements,
    )


# ---- carving -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Left:
    """What is left of a node while it is carved."""

    facts: NodeFacts
    milli: list[int]
    cpus_milli: int

    def place(self, worker: int, demand: Demand) -> Placement | None:
        """The worker takes its part, on the fullest device that has room for a share; None where there is no room."""
        if demand.cpus_milli > self.cpus_milli:
            return None
        wanted = demand.share_milli or WHOLE_DEVICE_MILLI
        free = [i for i, milli in enumerate(self.milli) if milli >= wanted]
        count = demand.devices or bool(demand.share_milli)
        if len(free) < count:
            return None
        devices = tuple(sorted(free, key=lambda i: (self.milli[i], i))[:count])
        for device in devices:
            self.milli[device] -= wanted
        self.cpus_milli -= demand.cpus_milli
        return Placement(
            worker, self.facts.name, devices, demand.share_milli, demand.cpus_milli, demand.memory_bytes, 0
        )


def _carved(nodes: Sequence[NodeFacts], rng: random.Random, priority: int) -> Iterator[RunningJob]:
    """Jobs that fill the nodes, those in a random order, until no device is wholly free."""
    left = [_Left(facts, [WHOLE_DEVICE_MILLI] * len(facts.devices), facts.cpus_milli) for facts in nodes]
    rng.shuffle(left)
    weights = [sort.weight for sort in SORTS]
    number = at = 0
    while at < len(left):
        if WHOLE_DEVICE_MILLI not in left[at].milli:
            at += 1
            continue
        sort = rng.choices(SORTS, weights)[0]
        demand = sort.demand(None, _CPUS_A_DEVICE_MILLI[0])
        placements = _gang(left[at : at + sort.workers], sort.workers, demand)
        if not placements:  # what is left of this node goes to small jobs
            single = left[at].place(0, SORTS[0].demand(None, 4_000))
            assert single is not None, f"{left[at]} has no CPUs left for a device"
            placements = (single,)
        yield _running(f"r{number}", placements, rng, priority)
        number += 1


def _gang(nodes: Sequence[_Left], workers: int, demand: Demand) -> tuple[Placement, ...]:
    """All the workers on these nodes, as many on each as fit, or none: then nothing is taken."""
    before = [(node.milli.copy(), node.cpus_milli) for node in nodes]
    placed: list[Placement] = []
    for node in nodes:
        while len(placed) < workers and (placement := node.place(len(placed), demand)) is not None:
            placed.append(placement)
    if len(placed) == workers:
        return tuple(placed)
    for node, (milli, cpus_milli) in zip(nodes, before, strict=True):
        node.milli, node.cpus_milli = milli, cpus_milli
    return ()
