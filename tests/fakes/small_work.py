"""A device whose time only its work moves, with everything that can go wrong in it put there on purpose.

Real products of small matrices with the checks of the real workloads; each batch takes so long of a manual clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from benchmarks.products import draw_signs, expected_sides, golden_operands, judge, set_columns
from benchmarks.protocol import FREIVALDS_SETS, Conditions, Fault, Shape
from benchmarks.work import Facts, Generator, Pair

SIDE = 24
SHAPE = Shape(SIDE, SIDE, SIDE)
PIECE_S = 0.025


@dataclass
class ManualClock:
    """Time passes only where the work or a sleep says so."""

    time_s: float = 1_000.0
    oversleeps_s: float = 0.0

    def now_s(self) -> float:
        return self.time_s

    def sleep_until(self, at_s: float) -> None:
        self.time_s = max(self.time_s, at_s) + self.oversleeps_s


Break = Callable[["SmallProducts", Sequence[Pair], int], None]


@dataclass
class SmallProducts:
    """`fault` does a batch in place of the right way, from batch `fault_from` of the window on (0: always)."""

    clock: ManualClock
    fault: Break | None = None
    fault_from: int = 0
    operand_sets: int = 5
    piece_s: float = PIECE_S
    check_s: float = 0.0
    precision: str = "fp32"
    most_slots: int = 64
    dtype: str = "float32"
    shortcuts: tuple[str, ...] = ()
    constant: bool = False
    unsettled_s: float = 0.0
    digests: Sequence[str | None] = ()
    last_word: Fault | None = None
    batches: int = 0
    c: list[Any] = field(default_factory=list)

    name = "gemm"
    counts: Literal["flop", "bytes"] = "flop"
    shape = (SIDE, SIDE, SIDE)
    amount_per_piece = SHAPE.flop

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        make = np.ones if self.constant else rng.standard_normal
        self.a, self.b = (
            [np.asarray(make((SIDE, SIDE)), np.float32) for _ in range(self.operand_sets)] for _ in range(2)
        )
        self.told = list(self.digests)

    def prepare(self, rng: Generator, slots: int) -> None:
        self.signs = draw_signs(rng, SIDE)
        self.c = [np.zeros((SIDE, SIDE), np.float32) for _ in range(slots)]

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        return [(a, b) for a, b in rng.integers(0, self.operand_sets, size=(pieces, 2)).tolist()]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        self.clock.time_s += self.piece_s * len(order)
        self.batches += 1
        if self.fault is not None and self.batches > self.fault_from:
            self.fault(self, order, first_slot)
        else:
            self.multiply(order, first_slot)

    def multiply(self, order: Sequence[Pair], first_slot: int) -> None:
        for slot, (a, b) in enumerate(order, first_slot):
            np.matmul(self.a[a], self.b[b], out=self.c[slot])

    def settle(self) -> None:
        self.clock.time_s += self.unsettled_s

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        self.clock.time_s += self.check_s
        chosen = set_columns(int(rng.integers(FREIVALDS_SETS)))
        wanted = expected_sides(self.a[pair[0]], self.b[pair[1]], self.signs[:, chosen])
        gaps = self.c[slot].astype(np.float64) @ self.signs[:, chosen] - wanted
        return judge(gaps, self.c[slot].reshape(-1).astype(np.float64), SHAPE, self.precision)

    def facts(self, rng: Generator) -> Facts:
        inputs = tuple(m.reshape(-1).astype(np.float64) for m in (*self.a, *self.b))
        return Facts(self.dtype, inputs, 1.0, self.shortcuts)

    def golden(self) -> str | None:
        if self.digests:
            return self.told.pop(0)
        left, right = golden_operands(SIDE, SIDE, SIDE, largest=7)
        return hashlib.sha256((left.astype(np.float32) @ right.astype(np.float32)).tobytes()).hexdigest()

    def closing(self) -> Fault | None:
        return self.last_word


@dataclass
class ToldWatch:
    """Counters that say what the test wants."""

    conditions: Conditions
    begun: int = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self) -> Conditions:
        return self.conditions
