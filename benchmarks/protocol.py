"""What is a window, when does it count, and how sure is its verification? The words and the arithmetic.

For one precision, over a window of W seconds that all devices share: R_sus = sum of F_i / W, where
F_i = 2*m*n*k times the products that device i finished *and had verified* inside the window. W is the denominator for
every device, whatever it did with the time: one that starts late, finishes nothing, yields NaN or fails verification
counts zero, with the reason. Other workloads count their own FLOP or bytes by a stated formula, in the same way.

The loop that does this is `window.py`; what comes before it (inputs looked at, sizes of batches) is `arming.py`.

What a check can see (R. Freivalds, "Probabilistic machines can use less running time", IFIP 1977): with V independent
sign vectors, a product with any element wrong by more than the tolerance passes with probability at most 2^-V
(flipping the sign that meets this element moves the residual by twice the error, so at most one of the two signs can
hide it). The tolerance is what rounding may do: see `tolerance`.

Standard library and NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

PROTOCOL_VERSION = "2"
FREIVALDS_VECTORS = 2
# Sets of sign vectors, drawn anew for each window; which of them meets a product is drawn after the product.
FREIVALDS_SETS = 16
# A check looks at one of at most so many pieces of work.
PIECES_PER_CHECK = 256

NIGHTLY_WINDOW_S = 600.0
ACCEPTANCE_WINDOW_S = 3600.0
# A batch's times are kept in unsigned 32-bit microseconds.
LONGEST_WINDOW_S = 4200.0
# How long after the announced start a first batch may begin; later is a late start and counts zero.
LATE_START_S = 0.25
# How far a node's clock may be from the coordinator's, with the uncertainty of knowing it.
CLOCK_SKEW_S = 0.05
# What a rate may be above mean clock x FLOP per clock.
CLOCK_BOUND_MARGIN = 0.02
# A rounding error this many times the expected one is no rounding error.
_SAFETY = 8.0

# Unit roundoff of (what the units make of an operand, the stored product, its accumulator). Operands count as they are
# stored, except TF32's: those are fp32 numbers of which the units take 10 bits. bf16, fp16 and fp8 accumulate in fp32;
# for fp8 13 bits are granted, as Hopper's tensor cores keep about 14 (DeepSeek-V3 technical report, 3.3.2), and its
# product is stored as bf16. int8 products accumulate in int32 and are exact.
_ROUNDOFF = {
    "fp64": (0.0, 2.0**-53, 2.0**-53),
    "fp32": (0.0, 2.0**-24, 2.0**-24),
    "tf32": (2.0**-11, 2.0**-24, 2.0**-24),
    "bf16": (0.0, 2.0**-9, 2.0**-24),
    "fp16": (0.0, 2.0**-11, 2.0**-24),
    "fp8": (0.0, 2.0**-9, 2.0**-13),
    "int8": (0.0, 0.0, 0.0),
}
PRECISIONS = tuple(_ROUNDOFF)


@dataclass(frozen=True, slots=True)
class Shape:
    """C[m,n] = A[m,k] · B[k,n]; a multiply-add counts as two operations."""

    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        return 2 * self.m * self.n * self.k


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
class Fault:
    """Why a window does not count."""

    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What was decided before the window. `start_at_s` None: as soon as it is warm. `warmup_s` is the least time.

    `ramp_at_s` is when this device's rack begins to draw power: until then an armed device rests. From NIGHTLY_WINDOW_S
    on, warming goes on until batch rates are steady (`is_steady`) or `warmup_limit_s` is over.
    """

    window_s: float
    seed: int
    start_at_s: float | None = None
    warmup_s: float = 0.5
    warmup_limit_s: float = 300.0
    ramp_at_s: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.window_s) and 0 < self.window_s <= LONGEST_WINDOW_S):
            raise ValueError(f"a window lasts some seconds, at most {LONGEST_WINDOW_S:g}, not {self.window_s}")


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch that was run, in whole microseconds: begun so long after the window's start, worked, checked."""

    began_us: int
    busy_us: int
    check_us: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the device's own counters say of the window. None where nobody could read it; `note` says why.

    `energy_quality` is `measured` or `simulated`. `held_back_share`: of the readings, those in which something held the
    clock down. `ecc_uncorrected` and `faults` are what the window added.
    """

    energy_joules: float | None = None
    energy_quality: str | None = None
    mean_power_watts: float | None = None
    mean_clock_megahertz: float | None = None
    peak_temperature_celsius: float | None = None
    held_back_share: float | None = None
    ecc_uncorrected: int | None = None
    faults: int | None = None
    driver: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """What one device did in its window. `amount` (FLOP, or bytes) is what was verified, whatever the verdict;
    `counted` what counts.

    `batches` holds those that were verified inside the window. `steady` is None where the window is too short to ask.
    `pieces_per_batch` is 0 where it never came to batches; of `pieces_per_check` pieces a check draws.
    """

    verdict: Verdict
    detail: str
    amount: int
    window_s: float
    start_s: float
    elapsed_s: float
    warmup_s: float
    steady: bool | None
    batches: tuple[Batch, ...]
    pieces_per_batch: int
    amount_per_batch: int
    samples: int
    check_s: float
    pieces_per_check: int = 1
    arming_s: float = 0.0
    digest: str | None = None
    clock_bound: str | None = None
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def counted(self) -> int:
        return self.amount if self.verdict is Verdict.OK else 0

    @property
    def products(self) -> int:
        return self.pieces_per_batch * len(self.batches)

    @property
    def batch_rates(self) -> tuple[float, ...]:
        """Amount a second of each batch's work, without its check."""
        return tuple(self.amount_per_batch * 1e6 / max(batch.busy_us, 1) for batch in self.batches)


def window_label(window_s: float) -> str:
    """`smoke` under 600 s, `nightly` under 3,600 s, `acceptance` from there."""
    if window_s < NIGHTLY_WINDOW_S:
        return "smoke"
    return "nightly" if window_s < ACCEPTANCE_WINDOW_S else "acceptance"


def batch_target_s(window_s: float) -> float:
    """How long a batch should take: a window has some 60 to 2,400 of them, so that a record of all stays small."""
    return max(0.005, min(0.02, window_s / 60.0), min(0.5, window_s / 2400.0))


def tolerance(shape: Shape, precision: str) -> float:
    """Largest residual that rounding explains, for N(0,1) operands and random signs. 0 for int8: it is exact.

    An element of C is a sum of k terms of size 1, so about sqrt(k); storing it errs by u_out·sqrt(k), accumulating it
    by at most about u_acc·sqrt(k)·sqrt(k) (random-walk bound; N. Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., 4.2), operands that the units cut by u_in each by u_in·sqrt(2k). A row's n elements meet
    random signs and add up like sqrt(n).
    """
    u_in, u_out, u_acc = _ROUNDOFF[precision]
    relative = u_out + u_acc * math.sqrt(shape.k) + u_in * math.sqrt(2.0)
    return _SAFETY * math.sqrt(shape.n * shape.k) * relative


def roundoff(precision: str) -> float:
    """Relative error of one stored value that was computed in this precision: the largest of its roundoffs."""
    return max(_ROUNDOFF[precision])


def checks_for(pieces: int) -> int:
    """How many of so many pieces are looked at: one of each PIECES_PER_CHECK, at least one."""
    return max(1, math.ceil(pieces / PIECES_PER_CHECK))


def detection_probability(pieces: int) -> float:
    """Chance that one product of the `pieces` between two checks, wrong by more than the tolerance, is found: drawn,
    and seen when drawn."""
    return min(1.0, checks_for(pieces) / pieces) * (1.0 - 2.0**-FREIVALDS_VECTORS)


def detection_over_window(samples: int, corrupt_share: float) -> float:
    """Chance that a device which spoils this share of its products is found out within `samples` checks.

    The worst case: it makes the same error each time, so that a set of signs that hides it once hides it always. Of the
    window's FREIVALDS_SETS sets, h hide it with a binomial probability; the other checks are independent.
    """
    hides = 2.0**-FREIVALDS_VECTORS
    missed = 0.0
    for hidden in range(FREIVALDS_SETS + 1):
        chance = math.comb(FREIVALDS_SETS, hidden) * hides**hidden * (1.0 - hides) ** (FREIVALDS_SETS - hidden)
        missed += chance * (1.0 - corrupt_share * (1.0 - hidden / FREIVALDS_SETS)) ** samples
    return max(0.0, 1.0 - missed)


def clock_bound(rate: float, clock_megahertz: float | None, per_clock: float | None) -> tuple[str, Fault | None]:
    """`ok`, `over` or `not checked: ` and why; a rate (FLOP/s) over mean clock x FLOP per clock + 2% is impossible."""
    if per_clock is None:
        return "not checked: the catalogue has no FLOP per clock for this card and precision", None
    if clock_megahertz is None:
        return "not checked: nobody could read the clock", None
    bound = clock_megahertz * 1e6 * per_clock * (1.0 + CLOCK_BOUND_MARGIN)
    if rate <= bound:
        return "ok", None
    detail = f"{rate / 1e12:.4g} TFLOP/s at a mean of {clock_megahertz:.0f} MHz; at most {bound / 1e12:.4g} can be done"
    return "over", Fault(Verdict.OVER_CLOCK_BOUND, detail)


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
