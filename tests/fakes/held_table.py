"""Nodes and what runs on them, for tests of what looks at running jobs alone: no queue, no plan.

    held(nodes=2).run("r", "n0", 8, ends_in=50.0).view()

Time starts at 1,000 s. `random_table` draws one: jobs of one or several workers, whole devices, shares and CPUs alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, RunningJob
from scheduler.core.demand import Demand, DeviceFacts, NodeFacts, Placement
from scheduler.core.holdings import Holdings
from scheduler.core.placement import Pools
from scheduler.core.running_columns import RunningColumns

GIB = 2**30
NOW_S = 1_000.0


def held(nodes: int = 1, devices: int = 8, prefix: str = "n", **facts: object) -> HeldTable:
    return HeldTable().nodes(nodes, devices, prefix, **facts)  # type: ignore[arg-type]


class HeldTable:
    """Each call changes the table and returns it."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.running = RunningColumns()
        self.now_s = NOW_S

    def nodes(
        self,
        count: int,
        devices: int = 8,
        prefix: str = "n",
        *,
        model: str = "H100 SXM",
        cpus: float = 64,
        memory_gib: float = 512,
        simulated: bool = False,
        rack: str | None = None,
    ) -> HeldTable:
        for i in range(count):
            name = f"{prefix}{i}"
            owned = tuple(DeviceFacts(d, f"{name}-{d}", model, "nvidia", 80 * GIB, simulated) for d in range(devices))
            self.state.add_node(
                NodeFacts(
                    name=name,
                    site="north",
                    address="127.0.0.1",
                    devices=owned,
                    cpus_milli=round(cpus * 1000),
                    memory_bytes=round(memory_gib * GIB),
                    simulated=simulated,
                    rack=rack,
                )
            )
        return self

    def run(
        self,
        job_id: str,
        node: str = "n0",
        devices: Iterable[int] | int = 1,
        *,
        share: float = 0,
        cpus: float = 1,
        memory_gib: float = 0,
        ends_in: float | None = 100.0,
        saved_ago: float = 0.0,
        started_ago: float | None = None,
        priority: int = 0,
        **more: object,
    ) -> HeldTable:
        """A job on these devices of a node (or the first so many); called again, one more worker of it."""
        before = self.running.get(job_id)
        earlier = before.placements if before else ()
        indices = tuple(range(devices)) if isinstance(devices, int) else tuple(devices)
        placement = Placement(
            len(earlier), node, indices, round(share * 1000), round(cpus * 1000), round(memory_gib * GIB), 0
        )
        self.state.take(job_id, [placement])
        job = RunningJob(
            job_id,
            "t",
            priority,
            self.now_s - (saved_ago if started_ago is None else started_ago),
            None if ends_in is None else self.now_s + ends_in,
            self.now_s - saved_ago,
            (*earlier, placement),
        )
        self.running.add(replace(job, **more))  # type: ignore[arg-type]
        return self

    def gone(self, job_id: str) -> HeldTable:
        self.state.give_back(job_id)
        self.running.remove(job_id)
        return self

    def view(self) -> Holdings:
        return self.running.view(self.state.nodes, self.now_s)

    @property
    def pools(self) -> Pools:
        return Pools(self.state.nodes, self.state.schedulable, self.state.nodes.tie_rank(0))


def wants(
    devices: int = 1,
    *,
    workers: int = 1,
    priority: int = 9,
    share: float = 0,
    cpus: float = 1,
    memory_gib: float = 0,
    limit: float | None = 100.0,
    tenant: str = "me",
    **pins: object,
) -> PendingJob:
    """A waiting job of one alternative. `pins`: model, simulated, ..."""
    demand = Demand(
        devices=0 if share else devices,
        share_milli=round(share * 1000),
        cpus_milli=round(cpus * 1000),
        memory_bytes=round(memory_gib * GIB),
        **pins,  # type: ignore[arg-type]
    )
    return PendingJob("p", 0, tenant, priority, NOW_S, workers, workers, (demand,), limit)


def random_table(random: Random, *, jobs: int, nodes: int = 4) -> HeldTable:
    """Up to so many jobs on up to so many nodes of four devices, of two models, some of them simulated."""
    table = held(random.randint(1, nodes), 4, cpus=8, memory_gib=8)
    table.nodes(random.randint(0, 2), 3, "a", model="A100", cpus=6, memory_gib=8)
    table.nodes(random.randint(0, 1), 2, "s", simulated=True, cpus=6, memory_gib=8)
    names = list(table.state.node_names)
    for number in range(random.randint(1, jobs)):
        share = random.choice([0, 0, 0, 0.25, 0.5])
        about = {
            "share": share,
            "cpus": random.choice([0, 1, 1, 2]),
            "memory_gib": random.choice([0, 0, 1]),
            "ends_in": random.choice([None, *range(-1, 9)]),
            "saved_ago": float(random.randint(0, 5)),
            "started_ago": float(random.randint(5, 20)),
            "priority": random.randint(0, 2),
            "tenant": random.choice("tuv"),
            "preemptions": random.choice([0, 0, 1]),
            "stopping": random.random() < 0.1,
        }
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            node = random.choice(names)
            free = table.state.free.milli[table.state.nodes.row_of[node]].tolist()
            room = [i for i, milli in enumerate(free) if milli >= (share * 1000 or 1000)]
            count = 1 if share else random.choice([0, 1, 1, 2, 4])
            cpus, memory = about["cpus"], about["memory_gib"]
            assert isinstance(cpus, int)
            assert isinstance(memory, int)
            tight = table.state.free_cpus_milli(node) < cpus * 1000
            if len(room) >= count and not tight and table.state.free_memory_bytes(node) >= memory * GIB:
                table.run(f"r{number}", node, random.sample(room, count), **about)
    return table


def random_ask(random: Random) -> PendingJob:
    """Whole devices, a share or CPUs alone, for one worker or some."""
    share = random.choice([0, 0, 0, 0.25, 0.75])
    asked = wants(
        random.randint(0, 4),
        share=share,
        workers=random.choice([1, 1, 2, 3, 6]),
        cpus=random.choice([0, 1, 2, 5]),
        memory_gib=random.choice([0, 0, 3]),
        priority=random.randint(0, 3),
        model=random.choice([None, None, "H100 SXM", "A100"]),
        simulated=random.random() < 0.2,
    )
    if random.random() < 0.3:
        other = wants(random.randint(0, 2), cpus=1, model="A100").alternatives
        asked = replace(asked, alternatives=(*asked.alternatives, *other))
    return asked


def full_table(random: Random) -> HeldTable:
    """Up to three nodes of four devices, most of it held by up to twelve jobs of different sizes and losses."""
    table = held(random.randint(1, 3), 4, cpus=8, memory_gib=8)
    names, gangs = list(table.state.node_names), random.random() < 0.4
    for number in range(12):
        share = random.choice([0, 0, 0, 0, 0.5, 0.25])
        cpus = random.choice([0, 1, 1, 2])
        saved_ago, priority = float(random.randint(1, 40)), random.choice([0, 0, 0, 1, 2, 5])
        for _ in range(random.choice([1, 1, 1, 2, 3]) if gangs else 1):
            node = random.choice(names)
            free = table.state.free.milli[table.state.nodes.row_of[node]].tolist()
            room = [i for i, milli in enumerate(free) if milli >= (share * 1000 or 1000)]
            count = 1 if share else random.choice([1, 1, 2, 3, 4])
            if len(room) >= count and table.state.free_cpus_milli(node) >= cpus * 1000:
                table.run(
                    f"r{number}",
                    node,
                    random.sample(room, count),
                    share=share,
                    cpus=cpus,
                    saved_ago=saved_ago,
                    started_ago=50.0,
                    priority=priority,
                )
    return table
