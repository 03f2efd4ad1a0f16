"""What can a machine do that has NumPy and no torch? Products in fp32, fp64 and int8 on the CPU.

int8 operands are multiplied as int32, for NumPy has no product that widens: exact, and slow (it has no BLAS behind it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.products import Signs, draw_signs, expected_sides, golden_operands, judge, set_columns
from benchmarks.protocol import FREIVALDS_SETS, Fault, Shape
from benchmarks.work import Array, Facts, Generator, Pair
from benchmarks.workloads.devices import UnsupportedPrecision

SIDE = 512
INT8_SIDE = 128
OPERAND_SETS = 8
RESULT_BYTES = 64 * 2**20
INT8_SPREAD = 32.0
SAMPLED = 4096
DTYPES: dict[str, tuple[Any, Any]] = {
    "fp32": (np.float32, np.float32),
    "fp64": (np.float64, np.float64),
    "int8": (np.int8, np.int32),
}


class NumpyGemm:
    """Products with NumPy's own threads."""

    name = "gemm"
    counts: Literal["flop", "bytes"] = "flop"

    def __init__(self, precision: str, shape: Shape, operand_sets: int, seed: int) -> None:
        if precision not in DTYPES:
            raise UnsupportedPrecision(
                f"NumPy multiplies in {', '.join(DTYPES)}, not in {precision}; install torch for it"
            )
        self._precision = precision
        self._shape = shape
        self._dtype, self._stored = DTYPES[precision]
        rng = np.random.default_rng(seed)
        self._a = [self._drawn(rng, shape.m, shape.k) for _ in range(operand_sets)]
        self._b = [self._drawn(rng, shape.k, shape.n) for _ in range(operand_sets)]
        self._c: list[Array] = []
        self._signs: Signs = np.zeros((0, 0))
        self._sides: list[list[Signs]] = []

    def _drawn(self, rng: Generator, rows: int, columns: int) -> Array:
        drawn = rng.standard_normal((rows, columns))
        if self._precision == "int8":
            drawn = np.clip(np.rint(drawn * INT8_SPREAD), -127, 127)
        return drawn.astype(self._dtype)

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def amount_per_piece(self) -> int:
        return self._shape.flop

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape.m, self._shape.n, self._shape.k

    @property
    def operand_sets(self) -> int:
        return len(self._a)

    @property
    def most_slots(self) -> int:
        return max(1, RESULT_BYTES // (self._shape.m * self._shape.n * int(np.dtype(self._stored).itemsize)))

    def prepare(self, rng: Generator, slots: int) -> None:
        self._c = [np.zeros((self._shape.m, self._shape.n), self._stored) for _ in range(slots)]
        if not self._sides:
            self._signs = draw_signs(rng, self._shape.n)
            self._sides = [[expected_sides(a, b, self._signs) for b in self._b] for a in self._a]

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        drawn = rng.integers(0, len(self._a), size=(pieces, 2)).tolist()
        return [(a, b) for a, b in drawn]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        for slot, (a, b) in enumerate(order, first_slot):
            self._multiply(self._a[a], self._b[b], self._c[slot])

    def _multiply(self, a: Array, b: Array, c: Array) -> None:
        if self._precision == "int8":
            np.matmul(a.astype(np.int32), b.astype(np.int32), out=c)
        else:
            np.matmul(a, b, out=c)

    def settle(self) -> None:
        pass  # NumPy works in step

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        chosen = set_columns(int(rng.integers(FREIVALDS_SETS)))
        c = self._c[slot]
        gaps = c.astype(np.float64) @ self._signs[:, chosen] - self._sides[pair[0]][pair[1]][:, chosen]
        return judge(gaps, c.reshape(-1)[:SAMPLED].astype(np.float64), self._shape, self._precision)

    def facts(self, rng: Generator) -> Facts:
        operands = [*self._a, *self._b]
        return Facts(
            input_dtype="/".join(sorted({str(m.dtype) for m in operands})),
            inputs=tuple(m.reshape(-1)[:SAMPLED].astype(np.float64) for m in operands),
            spread=INT8_SPREAD if self._precision == "int8" else 1.0,
        )

    def golden(self) -> str:
        left, right = golden_operands(self._shape.m, self._shape.n, self._shape.k, largest=7)
        c = np.zeros((self._shape.m, self._shape.n), self._stored)
        self._multiply(left.astype(self._dtype), right.astype(self._dtype), c)
        return hashlib.sha256(c.tobytes()).hexdigest()

    def closing(self) -> Fault | None:
        return None


def numpy_gemm(precision: str, *, seed: int, shape: Shape | None = None) -> NumpyGemm:
    """Raises UnsupportedPrecision."""
    side = INT8_SIDE if precision == "int8" else SIDE
    return NumpyGemm(precision, shape or Shape(side, side, side), OPERAND_SETS, seed)
