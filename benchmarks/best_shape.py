"""What would the usual method have said? The best of several shapes, each timed over repeats of one product.

That is how a card's "maximum achievable" rate is usually told (stas00/ml-engineering's mamf-finder, and most vendors'
own): one pair of operands, no verification, no common window, and of all shapes the fastest. Beside the headline rate
it says what a shape costs; it is never counted. This is a plain implementation of the method, not that program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.protocol import Shape
from benchmarks.work import Clock, Work

# (m, n, k) around the sizes that large models multiply.
ACCELERATOR_SHAPES = tuple(
    Shape(m, n, k)
    for m, n, k in (
        (4096, 4096, 4096),
        (8192, 8192, 8192),
        (16384, 16384, 16384),
        (8192, 8192, 16384),
        (16384, 8192, 4096),
        (4096, 14336, 4096),
        (8192, 28672, 8192),
        (10240, 10240, 10240),
        (12288, 12288, 12288),
        (8192, 8192, 2048),
    )
)
CPU_SHAPES = tuple(Shape(m, n, k) for m, n, k in ((512, 512, 512), (768, 768, 768), (1024, 1024, 512)))
WARM_REPEATS = 5
SECONDS_A_SHAPE = 1.0
MOST_REPEATS = 100


@dataclass(frozen=True, slots=True)
class BestShape:
    shape: Shape
    gflops: float
    tried: int


def best_of_shapes(
    make: Callable[[Shape], Work], shapes: Sequence[Shape], clock: Clock, *, seconds: float = SECONDS_A_SHAPE
) -> BestShape | None:
    """The shape with the best mean rate; None where none of them could be run (memory, shapes that units refuse)."""
    best: BestShape | None = None
    tried = 0
    for shape in shapes:
        try:
            gflops = _mean_gflops(make(shape), shape, clock, seconds)
        except (RuntimeError, MemoryError, ValueError):
            continue
        tried += 1
        if best is None or gflops > best.gflops:
            best = BestShape(shape, gflops, tried)
    return None if best is None else BestShape(best.shape, best.gflops, tried)


def _mean_gflops(work: Work, shape: Shape, clock: Clock, seconds: float) -> float:
    work.prepare(np.random.default_rng(0), 1)
    begun = clock.now_s()
    for _ in range(WARM_REPEATS):
        work.run_batch([(0, 0)], 0)
        work.settle()
    each_s = max((clock.now_s() - begun) / WARM_REPEATS, 1e-7)
    repeats = max(1, min(MOST_REPEATS, round(seconds / each_s)))
    begun = clock.now_s()
    for _ in range(repeats):
        work.run_batch([(0, 0)], 0)
    work.settle()
    return shape.flop * repeats / max(clock.now_s() - begun, 1e-9) / 1e9
