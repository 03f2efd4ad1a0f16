"""Where do a job's entries stand among those of `held_entries.py`, and what are those of jobs that come?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

import numpy as np

from scheduler.core.arrays import Ints
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Placement

Span = tuple[int, int, int, int]
"""First slice, how many, first worker, how many."""
_what_a_worker_holds = attrgetter("node", "devices", "share_milli", "cpus_milli", "memory_bytes")


class Arriving:
    """Placements that come to stand, with their slots, and where their entries will be: after so many slices and
    workers."""

    __slots__ = ("_slices", "_workers", "placements", "slots")

    def __init__(self, slices: int, workers: int) -> None:
        self._slices = slices
        self._workers = workers
        self.slots: list[int] = []
        self.placements: list[Placement] = []

    def together(self, slot: int, placements: Sequence[Placement]) -> Span:
        """A span for all of them."""
        self.slots += [slot] * len(placements)
        self.placements += placements
        slices, workers = self._slices, self._workers
        self._slices += sum([len(placement.devices) for placement in placements])
        self._workers += len(placements)
        return slices, self._slices - slices, workers, len(placements)

    def entries(self, number_of: Callable[[str], int]) -> tuple[Ints, Ints]:
        """Slices and workers, in their order: int64[4, n] each. `number_of`: that of a node."""
        columns = zip(*map(_what_a_worker_holds, self.placements), strict=True)
        names, devices, shares, cpus_milli, memory_bytes = columns
        workers = np.array((self.slots, list(map(number_of, names)), cpus_milli, memory_bytes), np.int64)
        held = np.array([share or WHOLE_DEVICE_MILLI for share in shares], np.int64)
        each = np.array(list(map(len, devices)), np.int64)
        device = list(chain.from_iterable(devices))
        slices = np.empty((4, len(device)), np.int64)
        slices[0], slices[1] = workers[0].repeat(each), workers[1].repeat(each)
        slices[2], slices[3] = device, held.repeat(each)
        return slices, workers


def one_by_one(span: Sequence[int], placements: Sequence[Placement]) -> list[Span]:
    """A span for each of these placements, whose entries stand together."""
    at, _, among, _ = span
    apart: list[Span] = []
    for placement in placements:
        apart.append((at, len(placement.devices), among, 1))
        at, among = at + len(placement.devices), among + 1
    return apart
