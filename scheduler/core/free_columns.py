"""What is free on each node, in NumPy columns, and the arithmetic of taking from it and giving back.

A `FreeColumns` adds and subtracts claims (`claims.py`) without a loop over nodes. The planner also keeps hypothetical
columns (after some jobs have ended, less what is promised), where a device may stand below zero: it is then spoken for
more than once over time, and counts as not free.

Every row has a *stamp*, a number that no other content of that row ever had in this *lineage* (a cluster's columns,
their copies, and what was made from them): equal stamps mean equal rows, so what was worked out for a row may be kept
under its stamp. What a pass tries on its copy and the owner then does to the original gets the same stamp again, so
that it is not worked out twice.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from scheduler.core.claims import Claim, OneWorker
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Placement
from scheduler.core.node_columns import ABSENT, Bools, Ints, Milli, NodeColumns, count_true, widened

_ONE_BY_ONE = 6  # so many devices of a row are sooner changed one by one than as a list


class Stamps:
    """Gives out the numbers of one lineage, each for one content of its row.

    Taking the same from the same content gives the same again (`after`): remembered from one `begin` to the next, so
    that every stamp which is given out twice is later than all that there were at the beginning. Who keeps the latest
    stamp of some rows as it was then will see every change.
    """

    __slots__ = ("_after", "_next")

    def __init__(self) -> None:
        self._next = 0
        self._after: dict[tuple[int, tuple[int, ...], int, int, int], int] = {}

    def begin(self) -> None:
        self._after.clear()

    def after(self, stamp: int, devices: tuple[int, ...], milli: int, cpus_milli: int, memory_bytes: int) -> int:
        """Of a row that had that stamp, and of which so much is taken."""
        key = (stamp, devices, milli, cpus_milli, memory_bytes)
        found = self._after.get(key)
        if found is None:
            found = self._after[key] = self._next
            self._next += 1
        return found

    def one(self) -> int:
        self._next += 1
        return self._next - 1

    def new(self, count: int) -> Ints:
        first = self._next
        self._next = first + count
        return np.arange(first, first + count)


class FreeColumns:
    """`milli`: int32[nodes, max_devices], 1000 wholly free, ABSENT where there is no device. `whole`: the number of
    wholly free devices of each node. `cpus_milli`, `memory_bytes`, `stamps`: int64[nodes]. `followed`: see
    `packing.rows.Free`."""

    __slots__ = ("_lineage", "cpus_milli", "followed", "memory_bytes", "milli", "stamps", "whole")

    followed: deque[int] | None

    def __init__(
        self, milli: Milli, whole: Ints, cpus_milli: Ints, memory_bytes: Ints, stamps: Ints, lineage: Stamps
    ) -> None:
        self.milli = np.ascontiguousarray(milli)  # take() and give() write through a flat view of it
        self.whole = whole
        self.cpus_milli = cpus_milli
        self.memory_bytes = memory_bytes
        self.stamps = stamps
        self.followed = None
        self._lineage = lineage

    @staticmethod
    def empty(nodes: NodeColumns) -> FreeColumns:
        """Everything free; a lineage of its own."""
        milli = _all_free(nodes.device_model)
        lineage = Stamps()
        return FreeColumns(
            milli,
            _whole(milli),
            nodes.cpus_milli.copy(),
            nodes.memory_bytes.copy(),
            lineage.new(len(nodes)),
            lineage,
        )

    @staticmethod
    def of_one(milli: Sequence[int], cpus_milli: int, memory_bytes: int) -> FreeColumns:
        """One node with that free; a lineage of its own."""
        return FreeColumns(
            np.array([milli], np.int32),
            np.array([milli.count(WHOLE_DEVICE_MILLI)]),
            np.array([cpus_milli]),
            np.array([memory_bytes]),
            np.zeros(1, np.int64),
            Stamps(),
        )

    def copy(self) -> FreeColumns:
        return FreeColumns(
            self.milli.copy(),
            self.whole.copy(),
            self.cpus_milli.copy(),
            self.memory_bytes.copy(),
            self.stamps.copy(),
            self._lineage,
        )

    def on(self, rows: Ints) -> FreeColumns:
        """What is free on these rows, as columns of their own: row i of it is rows[i]."""
        return FreeColumns(
            self.milli.take(rows, axis=0),
            self.whole.take(rows),
            self.cpus_milli.take(rows),
            self.memory_bytes.take(rows),
            np.arange(len(rows)),
            Stamps(),
        )

    def tried(self) -> FreeColumns:
        """A copy to decide on what will then be done to these."""
        self._lineage.begin()
        return self.copy()

    def with_rows_of(self, nodes: NodeColumns) -> FreeColumns:
        """The columns with the last rows of `nodes` added, all free, as many as are missing."""
        begin = len(self.whole)
        rows = _all_free(nodes.device_model[begin:])
        return FreeColumns(
            np.concatenate((widened(self.milli, nodes.max_devices), rows)),
            np.append(self.whole, _whole(rows)),
            np.append(self.cpus_milli, nodes.cpus_milli[begin:]),
            np.append(self.memory_bytes, nodes.memory_bytes[begin:]),
            np.append(self.stamps, self._lineage.new(len(nodes) - begin)),
            self._lineage,
        )

    def without_rows(self, rows: Sequence[int]) -> FreeColumns:
        return FreeColumns(
            np.delete(self.milli, rows, axis=0),
            np.delete(self.whole, rows),
            np.delete(self.cpus_milli, rows),
            np.delete(self.memory_bytes, rows),
            np.delete(self.stamps, rows),
            self._lineage,
        )

    def take(self, claim: Claim) -> None:
        """Subtract. May go below zero: who may not, looks before or after (`overcommitted`)."""
        if claim.one is not None:
            self._move_one(claim.one, -1)
            return
        if len(claim.worker_rows) == 1:
            self._move_slices(claim, -1)
            return
        np.subtract.at(self.milli.reshape(-1), self._flat(claim), claim.milli.astype(np.int32))
        np.subtract.at(self.cpus_milli, claim.worker_rows, claim.cpus_milli)
        np.subtract.at(self.memory_bytes, claim.worker_rows, claim.memory_bytes)
        self._changed(claim)

    def take_one(self, one: OneWorker, row: int) -> None:
        """take() of that worker, as if it stood on this row."""
        self._move(row, one.devices, one.milli, one.cpus_milli, one.memory_bytes, -1)

    def give(self, claim: Claim) -> None:
        """Add back: the exact inverse of take()."""
        if claim.one is not None:
            self._move_one(claim.one, 1)
            return
        if len(claim.worker_rows) == 1:
            self._move_slices(claim, 1)
            return
        np.add.at(self.milli.reshape(-1), self._flat(claim), claim.milli.astype(np.int32))
        np.add.at(self.cpus_milli, claim.worker_rows, claim.cpus_milli)
        np.add.at(self.memory_bytes, claim.worker_rows, claim.memory_bytes)
        self._changed(claim)

    def move_worker(self, nodes: NodeColumns, placement: Placement, sign: int) -> str | None:
        """take() (`sign` -1) or give() (1) of one worker, without making a claim of it. Says, as overcommitted() does,
        what of it is below zero then."""
        row = nodes.row_of.get(placement.node)
        if row is None:
            return None
        devices = nodes.devices_there(row, placement.devices)
        return self._move(
            row,
            devices,
            placement.share_milli or WHOLE_DEVICE_MILLI,
            placement.cpus_milli,
            placement.memory_bytes,
            sign,
        )

    def overcommitted(self, claim: Claim) -> str | None:
        """After take(claim): what of it went below zero, in words; None where all is well."""
        over = np.flatnonzero(self.milli.reshape(-1)[self._flat(claim)] < 0)
        if over.size:
            row, device = int(claim.rows[over[0]]), int(claim.devices[over[0]])
            return _short_of_device(row, device, int(self.milli[row, device]))
        rows = claim.worker_rows
        over = np.flatnonzero((self.cpus_milli[rows] < 0) | (self.memory_bytes[rows] < 0))
        if over.size:
            row = int(rows[over[0]])
            return _short_beside(row, int(self.cpus_milli[row]), int(self.memory_bytes[row]))
        return None

    def nothing_overcommitted(self, devices: int) -> bool:
        """Whether nothing is below zero, of the devices none of so many that there are."""
        beside = min(self.cpus_milli.min(initial=0), self.memory_bytes.min(initial=0))
        return bool(beside >= 0) and np.count_nonzero(self.milli >= 0) == devices

    def replaced(self, milli: Milli, cpus_milli: Ints, memory_bytes: Ints) -> FreeColumns:
        """The same nodes with this free instead, in the same lineage: rows that are as they were keep their stamps."""
        changed = (cpus_milli != self.cpus_milli) | (memory_bytes != self.memory_bytes)
        if milli.shape[1]:
            changed[np.flatnonzero(milli != self.milli) // milli.shape[1]] = True
        rows = np.flatnonzero(changed)
        whole, stamps = self.whole.copy(), self.stamps.copy()
        stamps[rows] = self._lineage.new(len(rows))
        whole[rows] = _whole(milli[rows])
        return FreeColumns(milli, whole, cpus_milli, memory_bytes, stamps, self._lineage)

    def lower_row(self, row: int, milli: list[int], cpus_milli: int, memory_bytes: int) -> None:
        """Of that row no more is free from now on than this."""
        left = list(map(min, self.milli[row].tolist(), milli))
        self.milli[row] = left
        self.whole[row] = left.count(WHOLE_DEVICE_MILLI)
        self.cpus_milli[row] = min(self.cpus_milli.item(row), cpus_milli)
        self.memory_bytes[row] = min(self.memory_bytes.item(row), memory_bytes)
        self._stamp(row, self._lineage.one())

    def anew(self, milli: Milli, cpus_milli: Ints, memory_bytes: Ints) -> FreeColumns:
        """As replaced(), for when most rows have changed: all get new stamps."""
        stamps = self._lineage.new(len(self.whole))
        return FreeColumns(milli, _whole(milli), cpus_milli, memory_bytes, stamps, self._lineage)

    def with_rows(self, rows: Ints, other: FreeColumns) -> FreeColumns:
        """The same nodes with what is free in `other`, row by row, on these instead, in the same lineage: rows that
        are as they were keep their stamps."""
        changed = (self.milli.take(rows, axis=0) != other.milli).any(axis=1)
        changed |= self.cpus_milli.take(rows) != other.cpus_milli
        changed |= self.memory_bytes.take(rows) != other.memory_bytes
        new = self.copy()
        new.milli[rows], new.whole[rows] = other.milli, _whole(other.milli)
        new.cpus_milli[rows], new.memory_bytes[rows] = other.cpus_milli, other.memory_bytes
        new.stamps[rows[changed]] = self._lineage.new(int(np.count_nonzero(changed)))
        return new

    def whole_of(self, devices: Bools | None) -> Ints:
        """Wholly free devices of each node, among `devices` where given."""
        if devices is None:
            return self.whole
        return count_true((self.milli == WHOLE_DEVICE_MILLI) & devices)

    def _flat(self, claim: Claim) -> Ints:
        flat: Ints = claim.rows * self.milli.shape[1] + claim.devices
        return flat

    def _move_one(self, one: OneWorker, sign: int) -> None:
        """take() or give() of one worker: entry by entry is ten times as fast."""
        self._move(one.row, one.devices, one.milli, one.cpus_milli, one.memory_bytes, sign)

    def _move_slices(self, claim: Claim, sign: int) -> None:
        """take() or give() of a claim with one worker that was made as columns, and may hold parts of its devices."""
        row = claim.worker_rows.item()
        self.cpus_milli[row] = self.cpus_milli.item(row) + sign * claim.cpus_milli.item()
        self.memory_bytes[row] = self.memory_bytes.item(row) + sign * claim.memory_bytes.item()
        self._stamp(row, self._lineage.one())
        if len(claim.devices):
            left: list[int] = self.milli[row].tolist()
            for device, milli in zip(claim.devices.tolist(), claim.milli.tolist(), strict=True):
                left[device] += sign * milli
            self.milli[row] = left
            self.whole[row] = left.count(WHOLE_DEVICE_MILLI)

    def _move(
        self, row: int, devices: tuple[int, ...], milli: int, cpus_milli: int, memory_bytes: int, sign: int
    ) -> str | None:
        """What of the row is below zero then."""
        stamps, lineage = self.stamps, self._lineage
        if sign < 0:
            stamps[row] = lineage.after(stamps.item(row), devices, milli, cpus_milli, memory_bytes)
        else:
            stamps[row] = lineage.one()
        if self.followed is not None:
            self.followed.append(row)
        self.cpus_milli[row] = cpus_left = self.cpus_milli.item(row) + sign * cpus_milli
        self.memory_bytes[row] = bytes_left = self.memory_bytes.item(row) + sign * memory_bytes
        short = None
        if len(devices) <= _ONE_BY_ONE:
            columns, more = self.milli, 0
            for device in devices:
                before = columns.item(row, device)
                columns[row, device] = after = before + sign * milli
                if before == WHOLE_DEVICE_MILLI:
                    more -= 1
                if after == WHOLE_DEVICE_MILLI:
                    more += 1
                elif after < 0 and short is None:
                    short = _short_of_device(row, device, after)
            if more:
                self.whole[row] = self.whole.item(row) + more
        else:
            left: list[int] = self.milli[row].tolist()
            for device in devices:
                left[device] = after = left[device] + sign * milli
                if after < 0 and short is None:
                    short = _short_of_device(row, device, after)
            self.milli[row] = left
            self.whole[row] = left.count(WHOLE_DEVICE_MILLI)
        if short is None and (cpus_left < 0 or bytes_left < 0):
            short = _short_beside(row, cpus_left, bytes_left)
        return short

    def _stamp(self, row: int, stamp: int) -> None:
        self.stamps[row] = stamp
        if self.followed is not None:
            self.followed.append(row)

    def _changed(self, claim: Claim) -> None:
        rows, worker_rows = claim.rows, claim.worker_rows
        if self.followed is not None:
            self.followed.extend(worker_rows.tolist())
            self.followed.extend(rows.tolist())
        self.stamps[worker_rows] = self._lineage.new(len(worker_rows))
        if not rows.size:
            return
        self.stamps[rows] = self._lineage.new(len(rows))
        if rows.size > len(self.whole) // 4:
            self.whole = _whole(self.milli)
        else:
            self.whole[rows] = _whole(self.milli[rows])


def _short_of_device(row: int, device: int, milli: int) -> str:
    return f"row {row} device {device} stands at {milli} of {WHOLE_DEVICE_MILLI}"


def _short_beside(row: int, cpus_milli: int, memory_bytes: int) -> str:
    return f"row {row} stands at {cpus_milli} milli-CPUs, {memory_bytes} bytes"


def _all_free(device_model: Milli) -> Milli:
    return np.where(device_model == ABSENT, ABSENT, WHOLE_DEVICE_MILLI).astype(np.int32)


def _whole(milli: Milli) -> Ints:
    return count_true(milli == WHOLE_DEVICE_MILLI)
