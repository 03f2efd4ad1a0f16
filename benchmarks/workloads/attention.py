"""How fast is attention, forward? torch's scaled_dot_product_attention, counted as 4·b·h·s²·d FLOP.

Two products for each of b batches and h heads: Q·Kᵀ and P·V, of s·s·d multiply-adds each (T. Dao and others,
"FlashAttention", 2022, count the same). No mask, so nothing is left out; the softmax's own operations are not counted.
q, k and v are N(0,1). Which kernel torch takes is its own choice.

What is checked: some rows of one sampled batch and head, in float64 on the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.arming import DTYPES
from benchmarks.protocol import Fault, Verdict, roundoff
from benchmarks.work import Facts, Generator, Pair
from benchmarks.workloads.devices import (
    ComputeDevice,
    UnsupportedPrecision,
    set_shortcuts,
    shortcuts_on,
    synchronise,
    torch_place,
)

PRECISIONS = ("fp64", "fp32", "bf16", "fp16")
SETS = 3
ROWS = 16
SLOTS = 16
# Of a row's largest value; attention rounds its weights to the stored type before the second product.
SAFETY = 16.0


@dataclass(frozen=True, slots=True)
class AttentionShape:
    batch: int
    heads: int
    length: int
    width: int

    @property
    def flop(self) -> int:
        return 4 * self.batch * self.heads * self.length**2 * self.width


ACCELERATOR_SHAPE = AttentionShape(4, 32, 4096, 128)
CPU_SHAPE = AttentionShape(1, 4, 512, 64)


class Attention:
    name = "attention"
    counts: Literal["flop", "bytes"] = "flop"

    def __init__(
        self, torch: Any, device: ComputeDevice, precision: str, *, seed: int, shape: AttentionShape | None = None
    ) -> None:
        if torch is None:
            raise UnsupportedPrecision("attention is measured with torch, and torch is not installed here")
        if precision not in PRECISIONS:
            raise UnsupportedPrecision(f"attention is measured in {', '.join(PRECISIONS)}, not in {precision}")
        self._torch = torch
        self._device = device
        self.precision = precision
        self._shape = shape or (CPU_SHAPE if device.is_cpu else ACCELERATOR_SHAPE)
        where = torch_place(torch, device)
        set_shortcuts(torch, device, precision)
        if device.is_cpu and device.threads:
            torch.set_num_threads(device.threads)
        generator = torch.Generator(device="cpu").manual_seed(seed)
        size = (self._shape.batch, self._shape.heads, self._shape.length, self._shape.width)
        dtype = getattr(torch, DTYPES[precision])
        self._q, self._k, self._v = (
            [torch.randn(size, generator=generator).to(device=where, dtype=dtype) for _ in range(SETS)]
            for _ in range(3)
        )
        self._results: list[Any] = []

    @property
    def amount_per_piece(self) -> int:
        return self._shape.flop

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batch·heads, length, width)."""
        return self._shape.batch * self._shape.heads, self._shape.length, self._shape.width

    @property
    def most_slots(self) -> int:
        return SLOTS

    def prepare(self, rng: Generator, slots: int) -> None:
        self._results = [None] * slots

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        return [(q, kv) for q, kv in rng.integers(0, SETS, size=(pieces, 2)).tolist()]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        attend = self._torch.nn.functional.scaled_dot_product_attention
        with self._torch.inference_mode():
            for slot, (q, kv) in enumerate(order, first_slot):
                self._results[slot] = attend(self._q[q], self._k[kv], self._v[kv])
        self.settle()

    def settle(self) -> None:
        synchronise(self._torch, self._device)

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        at = (int(rng.integers(self._shape.batch)), int(rng.integers(self._shape.heads)))
        rows = rng.integers(0, self._shape.length, size=ROWS)
        found = self._host(self._results[slot][at][self._torch.from_numpy(rows).to(self._results[slot].device)])
        q, k, v = (self._host(t[i][at]) for t, i in ((self._q, pair[0]), (self._k, pair[1]), (self._v, pair[1])))
        scores = q[rows] @ k.T / math.sqrt(self._shape.width)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        wanted = weights @ v / weights.sum(axis=1, keepdims=True)
        if not np.isfinite(found).all():
            return Fault(Verdict.NOT_FINITE, "attention gave NaN or Inf")
        gap = float(np.abs(found - wanted).max())
        allowed = SAFETY * roundoff(self.precision) * float(np.abs(wanted).max())
        if gap > allowed:
            return Fault(Verdict.WRONG_PRODUCT, f"attention is wrong by {gap:.3g}; rounding explains {allowed:.3g}")
        return None

    def _host(self, values: Any) -> Any:
        return values.cpu().to(self._torch.float64).numpy()

    def facts(self, rng: Generator) -> Facts:
        operands = [*self._q, *self._k, *self._v]
        return Facts(
            input_dtype="/".join(sorted({str(t.dtype).removeprefix("torch.") for t in operands})),
            inputs=tuple(self._host(t.reshape(-1)[:4096]) for t in operands),
            spread=1.0,
            shortcuts=shortcuts_on(self._torch, self._device),
        )

    def golden(self) -> None:
        return None

    def closing(self) -> Fault | None:
        return None
