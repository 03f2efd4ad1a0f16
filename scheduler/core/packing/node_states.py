"""Which state each node is in, by number, and what protection has to know of all of them together.

A node's state is its kind and what is left of its CPUs, its memory and its devices, whichever device that is. Nodes
come through the same states again and again; whatever depends on a state alone is worked out once a number. A row is
looked at again only when its stamp has changed: while it is the same columns that are asked about, as nearly always,
they say which rows these are.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
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
_KEPT_ASKS = 256
_FEW = 32  # states that are not worth looking for equal ones among them
_MANY = 64  # rows that are sooner numbered with all others, if these are fewer
_KEPT_MOVES = 4096
_FOLLOWED = 256  # changes that are told; after more all rows are compared


@dataclass(slots=True)
class PricedNodes:
    """What of protection concerns some nodes, its prices after so many `moves`, and those that there were before: they
    come again and again, with what is kept with them. `kinds`: of these nodes, where they are counted by idle devices,
    from none to all. `scarce_from`: a node with fewer idle devices has nothing to protect, whatever the prices are."""

    protection: Protection
    kinds: list[tuple[int, int]]
    scarce_from: int
    now: Prices | None = None
    moves: int = -1
    before: dict[Priced, Prices] = field(default_factory=dict)


class NodeStates:
    """`of_row`, int64[nodes], and `numbers`, the same as a list: the number of each row's state. By number: `states`,
    whose devices have nothing left where they are not there or over-promised, and, where there is a protection, `idle`,
    how many devices are. `generation` rises when all are given anew. `moves`: so often a row got another."""

    __slots__ = (
        "_counted",
        "_following",
        "_kind",
        "_kinds",
        "_most_states",
        "_moved",
        "_moves_of",
        "_nodes_by_idle",
        "_number_of",
        "_priced",
        "_priced_for",
        "_protection",
        "_stamps",
        "_to_come",
        "generation",
        "idle",
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
        self._most_states = max(_KEPT_STATES, 2 * rows)
        self.states: list[State] = []
        self._stamps: Ints = np.full(rows, np.iinfo(np.int64).min)
        self._following: deque[int] = deque()
        self.of_row: Ints = np.full(rows, NO_STATE)
        self.numbers: list[int] = [NO_STATE] * rows
        self.generation = self.moves = 0
        # Of each kind, since an ask is served by few of them: how many moves there were, and the rows of the last.
        self._moves_of: list[int] = [0] * len(kinds.models)
        self._moved: list[list[int]] = [[] for _ in kinds.models]
        # Of each state, where there is a protection: where it is counted among nodes by kind and idle devices, and the
        # work it can still take.
        self.idle: list[int] = []
        self._counted: list[tuple[int, int]] = []
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
        following = self._following
        changed: Collection[int]
        if free.followed is following and len(following) < _FOLLOWED:
            if not following:
                return
            changed = set(following)  # a gang's rows are told once a device
            following.clear()
        else:
            self._following = free.followed = deque(maxlen=_FOLLOWED)
            changed = (self._stamps != free.stamps).nonzero()[0].tolist()
        if len(self.states) + len(changed) > self._most_states:
            self._forget()
            changed = range(len(self.numbers))
        if len(changed) > _MANY and len(changed) > len(self.numbers) // 2:
            self._refresh_all(free)
            return
        stamps, kinds, numbers, number_of = self._stamps, self._kind, self.numbers, self._number_of
        columns, stamp_of = free.milli, free.stamps.item
        cpus_of, memory_of = free.cpus_milli.item, free.memory_bytes.item
        for row in changed:
            stamps[row] = stamp_of(row)
            left: list[int] = columns[row].tolist()
            left.sort()
            state = (kinds[row], cpus_of(row), memory_of(row), *left)
            number = number_of.get(state)
            if number is None:
                number = self._met(state)
            if number != numbers[row]:
                self._move(row, kinds[row], number)

    def _refresh_all(self, free: Free) -> None:
        """Number all rows, as of nodes that were not numbered yet: of most rows at once, what columns say as lists is
        had in a third of the time. Who asks what moved is told that it is not known."""
        rising = np.sort(free.milli, axis=1).tolist()
        beside = zip(self._kind, free.cpus_milli.tolist(), free.memory_bytes.tolist(), rising, strict=True)
        self._stamps[:] = free.stamps
        states: list[State] = [(kind, cpus, memory, *left) for kind, cpus, memory, left in beside]
        for state in dict.fromkeys(states):
            if state not in self._number_of:
                self._met(state)
        self.numbers[:] = numbers = [self._number_of[state] for state in states]
        self.of_row[:] = numbers
        self.moves += 1
        self._moves_of = [moves + 1 for moves in self._moves_of]
        self._moved = [[] for _ in self._moved]
        if self._protection is not None:
            self._nodes_by_idle = [0.0] * len(self._nodes_by_idle)
            self._to_come = [0] * len(self._to_come)
            for kind, number in zip(self._kind, numbers, strict=True):
                bucket, work = self._counted[number]
                self._nodes_by_idle[bucket] += 1
                self._to_come[kind] += work

    def moved_since(self, kinds: Sequence[int], seen: list[int]) -> list[int] | None:
        """The rows of these kinds that got another number since there were so many moves of each of them, some perhaps
        more than once; None where that is not known any more. `seen` becomes how many there are now."""
        moved: list[int] | None = []
        for at, kind in enumerate(kinds):
            since = self._moves_of[kind] - seen[at]
            if since:
                seen[at] += since
                rows = self._moved[kind]
                if since > len(rows):
                    moved = None
                elif moved is not None:
                    moved += rows[-since:]
        return moved

    def _move(self, row: int, kind: int, new: int) -> None:
        """The row, of that kind, comes into that state."""
        old = self.numbers[row]
        self.numbers[row] = self.of_row[row] = new
        self.moves += 1
        self._moves_of[kind] += 1
        moved = self._moved[kind]
        moved.append(row)
        if len(moved) > _KEPT_MOVES:
            del moved[: _KEPT_MOVES // 2]
        if self._protection is not None:
            bucket, work = self._counted[new]
            self._nodes_by_idle[bucket] += 1
            if old != NO_STATE:
                bucket, less = self._counted[old]
                self._nodes_by_idle[bucket] -= 1
                work -= less
            self._to_come[kind] += work

    def _met(self, state: State) -> int:
        """The number that is given to a state met for the first time."""
        number = self._number_of[state] = len(self.states)
        kind, cpus_milli, memory_bytes, *left = state
        if left and left[0] < 0:
            state = (kind, cpus_milli, memory_bytes, *[max(milli, 0) for milli in left])
        self.states.append(state)
        if self._protection is not None:
            idle = left.count(WHOLE_DEVICE_MILLI)
            self.idle.append(idle)
            to_come = self._protection.to_come(left, cpus_milli, memory_bytes)
            self._counted.append((kind * (len(left) + 1) + idle, to_come))
        return number

    def _forget(self) -> None:
        self._number_of.clear()
        self.states.clear()
        self.idle.clear()
        self._counted.clear()
        self.of_row.fill(NO_STATE)
        self.numbers[:] = [NO_STATE] * len(self.numbers)
        self._nodes_by_idle = [0.0] * len(self._nodes_by_idle)
        self._to_come = [0] * len(self._to_come)
        self._priced.clear()
        self._priced_for.clear()
        self.generation += 1

    # ---- with protection only --------------------------------------------------------------------------------------

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
            protection = self._protection.on(kinds)
            scarce_from = protection.smallest_gang if protection.of_gangs_alone else 0
            self._priced[key] = PricedNodes(protection, counted, scarce_from)
        return self._priced[key]

    def toll(self, priced: PricedNodes, ask: Ask, state: int, opened: int) -> int:
        """As tolls(), of one state."""
        return priced.protection.toll(self.prices(priced), ask, self._facts(state), opened) * SUBSTEPS

    def tolls(self, ask: Ask, states: Ints, opened: int) -> Ints | int:
        """What protection takes off the score of each of these states, int64[states] in half steps, where placing a
        worker of the ask leaves `opened` idle devices fewer. 0 for all where nothing has a price."""
        priced = self.priced(ask)
        protection, prices = priced.protection, self.prices(priced)
        if not prices.slots and not (prices.any_kind and ask.milli):
            return 0
        each = distinct(states)[0] if len(states) > _FEW else states
        facts = np.array([self._facts(state) for state in each.tolist()], np.int64).reshape(-1, 4).T
        tolls: Ints = np.zeros(len(each), np.int64)
        if prices.any_kind and ask.milli:
            tolls += protection.kind_tolls(prices, ask).take(facts[0])
        if prices.slots:
            tolls += protection.gang_tolls(prices, ask, facts, opened)
        tolls *= SUBSTEPS
        return tolls if each is states else tolls.take(each.searchsorted(states))

    def _facts(self, state: int) -> tuple[int, int, int, int]:
        """Its kind, idle devices, CPUs and memory."""
        kind, cpus_milli, memory_bytes = self.states[state][:3]
        return kind, self.idle[state], cpus_milli, memory_bytes
