"""What is free on each node, in NumPy columns, and the arithmetic of taking from it and giving back.

`Claim` is a set of placements as numbers; a `FreeColumns` adds and subtracts claims without a loop over nodes. The
planner also keeps hypothetical columns (after some jobs have ended, less what is promised), where a device may stand
below zero: it is then spoken for more than once over time, and counts as not free.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Placement
from scheduler.core.node_columns import ABSENT, Bools, Ints, Milli, NodeColumns, widened


@dataclass(frozen=True, slots=True)
class Claim:
    """Capacity of some workers: one entry a device slice (`rows`, `devices`, `milli`), and one a worker (the rest)."""

    rows: Ints
    devices: Ints
    milli: Ints
    worker_rows: Ints
    cpus_milli: Ints
    memory_bytes: Ints

    @staticmethod
    def of(nodes: NodeColumns, placements: Iterable[Placement]) -> Claim:
        """Numbers of these placements. What stands on a node or device that is not there (any more) claims nothing."""
        slices: list[tuple[int, int, int]] = []
        workers: list[tuple[int, int, int]] = []
        for placement in placements:
            row = nodes.row_of.get(placement.node)
            if row is None:
                continue
            workers.append((row, placement.cpus_milli, placement.memory_bytes))
            milli = placement.share_milli or WHOLE_DEVICE_MILLI
            for device in placement.devices:
                if device < nodes.max_devices and nodes.device_model[row, device] != ABSENT:
                    slices.append((row, device, milli))
        by_slice = np.array(slices, np.int64).reshape(-1, 3)
        by_worker = np.array(workers, np.int64).reshape(-1, 3)
        return Claim(*by_slice.T, *by_worker.T)

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


class FreeColumns:
    """`milli`: int32[nodes, max_devices], 1000 wholly free, ABSENT where there is no device. `whole`: the number of
    wholly free devices of each node. `cpus_milli`, `memory_bytes`: int64[nodes]."""

    __slots__ = ("cpus_milli", "memory_bytes", "milli", "whole")

    def __init__(self, milli: Milli, whole: Ints, cpus_milli: Ints, memory_bytes: Ints) -> None:
        self.milli = np.ascontiguousarray(milli)  # take() and give() write through a flat view of it
        self.whole = whole
        self.cpus_milli = cpus_milli
        self.memory_bytes = memory_bytes

    @staticmethod
    def empty(nodes: NodeColumns) -> FreeColumns:
        """Everything free."""
        milli = np.where(nodes.device_model == ABSENT, ABSENT, WHOLE_DEVICE_MILLI).astype(np.int32)
        return FreeColumns(milli, _whole(milli), nodes.cpus_milli.copy(), nodes.memory_bytes.copy())

    def copy(self) -> FreeColumns:
        return FreeColumns(self.milli.copy(), self.whole.copy(), self.cpus_milli.copy(), self.memory_bytes.copy())

    def with_row_of(self, nodes: NodeColumns) -> FreeColumns:
        """The columns with the last row of `nodes` added, all free."""
        row = np.where(nodes.device_model[-1:] == ABSENT, ABSENT, WHOLE_DEVICE_MILLI).astype(np.int32)
        return FreeColumns(
            np.concatenate((widened(self.milli, nodes.max_devices), row)),
            np.append(self.whole, _whole(row)),
            np.append(self.cpus_milli, nodes.cpus_milli[-1]),
            np.append(self.memory_bytes, nodes.memory_bytes[-1]),
        )

    def without_row(self, row: int) -> FreeColumns:
        return FreeColumns(
            np.delete(self.milli, row, axis=0),
            np.delete(self.whole, row),
            np.delete(self.cpus_milli, row),
            np.delete(self.memory_bytes, row),
        )

    def take(self, claim: Claim) -> None:
        """Subtract. May go below zero: who may not, looks before or after (`overcommitted`)."""
        np.subtract.at(self.milli.reshape(-1), self._flat(claim), claim.milli.astype(np.int32))
        np.subtract.at(self.cpus_milli, claim.worker_rows, claim.cpus_milli)
        np.subtract.at(self.memory_bytes, claim.worker_rows, claim.memory_bytes)
        self._recount(claim.rows)

    def give(self, claim: Claim) -> None:
        """Add back: the exact inverse of take()."""
        np.add.at(self.milli.reshape(-1), self._flat(claim), claim.milli.astype(np.int32))
        np.add.at(self.cpus_milli, claim.worker_rows, claim.cpus_milli)
        np.add.at(self.memory_bytes, claim.worker_rows, claim.memory_bytes)
        self._recount(claim.rows)

    def overcommitted(self, claim: Claim) -> str | None:
        """After take(claim): what of it went below zero, in words; None where all is well."""
        for row, device in zip(claim.rows.tolist(), claim.devices.tolist(), strict=True):
            if self.milli[row, device] < 0:
                return f"row {row} device {device} stands at {self.milli[row, device]} of {WHOLE_DEVICE_MILLI}"
        for row in claim.worker_rows.tolist():
            if self.cpus_milli[row] < 0 or self.memory_bytes[row] < 0:
                return f"row {row} stands at {self.cpus_milli[row]} milli-CPUs, {self.memory_bytes[row]} bytes"
        return None

    def lesser(self, other: FreeColumns) -> FreeColumns:
        """What is free in both."""
        milli = np.minimum(self.milli, other.milli)
        return FreeColumns(
            milli,
            _whole(milli),
            np.minimum(self.cpus_milli, other.cpus_milli),
            np.minimum(self.memory_bytes, other.memory_bytes),
        )

    def whole_of(self, devices: Bools | None) -> Ints:
        """Wholly free devices of each node, among `devices` where given."""
        if devices is None:
            return self.whole
        whole: Ints = np.sum((self.milli == WHOLE_DEVICE_MILLI) & devices, axis=1, dtype=np.int64)
        return whole

    def _flat(self, claim: Claim) -> Ints:
        flat: Ints = claim.rows * self.milli.shape[1] + claim.devices
        return flat

    def _recount(self, rows: Ints) -> None:
        if rows.size > len(self.whole) // 4:
            self.whole = _whole(self.milli)
        elif rows.size:
            self.whole[rows] = _whole(self.milli[rows])


def _whole(milli: Milli) -> Ints:
    whole: Ints = np.sum(milli == WHOLE_DEVICE_MILLI, axis=1, dtype=np.int64)
    return whole
