"""How fast does one device answer inference requests, and how long does each wait? Batches of requests to an encoder.

The model is `encoder.py`'s, with weights drawn for this window; FLOP of a request by its formula. Inputs lie in the
host's memory (pinned where there is an accelerator) in the declared type, are copied to the device for each request
that names them, and the answer is there when its scores are in the host's memory. So what is timed is copying,
computing and copying back; no network, no text, no decoding token by token. How requests arrive, and which of them
make a batch, is `benchmarks/serving_window.py`'s.

What is checked: every answer, against scores that NumPy computed in float64 of the stored weights and inputs before the
window. Which input a request asks for is drawn anew for each, so an answer that is left over from an earlier one is
wrong. An error is seen where it moves a score by more than rounding may: see `tolerance`.

One piece is one request.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.arming import DTYPES
from benchmarks.products import coarser_type
from benchmarks.protocol import Fault, Verdict, roundoff
from benchmarks.work import Array, Facts, Generator, Pair
from benchmarks.workloads.devices import (
    ComputeDevice,
    UnsupportedPrecision,
    set_shortcuts,
    shortcuts_on,
    synchronise,
    torch_place,
)
from benchmarks.workloads.encoder import (
    ACCELERATOR_SHAPE,
    CPU_SHAPE,
    EncoderShape,
    drawn_weights,
    numpy_scores,
    torch_scores,
)

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
# Different inputs that requests ask for. An answer left over from another request is right by chance once in so many.
INPUTS = 16
CPU_BATCH = 8
ACCELERATOR_BATCH = 32
SAMPLED = 4096
SAFETY = 16.0
_ACCUMULATED = 2.0**-24


def tolerance(shape: EncoderShape, precision: str) -> float:
    """How far a score may be from float64's, as a share of its request's largest: what rounding explains.

    Stored values err by the type's roundoff, sums over up to 4·width terms by 2^-24·sqrt(4·width) (random-walk bound;
    Higham, "Accuracy and Stability of Numerical Algorithms", 4.2); norms and the mean over the vectors keep both from
    growing with depth. 8 times what was seen of bf16 and fp16, 40 times of fp32, at widths of 16 to 192 and up to 12
    layers.
    """
    return SAFETY * (roundoff(precision) + _ACCUMULATED * math.sqrt(4.0 * shape.width))


class Serving(ABC):
    """What torch and NumPy have in common: inputs, expected scores and checks. `largest_batch`: requests together."""

    name = "serving"
    counts: Literal["flop", "bytes", "requests"] = "requests"
    amount_per_piece = 1

    def __init__(self, precision: str, shape: EncoderShape, largest_batch: int, seed: int) -> None:
        self.precision = precision
        self.model = shape
        self.largest_batch = largest_batch
        rng = np.random.default_rng(seed)
        self._drawn = drawn_weights(shape, rng)
        self._inputs = rng.standard_normal((INPUTS, shape.length, shape.width), dtype=np.float32)
        self._expected: Array = np.zeros((0, 0))
        self._answers: Array = np.zeros((largest_batch, shape.classes), np.float32)
        self._answered_as = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, width, length)."""
        return self.model.layers, self.model.width, self.model.length

    @property
    def flop_per_request(self) -> int:
        return self.model.flop

    @property
    def most_slots(self) -> int:
        return self.largest_batch

    def prepare(self, rng: Generator, slots: int) -> None:
        if not len(self._expected):
            weights = [self._stored(weights) for weights in self._weights()]
            ones = [numpy_scores(self.model, weights, self._stored(x)[None]) for x in self._held()]
            self._expected = np.concatenate(ones)

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        return [(int(which), 0) for which in rng.integers(0, INPUTS, size=pieces)]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        """All requests of `order` in one batch."""
        scores, kind = self._scores([which for which, _ in order])
        self._answered_as = kind
        self._answers[first_slot : first_slot + len(order)] = scores

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        return self._judge(self._answers[slot : slot + 1], [pair[0]])

    def check_all(self, order: Sequence[Pair]) -> Fault | None:
        """Every answer of the last batch, which lies from slot 0 on."""
        return self._judge(self._answers[: len(order)], [which for which, _ in order])

    def _judge(self, found: Array, asked: Sequence[int]) -> Fault | None:
        if self._answered_as != DTYPES[self.precision]:
            wanted_type = DTYPES[self.precision]
            return Fault(Verdict.WRONG_DTYPE, f"scores are {self._answered_as}; {self.precision} is {wanted_type}")
        values = found.astype(np.float64)
        if not np.isfinite(values).all():
            return Fault(Verdict.NOT_FINITE, "an answer holds NaN or Inf")
        wanted = self._expected[list(asked)]
        gaps = np.abs(values - wanted) / np.abs(wanted).max(axis=1, keepdims=True)
        worst, allowed = float(gaps.max()), tolerance(self.model, self.precision)
        if worst <= allowed:
            return None
        said = f"an answer is wrong by {worst:.3g} of its largest score; rounding explains {allowed:.3g}"
        coarse = coarser_type(values.reshape(-1), self.precision)
        if coarse is not None:
            return Fault(
                Verdict.WRONG_DTYPE, f"{said}, and all scores are numbers of {coarse}, not of {self.precision}"
            )
        if self.precision == "fp32" and worst <= tolerance(self.model, "tf32") and float(np.median(gaps)) > allowed:
            return Fault(Verdict.TF32_ON, f"{said} and within TF32's: operands were cut to ten bits")
        return Fault(Verdict.WRONG_PRODUCT, said)

    def facts(self, rng: Generator) -> Facts:
        """Inputs as they lie there, and weights times the root of their rows."""
        rows = [rows for rows, _ in self.model.matrices]
        weights = self._weights()
        samples = [self._stored(x.reshape(-1)[:SAMPLED]) for x in self._held()]
        samples += [
            self._stored(each.reshape(-1)[:SAMPLED]) * math.sqrt(n) for each, n in zip(weights, rows, strict=True)
        ]
        return Facts(self._types(), tuple(samples), 1.0, self._shortcuts())

    def golden(self) -> None:
        return None

    def closing(self) -> Fault | None:
        return None

    def settle(self) -> None:  # noqa: B027 - what answers has waited for them already, on each device
        pass

    # -- what torch and NumPy do each in their way -----------------------------------------------------------------

    @abstractmethod
    def _scores(self, asked: Sequence[int]) -> tuple[Array, str]:
        """[n, classes] in the host's memory, and the type in which the device had them."""

    @abstractmethod
    def _weights(self) -> Sequence[Any]: ...

    @abstractmethod
    def _held(self) -> Sequence[Any]:
        """The inputs in the host's memory."""

    @abstractmethod
    def _stored(self, values: Any) -> Array:
        """As they are stored, in float64 on the host."""

    def _types(self) -> str:
        return "/".join(sorted({str(v.dtype).removeprefix("torch.") for v in (*self._held(), *self._weights())}))

    def _shortcuts(self) -> tuple[str, ...]:
        return ()


class NumpyServing(Serving):
    def __init__(
        self, precision: str, *, seed: int, shape: EncoderShape = CPU_SHAPE, largest_batch: int = CPU_BATCH
    ) -> None:
        if precision != "fp32":
            raise UnsupportedPrecision(
                f"without torch serving is measured in fp32, not in {precision}; install torch for it"
            )
        super().__init__(precision, shape, largest_batch, seed)

    def _scores(self, asked: Sequence[int]) -> tuple[Array, str]:
        scores = numpy_scores(self.model, self._drawn, self._inputs[list(asked)])
        return scores, str(scores.dtype)

    def _weights(self) -> Sequence[Array]:
        return self._drawn

    def _held(self) -> Sequence[Array]:
        return list(self._inputs)

    def _stored(self, values: Array) -> Array:
        return values.astype(np.float64)


class TorchServing(Serving):
    def __init__(
        self,
        torch: Any,
        device: ComputeDevice,
        precision: str,
        *,
        seed: int,
        shape: EncoderShape | None = None,
        largest_batch: int | None = None,
    ) -> None:
        if precision not in PRECISIONS or (precision == "tf32" and device.kind != "cuda"):
            raise UnsupportedPrecision(
                f"serving is measured in {', '.join(PRECISIONS)} (tf32: NVIDIA), not in {precision} on {device.model}"
            )
        batch = largest_batch or (CPU_BATCH if device.is_cpu else ACCELERATOR_BATCH)
        super().__init__(precision, shape or (CPU_SHAPE if device.is_cpu else ACCELERATOR_SHAPE), batch, seed)
        self._torch = torch
        self._device = device
        set_shortcuts(torch, device, precision)
        if device.is_cpu and device.threads:
            torch.set_num_threads(device.threads)
        dtype = getattr(torch, DTYPES[precision])
        where = torch_place(torch, device)
        self._on_device = [torch.from_numpy(each).to(device=where, dtype=dtype) for each in self._drawn]
        self._on_host = [self._pinned(torch.from_numpy(x).to(dtype)) for x in self._inputs]
        self._staged = torch.zeros((batch, self.model.length, self.model.width), dtype=dtype, device=where)

    def _pinned(self, values: Any) -> Any:
        if self._device.is_cpu:
            return values
        try:
            return values.pin_memory()
        except (RuntimeError, NotImplementedError):
            return values  # this maker's torch has none: copies are then slower, and right

    def _scores(self, asked: Sequence[int]) -> tuple[Array, str]:
        torch = self._torch
        with torch.inference_mode():
            staged = self._staged[: len(asked)]
            for place, which in enumerate(asked):
                staged[place].copy_(self._on_host[which], non_blocking=True)
            scores = torch_scores(torch, self.model, self._on_device, staged)
            kind = str(scores.dtype).removeprefix("torch.")
            found: Array = scores.to(torch.float32).cpu().numpy()
        return found, kind

    def settle(self) -> None:
        synchronise(self._torch, self._device)

    def _weights(self) -> Sequence[Any]:
        return self._on_device

    def _held(self) -> Sequence[Any]:
        return self._on_host

    def _stored(self, values: Any) -> Array:
        wide: Array = values.cpu().to(self._torch.float64).numpy()
        return wide

    def _shortcuts(self) -> tuple[str, ...]:
        return shortcuts_on(self._torch, self._device)


def make_serving(torch: Any, device: ComputeDevice, precision: str, *, seed: int) -> Serving:
    """On torch or, without it, on NumPy. Raises UnsupportedPrecision."""
    return NumpyServing(precision, seed=seed) if torch is None else TorchServing(torch, device, precision, seed=seed)
