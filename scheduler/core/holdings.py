"""What running jobs hold, and when it comes free: the running part of the queue turned into columns once a pass.

`Holdings` answers two questions that need every running job at once, without a loop over them: what would be free if
these jobs were gone (preemption), and what will be free at a time (`Timeline`, for reservations).

Times are epoch seconds; infinity stands for "no limit".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.core.decisions import RunningJob
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.free_columns import Claim, FreeColumns
from scheduler.core.node_columns import ABSENT, Bools, Ints, NodeColumns
from scheduler.core.placement import Fit, Pools, fits, place

Floats = npt.NDArray[np.float64]


class Holdings:
    """Slices and workers of all running jobs, with the index of their job in `jobs` beside them."""

    __slots__ = ("claim", "jobs", "leaves_s", "slice_job", "worker_job")

    def __init__(self, nodes: NodeColumns, running: Sequence[RunningJob], *, now_s: float) -> None:
        self.jobs = running
        slices: list[int] = []  # four numbers a slice, three a worker: flat lists become arrays fastest
        workers: list[int] = []
        row_of = nodes.row_of
        for index, job in enumerate(running):
            for placement in job.placements:
                row = row_of.get(placement.node)
                if row is None:
                    continue
                workers += (index, row, placement.cpus_milli, placement.memory_bytes)
                milli = placement.share_milli or WHOLE_DEVICE_MILLI
                for device in placement.devices:
                    slices += (index, row, device, milli)
        by_slice = np.array(slices, np.int64).reshape(-1, 4)
        by_slice = by_slice[by_slice[:, 2] < nodes.max_devices]
        by_slice = by_slice[nodes.device_model[by_slice[:, 1], by_slice[:, 2]] != ABSENT]
        by_worker = np.array(workers, np.int64).reshape(-1, 4)
        self.slice_job: Ints = by_slice[:, 0]
        self.worker_job: Ints = by_worker[:, 0]
        self.claim = Claim(by_slice[:, 1], by_slice[:, 2], by_slice[:, 3], *by_worker[:, 1:].T)
        self.leaves_s: Floats = np.fromiter((_leaves_s(job, now_s) for job in running), np.float64, len(running))

    def of(self, which: Bools) -> Claim:
        """What the jobs with True in `which` (bool[jobs]) hold together."""
        slices, workers = which[self.slice_job], which[self.worker_job]
        held = self.claim
        return Claim(
            held.rows[slices],
            held.devices[slices],
            held.milli[slices],
            held.worker_rows[workers],
            held.cpus_milli[workers],
            held.memory_bytes[workers],
        )

    def standing_on(self, nodes: Bools) -> Bools:
        """bool[jobs]: those with a worker on any of these nodes."""
        standing = np.zeros(len(self.jobs), np.bool_)
        standing[self.worker_job[nodes[self.claim.worker_rows]]] = True
        return standing


def _leaves_s(job: RunningJob, now_s: float) -> float:
    """A job that is stopping, or past its limit, is on its way out: what it holds is coming."""
    if job.stopping:
        return now_s
    return math.inf if job.ends_by_s is None else max(now_s, job.ends_by_s)


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

    __slots__ = ("_now_s", "_releases", "base", "holdings")

    def __init__(self, free: FreeColumns, holdings: Holdings, *, now_s: float) -> None:
        self.base = free.copy()
        self.holdings = holdings
        self._now_s = now_s
        self._releases: list[tuple[float, Claim]] = []

    def occupy(self, claim: Claim, *, until_s: float) -> None:
        """From now to `until_s` this is taken or promised."""
        self.base.take(claim)
        self._releases.append((until_s, claim))

    def evict(self, which: Bools) -> None:
        """These running jobs (bool[jobs]) are asked to leave now."""
        self.holdings.leaves_s[which] = self._now_s

    @property
    def something_leaves_now(self) -> bool:
        return bool((self.holdings.leaves_s <= self._now_s).any())

    def at(self, time_s: float) -> FreeColumns:
        """What is free at that time, promises kept."""
        free = self.base.copy()
        free.give(self.holdings.of(self.holdings.leaves_s <= time_s))
        for until_s, claim in self._releases:
            if until_s <= time_s:
                free.give(claim)
        return free

    def first_slot(self, pools: Pools, alternatives: Sequence[Demand], workers: int) -> Slot | None:
        """When that many workers fit first, at the soonest now; at infinity where it takes the end of a job without a
        limit; None where even that does not help."""
        ends = {until_s for until_s, _ in self._releases} | set(np.unique(self.holdings.leaves_s).tolist())
        times = sorted({self._now_s, math.inf} | {end for end in ends if end > self._now_s})
        low, high = 0, len(times) - 1
        if not fits(pools, self.at(times[high]), alternatives, workers):
            return None
        while low < high:
            middle = (low + high) // 2
            if fits(pools, self.at(times[middle]), alternatives, workers):
                high = middle
            else:
                low = middle + 1
        free = self.at(times[low])
        fit = place(pools, free, alternatives, wanted=workers, at_least=workers)
        return None if fit is None else Slot(times[low], free, fit)
