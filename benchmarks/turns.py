"""How are a window and a bare loop set against each other where the machine's speed moves? In turns of 50 ms.

A machine that others use too changes its speed by more than the 2% in question within a second, so loops of many
seconds one after the other do not compare. Here the window's own loop is stopped between two batches, and its clock
with it, while the bare loop does as many batches; then it goes on. Each clock sees its own work and nothing of the
other's; both see the same machine.

The bare loop multiplies the same operands, in orders drawn beforehand, in batches of the same size, each of which is
waited for, and leaves its products in as many outputs of its own as the window keeps for its checks, one after the
other. It has no checks, no draws, no bookkeeping and no end at which something is left unfinished. It never comes right
after a check, so what a check does to caches and threads is the window's to bear.

In some turns there is a third: the loop as it is usually written, over one batch's outputs again and again. Those stay
in a cache, so it is faster for another reason than doing without a protocol; it is told beside, and not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from benchmarks.arming import Rhythm
from benchmarks.protocol import Conditions, WindowOutcome
from benchmarks.work import Clock, Generator, Work

TURN_S = 0.05
# The cache-hot loop is there in one of so many turns.
HOT_EVERY = 6
ORDERS = 64
Unit = TypeVar("Unit")


@dataclass(frozen=True, slots=True)
class Stretch:
    """From one check of a window to the next, check included: what was counted there, and the bare loop's turns in it.

    Amounts are in batches. A window's last one reaches to the window's end: all of them together are the window.
    """

    counted: int
    window_s: float
    bare: int
    bare_s: float


@dataclass(frozen=True, slots=True)
class HotTurn:
    """The same number of batches, into as many outputs as the window has and into one batch's own."""

    bare_s: float
    hot_s: float


class StandingClock:
    """Another clock's time, less what was left out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._out_s = 0.0

    def now_s(self) -> float:
        return self._clock.now_s() - self._out_s

    def sleep_until(self, at_s: float) -> None:
        self._clock.sleep_until(at_s + self._out_s)

    def leave_out(self, seconds: float) -> None:
        self._out_s += seconds


class BareLoop:
    """Nothing but batches. Its outputs are those behind the window's: there must be room for `2 x rhythm.slots`."""

    def __init__(self, work: Work, clock: Clock, rng: Generator, rhythm: Rhythm) -> None:
        self._work = work
        self._clock = clock
        self._pieces = rhythm.pieces_per_batch
        self._slots = rhythm.slots
        self._orders = [work.draw(rng, self._pieces) for _ in range(ORDERS)]
        self._done = 0
        self.batch_s: list[float] = []

    def cold(self, batches: int) -> float:
        """Seconds of so many, over all outputs in turn."""
        first = begun = self._clock.now_s()
        for _ in range(batches):
            slot = self._slots + self._done * self._pieces % self._slots
            self._work.run_batch(self._orders[self._done % ORDERS], slot)
            self._work.settle()
            self._done += 1
            ended = self._clock.now_s()
            self.batch_s.append(ended - begun)
            begun = ended
        return begun - first

    def hot(self, batches: int) -> float:
        """Seconds of so many, over the first outputs alone, after one batch that brings them into the cache."""
        self._work.run_batch(self._orders[self._done % ORDERS], self._slots)
        self._work.settle()
        begun = self._clock.now_s()
        for place in range(batches):
            self._work.run_batch(self._orders[(self._done + place) % ORDERS], self._slots)
            self._work.settle()
        return self._clock.now_s() - begun


class Turns:
    """One window's. Hand `clock`, `stop`, `progress` and, as the watch, itself to `run_window`."""

    def __init__(self, clock: Clock, bare: BareLoop, rhythm: Rhythm, *, turn_s: float = TURN_S) -> None:
        self.clock = StandingClock(clock)
        self.hot_turns: list[HotTurn] = []
        self._real = clock
        self._bare = bare
        self._turn_s = turn_s
        # Where every batch is checked there is no other place for a turn.
        self._after_checks = rhythm.batches_per_check == 1
        self._checked = False
        self._began_s: float | None = None
        self._last_s = 0.0
        self._own = 0
        self._turns = 0
        self._bare_batches = 0
        self._bare_s = 0.0
        self._marks: list[tuple[float, int, float]] = []

    def begin(self) -> None:
        """The window has started."""
        self._began_s = self._last_s = self.clock.now_s()

    def end(self) -> Conditions:
        self._began_s = None
        return Conditions()

    def progress(self, share: float) -> None:
        """A check has passed."""
        if self._began_s is not None:
            self._checked = True
            self._marks.append((self.clock.now_s() - self._began_s, self._bare_batches, self._bare_s))

    def stop(self) -> bool:
        """Asked between two batches: the place for a turn. Never stops the window."""
        checked, self._checked = self._checked, False
        if self._began_s is None:
            return False
        self._own += 1  # asked once before each batch: so many will have been done when it is asked next
        if self.clock.now_s() - self._last_s < self._turn_s or (checked and not self._after_checks):
            return False
        begun = self._real.now_s()
        self._take(max(1, self._own - 1))
        self.clock.leave_out(self._real.now_s() - begun)
        self._own, self._last_s = 1, self.clock.now_s()
        return False

    def _take(self, batches: int) -> None:
        self._turns += 1
        is_hot = self._turns % HOT_EVERY == 0
        hot_s = self._bare.hot(batches) if is_hot and self._turns % (2 * HOT_EVERY) else 0.0
        bare_s = self._bare.cold(batches)
        if is_hot:
            self.hot_turns.append(HotTurn(bare_s, hot_s or self._bare.hot(batches)))
        self._bare_batches += batches
        self._bare_s += bare_s

    def stretches(self, outcome: WindowOutcome) -> tuple[Stretch, ...]:
        """The window cut at its checks; one without a turn of the bare loop goes to the one before it."""
        cuts = [(0.0, 0, 0.0)]
        for at_s, batches, bare_s in self._marks:
            if batches > cuts[-1][1] and at_s < outcome.window_s:
                cuts.append((at_s, batches, bare_s))
        if len(cuts) > 1:
            cuts.pop()
        cuts.append((outcome.window_s, self._bare_batches, self._bare_s))
        began = np.array([batch.began_us for batch in outcome.batches]) / 1e6
        return tuple(
            Stretch(int(((began >= a[0]) & (began < b[0])).sum()), b[0] - a[0], b[1] - a[1], b[2] - a[2])
            for a, b in pairwise(cuts)
        )


def ratio_of_rates(stretches: Sequence[Stretch]) -> float:
    """Counted batches a second of windows, over the bare loop's: of all stretches together, so that nothing is lost."""
    counted, window_s = sum(s.counted for s in stretches), sum(s.window_s for s in stretches)
    bare, bare_s = sum(s.bare for s in stretches), sum(s.bare_s for s in stretches)
    return (counted / window_s) / (bare / bare_s) if bare and bare_s > 0 and window_s > 0 else math.nan


def hot_over_bare(turns: Sequence[HotTurn]) -> float:
    """How much faster the loop over cache-hot outputs is."""
    hot_s = sum(t.hot_s for t in turns)
    return sum(t.bare_s for t in turns) / hot_s if hot_s > 0 else math.nan


def jackknife(of: Callable[[Sequence[Unit]], float], units: Sequence[Unit]) -> float:
    """Standard error of a ratio of sums: by what it becomes without each of the units (B. Efron, "The Jackknife, the
    Bootstrap and Other Resampling Plans", SIAM 1982, 3.1). Infinite for fewer than two."""
    n = len(units)
    if n < 2:
        return math.inf
    without = np.array([of([*units[:i], *units[i + 1 :]]) for i in range(n)])
    return float(math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


def faster_half(values: Sequence[float]) -> tuple[float, float]:
    """Mean of the faster half of durations, and its standard error (J. Tukey and D. McLaughlin, Sankhya A 25, 1963: the
    winsorized spread over what is left of the sample). What disturbs a duration makes it longer; what befalls fewer
    than half of them does not move this."""
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if n < 8:
        return (float(ordered.mean()), math.inf) if n else (math.nan, math.inf)
    kept = n - n // 2
    spread = float(np.minimum(ordered, ordered[kept - 1]).std(ddof=1))
    return float(ordered[:kept].mean()), spread / (kept / n * math.sqrt(n))
