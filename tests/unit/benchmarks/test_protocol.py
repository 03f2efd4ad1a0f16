"""The arithmetic of a window: tolerances, odds, bounds, labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.products import draw_signs, expected_sides, golden_operands, judge, set_columns
from benchmarks.protocol import (
    FREIVALDS_SETS,
    FREIVALDS_VECTORS,
    PIECES_PER_CHECK,
    PRECISIONS,
    Shape,
    Verdict,
    WindowPlan,
    batch_target_s,
    checks_for,
    clock_bound,
    detection_over_window,
    detection_probability,
    is_steady,
    tolerance,
    window_label,
)

SIDE = 24
SHAPE = Shape(SIDE, SIDE, SIDE)


def residual(a: np.ndarray, b: np.ndarray, c: np.ndarray, x: np.ndarray) -> float:
    return float(np.abs(c.astype(np.float64) @ x - expected_sides(a, b, x)).max())


# ---- the odds ------------------------------------------------------------------------------------------------------


def test_detection_probability_is_that_of_being_drawn_and_seen() -> None:
    assert detection_probability(1) == 1 - 2.0**-FREIVALDS_VECTORS
    assert detection_probability(16) == pytest.approx((1 - 2.0**-FREIVALDS_VECTORS) / 16)
    assert detection_probability(4 * PIECES_PER_CHECK) == pytest.approx(detection_probability(PIECES_PER_CHECK))
    assert [checks_for(n) for n in (1, 256, 257, 1024)] == [1, 1, 2, 4]


def test_odds_over_a_window_are_those_of_an_error_that_is_always_the_same() -> None:
    """Slightly below what independent signs would give, for sets of signs are used again."""
    assert detection_over_window(0, 0.01) == 0.0
    independent = 1 - (1 - 0.01 * 0.75) ** 1000
    assert 0.99 < detection_over_window(1000, 0.01) < independent
    assert detection_over_window(10**6, 1.0) == pytest.approx(1 - 2.0 ** -(FREIVALDS_VECTORS * FREIVALDS_SETS))


@given(
    row=st.integers(0, SIDE - 1), column=st.integers(0, SIDE - 1), size=st.floats(1.05, 1e6), seed=st.integers(0, 2**32)
)
def test_an_element_wrong_by_more_than_the_tolerance_is_missed_by_at_most_one_of_two_signs(
    row: int, column: int, size: float, seed: int
) -> None:
    """The bound behind the published odds: x and x with one sign turned cannot both hide the error."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, SIDE, SIDE)).astype(np.float32)
    allowed = tolerance(SHAPE, "fp32")
    c = a @ b
    c[row, column] += np.float32(size * allowed * 1.1)
    x = rng.choice([-1.0, 1.0], size=(SIDE, 1))
    turned = x.copy()
    turned[column] *= -1
    assert max(residual(a, b, c, x), residual(a, b, c, turned)) > allowed


@given(seed=st.integers(0, 2**32))
def test_a_right_product_is_within_the_tolerance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, SIDE, SIDE)).astype(np.float32)
    signs = draw_signs(rng, SIDE)
    gaps = (a @ b).astype(np.float64) @ signs - expected_sides(a, b, signs)
    assert judge(gaps, (a @ b).reshape(-1).astype(np.float64), SHAPE, "fp32") is None


def test_integer_products_are_exact() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(-127, 128, size=(2, 64, 64))
    signs, shape = draw_signs(rng, 64), Shape(64, 64, 64)
    c = a @ b
    assert judge(c @ signs - expected_sides(a, b, signs), c.reshape(-1).astype(float), shape, "int8") is None
    c[3, 4] += 1
    fault = judge(c @ signs - expected_sides(a, b, signs), c.reshape(-1).astype(float), shape, "int8")
    assert fault is not None
    assert (fault.verdict, tolerance(shape, "int8")) == (Verdict.WRONG_PRODUCT, 0.0)


def test_sets_of_signs_share_no_column() -> None:
    columns = [column for k in range(FREIVALDS_SETS) for column in range(*set_columns(k).indices(1000))]
    assert columns == list(range(FREIVALDS_SETS * FREIVALDS_VECTORS))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_golden_product_is_exact_in_any_order(precision: str) -> None:
    largest = 1 if precision == "fp8" else 7
    a, b = golden_operands(64, 48, 96, largest=largest)
    left, right = a.astype(np.int64), b.astype(np.int64)
    backwards = left[:, ::-1] @ right[::-1]
    assert np.array_equal(left @ right, backwards)
    assert np.abs(backwards).max() < (2**13 if precision == "fp8" else 2**24)
    assert np.array_equal(a, golden_operands(64, 48, 96, largest=largest)[0])


# ---- bounds and labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "clock", "per_clock", "said", "verdict"),
    [
        (1.02e15, 1830.0, 540_672.0, "over", Verdict.OVER_CLOCK_BOUND),
        (1.0e15, 1830.0, 560_000.0, "ok", None),
        (0.989e15, 1830.0, 540_672.0, "ok", None),
        (1.0e15, None, 540_672.0, "not checked: nobody could read the clock", None),
        (1.0e15, 1830.0, None, "not checked: the catalogue has no FLOP per clock", None),
    ],
)
def test_a_rate_over_its_clock_is_impossible(
    rate: float, clock: float | None, per_clock: float | None, said: str, verdict: Verdict | None
) -> None:
    told, fault = clock_bound(rate, clock, per_clock)
    assert told.startswith(said)
    assert (fault and fault.verdict) == verdict


@pytest.mark.parametrize(
    ("window_s", "label"),
    [(1, "smoke"), (599.9, "smoke"), (600, "nightly"), (3599, "nightly"), (3600, "acceptance")],
)
def test_labels(window_s: float, label: str) -> None:
    assert window_label(window_s) == label


@pytest.mark.parametrize(("window_s", "batches"), [(5.0, 250), (600.0, 2400), (3600.0, 7200)])
def test_a_window_has_so_many_batches_that_a_record_of_all_stays_small(window_s: float, batches: int) -> None:
    assert window_s / batch_target_s(window_s) == pytest.approx(batches)


@pytest.mark.parametrize(("drift_a_minute", "steady"), [(0.0, True), (0.004, True), (0.007, False), (-0.01, False)])
def test_steady_is_under_half_a_percent_a_minute(drift_a_minute: float, steady: bool) -> None:
    ends = [float(i) for i in range(121)]
    rates = [100.0 * (1 + drift_a_minute * t / 60) for t in ends]
    assert is_steady(ends, rates) is steady
    assert is_steady(ends[:59], rates[:59]) is False


@pytest.mark.parametrize("window_s", [0.0, -1.0, math.nan, math.inf, 4201.0])
def test_a_window_lasts_some_seconds(window_s: float) -> None:
    with pytest.raises(ValueError, match="window"):
        WindowPlan(window_s, 1)
