"""Which state each node is in, by number, and what protection has to know of all of them together.

A node's state is its kind and what is left of its CPUs, its memory and its devices, whichever device that is. Nodes
come through the same states again and again; whatever depends on a state alone is worked out once a number. A row is
looked at again only when its stamp has changed: while it is the same columns that are asked about, as nearly always,
they say which rows these are.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scheduler.core.arrays import distinct
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Ints
from scheduler.core.packing.few_states import State
from scheduler.core.packing.protection import SUBSTEPS, Priced, Prices, Protection
from scheduler.core.packing.rows import Ask, Free, NodeKinds

NO_STATE = -1
_KEPT_STATES = 1 << 16
_KEPT_STAMPS = 8  # numbers that are remembered by stamp, for each row
_KEPT_ASKS = 256
_FEW = 32  # states that are not worth looking for equal ones among them
_MANY = 64  # rows that are sooner numbered with all others, if these are fewer
_KEPT_MOVES = 4096
_FOLLOWED = 256  # changes that are told; after more all rows are compared


@dataclass(slots=True)
class PricedNodes:
    """What of protection concerns some nodes, its prices after so many `moves`, and those that there were before: they
    come again and again, with what is kept with them. `kinds`: of these nodes, where they are counted by idle devices,
    from none to all."""

    protection: Protection
    kinds: list[tuple[int, int]]
    now: Prices | None = None
    moves: int = -1
    before: dict[Priced, Prices] = field(default_factory=dict)


class NodeStates:
    """`of_row`, int64[nodes], and `numbers`, the same as a list: the number of each row's state. `states`: by number.
    `generation` rises when all are given anew. `moves`: so often a row got another."""

    __slots__ = (
        "_bucket",
        "_by_stamp",
        "_facts",
        "_following",
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
        self._following: deque[int] = deque()
        self._by_stamp: dict[int, int] = {}  # rows go back and forth as the search looks at what is promised, or not
        self.of_row: Ints = np.full(rows, NO_STATE)
        self.numbers: list[int] = [NO_STATE] * rows
        self.generation = self.moves = 0
        self._moved: list[int] = []  # the rows of the last of these moves
        # Of each state, where there is a protection: kind, idle devices, CPUs and memory; where it is counted among
        # nodes by kind and idle devices; and the work it can still take.
        self._facts: list[tuple[int, int, int, int]] = []
        self._bucket: list[int] = []
        self._work: list[int] = []
        # Of all rows together.
        self._nodes_by_idle: list[float] = [0.0] * (len(kinds.models) * (max_devices + 1))
        self._to_come: list[int] = [0] * len(kinds.models)
        self._priced: dict[bytes, PricedNodes] = {}  # by the kinds of nodes
        self._priced_for: dict[Ask, PricedNodes] = {}

    @property
    def count(self) -> int:
        """Numbers are below it."""
        return len(self.states)

    def refresh(self, free: Free) -> None:
        """Number the rows that have changed."""
        changed = self._changed(free)
        if not changed:
            return
        if len(self.states) + len(changed) > max(_KEPT_STATES, 2 * len(self.numbers)):
            self._forget()
            changed = range(len(self.numbers))
        if len(changed) > _MANY and len(changed) > len(self.numbers) // 2:
            self._refresh_all(free)
            return
        rows, by_stamp, numbers, moved = len(self.numbers), self._by_stamp, self.numbers, self._moved
        if len(by_stamp) > _KEPT_STAMPS * rows:
            by_stamp.clear()
        if len(moved) > _KEPT_MOVES:
            del moved[: _KEPT_MOVES // 2]
        moves = len(moved)
        stamp_of = free.stamps.item
        for row in changed:
            stamp = self._stamps[row] = stamp_of(row)
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

    def _refresh_all(self, free: Free) -> None:
        """Number all rows, as of nodes that were not numbered yet: of most rows at once, what columns say as lists is
        had in a third of the time. Who asks what moved is told that all did."""
        rising = np.sort(free.milli, axis=1).tolist()
        beside = zip(self._kind, free.cpus_milli.tolist(), free.memory_bytes.tolist(), rising, strict=True)
        self._stamps[:] = free.stamps
        states: list[State] = [(kind, cpus, memory, *left) for kind, cpus, memory, left in beside]
        for state in dict.fromkeys(states):
            if state not in self._number_of:
                self._met(state)
        self.numbers[:] = numbers = [self._number_of[state] for state in states]
        self.of_row[:] = numbers
        self._moved.clear()
        self.moves += len(numbers)
        if self._protection is not None:
            self._nodes_by_idle = [0.0] * len(self._nodes_by_idle)
            self._to_come = [0] * len(self._to_come)
            for kind, number in zip(self._kind, numbers, strict=True):
                self._move(kind, NO_STATE, number)

    def _changed(self, free: Free) -> Sequence[int]:
        """Among these are all rows whose stamps have changed."""
        following = self._following
        if free.followed is following and len(following) < _FOLLOWED:
            changed = list(following)
            following.clear()
            return changed
        self._following = free.followed = deque(maxlen=_FOLLOWED)
        differ: list[int] = (self._stamps != free.stamps).nonzero()[0].tolist()
        return differ

    def moved_since(self, moves: int) -> Sequence[int] | None:
        """The rows that got another number since there were so many moves, some perhaps more than once; None where that
        is not known any more."""
        since = self.moves - moves
        if since > len(self._moved):
            return None
        return self._moved[len(self._moved) - since :]

    def _number(self, free: Free, row: int) -> int:
        """That of the row's state."""
        left: list[int] = free.milli[row].tolist()
        left.sort()
        state = (self._kind[row], free.cpus_milli.item(row), free.memory_bytes.item(row), *left)
        number = self._number_of.get(state)
        return self._met(state) if number is None else number

    def _met(self, state: State) -> int:
        """The number that is given to a state met for the first time."""
        number = self._number_of[state] = len(self.states)
        self.states.append(state)
        if self._protection is not None:
            kind, cpus_milli, memory_bytes, *left = state
            idle = left.count(WHOLE_DEVICE_MILLI)
            self._facts.append((kind, idle, cpus_milli, memory_bytes))
            self._bucket.append(kind * (len(left) + 1) + idle)
            self._work.append(self._protection.to_come(left, cpus_milli, memory_bytes))
        return number

    def _forget(self) -> None:
        self._number_of.clear()
        self.states.clear()
        self._by_stamp.clear()
        self._facts.clear()
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

    def priced(self, ask: Ask) -> PricedNodes:
        """For the nodes that serve the ask."""
        priced = self._priced_for.get(ask)
        if priced is None:
            if len(self._priced_for) >= _KEPT_ASKS:
                self._priced_for.clear()
            priced = self._priced_for[ask] = self._priced_on(self._kinds.kind[ask.rows])
        return priced

    def prices(self, priced: PricedNodes) -> Prices:
        """As the nodes are now; the same object as long as none of its prices has changed."""
        if priced.moves != self.moves or priced.now is None:
            priced.moves = self.moves
            priced.now = priced.protection.prices(self._nodes_by_idle, self._to_come, priced.before)
        return priced.now

    def any_with(self, priced: PricedNodes, devices: int) -> bool:
        """Whether any node of these kinds has so many idle devices."""
        for none, beyond in priced.kinds:  # noqa: SIM110 - a generator takes twice as long
            if any(self._nodes_by_idle[none + devices : beyond]):
                return True
        return False

    def nothing_scarce(self, priced: PricedNodes, state: int) -> bool:
        """Whether a node in this state has nothing to protect, whatever the prices are: they need not be asked for."""
        protection = priced.protection
        return protection.of_gangs_alone and self._facts[state][1] < protection.smallest_gang

    def _priced_on(self, kind: Ints) -> PricedNodes:
        assert self._protection is not None
        kinds = np.zeros(len(self._to_come), np.bool_)
        kinds[kind] = True
        key = kinds.tobytes()
        if key not in self._priced:
            if len(self._priced) >= _KEPT_ASKS:
                self._priced.clear()
            width = len(self._nodes_by_idle) // len(kinds)
            counted = [(each * width, (each + 1) * width) for each in kinds.nonzero()[0].tolist()]
            self._priced[key] = PricedNodes(self._protection.on(kinds), counted)
        return self._priced[key]

    def toll(self, priced: PricedNodes, ask: Ask, state: int, opened: int) -> int:
        """As tolls(), of one state."""
        return priced.protection.toll(self.prices(priced), ask, self._facts[state], opened) * SUBSTEPS

    def tolls(self, ask: Ask, states: Ints, opened: int) -> Ints | int:
        """What protection takes off the score of each of these states, int64[states] in half steps, where placing a
        worker of the ask leaves `opened` idle devices fewer. 0 for all where nothing has a price."""
        priced = self.priced(ask)
        protection, prices = priced.protection, self.prices(priced)
        if not prices.slots and not (prices.any_kind and ask.milli):
            return 0
        each = distinct(states)[0] if len(states) > _FEW else states
        facts = np.array([self._facts[state] for state in each.tolist()], np.int64).reshape(-1, 4).T
        tolls: Ints = np.zeros(len(each), np.int64)
        if prices.any_kind and ask.milli:
            tolls += protection.kind_tolls(prices, ask).take(facts[0])
        if prices.slots:
            tolls += protection.gang_tolls(prices, ask, facts, opened)
        tolls *= SUBSTEPS
        return tolls if each is states else tolls.take(each.searchsorted(states))
