"""What is promised to jobs that wait, and what that leaves for the others.

A promise is the gang's planned start and `after`: what will be free at that time once the gang stands there. A job
that is over by then may use anything that is free now; any other may use only what is free both now and after. That is
EASY's rule of "extra nodes" (Lifka 1995), said per device, CPU and byte: no start made by it can delay the promise.

A promise to a job whose victims are on their way out, or whose devices are about to come free, starts now: nothing is
over by then. Advance reservations keep whole nodes, from all jobs but those that name them (`reserved_nodes.py`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from scheduler.core.arrays import Bools, Ints, distinct
from scheduler.core.claims import Claim
from scheduler.core.first_for_nodes import FreeOnNodes
from scheduler.core.first_for_one import FreeOnOne
from scheduler.core.free_columns import FreeColumns
from scheduler.core.reserved_nodes import NOTHING_RESERVED, ReservedNodes, any_row

_FEW = 8  # so many rows, one after the other in lists, cost what columns do


class FreeThen(Protocol):
    """What is free at some time: columns, or what they can be made of."""

    def on(self, rows: Ints) -> FreeColumns:
        """Columns of these rows alone, in this order."""
        ...


class Promise:
    """`fit_claim` is kept for the job from `start_s` on, out of `free_then`: what there is then without it.

    `start_s` is infinite where no time limit bounds the wait, and -inf where the promise holds against every job.
    It has a say on its nodes alone: `rows`, which rise. `after` is of these rows, by position, and changes as later
    jobs start beside it.
    """

    __slots__ = ("_place_of", "after", "job_id", "rows", "start_s")

    def __init__(self, job_id: str, start_s: float, free_then: FreeThen, fit_claim: Claim) -> None:
        self.job_id = job_id
        self.start_s = start_s
        self.rows, self.after = _beside(free_then, fit_claim)
        self._place_of = {row: place for place, row in enumerate(self.rows.tolist())}

    def take(self, claim: Claim) -> None:
        """Something that starts now will still be there then."""
        one = claim.one
        if one is not None:
            place = self._place_of.get(one.row)
            if place is not None:
                self.after.take_one(one, place)
        elif not self._place_of.keys().isdisjoint(claim.worker_rows.tolist()):
            self.after.take(_on(self.rows, claim))

    def place_of(self, row: int) -> int | None:
        """The position of that row; None where nothing is kept on it."""
        return self._place_of.get(row)

    def concerns(self, nodes: Bools) -> bool:
        """Whether it keeps anything on these."""
        if len(self._place_of) == 1:
            return nodes.item(self.rows.item())
        return bool(np.count_nonzero(nodes.take(self.rows)))

    def kept_from(self, free: FreeColumns) -> FreeColumns:
        """What of that is free both now and after."""
        lowered = free.copy()
        _lower(lowered, free, self.rows, [self])
        return lowered


def _beside(free_then: FreeThen, claim: Claim) -> tuple[Ints, FreeColumns]:
    """The nodes that it stands on, which rise, and what of them is left beside it."""
    one = claim.one
    if one is not None:
        rows = np.array([one.row])
        if isinstance(free_then, FreeOnOne):
            return rows, free_then.beside(one)
        after = free_then.on(rows)
        after.take_one(one, 0)
        return rows, after
    if isinstance(free_then, FreeOnNodes):
        return free_then.rows, free_then.beside(claim)
    rows, _ = distinct(claim.worker_rows)
    after = free_then.on(rows)
    after.take(_on(rows, claim))
    return rows, after


def _on(rows: Ints, claim: Claim) -> Claim:
    """What of it is on these rows, which rise, and are said by position."""
    last = len(rows) - 1
    slices, workers = (np.minimum(rows.searchsorted(each), last) for each in (claim.rows, claim.worker_rows))
    inside = Claim(slices, claim.devices, claim.milli, workers, claim.cpus_milli, claim.memory_bytes)
    return inside.where(rows.take(slices) == claim.rows, rows.take(workers) == claim.worker_rows)


def _lower(lowered: FreeColumns, now: FreeColumns, rows: Ints, under: Sequence[Promise]) -> None:
    """On these rows `lowered` becomes what is free now and under those promises, where it is more."""
    if len(rows) <= _FEW:
        for row in rows.tolist():
            _lower_one(lowered, now, row, under)
        return
    milli, cpus_milli, memory_bytes = (x.take(rows, axis=0) for x in (now.milli, now.cpus_milli, now.memory_bytes))
    for promise in under:
        after, on = promise.after, promise.rows
        at = np.minimum(on.searchsorted(rows), len(on) - 1)
        here = (on.take(at) == rows).nonzero()[0]
        if len(here):
            these = at.take(here)
            milli[here] = np.minimum(milli.take(here, axis=0), after.milli.take(these, axis=0))
            cpus_milli[here] = np.minimum(cpus_milli.take(here), after.cpus_milli.take(these))
            memory_bytes[here] = np.minimum(memory_bytes.take(here), after.memory_bytes.take(these))
    less_milli = lowered.milli.take(rows, axis=0) - milli
    at, devices = np.nonzero(less_milli > 0)  # on reserved nodes there is less already
    lowered.take(
        Claim(
            rows.take(at),
            devices,
            less_milli[at, devices].astype(np.int64),
            rows,
            np.maximum(lowered.cpus_milli.take(rows) - cpus_milli, 0),
            np.maximum(lowered.memory_bytes.take(rows) - memory_bytes, 0),
        )
    )


def _lower_one(lowered: FreeColumns, now: FreeColumns, row: int, under: Sequence[Promise]) -> None:
    """The same on one row: in lists, as most promises are of few nodes, and mostly a single worker has started."""
    milli: list[int] = now.milli[row].tolist()
    cpus_milli, memory_bytes = now.cpus_milli.item(row), now.memory_bytes.item(row)
    for promise in under:
        place = promise.place_of(row)
        if place is not None:
            after = promise.after
            milli = list(map(min, milli, after.milli[place].tolist()))
            cpus_milli = min(cpus_milli, after.cpus_milli.item(place))
            memory_bytes = min(memory_bytes, after.memory_bytes.item(place))
    lowered.lower_row(row, milli, cpus_milli, memory_bytes)


def _insert(promise: Promise, starts_s: list[float], by_start: list[Promise]) -> None:
    """Behind those that start no later."""
    at = bisect_right(starts_s, promise.start_s)
    by_start.insert(at, promise)
    starts_s.insert(at, promise.start_s)


class _Open:
    """What is free now and under some promises."""

    __slots__ = ("free", "under")

    def __init__(self, free: FreeColumns, under: Sequence[Promise]) -> None:
        self.free = free
        self.under = under


class Promises:
    """All promises of a pass, and what is free under them.

    They are kept by start: a job that ends at a time heeds the first so many, of those that keep something on its
    nodes. What is free under some of them is made when first asked for, and then kept up to date.
    """

    __slots__ = ("_by_start", "_concerning", "_open", "_reserved", "_starts_s", "free", "promises")

    def __init__(self, free: FreeColumns, reserved: ReservedNodes = NOTHING_RESERVED) -> None:
        self.free = free
        self.promises: list[Promise] = []  # in the order they were made
        self._by_start: list[Promise] = []
        self._starts_s: list[float] = []
        # By the identity of nodes, which are kept: those of the promises that keep something there, and their starts.
        self._concerning: dict[int, tuple[Bools, list[float], list[Promise]]] = {}
        self._reserved = reserved
        self._open: dict[tuple[tuple[Promise, ...], tuple[str, ...]], _Open] = {}  # and by which reservations

    def add(self, promise: Promise) -> None:
        self.promises.append(promise)
        _insert(promise, self._starts_s, self._by_start)
        for nodes, starts_s, there in self._concerning.values():
            if promise.concerns(nodes):
                _insert(promise, starts_s, there)

    def heeded(self, end_s: float, nodes: Bools | None = None) -> tuple[Promise, ...]:
        """What a job that ends then, and may use those nodes, must not delay, in the order of their starts. `nodes` is
        not to be changed later."""
        if not self._by_start:
            return ()
        starts_s, there = self._starts_s, self._by_start
        if nodes is not None:
            known = self._concerning.get(id(nodes))
            if known is None:
                there = [promise for promise in there if promise.concerns(nodes)]
                known = self._concerning[id(nodes)] = (nodes, [promise.start_s for promise in there], there)
            _, starts_s, there = known
        return tuple(there) if math.isinf(end_s) else tuple(there[: bisect_left(starts_s, end_s)])

    def free_until(self, end_s: float, *, exempt: str | None = None, nodes: Bools | None = None) -> FreeColumns:
        """What a job that ends at `end_s`, and names the advance reservation `exempt` if any, may use now of those
        nodes (bool[nodes]; None: of all). Not to be changed by the caller; it changes when something starts."""
        heeded = self.heeded(end_s, nodes)
        if not heeded and not len(self._reserved):
            return self.free
        held = self._reserved.held_against(-math.inf, end_s, exempt=exempt)
        if not heeded and not held:
            return self.free
        key = (heeded, tuple([each.reservation.name for each in held]))
        opened = self._open.get(key)
        if opened is None:
            reserved = any_row(held)
            free = self.free.copy() if reserved is None else _less(self.free, reserved)
            if heeded:
                rows = heeded[0].rows
                if len(heeded) > 1:
                    rows, _ = distinct(np.concatenate([promise.rows for promise in heeded]))
                _lower(free, self.free, rows, heeded)
            opened = self._open[key] = _Open(free, heeded)
        return opened.free

    def start(self, claim: Claim, *, end_s: float) -> None:
        """Something starts now and ends at `end_s`."""
        one = claim.one
        if one is None:
            self.free.take(claim)
        else:
            self.free.take_one(one, one.row)
        if not self._by_start and not self._open:
            return
        delayed = self._by_start if math.isinf(end_s) else self._by_start[: bisect_left(self._starts_s, end_s)]
        for promise in delayed:
            promise.take(claim)
        rows = None
        for opened in self._open.values():
            if math.isinf(end_s) or not opened.under or opened.under[-1].start_s < end_s:
                opened.free.take(claim)
            elif one is not None:
                _lower_one(opened.free, self.free, one.row, opened.under)
            else:
                if rows is None:
                    rows = claim.worker_rows if len(claim.worker_rows) == 1 else distinct(claim.worker_rows)[0]
                _lower(opened.free, self.free, rows, opened.under)


def _less(free: FreeColumns, rows: Bools) -> FreeColumns:
    """The same with nothing free on these rows."""
    return free.replaced(
        np.where(rows[:, None], np.minimum(free.milli, 0), free.milli),
        np.where(rows, np.minimum(free.cpus_milli, 0), free.cpus_milli),
        np.where(rows, np.minimum(free.memory_bytes, 0), free.memory_bytes),
    )
