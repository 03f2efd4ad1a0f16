"""What a node's state is worth to the work that is typically asked for: the value behind the default policy.

Devices are counted in devices' worth of typical work: a remainder counts as much as the best that can be cut from it
(`cutting_stock.py`). For each typical shape that would fit the node now, that worth is bounded by how much work the
node's CPUs and memory can feed, at the rate at which the shape and the rest of the mix use them: the more work the node
still takes, the more the mix counts, whose mean deviates with one over the root of its number. Half of the worth is
counted unbounded, since work that is light on CPUs may come as well.

Units: devices and CPUs in thousandths, memory in bytes; worth in devices.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import Ints, Milli
from scheduler.core.packing.cutting_stock import cut_prices
from scheduler.core.packing.rows import NodeKinds
from scheduler.core.packing.shapes import TypicalShapes

Floats = npt.NDArray[np.float64]

ONE = 1 << 20  # worth of one device in whole numbers, so that a sum does not depend on the order of devices
_COVERED = 1.0
_TOGETHER = 64  # states; more would leave the processor's nearest cache
_TINY = 1e-9
_UNBOUND = -1e30
_KEPT = 1 << 12  # weights of those that fit


class Worth:
    """For the shapes that ask for devices (there must be some) and nodes of these kinds."""

    __slots__ = (
        "_asked",
        "_by_milli",
        "_everywhere",
        "_levels",
        "_means",
        "_more",
        "_most_asked",
        "_most_beyond",
        "_reached",
        "_weights",
        "by_milli",
        "mean",
    )

    def __init__(self, shapes: TypicalShapes, kinds: NodeKinds) -> None:
        asking = shapes.wanting_devices()
        sizes: dict[int, float] = {}
        for each in asking.shapes:
            sizes[each.shape.gpu_milli] = sizes.get(each.shape.gpu_milli, 0.0) + each.count * each.shape.devices
        prices = cut_prices(sizes)
        self.by_milli: Ints = np.rint(prices.worth * ONE).astype(np.int64)
        taken = sum(each.count * each.shape.devices * prices.of_size[each.shape.gpu_milli] for each in asking.shapes)
        cpus = sum(each.count * each.shape.cpus_milli for each in asking.shapes)
        memory = sum(each.count * each.shape.memory_bytes for each in asking.shapes)
        # CPUs and memory that one device's worth of work takes
        self.mean: Floats = np.maximum(np.array([[cpus], [memory]]) / max(taken, _TINY), _TINY)

        self._by_milli: list[int] = self.by_milli.tolist()
        self._means: tuple[float, float] = (float(self.mean[0, 0]), float(self.mean[1, 0]))

        typical = asking.covering(_COVERED).shapes
        fed = np.array([(each.shape.cpus_milli, each.shape.memory_bytes) for each in typical], np.float64).T
        least = [each.shape.milli for each in typical]
        self._asked: Floats = np.concatenate((fed, [least]))
        self._most_asked: list[float] = self._asked.max(axis=1, initial=0.0).tolist()
        used = np.array(
            [prices.of_size[e.shape.gpu_milli] if e.shape.devices == 1 else e.shape.devices for e in typical]
        )
        self._more: Floats = np.where(used > 0, fed / np.where(used > 0, used, 1.0) - self.mean, _UNBOUND)
        self._most_beyond: list[float] = self._more.max(axis=1, initial=_UNBOUND).tolist()
        counts = np.array([each.count for each in typical], np.float64)
        accepts = [[each.shape.accepts(models) for each in typical] for models in kinds.models]
        weights = np.array(accepts, np.bool_).reshape(len(kinds.models), len(typical)) * counts
        weights *= 0.5 / np.maximum(weights.sum(axis=1, keepdims=True), _TINY)
        self._weights: Floats = weights
        self._everywhere: bool = len(weights) > 0 and bool((weights == weights[0]).all())
        self._levels: list[list[int]] = [sorted(set(asked)) for asked in self._asked.tolist()]
        self._reached: dict[tuple[int, int, int, int], Floats] = {}

    def of_one(self, state: Sequence[int]) -> float:
        """As of(), of a state alone: its kind, CPUs, memory, and what its devices have left (0 where none is). Most
        need no rates, and which shapes fit is soon looked up."""
        kind, cpus_milli, memory_bytes, *left = state
        by_milli = self._by_milli
        idle = sum([by_milli[milli] for milli in left]) / ONE
        cpus, memory = max(cpus_milli, 1), max(memory_bytes, 1)
        milli = left.count(WHOLE_DEVICE_MILLI) * WHOLE_DEVICE_MILLI or max(left, default=0)
        (cpus_mean, memory_mean), (most_cpus, most_memory) = self._means, self._most_beyond
        spread = 1.0 / math.sqrt(max(min(idle, cpus / cpus_mean, memory / memory_mean), 1.0))
        weights = self._weights_for(kind, cpus, memory, milli)
        # What feeds the greediest shape feeds all.
        if (
            cpus / max(most_cpus * spread + cpus_mean, _TINY) < idle
            or memory / max(most_memory * spread + memory_mean, _TINY) < idle
        ):
            rate: Floats = self._more * spread
            rate += self.mean
            np.maximum(rate, _TINY, out=rate)
            worth: Floats = np.minimum(cpus / rate[0], memory / rate[1])
            np.minimum(worth, idle, out=worth)
            worth += idle
            worth *= weights
        else:
            worth = weights * (idle + idle)
        return float(np.add.reduce(worth))

    def _weights_for(self, kind: int, cpus_milli: int, memory_bytes: int, milli: int) -> Floats:
        """Of each typical shape on such a node; 0 where it would not fit."""
        of_cpus, of_memory, of_milli = self._levels
        at_cpus, at_memory = bisect_right(of_cpus, cpus_milli), bisect_right(of_memory, memory_bytes)
        key = (kind, at_cpus, at_memory, bisect_right(of_milli, milli))
        weights = self._reached.get(key)
        if weights is None:
            if len(self._reached) >= _KEPT:
                self._reached.clear()
            fits = (np.array([[cpus_milli], [memory_bytes], [milli]]) >= self._asked).all(axis=0)
            weights = self._reached[key] = self._weights[kind] * fits
        return weights

    def of(self, kind: Ints, milli: Milli, cpus_milli: Ints, memory_bytes: Ints) -> Floats:
        """float64[states]. Equal states have equal worth, whichever others are asked for with them."""
        count = len(kind)
        idle = self.by_milli.take(milli).sum(axis=1) / ONE
        has = np.empty((3, count))  # CPUs, memory, and the largest remainder or all wholly idle devices
        np.maximum(cpus_milli, 1, out=has[0])  # so that nothing left still feeds work that takes nothing
        np.maximum(memory_bytes, 1, out=has[1])
        whole = (milli == WHOLE_DEVICE_MILLI).sum(axis=1)
        has[2] = np.where(whole, whole * WHOLE_DEVICE_MILLI, milli.max(axis=1, initial=0))
        if count <= _TOGETHER:
            return self._of(kind, idle, has)
        parts = [slice(start, start + _TOGETHER) for start in range(0, count, _TOGETHER)]
        return np.concatenate([self._of(kind[part], idle[part], has[:, part]) for part in parts])

    def _of(self, kind: Ints, idle: Floats, has: Floats) -> Floats:
        to_come = np.minimum(idle, (has[:2] / self.mean).min(axis=0))
        spread = (1.0 / np.sqrt(np.maximum(to_come, 1.0)))[:, None]
        # What one device's worth of work takes: the mix's mean, and what is left of a shape's deviation from it.
        rate: Floats = self._more[:, None] * spread
        rate += self.mean[:, :, None]
        np.maximum(rate, _TINY, out=rate)
        fed = np.divide(has[:2, :, None], rate, out=rate)
        worth: Floats = np.minimum(fed[0], fed[1])
        np.minimum(worth, idle[:, None], out=worth)
        worth += idle[:, None]
        if (has.min(axis=1, initial=math.inf) < self._most_asked).any():
            worth *= (has[:, :, None] >= self._asked[:, None]).all(axis=0)
        worth *= self._weights[0] if self._everywhere else self._weights.take(kind, axis=0)
        total: Floats = worth.sum(axis=1)
        return total
