"""What running jobs hold, entry by entry: the columns under `running_columns.py`.

An entry is four numbers: of a device slice its job's slot, node, device and thousandths, of a worker its job's slot,
node, CPUs and bytes. One that goes is nobody's, and is dropped when most are dead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scheduler.core.arrays import Bools, Ints

NOBODY = 0  # the slot of dead entries
FIRST_CAPACITY = 64
_KEPT_SELECTIONS = 128
_MANY_DEAD = 1_024  # entries; below it a compaction is not worth its while
SLOT, NODE, WHAT = range(3)


class HeldEntries:
    """Four numbers an entry, by node number (`kept`) and by the cluster's rows (`by_row`); those of a job that came at
    one time stand together.

    Which of them stand on some nodes is remembered, and looked up only for what is new. An entry that died since is
    among them: it stands nowhere and holds nothing."""

    __slots__ = ("_selected", "by_row", "dead", "kept", "looked_up", "size")

    def __init__(self) -> None:
        self._selected: dict[bytes, tuple[Ints, int]] = {}  # by the nodes: positions, and how many entries were seen
        self.size = self.looked_up = self.dead = 0
        self.kept: Ints = np.zeros((4, FIRST_CAPACITY), np.int64)
        self.by_row: Ints = np.zeros((4, FIRST_CAPACITY), np.int64)

    def append(self, entries: list[tuple[int, int, int, int]]) -> int:
        """The position of the first of them."""
        at = self._more(len(entries))
        if entries:
            self.kept[:, at : self.size] = np.array(entries, np.int64).T
        return at

    def append_one(self, slot: int, node: int, what: int, how_much: int) -> int:
        """Its position."""
        at = self._more(1)
        kept = self.kept  # one by one: a tuple would be made an array first
        kept[0, at], kept[1, at], kept[2, at], kept[3, at] = slot, node, what, how_much
        return at

    def append_alike(self, slot: int, node: int, what: Sequence[int], how_much: int) -> int:
        """One for each of `what`, alike in all else: as nearly all jobs have them."""
        if len(what) == 1:
            return self.append_one(slot, node, what[0], how_much)
        at = self._more(len(what))
        if what:
            kept, end = self.kept, self.size
            kept[0, at:end], kept[1, at:end], kept[2, at:end], kept[3, at:end] = slot, node, what, how_much
        return at

    def _more(self, count: int) -> int:
        at, self.size = self.size, self.size + count
        while self.size > self.kept.shape[1]:
            self.kept = np.concatenate((self.kept, np.zeros_like(self.kept)), axis=1)
            self.by_row = np.concatenate((self.by_row, np.zeros_like(self.by_row)), axis=1)
        return at

    def kill(self, positions: Sequence[int]) -> Ints:
        """Those there, all of which live and were looked up. What they were by row."""
        there = np.array(positions, np.int64)
        gone: Ints = self.by_row.take(there, axis=1)
        self.kept[SLOT, there] = NOBODY
        self.by_row[:, there] = 0
        self.dead += len(positions)
        return gone

    def mostly_dead(self) -> bool:
        return self.dead >= _MANY_DEAD and self.dead * 2 >= self.size

    def compacted(self) -> Ints:
        """Drop the dead. How many living ones stood before each of the positions that there were, and before the end:
        where it stands now, if it lives."""
        alive = self.kept[SLOT, : self.size] != NOBODY
        before: Ints = np.append(0, np.cumsum(alive, dtype=np.int64))
        living = self.kept[:, : self.size][:, alive]
        self.size, self.dead = living.shape[1], 0
        self.look_up_again()
        self.kept, self.by_row = np.zeros((2, 4, max(FIRST_CAPACITY, 2 * self.size)), np.int64)
        self.kept[:, : self.size] = living
        return before

    def look_up_again(self) -> None:
        """All rows are to be looked up anew."""
        self.looked_up = 0
        self._selected.clear()

    def on(self, nodes: Bools) -> Ints:
        """Positions of those on these rows."""
        key = nodes.tobytes()
        positions, seen = self._selected.get(key, (np.zeros(0, np.int64), 0))
        if seen < self.looked_up:
            new = nodes.take(self.by_row[NODE, seen : self.looked_up]).nonzero()[0]
            if len(new):
                positions = np.concatenate((positions, new + seen))
            if len(self._selected) >= _KEPT_SELECTIONS:
                self._selected.clear()
            self._selected[key] = (positions, self.looked_up)
        return positions

    def look_up(self, row_of: Ints, absent: Bools | None) -> Ints:
        """Rows of what is new, which is returned. `row_of` is -1 where a node is not here; `absent`, of slices: whether
        there is no such device, bool[rows + 1, devices + 1], with a last row and a last column for what is nowhere.
        What is not here belongs to nobody and holds nothing."""
        new, found = self.kept[:, self.looked_up : self.size], self.by_row[:, self.looked_up : self.size]
        rows = row_of.take(new[NODE])
        if absent is None:
            away = rows < 0
        else:
            away = absent[rows, np.minimum(new[WHAT], absent.shape[1] - 1)]
        if self.dead:  # some of what is looked up again may be
            away |= new[SLOT] == NOBODY
        found[...] = new
        found[NODE] = rows
        if np.count_nonzero(away):
            found[:, away] = 0
        self.looked_up = self.size
        return found
