"""What some workers take of their nodes, as numbers: what `free_columns.py` adds and subtracts without a loop.

Nearly all claims are of a single worker, and few of these are looked at as columns: so one is made of a few numbers,
and its columns when somebody asks for them.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Placement
from scheduler.core.node_columns import ABSENT, Bools, Ints, NodeColumns
from scheduler.core.quick import quick

_what_a_worker_holds = attrgetter("node", "devices", "share_milli", "cpus_milli", "memory_bytes")


@quick
@dataclass(frozen=True, slots=True)
class OneWorker:
    """What a single worker takes of its node: `milli` of each of the devices."""

    row: int
    devices: tuple[int, ...]
    milli: int
    cpus_milli: int
    memory_bytes: int


class Claim:
    """Capacity of some workers: one entry a device slice (`rows`, `devices`, `milli`), and one a worker (the rest), all
    int64. `one`: the same of a single worker that was made as such, whose columns are made when first asked for: nearly
    all claims are of one worker, and few are looked at as columns. Not to be changed."""

    __slots__ = ("cpus_milli", "devices", "memory_bytes", "milli", "one", "rows", "worker_rows")

    one: OneWorker | None
    rows: Ints
    devices: Ints
    milli: Ints
    worker_rows: Ints
    cpus_milli: Ints
    memory_bytes: Ints

    def __init__(
        self, rows: Ints, devices: Ints, milli: Ints, worker_rows: Ints, cpus_milli: Ints, memory_bytes: Ints
    ) -> None:
        self.one = None
        self.rows = rows
        self.devices = devices
        self.milli = milli
        self.worker_rows = worker_rows
        self.cpus_milli = cpus_milli
        self.memory_bytes = memory_bytes

    @staticmethod
    def of_one(one: OneWorker) -> Claim:
        claim = Claim.__new__(Claim)
        claim.one = one
        return claim

    def __getattr__(self, name: str) -> Ints:
        """Only of a column that is not there yet."""
        if name not in Claim.__slots__:
            raise AttributeError(name)
        one = self.one
        assert one is not None
        each = len(one.devices)
        self.rows = np.array([one.row] * each, np.int64)
        self.devices = np.array(one.devices, np.int64)
        self.milli = np.array([one.milli] * each, np.int64)
        self.worker_rows = np.array([one.row], np.int64)
        self.cpus_milli = np.array([one.cpus_milli], np.int64)
        self.memory_bytes = np.array([one.memory_bytes], np.int64)
        column: Ints = object.__getattribute__(self, name)
        return column

    def on_devices(self, devices: Ints) -> Claim:
        """The same on other devices of the same nodes."""
        return Claim(self.rows, devices, self.milli, self.worker_rows, self.cpus_milli, self.memory_bytes)

    def stands_on(self, nodes: Bools) -> bool:
        """Whether any of its workers stands on these (bool[nodes])."""
        if self.one is not None:
            return bool(nodes.item(self.one.row))
        return bool(np.count_nonzero(nodes.take(self.worker_rows)))

    def devices_on(self, row: int) -> list[tuple[int, int]]:
        """(device, thousandths) of what it holds on that row."""
        one = self.one
        if one is not None:
            return [(device, one.milli) for device in one.devices] if one.row == row else []
        at = np.flatnonzero(self.rows == row)
        return list(zip(self.devices.take(at).tolist(), self.milli.take(at).tolist(), strict=True))

    def beside_on(self, row: int) -> tuple[int, int]:
        """CPUs, in thousandths, and bytes that it holds on that row."""
        one = self.one
        if one is not None:
            return (one.cpus_milli, one.memory_bytes) if one.row == row else (0, 0)
        at = np.flatnonzero(self.worker_rows == row)
        return int(self.cpus_milli.take(at).sum()), int(self.memory_bytes.take(at).sum())

    @staticmethod
    def of(nodes: NodeColumns, placements: Iterable[Placement]) -> Claim:
        """Numbers of these placements. What stands on a node or device that is not there (any more) claims nothing."""
        columns = list(zip(*map(_what_a_worker_holds, placements), strict=True)) or [()] * 5
        names, devices, shares, cpus_milli, memory_bytes = columns
        row_of = nodes.row_of
        if len(names) == 1 and names[0] in row_of:
            row = row_of[names[0]]
            own = nodes.devices_there(row, devices[0])
            return Claim.of_one(OneWorker(row, own, shares[0] or WHOLE_DEVICE_MILLI, cpus_milli[0], memory_bytes[0]))
        worker_rows = np.array([row_of.get(name, -1) for name in names], np.int64)
        each = np.array(list(map(len, devices)), np.int64)
        rows = worker_rows.repeat(each)
        indices = np.array(list(chain.from_iterable(devices)), np.int64)
        milli = np.array([share or WHOLE_DEVICE_MILLI for share in shares], np.int64).repeat(each)
        claim = Claim(
            rows, indices, milli, worker_rows, np.array(cpus_milli, np.int64), np.array(memory_bytes, np.int64)
        )
        there = (rows >= 0) & (indices < nodes.max_devices)
        if there.all():
            there = nodes.device_model[rows, indices] != ABSENT
        else:
            there[there] = nodes.device_model[rows[there], indices[there]] != ABSENT
        if there.all() and (worker_rows >= 0).all():
            return claim
        return claim.where(there, worker_rows >= 0)

    @staticmethod
    def joined(claims: Sequence[Claim]) -> Claim:
        """All of them as one. There must be at least one."""
        if len(claims) == 1:
            return claims[0]
        return Claim(
            np.concatenate([claim.rows for claim in claims]),
            np.concatenate([claim.devices for claim in claims]),
            np.concatenate([claim.milli for claim in claims]),
            np.concatenate([claim.worker_rows for claim in claims]),
            np.concatenate([claim.cpus_milli for claim in claims]),
            np.concatenate([claim.memory_bytes for claim in claims]),
        )

    def where(self, slices: Bools, workers: Bools) -> Claim:
        """The part of it that these select, each bool over its kind of entry."""
        return Claim(
            self.rows[slices],
            self.devices[slices],
            self.milli[slices],
            self.worker_rows[workers],
            self.cpus_milli[workers],
            self.memory_bytes[workers],
        )
