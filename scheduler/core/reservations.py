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

import numpy as np

from scheduler.core.arrays import Bools, Ints, distinct
from scheduler.core.free_columns import Claim, FreeColumns
from scheduler.core.reserved_nodes import NOTHING_RESERVED, ReservedNodes, any_row


class Promise:
    """`fit_claim` is kept for the job from `start_s` on, out of `free_then`: what there is then without it.

    `start_s` is infinite where no time limit bounds the wait, and -inf where the promise holds against every job.
    `after` is made when first asked for, and changed as later jobs start beside it.
    """

    __slots__ = ("_after", "_claims", "_free_then", "job_id", "start_s")

    def __init__(self, job_id: str, start_s: float, free_then: FreeColumns, fit_claim: Claim) -> None:
        self.job_id = job_id
        self.start_s = start_s
        self._free_then = free_then
        self._claims = [fit_claim]
        self._after: FreeColumns | None = None

    @property
    def after(self) -> FreeColumns:
        """What others may have at its start. Not to be changed by the caller."""
        if self._after is None:
            self._after = self._free_then.copy()
            self._after.take(Claim.joined(self._claims))
            self._claims.clear()
        return self._after

    def take(self, claim: Claim) -> None:
        """Something that starts now will still be there then."""
        if self._after is None:
            self._claims.append(claim)
        else:
            self._after.take(claim)


class _Open:
    """What is free now and under some promises: those of `under`; the `missing` ones are still to be looked at."""

    __slots__ = ("free", "missing", "under")

    def __init__(self, free: FreeColumns, under: list[Promise], missing: list[Promise]) -> None:
        self.free = free
        self.under = under
        self.missing = missing

    def brought_up(self) -> FreeColumns:
        for promise in self.missing:
            self.free = self.free.lesser(promise.after)
        self.under += self.missing
        self.missing.clear()
        return self.free

    def lower(self, now: FreeColumns, rows: Ints) -> None:
        """Look at these rows again: something that starts on them leaves less, but not under every promise."""
        milli, cpus_milli, memory_bytes = (x[rows] for x in (now.milli, now.cpus_milli, now.memory_bytes))
        for promise in self.under:
            after = promise.after
            milli = np.minimum(milli, after.milli[rows])
            cpus_milli = np.minimum(cpus_milli, after.cpus_milli[rows])
            memory_bytes = np.minimum(memory_bytes, after.memory_bytes[rows])
        less_milli = self.free.milli[rows] - milli
        at, devices = np.nonzero(less_milli > 0)  # on reserved nodes there is less already
        self.free.take(
            Claim(
                rows[at],
                devices,
                less_milli[at, devices].astype(np.int64),
                rows,
                np.maximum(self.free.cpus_milli[rows] - cpus_milli, 0),
                np.maximum(self.free.memory_bytes[rows] - memory_bytes, 0),
            )
        )


class Promises:
    """All promises of a pass, and what is free under them.

    They are kept by start: a job that ends at a time heeds the first so many. What is free under so many of them is
    made when first asked for, and then kept up to date.
    """

    __slots__ = ("_by_start", "_open", "_reserved", "_starts_s", "free", "promises")

    def __init__(self, free: FreeColumns, reserved: ReservedNodes = NOTHING_RESERVED) -> None:
        self.free = free
        self.promises: list[Promise] = []  # in the order they were made
        self._by_start: list[Promise] = []
        self._starts_s: list[float] = []
        self._reserved = reserved
        self._open: dict[tuple[int, tuple[str, ...]], _Open] = {}  # by how many promises, and which reservations

    def add(self, promise: Promise) -> None:
        at = bisect_right(self._starts_s, promise.start_s)
        self.promises.append(promise)
        self._by_start.insert(at, promise)
        self._starts_s.insert(at, promise.start_s)
        moved = {}
        for (heeded, names), opened in self._open.items():
            if heeded > at:
                opened.missing.append(promise)
            moved[heeded + (heeded > at), names] = opened
        self._open = moved

    def heeded(self, end_s: float) -> tuple[Promise, ...]:
        """What a job that ends then must not delay, in the order of their starts."""
        return tuple(self._by_start[: self._heeded(end_s)])

    def free_until(self, end_s: float, *, exempt: str | None = None) -> FreeColumns:
        """What a job that ends at `end_s`, and names the advance reservation `exempt` if any, may use now. Not to be
        changed by the caller; it changes when something starts."""
        heeded = self._heeded(end_s)
        if not heeded and not len(self._reserved):
            return self.free
        held = self._reserved.held_against(-math.inf, end_s, exempt=exempt)
        names = tuple(each.reservation.name for each in held)
        if not heeded and not names:
            return self.free
        opened = self._open.get((heeded, names))
        if opened is None:
            opened = self._open[heeded, names] = self._opened(heeded, names, any_row(held))
        return opened.brought_up()

    def start(self, claim: Claim, *, end_s: float) -> None:
        """Something starts now and ends at `end_s`."""
        self.free.take(claim)
        delayed = self._heeded(end_s)
        for promise in self._by_start[:delayed]:
            promise.take(claim)
        rows = None
        for (heeded, _), opened in self._open.items():
            if heeded <= delayed:
                opened.free.take(claim)
            else:
                if rows is None:
                    rows, _ = distinct(claim.worker_rows)
                opened.lower(self.free, rows)

    def _heeded(self, end_s: float) -> int:
        return len(self._starts_s) if math.isinf(end_s) else bisect_left(self._starts_s, end_s)

    def _opened(self, heeded: int, names: tuple[str, ...], reserved: Bools | None) -> _Open:
        """From what is open under the most of these promises already."""
        known = max((count for count, others in self._open if others == names and count < heeded), default=-1)
        if known >= 0:
            nearest = self._open[known, names]
            return _Open(nearest.free, nearest.under.copy(), nearest.missing + self._by_start[known:heeded])
        return _Open(self.free if reserved is None else _less(self.free, reserved), [], self._by_start[:heeded])


def _less(free: FreeColumns, rows: Bools) -> FreeColumns:
    """The same with nothing free on these rows."""
    return free.replaced(
        np.where(rows[:, None], np.minimum(free.milli, 0), free.milli),
        np.where(rows, np.minimum(free.cpus_milli, 0), free.cpus_milli),
        np.where(rows, np.minimum(free.memory_bytes, 0), free.memory_bytes),
    )
