"""One gang that looks for a place: the question that searches over time and over victims ask again and again.

`place.py` answers it for one state of the cluster. What is here says it once (`Gang`), and gives the bounds that spare
most of the asking: how many workers each node could take at most, and before when the gang cannot stand anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.demand import UNCONSTRAINED, Constraints, Demand, Level
from scheduler.core.free_columns import FreeColumns
from scheduler.core.holdings import Floats
from scheduler.core.node_columns import Pool
from scheduler.core.placement import Fit, Pools, Where, capacity, fits, place
from scheduler.core.pools import has_room

NEVER = math.nan
"""A key that stands for "not even at infinity"."""


ANYWHERE: Where = {}


@dataclass(frozen=True, slots=True, eq=False)
class Gang:
    """So many workers, each under one of the alternatives. It is not elastic: all or nothing."""

    pools: Pools
    alternatives: Sequence[Demand]
    workers: int
    where: Where = field(default_factory=Where)

    def fits(self, free: FreeColumns) -> bool:
        """Whether place() finds one."""
        if not self.counted_by_node:  # greedy: only trying tells
            return self.place(free) is not None
        return fits(self.pools, free, self.alternatives, self.workers, **self.where)

    def place(self, free: FreeColumns) -> Fit | None:
        return place(self.pools, free, self.alternatives, wanted=self.workers, at_least=self.workers, **self.where)

    def keeping_off(self, nodes: Bools | None) -> Gang:
        """The same with these nodes excluded too."""
        if nodes is None:
            return self
        before = self.where.get("excluded")
        excluded = nodes if before is None else nodes | before
        return Gang(self.pools, self.alternatives, self.workers, {**self.where, "excluded": excluded})

    @property
    def constraints(self) -> Constraints:
        return self.where.get("constraints", UNCONSTRAINED)

    @property
    def counted_by_node(self) -> bool:
        """Whether it fits exactly where the nodes' capacities add up to its workers, whatever else there is."""
        return len(self.alternatives) == 1 and self.constraints.within is None and self.constraints.one_per is None

    def nodes(self) -> Bools:
        """bool[nodes]: those that it might use, were they empty."""
        return self.usable(self.pools.nodes_of(self.alternatives))

    def most_by_node(self, free: FreeColumns) -> Ints:
        """int64[nodes]: no node takes more workers than this. They may be fewer where alternatives compete."""
        total: Ints = np.zeros(len(free.whole), np.int64)
        for room in self._rooms(free, None):
            total += room
        return total

    def most_on(self, rows: Ints, free: FreeColumns) -> Ints:
        """The same, where `free` is of these rows only (each as often as one likes): int64[rows]."""
        total: Ints = np.zeros(len(rows), np.int64)
        for room in self._rooms(free, rows):
            total += room
        return total

    def some_on(self, rows: Ints, free: FreeColumns) -> Ints:
        """So many each of those could take alone, under the alternative that suits it best: int64[rows]."""
        best: Ints = np.zeros(len(rows), np.int64)
        for room in self._rooms(free, rows):
            np.maximum(best, room, out=best)
        return best

    def not_before(self, device_keys: Floats) -> float:
        """A lower bound of the key at which it can stand, from when each device comes wholly free: float[nodes,
        max_devices], -inf for one that is free, NEVER for one that stays held.

        A node with d devices a worker takes its j-th worker at the (j d)-th smallest key of its devices, so the gang
        stands no sooner than the workers-th smallest of those over all nodes: exact but for CPUs, memory and
        constraints. -inf where an alternative asks for no whole devices; NEVER where there are too few.
        """
        if self.constraints.within is Level.NODE and len(self.alternatives) == 1:
            at_once, nodes = self.workers, 1  # the first node that takes them all
        else:
            at_once, nodes = 1, self.workers
        found: list[Floats] = []
        for demand in self.alternatives:
            if not demand.devices:
                return -math.inf
            for part in self.pools.of(demand):
                rows = np.flatnonzero(self.usable(part.nodes))
                keys = device_keys if len(rows) == len(device_keys) else device_keys[rows]
                if part.devices is not None:
                    keys = np.where(part.devices[rows], keys, NEVER)
                keys = np.sort(keys, axis=1)  # NEVER stands last
                every = demand.devices * at_once
                found.append(keys[:, every - 1 : every * self.at_most(nodes) : every].ravel())
        keys = np.concatenate(found) if found else np.zeros(0)
        if len(keys) < nodes:
            return NEVER
        return float(np.partition(keys, nodes - 1)[nodes - 1])

    def usable(self, nodes: Bools) -> Bools:
        """Those of the nodes that it is let use."""
        only, excluded = self.where.get("only"), self.where.get("excluded")
        if only is not None:
            nodes = nodes & only
        return nodes if excluded is None else nodes & ~excluded

    def at_most(self, workers: int) -> int:
        """Of so many, how many may stand on one node. (A node can hold several islands.)"""
        return workers if self.constraints.one_per in (None, Level.ISLAND) else 1

    def _rooms(self, free: FreeColumns, rows: Ints | None) -> Iterator[Ints]:
        """What the nodes could take under each alternative, simulated and real nodes one after the other."""
        limit = self.at_most(self.workers)
        for demand in self.alternatives:
            for part in self.pools.of(demand):
                nodes, devices = self.usable(part.nodes), part.devices
                if rows is not None:
                    nodes, devices = nodes[rows], None if devices is None else devices[rows]
                if limit == 1:
                    yield has_room(Pool(nodes, devices), free, demand).astype(np.int64)
                else:
                    yield capacity(Pool(nodes, devices), free, demand, limit)
