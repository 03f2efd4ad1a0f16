"""Where the workers of one job would stand, given what is free: all of the gang, or nothing.

Policy "best-fit" (Johnson, "Near-optimal bin packing algorithms", MIT 1973, applied to devices): a gang stands on as
few nodes as possible, the last of them being the one left with fewest free devices; a share goes to the device left
with least; work without devices goes where fewest devices lie idle. Ties are broken by the recorded seeded node order.

Alternatives are tried in order for each worker, so that a gang mixes them only when a worker finds no room under an
earlier one. A demand that allows simulated nodes is served from those first, so that such work does not sit on real
devices. Nothing here loops over nodes: every step is over columns.

Units: shares and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, Placement
from scheduler.core.free_columns import Claim, FreeColumns
from scheduler.core.node_columns import Bools, Ints, NodeColumns, Pool

_NEVER = np.iinfo(np.int64).max
_CPU_KEY_BITS = 31


@dataclass(frozen=True, slots=True)
class Fit:
    """Placements of a gang, in worker order, and the same as numbers."""

    placements: tuple[Placement, ...]
    claim: Claim


@dataclass(frozen=True, slots=True)
class _Workers:
    """`counts[i]` workers of one alternative on node `rows[i]`, with their devices: int[workers, devices each]."""

    alternative: int
    demand: Demand
    worker_rows: Ints
    devices: Ints

    def claim(self) -> Claim:
        workers, each = self.devices.shape
        milli = self.demand.share_milli or WHOLE_DEVICE_MILLI
        return Claim(
            rows=np.repeat(self.worker_rows, each),
            devices=self.devices.ravel(),
            milli=np.full(workers * each, milli, np.int64),
            worker_rows=self.worker_rows,
            cpus_milli=np.full(workers, self.demand.cpus_milli, np.int64),
            memory_bytes=np.full(workers, self.demand.memory_bytes, np.int64),
        )


class Pools:
    """Which nodes serve which demand in one planning pass: the cluster's nodes, less those that may not be given work,
    and the order that breaks ties."""

    __slots__ = ("_of", "nodes", "schedulable", "tie_rank")

    def __init__(self, nodes: NodeColumns, schedulable: Bools, tie_rank: Ints) -> None:
        self.nodes = nodes
        self.schedulable = schedulable
        self.tie_rank = tie_rank
        self._of: dict[Demand, tuple[Pool, ...]] = {}

    def of(self, demand: Demand) -> tuple[Pool, ...]:
        """The demand's pool in the order of preference: simulated nodes before real ones where it allows both."""
        found = self._of.get(demand)
        if found is None:
            pool = self.nodes.pool(demand)
            up = pool.nodes & self.schedulable
            parts = (up & self.nodes.simulated, up & ~self.nodes.simulated) if demand.simulated else (up,)
            found = self._of[demand] = tuple(Pool(part, pool.devices) for part in parts if part.any())
        return found

    def nodes_of(self, alternatives: Sequence[Demand]) -> Bools:
        """All nodes that serve any of the alternatives and may be given work."""
        nodes: Bools = np.zeros(len(self.nodes), np.bool_)
        for demand in alternatives:
            nodes |= self.nodes.pool(demand).nodes
        return nodes & self.schedulable


def capacity(pool: Pool, free: FreeColumns, demand: Demand, limit: int) -> Ints:
    """How many workers of this demand each node could take, at most `limit`: int64[nodes]."""
    if demand.devices:
        room = free.whole_of(pool.devices) // demand.devices
    elif demand.share_milli:
        slots = np.maximum(free.milli, 0) // demand.share_milli
        room = (slots if pool.devices is None else slots * pool.devices).sum(axis=1, dtype=np.int64)
    else:
        room = np.full(len(pool.nodes), limit, np.int64)
    if demand.cpus_milli:
        room = np.minimum(room, free.cpus_milli // demand.cpus_milli)
    if demand.memory_bytes:
        room = np.minimum(room, free.memory_bytes // demand.memory_bytes)
    return np.clip(room, 0, limit) * pool.nodes


def place(pools: Pools, free: FreeColumns, alternatives: Sequence[Demand], *, wanted: int, at_least: int) -> Fit | None:
    """A place for `wanted` workers or as many as fit, if those are `at_least`. `free` is not changed."""
    workers = _assign(pools, free, alternatives, wanted, at_least)
    if workers is None:
        return None
    placements: list[Placement] = []
    for group in workers:
        demand = group.demand
        facts = pools.nodes.facts
        for row, devices in zip(group.worker_rows.tolist(), group.devices.tolist(), strict=True):
            placements.append(
                Placement(
                    worker=len(placements),
                    node=facts[row].name,
                    devices=tuple(devices),
                    share_milli=demand.share_milli,
                    cpus_milli=demand.cpus_milli,
                    memory_bytes=demand.memory_bytes,
                    alternative=group.alternative,
                )
            )
    return Fit(tuple(placements), Claim.joined([group.claim() for group in workers]))


def fits(pools: Pools, free: FreeColumns, alternatives: Sequence[Demand], workers: int) -> bool:
    """Whether place() would find room for that many."""
    return how_many(pools, free, alternatives, workers) >= workers


def how_many(pools: Pools, free: FreeColumns, alternatives: Sequence[Demand], wanted: int) -> int:
    """How many workers would find room, at most `wanted`."""
    if len(alternatives) == 1:
        parts = pools.of(alternatives[0])
        total = sum(int(capacity(part, free, alternatives[0], wanted).sum()) for part in parts)
        return min(wanted, total)  # the parts are different nodes, so they do not compete
    best = 0
    for first in range(len(alternatives)):
        placed = _assign_from(pools, free, alternatives, first, wanted)
        best = max(best, sum(len(group.worker_rows) for group in placed))
        if best == wanted:
            break
    return best


def _assign(
    pools: Pools, free: FreeColumns, alternatives: Sequence[Demand], wanted: int, at_least: int
) -> list[_Workers] | None:
    """Groups of placed workers. Where the first alternative used up what more workers would have fitted into under a
    later one, it starts again from that later one."""
    for first in range(len(alternatives)):
        groups = _assign_from(pools, free, alternatives, first, wanted)
        if sum(len(group.worker_rows) for group in groups) >= max(1, at_least):
            return groups
    return None


def _assign_from(
    pools: Pools, free: FreeColumns, alternatives: Sequence[Demand], first: int, wanted: int
) -> list[_Workers]:
    groups: list[_Workers] = []
    left = wanted
    changed = False
    tries = [(i, demand, part) for i, demand in enumerate(alternatives) if i >= first for part in pools.of(demand)]
    for position, (alternative, demand, part) in enumerate(tries):
        room = capacity(part, free, demand, left)
        total = int(room.sum())
        if total == 0:
            continue
        rows, counts = _choose(pools, part, free, demand, room, min(left, total))
        devices = _pick_devices(part, free, demand, rows, counts)
        group = _Workers(alternative, demand, np.repeat(rows, counts), devices)
        groups.append(group)
        left -= len(group.worker_rows)
        if left == 0:
            break
        if position + 1 < len(tries):
            if not changed:
                free, changed = free.copy(), True
            free.take(group.claim())
    return groups


def _choose(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, room: Ints, wanted: int) -> tuple[Ints, Ints]:
    """Nodes for `wanted` workers (no more than there is room for), and how many on each: as few nodes as possible,
    the largest rooms first, and the last, partly used one by best fit."""
    if int(room.max()) >= wanted:
        row = _best(pools, pool, free, demand, room, wanted)
        return np.array([row], np.int64), np.array([wanted], np.int64)
    candidates = np.flatnonzero(room)
    room_of = room[candidates]
    tight = free.whole_of(pool.devices)[candidates] - room_of * demand.devices
    order = candidates[np.lexsort((pools.tie_rank[candidates], tight, -room_of))]
    filled = np.cumsum(room[order])
    full = int(np.searchsorted(filled, wanted, side="right"))  # nodes that are used up
    rows, counts = order[:full], room[order[:full]]
    rest = wanted - int(filled[full - 1])
    if rest:
        others = room.copy()
        others[rows] = 0
        rows = np.append(rows, _best(pools, pool, free, demand, others, rest))
        counts = np.append(counts, rest)
    return rows, counts


def _best(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, room: Ints, workers: int) -> int:
    """The node with room for all `workers` that they leave tightest; ties by the seeded order."""
    whole = free.whole_of(pool.devices)
    if demand.devices:
        key = whole
    elif demand.share_milli and workers == 1:
        milli = free.milli if pool.devices is None else np.where(pool.devices, free.milli, -1)
        tightest = np.where(milli >= demand.share_milli, milli, 2 * WHOLE_DEVICE_MILLI).min(axis=1)
        key = tightest.astype(np.int64) * (free.milli.shape[1] + 1) + whole
    elif demand.share_milli:
        milli = np.maximum(free.milli, 0)
        key = (milli if pool.devices is None else milli * pool.devices).sum(axis=1, dtype=np.int64)
    else:
        key = (whole << _CPU_KEY_BITS) + np.clip(free.cpus_milli, 0, (1 << _CPU_KEY_BITS) - 1)
    ranked = np.where(room >= workers, key * len(room) + pools.tie_rank, _NEVER)
    return int(ranked.argmin())


def _pick_devices(pool: Pool, free: FreeColumns, demand: Demand, rows: Ints, counts: Ints) -> Ints:
    """Device indices for each worker, workers in the order of `rows` repeated by `counts`: int[workers, each]."""
    workers = int(counts.sum())
    milli = free.milli[rows]
    usable = milli >= 0 if pool.devices is None else pool.devices[rows]
    if demand.devices:
        idle = (milli == WHOLE_DEVICE_MILLI) & usable
        picked = idle & (np.cumsum(idle, axis=1) <= (counts * demand.devices)[:, None])
        return np.nonzero(picked)[1].reshape(workers, demand.devices)
    if not demand.share_milli:
        return np.zeros((workers, 0), np.int64)
    slots = np.where(usable, np.maximum(milli, 0) // demand.share_milli, 0)
    order = np.argsort(np.where(slots > 0, milli, 2 * WHOLE_DEVICE_MILLI), axis=1, kind="stable")  # tightest first
    slots = np.take_along_axis(slots, order, axis=1)
    given = np.clip(counts[:, None] - (np.cumsum(slots, axis=1) - slots), 0, slots)
    return np.repeat(order.ravel(), given.ravel()).reshape(workers, 1)
