"""Which state each node is in, by number, and what protection has to know of all of them together.

A node's state is its kind and what is left of its CPUs, its memory and its devices, whichever device that is. Nodes
come through the same states again and again; whatever depends on a state alone is worked out once a number. A row is
looked at again only when its stamp has changed.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Bools, Ints
from scheduler.core.packing.few_states import State
from scheduler.core.packing.protection import SUBSTEPS, Priced, Prices, Protection
from scheduler.core.packing.rows import Ask, Free, NodeKinds

NO_STATE = -1
_KEPT_STATES = 1 << 16
_KEPT_STAMPS = 8  # numbers that are remembered by stamp, for each row
_KEPT_ASKS = 256
_FEW = 32  # states that are not worth looking for equal ones among them
_KEPT_MOVES = 4096


@dataclass(slots=True)
class _PricedNodes:
    """What of protection concerns some nodes, its prices at some time, and those that there were before: they come
    again and again, with what is kept with them."""

    protection: Protection
    prices: Prices | None = None
    version: int = -1
    before: dict[Priced, Prices] = field(default_factory=dict)


class NodeStates:
    """`of_row`, int64[nodes], and `numbers`, the same as a list: the number of each row's state. `count`: numbers are
    below it. `generation` rises when all are given anew. `states`: by number. `moves`: so often a row got another."""

    __slots__ = (
        "_bucket",
        "_by_stamp",
        "_facts",
        "_idle",
        "_kind",
        "_kinds",
        "_moved",
        "_nodes_by_idle",
        "_number_of",
        "_priced",
        "_priced_for",
        "_protection",
        "_stamps",
        "_to_come",
        "_version",
        "_work",
        "generation",
        "moves",
        "numbers",
        "of_row",
        "states",
    )

    def __init__(self, kinds: NodeKinds, protection: Protection | None, max_devices: int) -> None:
        rows = len(kinds.kind)
        self._kinds = kinds
        self._kind: list[int] = kinds.kind.tolist()
        self._protection = protection
        self._number_of: dict[State, int] = {}
        self.states: list[State] = []
        self._stamps: Ints = np.full(rows, np.iinfo(np.int64).min)
        self._by_stamp: dict[int, int] = {}  # rows go back and forth as the search looks at what is promised, or not
        self.of_row: Ints = np.full(rows, NO_STATE)
        self.numbers: list[int] = [NO_STATE] * rows
        self.generation = self.moves = 0
        self._moved: list[int] = []  # the rows of the last of these moves
        # Of each state, where there is a protection: kind, idle devices, CPUs, memory; where it is counted among nodes
        # by kind and idle devices; and the work it can still take.
        self._facts: Ints = np.zeros((0, 4), np.int64)
        self._idle: list[int] = []
        self._bucket: list[int] = []
        self._work: list[int] = []
        # Of all rows together.
        self._nodes_by_idle: list[float] = [0.0] * (len(kinds.models) * (max_devices + 1))
        self._to_come: list[int] = [0] * len(kinds.models)
        self._version = 0
        self._priced: dict[bytes, _PricedNodes] = {}  # by the kinds of nodes
        self._priced_for: dict[Ask, _PricedNodes] = {}

    @property
    def count(self) -> int:
        return len(self.states)

    def refresh(self, free: Free) -> None:
        """Number the rows that have changed."""
        changed = (self._stamps != free.stamps).nonzero()[0]
        if not len(changed):
            return
        if len(self.states) + len(changed) > max(_KEPT_STATES, 2 * len(self.numbers)):
            self._forget()
            changed = np.arange(len(self.numbers))
        rows, by_stamp, numbers, moved = len(self.numbers), self._by_stamp, self.numbers, self._moved
        if len(by_stamp) > _KEPT_STAMPS * rows:
            by_stamp.clear()
        if len(moved) > _KEPT_MOVES:
            del moved[: _KEPT_MOVES // 2]
        self._version += 1
        moves = len(moved)
        stamps = free.stamps.take(changed)
        self._stamps[changed] = stamps
        for row, stamp in zip(changed.tolist(), stamps.tolist(), strict=True):
            key = stamp * rows + row  # a stamp is of one content of its row, but not of one row
            number = by_stamp.get(key)
            if number is None:
                number = by_stamp[key] = self._number(free, row)
            before = numbers[row]
            if number != before:
                numbers[row] = self.of_row[row] = number
                moved.append(row)
                if self._protection is not None:
                    self._move(self._kind[row], before, number)
        self.moves += len(moved) - moves

    def moved_since(self, moves: int) -> Sequence[int] | None:
        """The rows that got another number since there were so many moves, some perhaps more than once; None where that
        is not known any more."""
        since = self.moves - moves
        if since > len(self._moved):
            return None
        return self._moved[len(self._moved) - since :]

    def _number(self, free: Free, row: int) -> int:
        """That of the row's state, a new one where it is met for the first time."""
        left: list[int] = free.milli[row].tolist()
        left.sort()
        cpus_milli, memory_bytes = free.cpus_milli.item(row), free.memory_bytes.item(row)
        state = (self._kind[row], cpus_milli, memory_bytes, *left)
        count = len(self.states)
        number = self._number_of.setdefault(state, count)
        if number != count:
            return number
        self.states.append(state)
        if self._protection is not None:
            idle = left.count(WHOLE_DEVICE_MILLI)
            if number == len(self._facts):
                self._facts = np.concatenate((self._facts, np.zeros((max(1024, number), 4), np.int64)))
            self._facts[number] = (self._kind[row], idle, cpus_milli, memory_bytes)
            self._idle.append(idle)
            self._bucket.append(self._kind[row] * (len(left) + 1) + idle)
            self._work.append(self._protection.to_come(left, cpus_milli, memory_bytes))
        return number

    def _forget(self) -> None:
        self._number_of.clear()
        self.states.clear()
        self._by_stamp.clear()
        self._idle.clear()
        self._bucket.clear()
        self._work.clear()
        self.of_row.fill(NO_STATE)
        self.numbers[:] = [NO_STATE] * len(self.numbers)
        self._nodes_by_idle = [0.0] * len(self._nodes_by_idle)
        self._to_come = [0] * len(self._to_come)
        self._priced.clear()
        self._priced_for.clear()
        self.generation += 1

    # ---- with protection only --------------------------------------------------------------------------------------

    def _move(self, kind: int, old: int, new: int) -> None:
        """One row of the kind leaves the old state for the new one."""
        work = self._work[new]
        self._nodes_by_idle[self._bucket[new]] += 1
        if old != NO_STATE:
            work -= self._work[old]
            self._nodes_by_idle[self._bucket[old]] -= 1
        self._to_come[kind] += work

    def prices(self, ask: Ask) -> Prices:
        """As the nodes are now, for those that serve the ask; the same object as long as none of them has changed."""
        return self._prices(ask)[1]

    def nothing_scarce(self, ask: Ask, state: int) -> bool:
        """Whether a node in this state has nothing to protect from the ask, whatever the prices are: they need not be
        asked for."""
        protection = self._priced_nodes(ask).protection
        return protection.of_gangs_alone and self._idle[state] < protection.smallest_gang

    def _priced_nodes(self, ask: Ask) -> _PricedNodes:
        priced = self._priced_for.get(ask)
        if priced is None:
            if len(self._priced_for) >= _KEPT_ASKS:
                self._priced_for.clear()
            priced = self._priced_for[ask] = self._priced_on(self._kinds.kind[ask.rows])
        return priced

    def _prices(self, ask: Ask) -> tuple[Protection, Prices]:
        priced = self._priced_nodes(ask)
        if priced.version != self._version or priced.prices is None:
            priced.version = self._version
            priced.prices = priced.protection.prices(self._nodes_by_idle, self._to_come, priced.before)
        return priced.protection, priced.prices

    def _priced_on(self, kind: Ints) -> _PricedNodes:
        assert self._protection is not None
        kinds = np.zeros(len(self._to_come), np.bool_)
        kinds[kind] = True
        key = kinds.tobytes()
        if key not in self._priced:
            if len(self._priced) >= _KEPT_ASKS:
                self._priced.clear()
            self._priced[key] = _PricedNodes(self._protection.on(kinds))
        return self._priced[key]

    def toll(self, ask: Ask, state: int, opened: int) -> int:
        """As tolls(), of one state."""
        protection, prices = self._prices(ask)
        return protection.toll(prices, ask, self._facts[state].tolist(), opened) * SUBSTEPS

    def tolls(self, ask: Ask, states: Ints, opened: int) -> Ints | int:
        """What protection takes off the score of each of these states, int64[states] in half steps, where placing a
        worker of the ask leaves `opened` idle devices fewer. 0 for all where nothing has a price."""
        protection, prices = self._prices(ask)
        tolls: Ints | None = None
        if prices.any_kind and ask.milli:
            tolls = protection.kind_tolls(prices, ask).take(self._facts[:, 0].take(states))
        if len(prices.gangs):
            scarce = (self._facts[:, 1].take(states) >= protection.smallest_gang).nonzero()[0]
            if len(scarce):
                held = states.take(scarce)
                each = _distinct(held) if len(held) > _FEW else held
                of_each = protection.gang_tolls(prices, ask, self._facts.take(each, axis=0).T, opened)
                if tolls is None:
                    tolls = np.zeros(len(states), np.int64)
                tolls[scarce] += of_each if each is held else of_each.take(each.searchsorted(held))
        return 0 if tolls is None else tolls * SUBSTEPS


def _distinct(values: Ints) -> Ints:
    ordered = np.sort(values)
    first: Bools = np.append(True, ordered[1:] != ordered[:-1])
    return ordered[first]
