"""Which state each node is in, by number, and what protection has to know of all of them together.

A node's state is its kind and what is left of its CPUs, its memory and its devices, whichever device that is. Nodes
come through the same states again and again; whatever depends on a state alone is worked out once a number. A row is
looked at again only when its stamp has changed.

Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Bools, Ints
from scheduler.core.packing.protection import SUBSTEPS, Prices, Protection
from scheduler.core.packing.rows import Ask, Free, NodeKinds

NO_STATE = -1
_KEPT_STATES = 1 << 16
_FEW = 32  # states that are not worth looking for equal ones among them


class NodeStates:
    """`of_row`, int64[nodes]: the number of each row's state. `count`: numbers are below it. `prices`: as the nodes are
    now; the same object as long as no price has changed. `generation` rises when all numbers are given anew."""

    __slots__ = (
        "_facts",
        "_kinds",
        "_nodes_by_idle",
        "_numbers",
        "_protection",
        "_stamps",
        "_to_come",
        "_work",
        "generation",
        "of_row",
        "prices",
    )

    def __init__(self, kinds: NodeKinds, protection: Protection | None, max_devices: int) -> None:
        rows = len(kinds.kind)
        self._kinds = kinds
        self._protection = protection
        self._numbers: dict[tuple[int, ...], int] = {}
        self._stamps: Ints = np.full(rows, np.iinfo(np.int64).min)
        self.of_row: Ints = np.full(rows, NO_STATE)
        self.generation = 0
        self.prices: Prices | None = None
        # Of each state, where there is a protection: kind, idle devices, CPUs, memory; and the work it can still take.
        self._facts: Ints = np.zeros((0, 4), np.int64)
        self._work: list[int] = []
        # Of all rows together.
        self._nodes_by_idle: Ints = np.zeros((len(kinds.models), max_devices + 1), np.int64)
        self._to_come: Ints = np.zeros(len(kinds.models), np.int64)

    @property
    def count(self) -> int:
        return len(self._numbers)

    def refresh(self, free: Free) -> None:
        """Number the rows that have changed."""
        changed = (self._stamps != free.stamps).nonzero()[0]
        if not len(changed):
            return
        if self.count + len(changed) > max(_KEPT_STATES, 2 * len(self.of_row)):
            self._forget()
            changed = np.arange(len(self.of_row))
        self._stamps[changed] = free.stamps[changed]
        kind, cpus_milli, memory_bytes, numbers = self._kinds.kind, free.cpus_milli, free.memory_bytes, self._numbers
        for row in changed.tolist():
            left: list[int] = free.milli[row].tolist()
            left.sort()
            state = (kind.item(row), cpus_milli.item(row), memory_bytes.item(row), *left)
            number = numbers.setdefault(state, len(numbers))
            if self._protection is not None:
                self._move(self.of_row.item(row), number, state)
            self.of_row[row] = number
        if self._protection is not None:
            self.prices = self._protection.prices(self._nodes_by_idle, self._to_come, self.prices)

    def _forget(self) -> None:
        self._numbers.clear()
        self._work.clear()
        self.of_row.fill(NO_STATE)
        self._nodes_by_idle.fill(0)
        self._to_come.fill(0)
        self.generation += 1

    # ---- with protection only --------------------------------------------------------------------------------------

    def _move(self, old: int, new: int, state: tuple[int, ...]) -> None:
        """One row leaves the old state for the new one, which may be met for the first time."""
        assert self._protection is not None
        if new == len(self._work):
            kind, cpus_milli, memory_bytes, *left = state
            if new == len(self._facts):
                self._facts = np.concatenate((self._facts, np.zeros((max(1024, new), 4), np.int64)))
            self._facts[new] = (kind, left.count(WHOLE_DEVICE_MILLI), cpus_milli, memory_bytes)
            self._work.append(self._protection.to_come(left, cpus_milli, memory_bytes))
        for number, sign in ((old, -1), (new, 1)):
            if number != NO_STATE:
                kind = self._facts.item(number, 0)
                self._nodes_by_idle[kind, self._facts.item(number, 1)] += sign
                self._to_come[kind] += sign * self._work[number]

    def tolls(self, ask: Ask, states: Ints, opened: int) -> Ints | int:
        """What protection takes off the score of each of these states, int64[states] in half steps, where placing a
        worker of the ask leaves `opened` idle devices fewer. 0 for all where nothing has a price."""
        protection, prices = self._protection, self.prices
        assert protection is not None
        assert prices is not None
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
