"""When do some workers that want a whole node each fit first, and where?

Most gangs want just that. As for one worker (`first_for_one.py`) all is read off when each device comes free: a node is
free with the last of its devices, the gang fits with the last of its nodes, and there is no choice of devices. Which of
the nodes that are free by then it takes is said here as `group_choice.place_group` says it, for this case alone. The
answer is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.claims import Claim
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.first_for_one import Slices, Until
from scheduler.core.free_columns import FreeColumns, Stamps
from scheduler.core.gang import NEVER, Gang
from scheduler.core.group_choice import Group
from scheduler.core.holdings import Holdings
from scheduler.core.part import Part
from scheduler.core.placement import Fit, Pools, placements_of


@dataclass(frozen=True, slots=True)
class FreeOnNodes:
    """What is free at some time beside the devices, all of which are, on some nodes: `rows`, which rise."""

    rows: Ints
    devices: int
    cpus_milli: Ints
    memory_bytes: Ints

    def on(self, rows: Ints) -> FreeColumns:
        """Of those rows: there are no others."""
        assert rows.tolist() == self.rows.tolist(), (rows, self.rows)
        return self._columns(WHOLE_DEVICE_MILLI, self.devices, self.cpus_milli.copy(), self.memory_bytes.copy())

    def beside(self, claim: Claim) -> FreeColumns:
        """What of it is left beside those workers, which are alike and take all devices of these nodes."""
        assert len(claim.worker_rows) == len(self.rows), (claim.worker_rows, self.rows)
        cpus_milli, memory_bytes = claim.cpus_milli.item(0), claim.memory_bytes.item(0)
        return self._columns(0, 0, self.cpus_milli - cpus_milli, self.memory_bytes - memory_bytes)

    def _columns(self, milli: int, whole: int, cpus_milli: Ints, memory_bytes: Ints) -> FreeColumns:
        count = len(self.rows)
        return FreeColumns(
            np.full((count, self.devices), milli, np.int32),
            np.full(count, whole),
            cpus_milli,
            memory_bytes,
            np.zeros(count, np.int64),
            Stamps(),
        )


def asks_for_nodes(gang: Gang) -> bool:
    """Whether it is several workers that want all devices of a node each, wherever they are."""
    if gang.workers == 1 or len(gang.alternatives) != 1 or gang.where:
        return False
    nodes = gang.pools.nodes
    return gang.alternatives[0].devices == nodes.max_devices > 0 and not nodes.topology.splits


def first_for_nodes(
    gang: Gang, part: Part | None, free: FreeColumns, holdings: Holdings, occupied: Sequence[Until], now_s: float
) -> tuple[float, Fit, FreeOnNodes] | None:
    """As first_for_one()."""
    pools, demand, workers = gang.pools, gang.alternatives[0], gang.workers
    parts = pools.of(demand)
    if len(parts) != 1:
        return None
    (pool,) = parts
    keys = Slices(holdings, part, pool.nodes).device_keys(free, occupied)
    if pool.devices is not None:
        keys = np.where(pool.devices, keys, NEVER)
    first = keys.max(axis=1)  # NEVER where one of them is
    if part is None:
        first = np.where(pool.nodes, first, NEVER)
    if len(first) < workers:
        return None
    at_s = float(np.partition(first, workers - 1)[workers - 1])  # NEVER stands last
    if not at_s > now_s:
        return None  # never; or nodes are free already, and it is for the rest that it waits
    cpus_milli, memory_bytes = _beside_then(part, pool.nodes, free, holdings, occupied, at_s)
    fits = first <= at_s
    if demand.cpus_milli:
        fits &= cpus_milli >= demand.cpus_milli
    if demand.memory_bytes:
        fits &= memory_bytes >= demand.memory_bytes
    rows = fits.nonzero()[0]
    if len(rows) < workers:
        return None
    rows = _chosen(pools, rows, workers)
    group = Group(0, demand, rows, np.arange(demand.devices)[None, :].repeat(workers, axis=0))
    fit = Fit(tuple(placements_of(pools, group, 0)), group.claim())
    rows = np.sort(rows)
    then = FreeOnNodes(
        rows if part is None else part.rows.take(rows), demand.devices, cpus_milli.take(rows), memory_bytes.take(rows)
    )
    return at_s, fit if part is None else part.fit(fit), then


def _chosen(pools: Pools, rows: Ints, workers: int) -> Ints:
    """Those of these nodes that take a worker each: of the nearest domain that holds them all, and of such the one that
    is left with least."""
    topology = pools.nodes.topology
    for level in topology.ladder:
        domain = topology.rows.domains[level].take(rows)
        room = np.bincount(domain)
        enough: list[int] = (room >= workers).nonzero()[0].tolist()
        if enough:
            rank = pools.domain_rank(level)
            _, _, tightest = min([(room.item(each), rank.item(each), each) for each in enough])
            rows = rows[domain == tightest]
            break
    return rows if len(rows) == workers else rows[pools.tie_rank.take(rows).argsort()[:workers]]


def _beside_then(
    part: Part | None, nodes: Bools, free: FreeColumns, holdings: Holdings, occupied: Sequence[Until], at_s: float
) -> tuple[Ints, Ints]:
    """CPUs, in thousandths, and bytes that are free once all up to this time is over, on each node of the part, or of
    these: int64[nodes]."""
    claim, at = holdings.claim, holdings.workers_on(nodes if part is None else part.nodes)
    at = at[holdings.leaves_s.take(holdings.worker_job.take(at)) <= at_s]
    row = claim.worker_rows.take(at)
    cpus_milli, memory_bytes = free.cpus_milli, free.memory_bytes
    if part is not None:
        row, cpus_milli, memory_bytes = part.row_of(row), cpus_milli.take(part.rows), memory_bytes.take(part.rows)
    count = len(cpus_milli)
    cpus_milli = cpus_milli + np.bincount(row, claim.cpus_milli.take(at), count).astype(np.int64)
    # Below 2**53: exact.
    memory_bytes = memory_bytes + np.bincount(row, claim.memory_bytes.take(at), count).astype(np.int64)
    for taken, until_s in occupied:
        if until_s > at_s:
            inside = taken if part is None else part.claim(taken)
            np.subtract.at(cpus_milli, inside.worker_rows, inside.cpus_milli)
            np.subtract.at(memory_bytes, inside.worker_rows, inside.memory_bytes)
    return cpus_milli, memory_bytes
