"""What kinds of work the cluster typically sees, and how often each: what a packing policy keeps room for.

Units: CPUs and parts of a device in thousandths, memory in bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand

_ROUNDING = 1e-12
_FORGOTTEN = 1e-3  # a count below this is dropped from a history


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of worker: `devices` devices with `gpu_milli` of each (1000: whole devices; 0 and 0: CPUs only).

    `models` are the acceptable device models; None means any.
    """

    cpus_milli: int
    devices: int = 0
    gpu_milli: int = 0
    models: frozenset[str] | None = None
    memory_bytes: int = 0

    def __post_init__(self) -> None:
        assert min(self.cpus_milli, self.memory_bytes) >= 0, self
        assert self.devices >= 0, self
        assert 0 <= self.gpu_milli <= WHOLE_DEVICE_MILLI, self
        assert bool(self.devices) == bool(self.gpu_milli), self
        assert self.gpu_milli in (0, WHOLE_DEVICE_MILLI) or self.devices == 1, self

    @staticmethod
    def of(demand: Demand) -> Shape:
        """What of a demand counts here. A vendor alone is not looked at: a pool of one vendor is mostly one cluster."""
        models = None if demand.model is None else frozenset((demand.model,))
        if demand.share_milli:
            return Shape(demand.cpus_milli, 1, demand.share_milli, models, demand.memory_bytes)
        milli = WHOLE_DEVICE_MILLI if demand.devices else 0
        return Shape(demand.cpus_milli, demand.devices, milli, models, demand.memory_bytes)

    @property
    def milli(self) -> int:
        """All it asks of devices."""
        return self.devices * self.gpu_milli

    def accepts(self, models: frozenset[str]) -> bool:
        """Whether a node with devices of these models may serve it."""
        return self.models is None or not self.models.isdisjoint(models)

    def order(self) -> tuple[int, int, int, tuple[str, ...], int]:
        """A total order, which breaks ties between equally frequent shapes; any model comes first."""
        return (
            self.cpus_milli,
            self.gpu_milli,
            self.devices,
            () if self.models is None else tuple(sorted(self.models)),
            self.memory_bytes,
        )


@dataclass(frozen=True, slots=True)
class TypicalShape:
    """A shape, how often it was seen, and its part of all typical work, 0..1."""

    shape: Shape
    count: float
    weight: float


@dataclass(frozen=True, slots=True)
class TypicalShapes:
    """Shapes, most frequent first, with weights that add up to 1. Empty where nothing was seen yet."""

    shapes: tuple[TypicalShape, ...] = ()

    @staticmethod
    def of_counts(counts: Mapping[Shape, float]) -> TypicalShapes:
        """Any order of the mapping gives the same."""
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0].order()))
        total = math.fsum(counts.values())
        return TypicalShapes(tuple(TypicalShape(shape, count, count / total) for shape, count in ranked if count > 0))

    @staticmethod
    def of(shapes: Iterable[Shape]) -> TypicalShapes:
        """Each shape counts once."""
        return TypicalShapes.of_counts(Counter(shapes))

    @staticmethod
    def of_demands(demands: Iterable[Demand]) -> TypicalShapes:
        """Each demand counts once: give a gang's demand as often as it has workers."""
        return TypicalShapes.of(map(Shape.of, demands))

    def covering(self, part: float) -> TypicalShapes:
        """The most frequent of them, as many as it takes to cover that part, renormalised."""
        taken: dict[Shape, float] = {}
        covered = 0.0
        for typical in self.shapes:
            if covered >= part - _ROUNDING:
                break
            taken[typical.shape] = typical.count
            covered += typical.weight
        return TypicalShapes.of_counts(taken)

    def without_memory(self) -> TypicalShapes:
        """Those that differ in memory alone become one."""
        counts: dict[Shape, float] = {}
        for each in self.shapes:
            shape = replace(each.shape, memory_bytes=0)
            counts[shape] = counts.get(shape, 0.0) + each.count
        return TypicalShapes.of_counts(counts)

    def wanting_devices(self) -> TypicalShapes:
        """Without those that ask for no device, renormalised."""
        return TypicalShapes.of_counts({each.shape: each.count for each in self.shapes if each.shape.devices})


@dataclass(slots=True)
class ShapeHistory:
    """Counts of shapes that fade: one that was seen `half_life_s` ago counts half. For live use.

    Times must not decrease by much: an older one than the last counts as if it were the last.
    """

    half_life_s: float
    _counts: dict[Shape, float] = field(default_factory=dict)
    _at_s: float | None = None

    def __post_init__(self) -> None:
        assert self.half_life_s > 0, self.half_life_s

    def saw(self, shape: Shape, *, now_s: float, workers: int = 1) -> None:
        self._fade(now_s)
        self._counts[shape] = self._counts.get(shape, 0.0) + workers

    def counts(self, *, now_s: float) -> Mapping[Shape, float]:
        self._fade(now_s)
        return dict(self._counts)

    def typical(self, *, now_s: float) -> TypicalShapes:
        return TypicalShapes.of_counts(self.counts(now_s=now_s))

    def _fade(self, now_s: float) -> None:
        if self._at_s is not None and now_s > self._at_s:
            left = 0.5 ** ((now_s - self._at_s) / self.half_life_s)
            faded = {shape: count * left for shape, count in self._counts.items()}
            self._counts = {shape: count for shape, count in faded.items() if count >= _FORGOTTEN}
        self._at_s = now_s if self._at_s is None else max(self._at_s, now_s)
