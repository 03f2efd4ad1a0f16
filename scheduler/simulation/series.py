"""Step functions of time, and their exact means: over all of it and over bins. A value is never sampled at a point,
since what lies between two points would not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Steps:
    """A step function that starts at 0 and changes by `deltas` at `times` (any order)."""

    __slots__ = ("_areas", "_times", "_values")

    def __init__(self, times: Sequence[float] | Floats, deltas: Sequence[float] | Floats) -> None:
        at = np.asarray(times, np.float64)
        order = np.argsort(at, kind="stable")
        self._times: Floats = np.concatenate(([0.0], at[order]))
        self._values: Floats = np.concatenate(([0.0], np.cumsum(np.asarray(deltas, np.float64)[order])))
        widths = np.diff(self._times)
        self._areas: Floats = np.concatenate(([0.0], np.cumsum(self._values[:-1] * widths)))

    def area(self, until_s: Floats) -> Floats:
        """The integral from 0 to each of these times."""
        at = np.searchsorted(self._times, until_s, side="right") - 1
        found: Floats = self._areas[at] + self._values[at] * (until_s - self._times[at])
        return found

    def mean(self, begin_s: float, end_s: float) -> float:
        """Over [begin, end); 0 where that is empty."""
        if end_s <= begin_s:
            return 0.0
        low, high = self.area(np.array([begin_s, end_s])).tolist()
        return float(high - low) / (end_s - begin_s)

    def means(self, edges_s: Floats) -> Floats:
        """In each bin between two edges."""
        found: Floats = np.diff(self.area(edges_s)) / np.diff(edges_s)
        return found

    def peak(self, end_s: float) -> float:
        """The largest value that lasts for any time before `end_s`."""
        lasts = np.diff(np.append(self._times, max(end_s, float(self._times[-1])))) > 0
        return float(self._values[lasts].max(initial=0.0))


def bin_edges(end_s: float, most: int) -> Floats:
    """At most so many bins of one width, at least a minute wide (the last one ends at `end_s`)."""
    if end_s <= 0:
        return np.array([0.0, 1.0])
    width_s = max(end_s / most, min(60.0, end_s))
    count = max(1, int(np.ceil(end_s / width_s - 1e-9)))
    return np.append(np.arange(count) * width_s, end_s)
