"""How fast does a device move its own memory? The four kernels of STREAM, counted in bytes by their formula.

J. McCalpin, "Memory Bandwidth and Machine Balance in Current High Performance Computers" (1995): copy c = x, scale b
= q·c, add d = x + b, triad e = d + q·c over arrays far larger than any cache; 2, 2, 3 and 3 array passes, so that one
round moves 10 arrays (what a cache fetches before it is overwritten is not counted, as in STREAM). A piece is some
rounds, each on the result of the one before: a round multiplies by 1 + 2q, and q is drawn from 1/2 and -1/4, so that
the end is the beginning times a power of two which tells of every round that was left out or done twice. fp32, or
fp64 as STREAM itself; arrays of the same number of bytes.

What is checked: all four arrays at random places, against the rule in float64.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.protocol import Fault, Verdict, roundoff
from benchmarks.work import Array, Facts, Generator, Pair
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, synchronise, torch_place

CPU_ARRAY_BYTES = 64 * 2**20
ACCELERATOR_ARRAY_BYTES = 2**30
PRECISIONS = ("fp64", "fp32")
ELEMENT_BYTES = {"fp64": 8, "fp32": 4}
PASSES = 10
PIECE_S = 0.05
MOST_ROUNDS = 64
SAMPLED = 256
FACTORS = (0.5, -0.25)


def scales_of(seed: int, rounds: int) -> list[float]:
    """q of each round. What the rounds multiply by stays between 2^-4 and 2^4."""
    rng, exponent, scales = np.random.default_rng(seed), 0, []
    for up in rng.integers(0, 2, size=rounds):
        rises = exponent < 4 and (bool(up) or exponent <= -4)
        exponent += 1 if rises else -1
        scales.append(FACTORS[0] if rises else FACTORS[1])
    return scales


class Bandwidth:
    """On torch or, without it, on NumPy. One slot: the arrays."""

    name = "bandwidth"
    counts: Literal["flop", "bytes"] = "bytes"
    shape = None
    most_slots = 1

    def __init__(
        self, torch: Any, device: ComputeDevice, precision: str = "fp32", *, seed: int, array_bytes: int | None = None
    ) -> None:
        if precision not in PRECISIONS:
            raise UnsupportedPrecision(f"bandwidth is measured in {', '.join(PRECISIONS)}, not in {precision}")
        self.precision = precision
        self._torch = torch
        self._device = device
        size = array_bytes or (CPU_ARRAY_BYTES if device.is_cpu else ACCELERATOR_ARRAY_BYTES)
        self._length = size // ELEMENT_BYTES[precision]
        if torch is None:
            dtype = np.float64 if precision == "fp64" else np.float32
            self._x: Any = np.random.default_rng(seed).standard_normal(self._length, dtype=dtype)
            self._parts: list[Any] = [np.zeros_like(self._x) for _ in range(4)]
        else:
            if device.is_cpu and device.threads:
                torch.set_num_threads(device.threads)
            generator = torch.Generator(device="cpu").manual_seed(seed)
            dtype = torch.float64 if precision == "fp64" else torch.float32
            part = torch.randn(min(self._length, 2**22), generator=generator, dtype=dtype)
            whole = part.repeat(-(-self._length // len(part)))[: self._length]
            self._x = whole.to(torch_place(torch, device))
            self._parts = [torch.zeros_like(self._x) for _ in range(4)]
        self._rounds = 1
        self._rounds = self._fitting()

    def _fitting(self) -> int:
        self.run_batch([(0, 0)], 0)
        begun = time.perf_counter()
        self.run_batch([(1, 0)], 0)
        return max(1, min(MOST_ROUNDS, round(PIECE_S / max(time.perf_counter() - begun, 1e-6))))

    @property
    def amount_per_piece(self) -> int:
        return PASSES * ELEMENT_BYTES[self.precision] * self._length * self._rounds

    def prepare(self, rng: Generator, slots: int) -> None:
        pass

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        return [(int(seed), 0) for seed in rng.integers(0, 2**31, size=pieces)]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        round_ = self._round_numpy if self._torch is None else self._round_torch
        for seed, _ in order:
            source = self._x
            for scale in scales_of(seed, self._rounds):
                round_(source, scale)
                source = self._parts[3]
        self.settle()

    def _round_torch(self, x: Any, q: float) -> None:
        torch = self._torch
        c, b, d, e = self._parts
        c.copy_(x)
        torch.mul(c, q, out=b)
        torch.add(x, b, out=d)
        torch.add(d, c, alpha=q, out=e)

    def _round_numpy(self, x: Array, q: float) -> None:
        c, b, d, e = self._parts
        np.copyto(c, x)
        np.multiply(c, x.dtype.type(q), out=b)
        np.add(x, b, out=d)
        np.multiply(c, x.dtype.type(q), out=e)
        np.add(d, e, out=e)

    def settle(self) -> None:
        if self._torch is not None:
            synchronise(self._torch, self._device)

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        places = rng.integers(0, self._length, size=SAMPLED)
        x = self._at(self._x, places)
        c, b, d, e = (self._at(part, places) for part in self._parts)
        scales = scales_of(pair[0], self._rounds)
        q = scales[-1]
        before = float(np.prod([1.0 + 2.0 * s for s in scales[:-1]])) if scales[:-1] else 1.0
        allowed = 4.0 * (len(scales) + 2) * roundoff(self.precision)
        for what, found, wanted in (
            ("copy", c, x * before),
            ("scale", b, x * before * q),
            ("add", d, x * before * (1.0 + q)),
            ("triad", e, x * before * (1.0 + 2.0 * q)),
        ):
            if not np.isfinite(found).all():
                return Fault(Verdict.NOT_FINITE, f"the array of {what} holds NaN or Inf")
            wrong = np.abs(found - wanted) > allowed * np.abs(wanted)
            if wrong.any():
                return Fault(Verdict.WRONG_PRODUCT, f"{int(wrong.sum())} of {SAMPLED} values of {what} are wrong")
        return None

    def _at(self, values: Any, places: Array) -> Array:
        if self._torch is None:
            return np.asarray(values[places], np.float64)
        chosen = values[self._torch.from_numpy(places).to(values.device)]
        return np.asarray(chosen.cpu().numpy(), np.float64)

    def facts(self, rng: Generator) -> Facts:
        values = self._at(self._x, np.arange(min(self._length, 4096)))
        dtype = str(self._x.dtype).removeprefix("torch.")
        return Facts(dtype, (values,), 1.0)

    def golden(self) -> None:
        return None

    def closing(self) -> Fault | None:
        return None
