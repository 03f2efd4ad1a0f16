"""What running jobs of each class hold on each node, kept as they come and go.

Who may be asked to go hangs on the class, so a pass wants to know for many jobs that wait: is there anybody of a lower
class on their nodes, and how much of each device is theirs? A few dozen slices change between two passes, of thousands
that there are.

There is one plane a class that was ever seen: a site has a handful.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools, Ints, Milli

_KEPT = 1_024


class HeldByClass:
    """Over the rows of one cluster's nodes: none at first. Entries are those of `held_entries.py`, by row: int64[4, n]
    each. Dead ones may be among them, which are nobody's and hold nothing."""

    __slots__ = ("_milli", "_number", "_seen_on", "_workers")

    def __init__(self) -> None:
        self._number: dict[int, int] = {}  # of each class
        self._milli: Milli = np.zeros((0, 0, 0), np.int32)  # by number, row and device
        self._workers: Ints = np.zeros((0, 0), np.int64)  # by number and row: how many stand there
        # By number and the identity of some nodes, which are kept: one of them where somebody of that class stood.
        self._seen_on: dict[tuple[int, int], tuple[Bools, int]] = {}

    def begin(self, nodes: int, max_devices: int) -> None:
        """Nobody stands there yet."""
        self._seen_on.clear()
        self._milli = np.zeros((len(self._number), nodes, max_devices), np.int32)
        self._workers = np.zeros((len(self._number), nodes), np.int64)

    def no_slices(self) -> None:
        """They will be told anew, all of them."""
        self._milli[...] = 0

    def no_workers(self) -> None:
        self._workers[...] = 0

    def number(self, priority: int) -> int:
        """That of the class."""
        found = self._number.get(priority)
        if found is None:
            found = self._number[priority] = len(self._number)
            self._milli = np.concatenate((self._milli, np.zeros((1, *self._milli.shape[1:]), np.int32)))
            self._workers = np.concatenate((self._workers, np.zeros((1, *self._workers.shape[1:]), np.int64)))
        return found

    def move_slices(self, slices: Ints, numbers: Ints, sign: int) -> None:
        """They come (`sign` 1) or go (-1). `numbers`: the class of each slot, int64[slots]."""
        slot, row, device, milli = slices
        if self._milli.size:
            _, nodes, devices = self._milli.shape
            at = (numbers.take(slot) * nodes + row) * devices + device
            np.add.at(self._milli.reshape(-1), at, (milli if sign > 0 else -milli).astype(np.int32))

    def move_workers(self, workers: Ints, numbers: Ints, sign: int) -> None:
        """The same of workers."""
        slot, row = workers[:2]
        if self._workers.size:
            at = numbers.take(slot) * self._workers.shape[1] + row
            np.add.at(self._workers.reshape(-1), at, np.minimum(slot, 1) * sign)

    def lowest(self, nodes: Bools) -> int | None:
        """The lowest class that stands on any of these (bool[nodes]), which are not to be changed later; None where
        nobody does."""
        for priority in sorted(self._number):
            if self._stands_on(self._number[priority], nodes):
                return priority
        return None

    def _stands_on(self, number: int, nodes: Bools) -> bool:
        """Whether anybody of that class does. Mostly somebody does where somebody did when this was asked last."""
        seen = self._seen_on.get((number, id(nodes)))
        if seen is not None and self._workers.item(number, seen[1]):
            return True
        there = np.logical_and(self._workers[number], nodes)
        row = int(there.argmax()) if len(there) else 0
        if not len(there) or not there.item(row):
            return False
        if len(self._seen_on) >= _KEPT:
            self._seen_on.clear()
        self._seen_on[number, id(nodes)] = (nodes, row)
        return True

    def below(self, reach: int, rows: Ints | None = None) -> Milli:
        """int32[rows, max_devices]: the thousandths of each device of these rows (None: of all) that jobs of a class
        below `reach` hold."""
        below: Milli = np.zeros(self._milli.shape[1:] if rows is None else (len(rows), self._milli.shape[2]), np.int32)
        for priority, number in self._number.items():
            if priority < reach:
                below += self._milli[number] if rows is None else self._milli[number].take(rows, axis=0)
        return below
