"""How is a sustained rate measured so that an auditor believes it? The arithmetic and the loop of one window.

For one precision, over a window of W seconds that all devices share: R_sus = sum of F_i / W, where
F_i = 2*m*n*k times the products that device i finished *and had verified* inside the window. W is the denominator for
every device, whatever it did with the time: one that starts late, finishes nothing, yields NaN or fails verification
counts zero, with the reason.

A batch is a few products, each of two operands picked anew by a seeded generator, so that a stale result of an earlier
batch is a wrong result of this one. After the batch one of its products is drawn and checked by Freivalds' method
(R. Freivalds, "Probabilistic machines can use less running time", IFIP 1977): for random signs x, C·x must equal
A·(B·x), computed in float64 for what the stored operands are. The draw comes after the work, so nothing can know
which product is going to be looked at. Checking happens inside the window: its time is part of the price.

What a check can see: with V independent sign vectors, a product with any element wrong by more than the tolerance
passes with probability at most 2^-V (flipping the sign that meets this element moves the residual by twice the error,
so at most one of the two signs can hide it). The tolerance is what rounding may do: see `tolerance`.

Standard library and NumPy only. The clock is passed in; so is everything that is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PROTOCOL_VERSION = "1"
# Few vectors and many products looked at: for the same time, a second product sees more than a second vector.
FREIVALDS_VECTORS = 2
CHECKS_PER_BATCH = 1

NIGHTLY_WINDOW_S = 600.0
ACCEPTANCE_WINDOW_S = 3600.0
# How long after the announced start a first batch may begin; later is a late start and counts zero.
LATE_START_S = 0.25
# A rounding error this many times the expected one is no rounding error.
_SAFETY = 8.0

# Unit roundoff of a precision's stored values and of its accumulator (fp16 and bf16 products accumulate in fp32).
_ROUNDOFF = {"fp64": (2.0**-53, 2.0**-53), "fp32": (2.0**-24, 2.0**-24)} | {
    "bf16": (2.0**-9, 2.0**-24),
    "fp16": (2.0**-11, 2.0**-24),
}
PRECISIONS = tuple(_ROUNDOFF)

Pair = tuple[int, int]
Signs = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """C[m,n] = A[m,k] · B[k,n]; a multiply-add counts as two operations."""

    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        return 2 * self.m * self.n * self.k


class Clock(Protocol):
    def now_s(self) -> float:
        """Epoch seconds that never run backwards."""
        ...

    def sleep_until(self, at_s: float) -> None: ...


class Workload(Protocol):
    """Products of one shape on one device (or one group of CPU devices working as one)."""

    @property
    def shape(self) -> Shape: ...

    @property
    def precision(self) -> str: ...

    @property
    def products_per_batch(self) -> int: ...

    @property
    def operand_sets(self) -> int:
        """How many A and how many B there are; together they are larger than the last-level cache."""
        ...

    def run_batch(self, pairs: Sequence[Pair]) -> None:
        """Product i of A[pairs[i][0]] and B[pairs[i][1]] into slot i; returns when the device has finished them all."""
        ...

    def residual(self, slot: int, pair: Pair, signs: Signs) -> float:
        """Largest |C·x - A·(B·x)| over rows and columns of `signs` (n by V), in float64. NaN where C is not finite."""
        ...


class Verdict(StrEnum):
    """Whether a device's window counts, and if not, why not. The words are stable: reports translate them."""

    OK = "ok"
    LATE_START = "late_start"
    ZERO_WORK = "zero_work"
    NOT_FINITE = "not_finite"
    WRONG_PRODUCT = "wrong_product"
    INTERRUPTED = "interrupted"
    DEVICE_ERROR = "device_error"
    UNAVAILABLE = "unavailable"
    NO_RESULT = "no_result"
    WRONG_DTYPE = "wrong_dtype"
    TF32_ON = "tf32_on"
    NOT_SYNCHRONISED = "not_synchronised"
    CONSTANT_INPUTS = "constant_inputs"
    CLOCK_SKEW = "clock_skew"
    OVER_CLOCK_BOUND = "over_clock_bound"
    DIGEST_MISMATCH = "digest_mismatch"
    DEVICE_FAULT = "device_fault"


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What was decided before the window. `start_at_s` None: as soon as it is warm. `warmup_s` is the least time.

    From NIGHTLY_WINDOW_S on, warming goes on until batch rates are steady (`is_steady`) or `warmup_limit_s` is over.
    """

    window_s: float
    seed: int
    start_at_s: float | None = None
    warmup_s: float = 0.5
    warmup_limit_s: float = 300.0


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """What one device did in its window. `flop` is what was verified, whatever the verdict; `counted_flop` what counts.

    `batch_flops` holds the rate of every counted batch in FLOP/s, without the time of its check. `steady` is None where
    the window is too short to ask.
    """

    verdict: Verdict
    detail: str
    flop: int
    window_s: float
    start_s: float
    elapsed_s: float
    warmup_s: float
    steady: bool | None
    batches: int
    products: int
    samples: int
    batch_flops: tuple[float, ...]
    check_s: float

    @property
    def counted_flop(self) -> int:
        return self.flop if self.verdict is Verdict.OK else 0


def sustained_flops(outcomes: Sequence[WindowOutcome], window_s: float) -> float:
    """R_sus = sum of F_i / W in FLOP/s: one denominator for all, also for those that count zero."""
    if not (math.isfinite(window_s) and window_s > 0):
        raise ValueError(f"a window lasts some seconds, not {window_s}")
    if any(o.window_s != window_s for o in outcomes):
        raise ValueError("rates of different windows have no common denominator")
    return sum(o.counted_flop for o in outcomes) / window_s


def window_label(window_s: float) -> str:
    """`smoke` under 600 s, `nightly` under 3,600 s, `acceptance` from there."""
    if window_s < NIGHTLY_WINDOW_S:
        return "smoke"
    return "nightly" if window_s < ACCEPTANCE_WINDOW_S else "acceptance"


def tolerance(shape: Shape, precision: str) -> float:
    """Largest residual that rounding explains, for N(0,1) operands and random signs.

    An element of C is a sum of k terms of size 1, so about sqrt(k); storing it errs by u_out·sqrt(k), accumulating it
    by at most about u_acc·sqrt(k)·sqrt(k) (random-walk bound; N. Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., 4.2). A row's n elements meet random signs and add up like sqrt(n).
    """
    u_out, u_acc = _ROUNDOFF[precision]
    return _SAFETY * math.sqrt(shape.n * shape.k) * (u_out + u_acc * math.sqrt(shape.k))


def detection_probability(products_per_batch: int) -> float:
    """Chance that one product, wrong by more than the tolerance, fails its batch: drawn, and seen when drawn."""
    drawn = min(1.0, CHECKS_PER_BATCH / products_per_batch)
    return drawn * (1.0 - 2.0**-FREIVALDS_VECTORS)


def detection_over_window(samples: int, corrupt_share: float) -> float:
    """Chance that a device which spoils this share of its products is found out within `samples` checks."""
    return float(1.0 - (1.0 - corrupt_share * (1.0 - 2.0**-FREIVALDS_VECTORS)) ** samples)


def quantile(values: Sequence[float], q: float) -> float | None:
    """Linear quantile; None of nothing."""
    return float(np.quantile(np.asarray(values), q)) if len(values) else None


def is_steady(ends_s: Sequence[float], rates: Sequence[float]) -> bool:
    """Whether the mean rates of the last two 30 s spans differ by under 0.25%, which is 0.5% a minute."""
    if not len(ends_s) or ends_s[-1] - ends_s[0] < 60.0:
        return False
    ends, values = np.asarray(ends_s), np.asarray(rates)
    last = values[ends > ends[-1] - 30.0]
    before = values[(ends > ends[-1] - 60.0) & (ends <= ends[-1] - 30.0)]
    if not len(last) or not len(before):
        return False
    return bool(abs(last.mean() / before.mean() - 1.0) < 0.0025)


def run_window(
    workload: Workload,
    clock: Clock,
    plan: WindowPlan,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda share: None,
) -> WindowOutcome:
    """Warm up, wait for the start, work and verify until the window ends. Never raises for what the device does.

    `stop` is asked between batches: when it says True the outcome is INTERRUPTED and holds what was verified so far.
    `progress` gets the elapsed share of the window, 0 to 1.
    """
    return _Window(workload, clock, plan, stop, progress).run()


class _Window:
    """The loop's own state. One use."""

    def __init__(
        self,
        workload: Workload,
        clock: Clock,
        plan: WindowPlan,
        stop: Callable[[], bool],
        progress: Callable[[float], None],
    ) -> None:
        if not (math.isfinite(plan.window_s) and plan.window_s > 0):
            raise ValueError(f"a window lasts some seconds, not {plan.window_s}")
        self._workload = workload
        self._clock = clock
        self._plan = plan
        self._stop = stop
        self._progress = progress
        self._rng = np.random.default_rng(plan.seed)
        self._tolerance = tolerance(workload.shape, workload.precision)
        self._flop = 0
        self._products = 0
        self._samples = 0
        self._rates: list[float] = []
        self._check_s = 0.0
        self._warmup_s = 0.0
        self._steady: bool | None = None
        self._start_s = 0.0

    def run(self) -> WindowOutcome:
        try:
            armed_s = self._clock.now_s()
            self._warm_up(armed_s)
            self._warmup_s = self._clock.now_s() - armed_s
            announced = self._plan.start_at_s
            if announced is not None and not self._stop():
                self._clock.sleep_until(announced)
            begun = self._clock.now_s()
            self._start_s = begun if announced is None else announced
            late_s = begun - self._start_s
            if late_s > LATE_START_S:
                return self._outcome(Verdict.LATE_START, f"ready {late_s:.2f} s after the announced start")
            return self._work(self._start_s + self._plan.window_s)
        except Exception as error:  # a device's library raises whatever it likes; the device counts zero, others go on
            text = str(error).strip().splitlines()
            return self._outcome(Verdict.DEVICE_ERROR, f"{type(error).__name__}: {text[0] if text else 'no message'}")

    def _draw_pairs(self) -> list[Pair]:
        drawn = self._rng.integers(0, self._workload.operand_sets, size=(self._workload.products_per_batch, 2))
        return [(int(a), int(b)) for a, b in drawn]

    def _warm_up(self, armed_s: float) -> None:
        """Batches that count for nothing, and one check, so that no code path is first met inside the window."""
        plan = self._plan
        ends: list[float] = []
        rates: list[float] = []
        long_window = plan.window_s >= NIGHTLY_WINDOW_S
        slowest_s = 0.0
        while not self._stop():
            begun = self._clock.now_s()
            pairs = self._draw_pairs()
            self._workload.run_batch(pairs)
            ended = self._clock.now_s()
            if not ends:
                self._workload.residual(0, pairs[0], self._signs())
            ends.append(ended)
            rates.append(1.0 / max(ended - begun, 1e-9))
            now = self._clock.now_s()
            slowest_s = max(slowest_s, now - begun)
            if long_window:
                self._steady = is_steady(ends, rates)
            if plan.start_at_s is not None:
                if now + 1.5 * slowest_s >= plan.start_at_s:
                    return
            elif now - armed_s >= plan.warmup_s and (
                not long_window or self._steady or now - armed_s >= plan.warmup_limit_s
            ):
                return

    def _signs(self) -> Signs:
        flips = self._rng.integers(0, 2, size=(self._workload.shape.n, FREIVALDS_VECTORS))
        return (flips * 2 - 1).astype(np.float64)

    def _work(self, end_s: float) -> WindowOutcome:
        per_product = self._workload.shape.flop
        while True:
            if self._stop():
                done_s = max(0.0, self._clock.now_s() - self._start_s)
                return self._outcome(
                    Verdict.INTERRUPTED, f"stopped after {done_s:.1f} s of {self._plan.window_s:g} s; not a full window"
                )
            pairs = self._draw_pairs()
            begun = self._clock.now_s()
            if begun >= end_s:
                break
            self._workload.run_batch(pairs)
            ended = self._clock.now_s()
            if ended > end_s:
                break
            failed = self._check(pairs)
            checked = self._clock.now_s()
            self._check_s += checked - ended
            if failed is not None:
                return failed
            if checked > end_s:
                break
            self._flop += per_product * len(pairs)
            self._products += len(pairs)
            self._rates.append(per_product * len(pairs) / max(ended - begun, 1e-9))
            self._progress(min(1.0, (checked - self._start_s) / self._plan.window_s))
        self._progress(1.0)
        if not self._flop:
            return self._outcome(Verdict.ZERO_WORK, "no batch was finished and verified inside the window")
        return self._outcome(Verdict.OK, "")

    def _check(self, pairs: list[Pair]) -> WindowOutcome | None:
        """None when the drawn products pass."""
        drawn = self._rng.choice(len(pairs), size=min(CHECKS_PER_BATCH, len(pairs)), replace=False)
        for slot in (int(s) for s in drawn):
            self._samples += 1
            residual = self._workload.residual(slot, pairs[slot], self._signs())
            where = f"product {self._products + slot} (check {self._samples})"
            if not math.isfinite(residual):
                return self._outcome(Verdict.NOT_FINITE, f"{where} holds NaN or Inf")
            if residual > self._tolerance:
                return self._outcome(
                    Verdict.WRONG_PRODUCT,
                    f"{where}: residual {residual:.3g} is over the tolerance {self._tolerance:.3g}",
                )
        return None

    def _outcome(self, verdict: Verdict, detail: str) -> WindowOutcome:
        return WindowOutcome(
            verdict=verdict,
            detail=detail,
            flop=self._flop,
            window_s=self._plan.window_s,
            start_s=self._start_s,
            elapsed_s=max(0.0, self._clock.now_s() - self._start_s) if self._start_s else 0.0,
            warmup_s=self._warmup_s,
            steady=self._steady,
            batches=len(self._rates),
            products=self._products,
            samples=self._samples,
            batch_flops=tuple(self._rates),
            check_s=self._check_s,
        )
