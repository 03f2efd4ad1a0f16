"""How long does one call take, and how does that grow? One thread, the wall clock, every call on its own.

Python's cyclic collector is off while a call is timed and on between calls, so that a figure is of the call and not of
garbage that others left; the answer's provenance says so.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.protocol import quantile

T = TypeVar("T")

REFERENCE_SCORES = 1_250
REFERENCE_STEPS = 1_000


@dataclass(frozen=True, slots=True)
class Elapsed:
    """`wall_s` is what a caller waits. `cpu_s` is what the thread itself ran: less, where others share the core."""

    wall_s: float
    cpu_s: float

    def __add__(self, other: Elapsed) -> Elapsed:
        return Elapsed(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


@dataclass(frozen=True, slots=True)
class Samples:
    """Durations of single calls; at least one. Quantiles are of the wall clock unless they say otherwise."""

    of_calls: tuple[Elapsed, ...]

    @staticmethod
    def of(calls: Sequence[Elapsed]) -> Samples:
        assert calls, "nothing was timed"
        return Samples(tuple(calls))

    def __len__(self) -> int:
        return len(self.of_calls)

    @property
    def p50_s(self) -> float:
        return self.quantile_s(0.5)

    @property
    def p99_s(self) -> float:
        """Of fewer than some hundred samples this is near to the slowest."""
        return self.quantile_s(0.99)

    @property
    def worst_s(self) -> float:
        return max(call.wall_s for call in self.of_calls)

    def quantile_s(self, q: float, *, cpu: bool = False) -> float:
        found = quantile([call.cpu_s if cpu else call.wall_s for call in self.of_calls], q)
        assert found is not None
        return found

    def told(self) -> dict[str, float]:
        """Median, p99 and worst, and the first two of the thread's own time, in milliseconds."""
        return {
            "p50_ms": in_ms(self.p50_s),
            "p99_ms": in_ms(self.p99_s),
            "worst_ms": in_ms(self.worst_s),
            "cpu_p50_ms": in_ms(self.quantile_s(0.5, cpu=True)),
            "cpu_p99_ms": in_ms(self.quantile_s(0.99, cpu=True)),
        }


def in_ms(seconds: float) -> float:
    return round(seconds * 1e3, 4)


def timed(call: Callable[[], T]) -> tuple[T, Elapsed]:
    """What the call returned, and how long it took."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
        value = call()
        wall_ns, cpu_ns = time.perf_counter_ns() - wall_ns, time.thread_time_ns() - cpu_ns
    finally:
        if collecting:
            gc.enable()
    return value, Elapsed(wall_ns / 1e9, cpu_ns / 1e9)


def repeated(
    call: Callable[[], T],
    repeats: int,
    *,
    warmup: int = 1,
    between: Callable[[T], object] = lambda value: None,
    each: Callable[[float], None] = lambda share: None,
) -> Samples:
    """The call's durations after so many that do not count. `between` sees each answer before the next call, untimed;
    `each` hears how far it is, 0 to 1."""
    gc.collect()
    calls = []
    for number in range(warmup + repeats):
        value, elapsed = timed(call)
        if number >= warmup:
            calls.append(elapsed)
        between(value)
        each((number + 1) / (warmup + repeats))
    return Samples.of(calls)


def growth_exponent(seconds_by_size: Mapping[int, float]) -> float:
    """The slope of log time over log size, by least squares: 1 is linear, below is less. At least two sizes."""
    assert len(seconds_by_size) >= 2, seconds_by_size
    sizes = [math.log(size) for size in seconds_by_size]
    times = [math.log(seconds) for seconds in seconds_by_size.values()]
    mean_size, mean_time = sum(sizes) / len(sizes), sum(times) / len(times)
    above = sum((size - mean_size) * (each - mean_time) for size, each in zip(sizes, times, strict=True))
    return above / sum((size - mean_size) ** 2 for size in sizes)


def reference_loop() -> int:
    """A fixed piece of NumPy work of the planner's kind, to set figures of different machines against: pick the lowest
    of 1,250 scores and raise it, a thousand times. Returns a checksum."""
    scores = (np.arange(REFERENCE_SCORES, dtype=np.int64) * 7_919) % 10_007
    row = 0
    for _ in range(REFERENCE_STEPS):
        row = int(scores.argmin())
        scores[row] += 10_007
    return row


def reference_step_s(repeats: int = 7) -> float:
    """Median seconds of one step of the reference loop, here and now."""
    return repeated(reference_loop, repeats).p50_s / REFERENCE_STEPS
