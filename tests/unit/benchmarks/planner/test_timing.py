"""Durations, their quantiles, and how they grow."""

from __future__ import annotations

import gc

import pytest

from benchmarks.planner.timing import (
    Elapsed,
    Samples,
    growth_exponent,
    reference_loop,
    reference_step_s,
    repeated,
    timed,
)


def test_quantiles_are_of_the_samples() -> None:
    samples = Samples.of([Elapsed(i / 100, i / 200) for i in range(101)])
    assert (samples.p50_s, samples.p99_s, samples.worst_s, len(samples)) == (0.5, 0.99, 1.0, 101)
    assert samples.told() == {
        "p50_ms": 500.0,
        "p99_ms": 990.0,
        "worst_ms": 1000.0,
        "cpu_p50_ms": 250.0,
        "cpu_p99_ms": 495.0,
    }


def test_times_of_parts_add_up() -> None:
    assert Elapsed(1.0, 0.5) + Elapsed(2.0, 0.25) == Elapsed(3.0, 0.75)


def test_nothing_timed_is_no_figure() -> None:
    with pytest.raises(AssertionError, match="nothing was timed"):
        Samples.of([])


@pytest.mark.parametrize("collecting", [True, False])
def test_the_collector_is_off_while_a_call_is_timed_and_as_it_was_afterwards(collecting: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        during, elapsed = timed(gc.isenabled)
        assert (during, gc.isenabled()) == (False, collecting)
        assert elapsed.wall_s > 0
        assert elapsed.cpu_s >= 0
    finally:
        (gc.enable if before else gc.disable)()


def test_the_collector_comes_back_after_a_call_that_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        timed(lambda: 1 / 0)
    assert gc.isenabled()


def test_warm_up_calls_are_made_and_not_counted() -> None:
    calls: list[int] = []
    seen: list[int] = []
    shares: list[float] = []
    samples = repeated(lambda: calls.append(1) or len(calls), 3, warmup=2, between=seen.append, each=shares.append)
    assert (len(samples), len(calls), seen, shares[-1]) == (3, 5, [1, 2, 3, 4, 5], 1.0)


@pytest.mark.parametrize(
    ("seconds", "exponent"),
    [
        ({125: 1.0, 1_250: 10.0, 12_500: 100.0}, 1.0),
        ({125: 3.0, 1_250: 3.0, 12_500: 3.0}, 0.0),
        ({10: 1.0, 100: 100.0}, 2.0),
        ({10: 4.0, 1_000: 40.0}, 0.5),
    ],
)
def test_growth_is_the_power_of_the_size(seconds: dict[int, float], exponent: float) -> None:
    assert growth_exponent(seconds) == pytest.approx(exponent)


def test_one_size_shows_no_growth() -> None:
    with pytest.raises(AssertionError):
        growth_exponent({125: 1.0})


def test_the_reference_loop_is_the_same_work_everywhere() -> None:
    scores = [i * 7_919 % 10_007 for i in range(1_250)]
    row = 0
    for _ in range(1_000):
        row = scores.index(min(scores))
        scores[row] += 10_007
    assert reference_loop() == reference_loop() == row
    assert 0 < reference_step_s(repeats=1) < 1
