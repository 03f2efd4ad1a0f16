"""How much of a cluster's devices a packing policy gets allocated when work arrives and none departs: simulated.

The experiment of Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient
Descent", USENIX ATC 2023: pods in random order, cloned or trimmed until together they ask for `arrived_to` times the
cluster, come one at a time; what does not fit is dropped for good. The figure at b% is the mean allocated share of all
device milli, over the arrivals at which the demand that has arrived rounds to b% of them.

The policy, and what makes its choices fast, are those of the live planner (scheduler/core/packing).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import ABSENT, Bools, Ints, Milli
from scheduler.core.packing.policies import PackingPolicy
from scheduler.core.packing.rows import Ask, NodeKinds
from scheduler.core.packing.scorer import Scorer
from scheduler.core.packing.shapes import Shape, TypicalShapes
from scheduler.core.packing.stranding import stranded_share
from scheduler.simulation.openb import OpenbNode, OpenbPod

LEVELS = (80, 90, 100, 110, 120, 130)  # percent of capacity arrived, at which results are reported
ARRIVED_TO = 1.3
_PROGRESS_EVERY = 256

Clock = Callable[[], float]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PackingRun:
    """One run. `allocated_pct`: mean allocated share at those of LEVELS that were reached, 0..100. `fragmentation`: at
    the end, the part of idle device milli that a typical pod which wants a device could not use. `partial`: it was
    interrupted, and the figures are of what was placed until then. `arrived_pct`, `final_allocated_pct`: what had
    arrived, and what was allocated, after the last arrival, in percent of the devices."""

    policy: str
    seed: int
    allocated_pct: Mapping[int, float]
    placements: int
    failed: int
    elapsed_s: float
    fragmentation: float
    partial: bool
    arrived_pct: float = 0.0
    final_allocated_pct: float = 0.0

    @property
    def placements_per_s(self) -> float:
        return self.placements / self.elapsed_s if self.elapsed_s > 0 else 0.0


class PackingExperiment:
    """Nodes and pods; `run` may be called for many policies and seeds. `sized`: nothing is kept between runs."""

    def __init__(self, nodes: Sequence[OpenbNode], pods: Sequence[OpenbPod]) -> None:
        self.nodes = nodes
        self.pods = sorted(pods, key=lambda pod: pod.name)
        self.capacity_milli = sum(node.devices for node in nodes) * WHOLE_DEVICE_MILLI
        assert self.capacity_milli > 0, "no node has a device"
        assert any(pod.asks.milli for pod in pods), "no pod asks for a device"
        self.shapes = TypicalShapes.of(pod.asks for pod in pods)
        empty = PackedNodes(nodes)
        self.kinds = NodeKinds.of_nodes(
            ([node.model] * node.devices for node in nodes), empty.cpus_milli, empty.memory_bytes
        )

    def run(
        self,
        policy: PackingPolicy,
        seed: int,
        *,
        clock: Clock,
        arrived_to: float = ARRIVED_TO,
        progress: Progress | None = None,
    ) -> PackingRun:
        """Place all arrivals. KeyboardInterrupt ends it early with a result marked partial."""
        rng = np.random.default_rng(seed)
        arrivals = self.arrivals(rng, arrived_to)
        tie_rank = rng.permutation(len(self.nodes))
        free = PackedNodes(self.nodes)
        scorer = Scorer(policy, self.kinds, self.shapes, tie_rank, free.milli.shape[1])
        run = _Running(free, scorer, self._asks())
        curve = AllocationCurve(self.capacity_milli)
        partial = False
        began_s = clock()
        try:
            for number, asked in enumerate(arrivals):
                run.arrive(asked)
                curve.add(asked.milli, run.allocated_milli)
                if progress is not None and number % _PROGRESS_EVERY == 0:
                    progress(number, len(arrivals))
        except KeyboardInterrupt:
            partial = True
        elapsed_s = clock() - began_s
        if progress is not None and not partial:
            progress(len(arrivals), len(arrivals))
        return PackingRun(
            policy=policy.name,
            seed=seed,
            allocated_pct=curve.at(LEVELS, finished=not partial),
            placements=run.placements,
            failed=run.failed,
            elapsed_s=elapsed_s,
            fragmentation=stranded_share(self.shapes, self.kinds, free),
            partial=partial,
            arrived_pct=curve.arrived_pct,
            final_allocated_pct=100 * run.allocated_milli / self.capacity_milli,
        )

    def arrivals(self, rng: np.random.Generator, arrived_to: float) -> list[Shape]:
        """What arrives, in order: the pods shuffled, then random clones of them up to the last that does not exceed
        `arrived_to` times the capacity; or, where the pods alone exceed it, the pods less random ones of them."""
        limit = arrived_to * self.capacity_milli
        arrivals = [self.pods[i].asks for i in rng.permutation(len(self.pods)).tolist()]
        asked = sum(each.milli for each in arrivals)
        while asked > limit:  # the order is random, so the last is a random one
            asked -= arrivals.pop().milli
        if len(arrivals) < len(self.pods):
            return arrivals
        while True:
            clone = self.pods[int(rng.integers(len(self.pods)))].asks
            asked += clone.milli
            if asked > limit:
                return arrivals
            arrivals.append(clone)

    def _asks(self) -> dict[Shape, Ask]:
        """The same demand for the policies: made anew for each run, because scores are kept under it."""
        asks: dict[Shape, Ask] = {}
        for pod in self.pods:
            shape = pod.asks
            if shape not in asks:
                asks[shape] = Ask(
                    rows=self._serving(shape.models),
                    devices=shape.devices if shape.gpu_milli == WHOLE_DEVICE_MILLI else 0,
                    share_milli=shape.gpu_milli if shape.gpu_milli < WHOLE_DEVICE_MILLI else 0,
                    cpus_milli=shape.cpus_milli,
                    memory_bytes=shape.memory_bytes,
                )
        return asks

    def _serving(self, models: frozenset[str] | None) -> Bools:
        return np.array([models is None or node.model in models for node in self.nodes], np.bool_)


class PackedNodes:
    """What is free on the nodes; only taken from, one placement at a time."""

    __slots__ = ("_stamp", "cpus_milli", "followed", "memory_bytes", "milli", "stamps")

    def __init__(self, nodes: Sequence[OpenbNode]) -> None:
        devices = np.array([node.devices for node in nodes])
        there = np.arange(int(devices.max(initial=0))) < devices[:, None]
        self.milli: Milli = np.where(there, WHOLE_DEVICE_MILLI, ABSENT).astype(np.int32)
        self.cpus_milli: Ints = np.array([node.cpus_milli for node in nodes], np.int64)
        self.memory_bytes: Ints = np.array([node.memory_bytes for node in nodes], np.int64)
        self.stamps: Ints = np.zeros(len(nodes), np.int64)
        self.followed: deque[int] | None = None
        self._stamp = 0

    def take(self, row: int, devices: Sequence[int], ask: Ask) -> None:
        """Raises AssertionError where it is not free."""
        milli = ask.share_milli or WHOLE_DEVICE_MILLI
        for device in devices:
            left = self.milli[row, device] - milli
            assert left >= 0, f"row {row}, device {device} would be over-committed by {-left}"
            self.milli[row, device] = left
        self.cpus_milli[row] -= ask.cpus_milli
        self.memory_bytes[row] -= ask.memory_bytes
        assert self.cpus_milli[row] >= 0, f"row {row} is short of CPUs"
        assert self.memory_bytes[row] >= 0, f"row {row} is short of memory"
        self._stamp += 1
        self.stamps[row] = self._stamp
        if self.followed is not None:
            self.followed.append(row)


class _Running:
    """The cluster as pods arrive."""

    def __init__(self, free: PackedNodes, scorer: Scorer, asks: Mapping[Shape, Ask]) -> None:
        self.free = free
        self.scorer = scorer
        self.asks = asks
        self.placements = self.failed = self.allocated_milli = 0
        self._hopeless: set[Shape] = set()  # nothing departs, so what found no room once never will

    def arrive(self, asked: Shape) -> None:
        if asked not in self._hopeless:
            ask = self.asks[asked]
            row = self.scorer.best(self.free, ask)
            if row is not None:
                self.free.take(row, self.scorer.devices(self.free, row, ask), ask)
                self.placements += 1
                self.allocated_milli += asked.milli
                return
            self._hopeless.add(asked)
        self.failed += 1


class AllocationCurve:
    """Mean allocated share by the rounded percentage of capacity that has arrived."""

    def __init__(self, capacity_milli: int) -> None:
        self._capacity_milli = capacity_milli
        self._arrived_milli = 0
        self._level = 0
        self._sums: dict[int, tuple[int, int]] = {}

    def add(self, arrived_milli: int, allocated_milli: int) -> None:
        """One more arrival, and all that is allocated after it."""
        self._arrived_milli += arrived_milli
        self._level = round(100 * self._arrived_milli / self._capacity_milli)
        total, count = self._sums.get(self._level, (0, 0))
        self._sums[self._level] = (total + allocated_milli, count + 1)

    @property
    def arrived_pct(self) -> float:
        return 100 * self._arrived_milli / self._capacity_milli

    def at(self, levels: Sequence[int], *, finished: bool) -> dict[int, float]:
        """Percent allocated at those levels that were reached, and, unless it is finished, left behind."""
        reached = {level: self._sums[level] for level in levels if level in self._sums}
        return {
            level: 100 * total / count / self._capacity_milli
            for level, (total, count) in reached.items()
            if finished or level < self._level
        }
