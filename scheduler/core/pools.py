"""Which nodes serve which demand in one planning pass, and how many workers each has room for.

Units: shares and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from scheduler.core.arrays import Bools, Ints, any_true, sum_rows
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, Level
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import NodeColumns, Pool

NEVER = int(np.iinfo(np.int64).max)
_KEPT = 1024


class Packing(Protocol):
    """What a packing policy is asked (see `packing_choice.py`). Where there is none, best fit decides."""

    def best(self, free: FreeColumns, demand: Demand, candidates: Bools, workers: int) -> int:
        """The row, one of `candidates` (bool[nodes], each has room for them), for so many workers."""
        ...

    def first_choice(self, free: FreeColumns, demand: Demand) -> int | None:
        """The row for one worker among all nodes, as if it asked for less CPUs and memory than it does: where it has
        room there, that is what best() says of all that have. None: no node has room."""
        ...

    def devices(self, free: FreeColumns, row: int, demand: Demand) -> tuple[int, ...]:
        """Which device of that node a share gets: one that serves the demand and has room for it."""
        ...


class Pools:
    """The cluster's nodes, less those that may not be given work, the order that breaks ties, and the packing policy.

    It holds for as long as the same nodes may be given work, so what follows from that is kept with it: see `keep`.
    """

    __slots__ = (
        "_domain_ranks",
        "_node_sets",
        "_nodes_of",
        "_of",
        "_recent_nodes",
        "_recent_parts",
        "kept",
        "nodes",
        "packing",
        "schedulable",
        "tie_rank",
    )

    def __init__(self, nodes: NodeColumns, schedulable: Bools, tie_rank: Ints, packing: Packing | None = None) -> None:
        self.nodes = nodes
        self.schedulable = schedulable
        self.tie_rank = tie_rank
        self.packing = packing
        self.kept: dict[Hashable, object] = {}
        self._of: dict[Demand, tuple[Pool, ...]] = {}
        self._nodes_of: dict[tuple[Demand, ...], Bools] = {}
        self._node_sets: dict[bytes, Bools] = {}
        # By identity, since hashing demands is slow; what was asked for is kept: its id is not given to another.
        self._recent_parts: dict[int, tuple[Demand, tuple[Pool, ...]]] = {}
        self._recent_nodes: dict[int, tuple[Sequence[Demand], Bools]] = {}
        self._domain_ranks: dict[Level, Ints] = {}

    def of(self, demand: Demand) -> tuple[Pool, ...]:
        """The demand's pool in the order of preference: simulated nodes before real ones where it allows both."""
        recent = self._recent_parts.get(id(demand))
        if recent is not None:
            return recent[1]
        found = self._of.get(demand)
        if found is None:
            pool = self.nodes.pool(demand)
            up = pool.nodes & self.schedulable
            parts = (up & self.nodes.simulated, up & ~self.nodes.simulated) if demand.simulated else (up,)
            if len(self._of) >= _KEPT:
                self._of.clear()
            found = self._of[demand] = tuple(Pool(part, pool.devices, pool.last) for part in parts if part.any())
        if len(self._recent_parts) >= _KEPT:
            self._recent_parts.clear()
        self._recent_parts[id(demand)] = (demand, found)
        return found

    def nodes_of(self, alternatives: Sequence[Demand]) -> Bools:
        """All nodes that serve any of the alternatives and may be given work: one object for equal sets, unless there
        are very many. Not to be changed by the caller."""
        recent = self._recent_nodes.get(id(alternatives))
        if recent is not None:
            return recent[1]
        key = tuple(alternatives)
        found = self._nodes_of.get(key)
        if found is None:
            nodes: Bools = np.zeros(len(self.nodes), np.bool_)
            for demand in key:
                nodes |= self.nodes.pool(demand).nodes
            if len(self._nodes_of) >= _KEPT:
                self._nodes_of.clear()
                self._node_sets.clear()
            nodes &= self.schedulable
            found = self._nodes_of[key] = self._node_sets.setdefault(nodes.tobytes(), nodes)
        if isinstance(alternatives, tuple):
            if len(self._recent_nodes) >= _KEPT:
                self._recent_nodes.clear()
            self._recent_nodes[id(alternatives)] = (alternatives, found)
        return found

    def keep(self, question: Hashable, answer: object) -> None:
        """Keep an answer that follows from the nodes and from which of them may be given work, in `kept`."""
        if len(self.kept) >= _KEPT:
            self.kept.clear()
        self.kept[question] = answer

    def domain_rank(self, level: Level) -> Ints:
        """Where each domain of the level stands in the order that breaks ties: as its first node does."""
        found = self._domain_ranks.get(level)
        if found is None:
            topology = self.nodes.topology
            found = np.full(topology.count[level], len(self.nodes), np.int64)
            for units in (topology.rows, topology.cells):
                np.minimum.at(found, units.domains[level], self.tie_rank[units.row])
            self._domain_ranks[level] = found
        return found


def capacity(pool: Pool, free: FreeColumns, demand: Demand, limit: int) -> Ints:
    """How many workers of this demand each node could take, at most `limit`: int64[nodes]."""
    if demand.devices:
        room = free.whole_of(pool.devices) // demand.devices
    elif demand.share_milli:
        slots = np.maximum(free.milli, 0) // demand.share_milli
        room = sum_rows(slots if pool.devices is None else slots * pool.devices)
    else:
        room = np.full(len(pool.nodes), limit, np.int64)
    return _beside_devices(pool, free, demand, np.minimum(room, limit))


def cell_capacity(pool: Pool, free: FreeColumns, demand: Demand, limit: int, unit_of: Ints, rows: Ints) -> Ints:
    """How many workers each cell (see `topology.py`) could take alone, at most `limit`: int64[cells].

    `unit_of`: the cell of each device; `rows`: the node of each cell. For demands that want devices.
    """
    if demand.devices:
        slots = (free.milli == WHOLE_DEVICE_MILLI).astype(np.int64)
    else:
        slots = np.maximum(free.milli, 0) // demand.share_milli
    if pool.devices is not None:
        slots = slots * pool.devices
    room = np.bincount(unit_of.ravel(), slots.ravel(), len(rows)).astype(np.int64) // max(1, demand.devices)
    around = _beside_devices(pool, free, demand, np.full(len(pool.nodes), limit, np.int64))
    return np.minimum(room, around[rows])


def room_up_to(pool: Pool, free: FreeColumns, demand: Demand, limit: int) -> int:
    """How many workers all nodes together could take; where it is `limit` or more, that or more. As a full cluster has
    few nodes with any room, only these are looked at."""
    rows = _rows_with_room(pool, free, demand)
    if not len(rows) or len(rows) >= limit:
        return len(rows)
    if demand.devices:
        room = free.whole_of(pool.devices).take(rows) // demand.devices
    elif demand.share_milli:
        slots = np.maximum(free.milli.take(rows, axis=0), 0) // demand.share_milli
        room = sum_rows(slots if pool.devices is None else slots * pool.devices.take(rows, axis=0))
    else:
        room = np.full(len(rows), limit, np.int64)
    if demand.cpus_milli:
        room = np.minimum(room, free.cpus_milli.take(rows) // demand.cpus_milli)
    if demand.memory_bytes:
        room = np.minimum(room, free.memory_bytes.take(rows) // demand.memory_bytes)
    return int(room.sum())


def any_room(pool: Pool, free: FreeColumns, demand: Demand) -> bool:
    """Whether any node could take one worker."""
    if demand.devices and pool.devices is None and len(pool.rows):
        # The node with most idle devices nearly always decides.
        whole = free.whole.take(pool.rows)
        most = int(whole.argmax())
        if whole.item(most) < demand.devices:
            return False
        if has_room_on(pool, free, demand, pool.rows.item(most)):
            return True
    return len(_rows_with_room(pool, free, demand)) > 0


def _rows_with_room(pool: Pool, free: FreeColumns, demand: Demand) -> Ints:
    """Which nodes could take one worker, rising."""
    rows = pool.rows
    if demand.devices:
        rows = rows[free.whole_of(pool.devices).take(rows) >= demand.devices]
    elif demand.share_milli:
        enough = free.milli.take(rows, axis=0) >= demand.share_milli
        if pool.devices is not None:
            enough &= pool.devices.take(rows, axis=0)
        rows = rows[any_true(enough)]
    if demand.cpus_milli and len(rows):
        rows = rows[free.cpus_milli.take(rows) >= demand.cpus_milli]
    if demand.memory_bytes and len(rows):
        rows = rows[free.memory_bytes.take(rows) >= demand.memory_bytes]
    return rows


def has_room(pool: Pool, free: FreeColumns, demand: Demand) -> Bools:
    """Which nodes could take one worker: capacity() for a limit of 1, faster."""
    if demand.devices:
        fits = pool.nodes & (free.whole_of(pool.devices) >= demand.devices)
    elif demand.share_milli:
        enough = free.milli >= demand.share_milli
        fits = pool.nodes & any_true(enough if pool.devices is None else enough & pool.devices)
    else:
        fits = pool.nodes.copy()
    if demand.cpus_milli:
        fits &= free.cpus_milli >= demand.cpus_milli
    if demand.memory_bytes:
        fits &= free.memory_bytes >= demand.memory_bytes
    return fits


def has_room_on(pool: Pool, free: FreeColumns, demand: Demand, row: int) -> bool:
    """The same of one node, where the pool's devices are all of its nodes'."""
    if not pool.nodes.item(row) or free.cpus_milli.item(row) < demand.cpus_milli:
        return False
    if free.memory_bytes.item(row) < demand.memory_bytes:
        return False
    if demand.devices:
        return bool(free.whole.item(row) >= demand.devices)
    return not demand.share_milli or max(free.milli[row].tolist()) >= demand.share_milli


def _beside_devices(pool: Pool, free: FreeColumns, demand: Demand, room: Ints) -> Ints:
    """`room` less what lacks CPUs or memory, or is not in the pool."""
    if demand.cpus_milli:
        room = np.minimum(room, free.cpus_milli // demand.cpus_milli)
    if demand.memory_bytes:
        room = np.minimum(room, free.memory_bytes // demand.memory_bytes)
    room = np.maximum(room, 0)
    room *= pool.nodes
    return room
