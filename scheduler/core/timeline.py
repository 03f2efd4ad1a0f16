"""When could a gang that does not fit now start, as far as the time limits of what runs tell?

Source: the shadow time of EASY backfilling (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; Mu'alem and
Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with
backfilling", IEEE TPDS 2001), kept per device rather than as a count of processors.

Times are epoch seconds; infinity stands for "never, as far as limits tell".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.demand import Demand
from scheduler.core.free_columns import Claim, FreeColumns
from scheduler.core.holdings import Floats, Holdings
from scheduler.core.node_columns import Bools
from scheduler.core.placement import Fit, Pools, fits, place


@dataclass(frozen=True, slots=True)
class _Releases:
    claim: Claim
    slice_until_s: Floats
    worker_until_s: Floats


@dataclass(frozen=True, slots=True)
class Slot:
    """The first time a gang fits: when, what is free then without it, and where it would stand."""

    at_s: float
    free: FreeColumns
    fit: Fit


class Timeline:
    """What is free from a time on, as far as time limits tell.

    `base` is what is free now less everything promised: it goes below zero where a promise is on a device that is
    still busy. So a promise counts from now on, though its job starts later: an estimate made here is never too early
    because of it, and adding time only ever adds capacity, which makes a binary search right.
    """

    __slots__ = ("_merged", "_now_s", "_releases", "base", "holdings")

    def __init__(self, free: FreeColumns, holdings: Holdings, *, now_s: float) -> None:
        self.base = free.copy()
        self.holdings = holdings
        self._now_s = now_s
        self._releases: list[tuple[float, Claim]] = []
        self._merged: _Releases | None = None

    def occupy(self, claim: Claim, *, until_s: float) -> None:
        """From now to `until_s` this is taken or promised."""
        self.base.take(claim)
        self._releases.append((until_s, claim))
        self._merged = None

    def evict(self, which: Bools) -> None:
        """These running jobs (bool[jobs]) are asked to leave now."""
        self.holdings.leaves_s[which] = self._now_s

    @property
    def something_leaves_now(self) -> bool:
        return bool((self.holdings.leaves_s <= self._now_s).any())

    def at(self, time_s: float) -> FreeColumns:
        """What is free at that time, promises kept."""
        return self._later(self.base, -math.inf, time_s)

    def first_slot(self, pools: Pools, alternatives: Sequence[Demand], workers: int) -> Slot | None:
        """When that many workers fit first, at the soonest now; at infinity where it takes the end of a job without a
        limit; None where even that does not help."""
        ends = np.array([until_s for until_s, _ in self._releases])
        times = np.sort(np.concatenate((self.holdings.leaves_s, ends, [self._now_s, math.inf])))
        before, before_s = self.base, -math.inf
        low, high = int(np.searchsorted(times, self._now_s, side="right")) - 1, len(times) - 1
        if not fits(pools, self.at(math.inf), alternatives, workers):
            return None
        while low < high:
            middle = (low + high) // 2
            free = self._later(before, before_s, times[middle])
            if fits(pools, free, alternatives, workers):
                high = middle
            else:
                low, before, before_s = middle + 1, free, times[middle]
        free = self._later(before, before_s, times[low])
        fit = place(pools, free, alternatives, wanted=workers, at_least=workers)
        return None if fit is None else Slot(float(times[low]), free, fit)

    def _later(self, before: FreeColumns, before_s: float, time_s: float) -> FreeColumns:
        """What is free at `time_s`, from what is free at the earlier `before_s`."""
        free = before.copy()
        leaves_s = self.holdings.leaves_s
        free.give(self.holdings.of((leaves_s > before_s) & (leaves_s <= time_s)))
        releases = self._all_releases()
        if releases is not None:
            slices, workers = releases.slice_until_s, releases.worker_until_s
            free.give(
                releases.claim.where(
                    (slices > before_s) & (slices <= time_s), (workers > before_s) & (workers <= time_s)
                )
            )
        return free

    def _all_releases(self) -> _Releases | None:
        if self._merged is None and self._releases:
            until_s = np.array([time_s for time_s, _ in self._releases])
            self._merged = _Releases(
                Claim.joined([claim for _, claim in self._releases]),
                np.repeat(until_s, [len(claim.rows) for _, claim in self._releases]),
                np.repeat(until_s, [len(claim.worker_rows) for _, claim in self._releases]),
            )
        return self._merged
