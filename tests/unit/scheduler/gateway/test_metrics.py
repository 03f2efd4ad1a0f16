"""Quantiles from logarithmic buckets against the sorted truth."""

from __future__ import annotations

import random

import pytest

from scheduler.gateway.metrics import GROWTH, LogHistogram


@pytest.mark.parametrize("q", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_within_half_a_bucket(q: float) -> None:
    rng = random.Random(5)
    values = [rng.lognormvariate(-6, 1.5) for _ in range(2000)]
    histogram = LogHistogram()
    for value in values:
        histogram.add(value)
    truth = sorted(values)[max(0, -(-int(q * 100) * len(values) // 100) - 1)]
    assert histogram.quantile_s(q) == pytest.approx(truth, rel=GROWTH - 1)


def test_nothing_counted_is_none_and_not_zero() -> None:
    assert LogHistogram().summary_ms() == {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None, "max": None}


def test_extremes_count_in_the_outermost_buckets() -> None:
    histogram = LogHistogram()
    for value in (0.0, 1e-9, 1e9):
        histogram.add(value)
    assert histogram.count == 3
    assert histogram.quantile_s(0.5) == 1e-5
    assert (histogram.quantile_s(1.0) or 0) > 900
