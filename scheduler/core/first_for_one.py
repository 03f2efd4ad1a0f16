"""When does one worker that wants whole devices fit first, and where?

Most that wait want just that. What `release_order.py` finds for any gang is here read off one matrix, when each device
comes free, and what else there is then is counted on the one node that is chosen. The answer is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.claims import Claim, OneWorker
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import NEVER, Gang
from scheduler.core.holdings import Floats, Holdings
from scheduler.core.part import Part
from scheduler.core.placement import Fit, alone

_FEW = 8
Until = tuple[Claim, float]
"""What is taken or promised, and until when."""


@dataclass(frozen=True, slots=True)
class FreeOnOne:
    """What is free at some time on one node."""

    row: int
    milli: list[int]
    cpus_milli: int
    memory_bytes: int

    def on(self, rows: Ints) -> FreeColumns:
        """Of that row alone: there is no other."""
        assert rows.tolist() == [self.row], (rows, self.row)
        return FreeColumns.of_one(self.milli, self.cpus_milli, self.memory_bytes)

    def beside(self, one: OneWorker) -> FreeColumns:
        """What of it is left beside that worker."""
        assert one.row == self.row, (one, self.row)
        milli = self.milli.copy()
        for device in one.devices:
            milli[device] -= one.milli
        return FreeColumns.of_one(milli, self.cpus_milli - one.cpus_milli, self.memory_bytes - one.memory_bytes)


def asks_for_one(gang: Gang) -> bool:
    """Whether it is one worker that wants whole devices, wherever they are."""
    if gang.workers != 1 or len(gang.alternatives) != 1 or gang.where:
        return False
    return gang.alternatives[0].devices > 0 and not gang.pools.nodes.topology.splits


def first_for_one(
    gang: Gang, part: Part | None, free: FreeColumns, holdings: Holdings, occupied: Sequence[Until], now_s: float
) -> tuple[float, Fit, FreeOnOne] | None:
    """When, where, and what is free there then; `occupied`: what all must heed on the gang's nodes. None: that takes a
    search. What is free, held and occupied is of all nodes; where there is a part, the gang is of its nodes."""
    pools, demand = gang.pools, gang.alternatives[0]
    parts = pools.of(demand)
    if len(parts) != 1 or demand.devices > pools.nodes.max_devices:
        return None
    (pool,) = parts
    held = Slices(holdings, part, pool.nodes)
    keys = held.device_keys(free, occupied)
    if pool.devices is not None:
        keys = np.where(pool.devices, keys, NEVER)
    first = np.sort(keys, axis=1)[:, demand.devices - 1]  # NEVER stands last
    if part is None:
        first = np.where(pool.nodes, first, NEVER)
    at_s = float(np.fmin.reduce(first))
    if not at_s > now_s:
        return None  # never; or devices are free already, and it is for the rest that it waits
    rows: list[int] = np.flatnonzero(first <= at_s).tolist()
    if len(rows) > _FEW:
        return None
    turns: list[tuple[int, int, int, list[int], list[float]]] = []
    for row in rows:
        comes_s: list[float] = keys[row].tolist()
        whole = [device for device, key in enumerate(comes_s) if key <= at_s]
        turns.append((len(whole), pools.tie_rank.item(row), row, whole, comes_s))
    for _, _, row, whole, comes_s in sorted(turns):  # best fit
        then = held.free_then(row, free, occupied, at_s)
        if demand.cpus_milli and then.cpus_milli < demand.cpus_milli:
            continue
        if demand.memory_bytes and then.memory_bytes < demand.memory_bytes:
            continue
        # The last to come first, and what is free from the first last of all: as with_late_devices() has it.
        whole.sort(key=[math.inf if key == -math.inf else -key for key in comes_s].__getitem__)
        fit = alone(pools, demand, 0, row, sorted(whole[: demand.devices]))
        return at_s, fit if part is None else part.fit(fit), then
    return None


class Slices:
    """What running jobs hold of the devices of the part, or of these nodes, entry by entry. Its rows are the part's."""

    __slots__ = ("_holdings", "_part", "device", "milli", "over_s", "row")

    def __init__(self, holdings: Holdings, part: Part | None, nodes: Bools) -> None:
        self._holdings = holdings
        self._part = part
        claim, at = holdings.claim, holdings.slices_on(nodes if part is None else part.nodes)
        self.row = claim.rows.take(at) if part is None else part.row_of(claim.rows.take(at))
        self.device = claim.devices.take(at)
        self.milli = claim.milli.take(at)
        self.over_s: Floats = holdings.leaves_s.take(holdings.slice_job.take(at))

    def device_keys(self, free: FreeColumns, occupied: Sequence[Until]) -> Floats:
        """As ReleaseOrder.device_keys()."""
        part = self._part
        milli = free.milli if part is None else free.milli.take(part.rows, axis=0)
        size, device = milli.size, self.row * milli.shape[1] + self.device
        keys: Floats = np.full(size, -math.inf)
        # Entries of jobs that went stay for a while, with nothing in them: they keep no device.
        np.maximum.at(keys, device, np.where(self.milli, self.over_s, -math.inf))
        keys[milli.reshape(size) + np.bincount(device, self.milli, size) != WHOLE_DEVICE_MILLI] = NEVER
        keys = keys.reshape(milli.shape)
        for taken, until_s in occupied:
            inside = taken if part is None else part.claim(taken)
            one = inside.one
            if one is None:
                np.maximum.at(keys, (inside.rows, inside.devices), until_s)  # NEVER stays
            else:
                for each in one.devices:
                    if keys.item(one.row, each) < until_s:
                        keys[one.row, each] = until_s
        return keys

    def free_then(self, row: int, free: FreeColumns, occupied: Sequence[Until], at_s: float) -> FreeOnOne:
        """What is free on that row once all up to this time is over."""
        here = np.flatnonzero(self.row == row)
        devices, millis, over_s = self.device.take(here), self.milli.take(here), self.over_s.take(here)
        row = row if self._part is None else self._part.rows.item(row)
        milli: list[int] = free.milli[row].tolist()
        for device, held, end_s in zip(devices.tolist(), millis.tolist(), over_s.tolist(), strict=True):
            if end_s <= at_s:
                milli[device] += held
        cpus_milli, memory_bytes = free.cpus_milli.item(row), free.memory_bytes.item(row)
        claim, worker_job = self._holdings.claim, self._holdings.worker_job
        here = np.flatnonzero(claim.worker_rows == row)
        over = self._holdings.leaves_s.take(worker_job.take(here)) <= at_s
        for at in here[over].tolist():
            cpus_milli += claim.cpus_milli.item(at)
            memory_bytes += claim.memory_bytes.item(at)
        for taken, until_s in occupied:
            if until_s > at_s:
                for device, held in taken.devices_on(row):
                    milli[device] -= held
                cpus, memory = taken.beside_on(row)
                cpus_milli -= cpus
                memory_bytes -= memory
        return FreeOnOne(row, milli, cpus_milli, memory_bytes)
