"""A device that answers requests in a time that only its work moves, with what can go wrong put in on purpose.

The real serving workload on NumPy with a tiny model; each batch takes so long of a manual clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.protocol import Fault
from benchmarks.work import Facts, Generator, Pair
from benchmarks.workloads.encoder import EncoderShape
from benchmarks.workloads.serving import NumpyServing
from tests.fakes.small_work import ManualClock

TINY = EncoderShape(layers=1, width=16, heads=2, length=8, classes=16)
BATCH = 4
# A full batch: 2 + 4 x 2 = 10 ms, so 400 requests a second.
BASE_S, EACH_S = 0.002, 0.002

# Answers a batch in place of the right way.
Break = Callable[["TimedServing", Sequence[Pair]], None]


class TimedServing(NumpyServing):
    """`fault` from batch `fault_from` on (arming and warming up come first). `slow_from`: so many times slower then."""

    def __init__(
        self,
        clock: ManualClock,
        fault: Break | None = None,
        *,
        fault_from: int = 0,
        slow_from: int | None = None,
        slower: float = 3.0,
        unsettled_s: float = 0.0,
        check_s: float = 0.0,
        shortcuts: tuple[str, ...] = (),
        constant: bool = False,
        twice: bool = False,
        type_of_inputs: Any = np.float32,
        last_word: Fault | None = None,
        base_s: float = BASE_S,
    ) -> None:
        super().__init__("fp32", seed=7, shape=TINY, largest_batch=BATCH)
        self.clock = clock
        self.fault = fault
        self.fault_from = fault_from
        self.slow_from = slow_from
        self.slower = slower
        self.unsettled_s = unsettled_s
        self.check_s = check_s
        self.shortcuts = shortcuts
        self.last_word = last_word
        self.base_s = base_s
        self.batches = 0
        self.sizes: list[int] = []
        if constant:
            self._inputs[:] = 1.0
        if twice:
            self._inputs[1] = self._inputs[0]
        self._inputs = self._inputs.astype(type_of_inputs)

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        slower = self.slower if self.slow_from is not None and self.batches >= self.slow_from else 1.0
        self.clock.time_s += (self.base_s + EACH_S * len(order)) * slower
        self.batches += 1
        self.sizes.append(len(order))
        if self.fault is not None and self.batches > self.fault_from:
            self.fault(self, order)
        else:
            self.answer(order)

    def answer(self, order: Sequence[Pair]) -> None:
        super().run_batch(order, 0)

    @property
    def answers(self) -> np.ndarray:
        return self._answers

    def settle(self) -> None:
        self.clock.time_s += self.unsettled_s

    def check_all(self, order: Sequence[Pair]) -> Fault | None:
        self.clock.time_s += self.check_s
        return super().check_all(order)

    def facts(self, rng: Generator) -> Facts:
        found = super().facts(rng)
        return Facts(found.input_dtype, found.inputs, found.spread, self.shortcuts)

    def closing(self) -> Fault | None:
        return self.last_word
