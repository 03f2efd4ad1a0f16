"""One window, with everything that can go wrong put into it on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.protocol import (
    FREIVALDS_VECTORS,
    Pair,
    Shape,
    Signs,
    Verdict,
    WindowOutcome,
    WindowPlan,
    detection_over_window,
    detection_probability,
    is_steady,
    quantile,
    run_window,
    sustained_flops,
    tolerance,
    window_label,
)
from benchmarks.workloads.gemm import host_residual

SIDE = 24
BATCH_S = 0.1
SHAPE = Shape(SIDE, SIDE, SIDE)


@dataclass
class ManualClock:
    """Time passes only where the workload or a sleep says so."""

    time_s: float = 1_000.0
    oversleeps_s: float = 0.0

    def now_s(self) -> float:
        return self.time_s

    def sleep_until(self, at_s: float) -> None:
        self.time_s = max(self.time_s, at_s) + self.oversleeps_s


@dataclass
class Multiplier:
    """Real products of small fp32 matrices; each batch takes BATCH_S of the manual clock. `fault` spoils them."""

    clock: ManualClock
    fault: Callable[[Multiplier, Sequence[Pair]], None] | None = None
    fault_from_batch: int = 0
    products_per_batch: int = 4
    operand_sets: int = 5
    batch_s: float = BATCH_S
    precision: str = "fp32"
    shape: Shape = SHAPE
    batches: int = 0
    c: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        self.a = [rng.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(self.operand_sets)]
        self.b = [rng.standard_normal((SIDE, SIDE)).astype(np.float32) for _ in range(self.operand_sets)]
        self.c = [np.zeros((SIDE, SIDE), np.float32) for _ in range(self.products_per_batch)]

    def run_batch(self, pairs: Sequence[Pair]) -> None:
        self.clock.time_s += self.batch_s
        self.batches += 1
        if self.fault is not None and self.batches > self.fault_from_batch:
            self.fault(self, pairs)
            return
        self.multiply(pairs)

    def multiply(self, pairs: Sequence[Pair]) -> None:
        for slot, (a, b) in enumerate(pairs):
            np.matmul(self.a[a], self.b[b], out=self.c[slot])

    def residual(self, slot: int, pair: Pair, signs: Signs) -> float:
        return host_residual(self.a[pair[0]], self.b[pair[1]], self.c[slot], signs)


def window(
    fault: Callable[[Multiplier, Sequence[Pair]], None] | None = None,
    *,
    window_s: float = 10.0,
    seed: int = 1,
    start_at_s: float | None = None,
    oversleeps_s: float = 0.0,
    **more: object,
) -> WindowOutcome:
    clock = ManualClock(oversleeps_s=oversleeps_s)
    workload = Multiplier(clock, fault, **more)  # type: ignore[arg-type]
    return run_window(workload, clock, WindowPlan(window_s, seed, start_at_s))


# ---- what counts ---------------------------------------------------------------------------------------------------


def test_a_sound_window_counts_every_verified_product_over_the_whole_window() -> None:
    outcome = window(window_s=10.0)
    per_batch = 4 * 2 * SIDE**3
    assert outcome.verdict is Verdict.OK
    assert 98 <= outcome.batches <= 100  # 0.1 s each
    assert outcome.flop == outcome.batches * per_batch
    assert outcome.samples == outcome.batches
    assert outcome.products == 4 * outcome.batches
    assert sustained_flops([outcome], 10.0) == outcome.flop / 10.0
    assert quantile(outcome.batch_flops, 0.5) == pytest.approx(per_batch / BATCH_S)


def test_a_batch_that_ends_after_the_window_does_not_count() -> None:
    outcome = window(window_s=1.0, batch_s=0.4)
    assert (outcome.verdict, outcome.batches) == (Verdict.OK, 2)


def test_the_window_is_the_denominator_for_all_devices_also_for_those_that_failed() -> None:
    good, bad = window(), window(lambda w, pairs: None)
    assert sustained_flops([good, bad], 10.0) == good.flop / 10.0
    assert sustained_flops([good, good], 10.0) == pytest.approx(2 * good.flop / 10.0)


def test_rates_of_different_windows_have_no_common_denominator() -> None:
    with pytest.raises(ValueError, match="denominator"):
        sustained_flops([window(window_s=10.0), window(window_s=5.0)], 10.0)


# ---- what is injected, and what it must lead to --------------------------------------------------------------------


def one_element(size: float) -> Callable[[Multiplier, Sequence[Pair]], None]:
    def spoil(w: Multiplier, pairs: Sequence[Pair]) -> None:
        w.multiply(pairs)
        for c in w.c:
            c[3, 5] += size

    return spoil


def no_product(w: Multiplier, pairs: Sequence[Pair]) -> None:
    """Returns at once, the results of earlier batches still in place."""


def same_operands(w: Multiplier, pairs: Sequence[Pair]) -> None:
    w.multiply([(0, 0)] * len(pairs))


def half_precision(w: Multiplier, pairs: Sequence[Pair]) -> None:
    for slot, (a, b) in enumerate(pairs):
        w.c[slot][:] = w.a[a].astype(np.float16) @ w.b[b].astype(np.float16)


def tf32(w: Multiplier, pairs: Sequence[Pair]) -> None:
    """Operands cut to ten bits of mantissa, as TF32 does."""

    def cut(m: np.ndarray) -> np.ndarray:
        return (m.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    for slot, (a, b) in enumerate(pairs):
        w.c[slot][:] = cut(w.a[a]) @ cut(w.b[b])


def not_a_number(w: Multiplier, pairs: Sequence[Pair]) -> None:
    w.multiply(pairs)
    for c in w.c:
        c[0, 0] = math.nan


def infinite(w: Multiplier, pairs: Sequence[Pair]) -> None:
    w.multiply(pairs)
    for c in w.c:
        c[-1, -1] = math.inf


def lost(w: Multiplier, pairs: Sequence[Pair]) -> None:
    raise RuntimeError("device lost\nlong trace")


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (one_element(1.0), Verdict.WRONG_PRODUCT),
        (no_product, Verdict.WRONG_PRODUCT),
        (same_operands, Verdict.WRONG_PRODUCT),
        (half_precision, Verdict.WRONG_PRODUCT),
        (tf32, Verdict.WRONG_PRODUCT),
        (not_a_number, Verdict.NOT_FINITE),
        (infinite, Verdict.NOT_FINITE),
        (lost, Verdict.DEVICE_ERROR),
    ],
)
@pytest.mark.parametrize("from_batch", [0, 40])
def test_a_fault_makes_the_device_count_zero(
    fault: Callable[[Multiplier, Sequence[Pair]], None], verdict: Verdict, from_batch: int
) -> None:
    outcome = window(fault, fault_from_batch=from_batch)
    assert (outcome.verdict, outcome.counted_flop) == (verdict, 0)
    assert outcome.detail
    assert "\n" not in outcome.detail
    assert sustained_flops([outcome], 10.0) == 0.0


def test_a_window_without_a_finished_batch_is_zero_work() -> None:
    outcome = window(window_s=1.0, batch_s=1.5)
    assert (outcome.verdict, outcome.counted_flop) == (Verdict.ZERO_WORK, 0)


@pytest.mark.parametrize(("oversleeps_s", "verdict"), [(0.0, Verdict.OK), (0.2, Verdict.OK), (0.3, Verdict.LATE_START)])
def test_a_late_start_counts_zero(oversleeps_s: float, verdict: Verdict) -> None:
    outcome = window(start_at_s=1_002.0, oversleeps_s=oversleeps_s)
    assert outcome.verdict is verdict
    if verdict is Verdict.OK:
        assert outcome.start_s == 1_002.0  # the announced start, not the device's own


def test_arming_past_the_announced_start_is_a_late_start() -> None:
    assert window(start_at_s=999.0).verdict is Verdict.LATE_START


def test_a_stop_leaves_what_was_verified_and_says_so() -> None:
    clock = ManualClock()
    workload = Multiplier(clock)
    outcome = run_window(workload, clock, WindowPlan(10.0, 1), stop=lambda: clock.time_s > 1_003.0)
    assert outcome.verdict is Verdict.INTERRUPTED
    assert outcome.flop > 0
    assert outcome.counted_flop == 0
    assert "of 10 s; not a full window" in outcome.detail


def test_the_seed_alone_decides_what_is_drawn() -> None:
    drawn: dict[int, list[Sequence[Pair]]] = {}

    def note(seed: int) -> Callable[[Multiplier, Sequence[Pair]], None]:
        def work(w: Multiplier, pairs: Sequence[Pair]) -> None:
            drawn.setdefault(seed, []).append(list(pairs))
            w.multiply(pairs)

        return work

    window(note(1), seed=1)
    first = drawn.pop(1)
    window(note(1), seed=1)
    window(note(2), seed=2)
    assert drawn[1] == first
    assert drawn[2] != first


# ---- the odds ------------------------------------------------------------------------------------------------------


def test_detection_probability_is_that_of_being_drawn_and_seen() -> None:
    assert detection_probability(1) == 1 - 2.0**-FREIVALDS_VECTORS
    assert detection_probability(16) == pytest.approx((1 - 2.0**-FREIVALDS_VECTORS) / 16)
    assert detection_over_window(0, 0.01) == 0.0
    assert detection_over_window(1000, 0.01) > 0.999


def test_the_published_odds_are_what_is_seen() -> None:
    """One of four products spoilt in one batch: found about as often as published, over 300 seeds."""

    def spoil_one(w: Multiplier, pairs: Sequence[Pair]) -> None:
        w.multiply(pairs)
        if w.batches == 9:
            w.c[2][1, 1] += 1.0

    found = sum(window(spoil_one, seed=s, window_s=1.0).verdict is Verdict.WRONG_PRODUCT for s in range(300))
    # Every row of C but one is right, so one element meets both sign vectors and is seen by either: nearly always.
    assert 300 * detection_probability(4) * 0.7 < found < 300 * 0.25 * 1.4


@given(
    row=st.integers(0, SIDE - 1), column=st.integers(0, SIDE - 1), size=st.floats(1.05, 1e6), seed=st.integers(0, 2**32)
)
def test_an_element_wrong_by_more_than_the_tolerance_is_missed_by_at_most_one_of_two_signs(
    row: int, column: int, size: float, seed: int
) -> None:
    """The bound behind the published odds: x and x with one sign turned cannot both hide the error."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, SIDE, SIDE)).astype(np.float32)
    allowed = tolerance(Shape(SIDE, SIDE, SIDE), "fp32")
    c = a @ b
    c[row, column] += np.float32(size * allowed * 1.1)
    x = rng.choice([-1.0, 1.0], size=(SIDE, 1))
    turned = x.copy()
    turned[column] *= -1
    assert max(host_residual(a, b, c, x), host_residual(a, b, c, turned)) > allowed


@given(seed=st.integers(0, 2**32))
def test_a_right_product_is_within_the_tolerance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, SIDE, SIDE)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], size=(SIDE, FREIVALDS_VECTORS))
    assert host_residual(a, b, a @ b, signs) <= tolerance(Shape(SIDE, SIDE, SIDE), "fp32")


@pytest.mark.parametrize(
    ("window_s", "label"),
    [(1, "smoke"), (599.9, "smoke"), (600, "nightly"), (3599, "nightly"), (3600, "acceptance")],
)
def test_labels(window_s: float, label: str) -> None:
    assert window_label(window_s) == label


@pytest.mark.parametrize(("drift_a_minute", "steady"), [(0.0, True), (0.004, True), (0.007, False), (-0.01, False)])
def test_steady_is_under_half_a_percent_a_minute(drift_a_minute: float, steady: bool) -> None:
    ends = [float(i) for i in range(121)]
    rates = [100.0 * (1 + drift_a_minute * t / 60) for t in ends]
    assert is_steady(ends, rates) is steady
    assert is_steady(ends[:59], rates[:59]) is False


def test_a_long_window_warms_until_it_is_steady() -> None:
    clock = ManualClock()
    workload = Multiplier(clock, batch_s=5.0)
    outcome = run_window(workload, clock, WindowPlan(600.0, 1))
    assert outcome.steady is True
    assert 60 <= outcome.warmup_s <= 80


@pytest.mark.parametrize("window_s", [0.0, -1.0, math.nan, math.inf])
def test_a_window_lasts_some_seconds(window_s: float) -> None:
    with pytest.raises(ValueError, match="window"):
        window(window_s=window_s)
