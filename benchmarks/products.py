"""Is this product right? Freivalds' residuals judged, with a guess at what went wrong. NumPy only.

For random signs x, C·x must equal A·(B·x), computed in float64 for what the stored operands are. A·(B·x) is computed
before the window for a pool of sign sets that is drawn for this window; which set meets which product is drawn after
the product is there. What is left to do inside the window is C·x: a third of the work.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import FREIVALDS_SETS, FREIVALDS_VECTORS, Fault, Shape, Verdict, tolerance
from benchmarks.work import Array, Generator

Signs = NDArray[np.float64]


def draw_signs(rng: Generator, n: int) -> Signs:
    """n by FREIVALDS_SETS·FREIVALDS_VECTORS of +1 and -1; set k is columns k·V to (k+1)·V."""
    flips = rng.integers(0, 2, size=(n, FREIVALDS_SETS * FREIVALDS_VECTORS))
    return np.asarray(flips * 2 - 1, np.float64)


def set_columns(chosen: int) -> slice:
    return slice(chosen * FREIVALDS_VECTORS, (chosen + 1) * FREIVALDS_VECTORS)


def expected_sides(a: Array, b: Array, signs: Signs) -> Signs:
    """A·(B·x) in float64 for every sign vector."""
    return np.asarray(a.astype(np.float64) @ (b.astype(np.float64) @ signs), np.float64)


def judge(gaps: NDArray[np.float64], stored: NDArray[np.float64], shape: Shape, precision: str) -> Fault | None:
    """`gaps`: C·x - A·(B·x), by row and vector. `stored`: some values of C, by which a coarser number type shows."""
    if not (np.isfinite(gaps).all() and np.isfinite(stored).all()):
        return Fault(Verdict.NOT_FINITE, "a product holds NaN or Inf")
    sizes = np.abs(gaps)
    worst, allowed = float(sizes.max()), tolerance(shape, precision)
    if worst <= allowed:
        return None
    said = f"residual {worst:.3g} is over the tolerance {allowed:.3g}"
    coarse = coarser_type(stored, precision)
    if coarse is not None:
        return Fault(Verdict.WRONG_DTYPE, f"{said}, and every value of it is a number of {coarse}, not of {precision}")
    everywhere = float(np.median(sizes)) > allowed
    if precision == "fp32" and everywhere and worst <= tolerance(shape, "tf32"):
        return Fault(Verdict.TF32_ON, f"{said} and within TF32's: operands were cut to ten bits")
    return Fault(Verdict.WRONG_PRODUCT, said)


def coarser_type(stored: NDArray[np.float64], precision: str) -> str | None:
    """The narrower type that all of these values are numbers of, if any. Zeros say nothing."""
    values = stored[stored != 0.0]
    if len(values) < 16 or precision not in ("fp64", "fp32", "tf32"):
        return None
    with np.errstate(over="ignore"):
        as_fp32 = values.astype(np.float32)
        if np.array_equal(as_fp32.view(np.uint32) & np.uint32(0xFFFF), np.zeros(len(values), np.uint32)):
            return "bf16"
        if np.array_equal(values.astype(np.float16).astype(np.float64), values):
            return "fp16"
        if precision == "fp64" and np.array_equal(as_fp32.astype(np.float64), values):
            return "fp32"
    return None


def golden_operands(m: int, n: int, k: int, *, largest: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Two fixed matrices of small integers. Their product is exact in an accumulator of 24 bits whatever the order of
    its sums, so its rounding to the stored type has one answer only: the same bits on every sound device."""
    assert math.sqrt(k) * largest * largest * 64 < 2**24
    rng = np.random.default_rng(20260115)
    a = rng.integers(-largest, largest + 1, size=(m, k), dtype=np.int8)
    b = rng.integers(-largest, largest + 1, size=(k, n), dtype=np.int8)
    return a, b
