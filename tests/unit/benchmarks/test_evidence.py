"""Evidence is a type: like adds to like and nothing else."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evidence import Extrapolated, Measured, MeasuredOn, Nominal, Rate, Simulated, total

ONE_OF_EACH: tuple[Rate, ...] = (
    Nominal(1e15),
    Measured(1e15, MeasuredOn.ACCELERATOR),
    Measured(1e15, MeasuredOn.CPU),
    Extrapolated(1e15),
    Simulated(1e15),
)
amounts = st.floats(min_value=0, max_value=1e18)


@pytest.mark.parametrize(("left", "right"), list(itertools.permutations(ONE_OF_EACH, 2)))
def test_different_evidence_cannot_be_added(left: Rate, right: Rate) -> None:
    with pytest.raises(TypeError, match="different evidence"):
        left + right  # type: ignore[operator]


@pytest.mark.parametrize("rate", ONE_OF_EACH)
@pytest.mark.parametrize("bare", [0, 1.0, "1"])
def test_a_bare_number_is_no_evidence(rate: Rate, bare: object) -> None:
    with pytest.raises(TypeError):
        rate + bare  # type: ignore[operator]
    with pytest.raises(TypeError):
        bare + rate  # type: ignore[operator]
    with pytest.raises(TypeError):
        sum([rate])  # type: ignore[type-var]


@given(a=amounts, b=amounts)
def test_like_adds_to_like_and_keeps_its_kind(a: float, b: float) -> None:
    assert Nominal(a) + Nominal(b) == Nominal(a + b)
    assert Simulated(a) + Simulated(b) == Simulated(a + b)
    assert Extrapolated(a) + Extrapolated(b) == Extrapolated(a + b)
    for on in MeasuredOn:
        assert Measured(a, on) + Measured(b, on) == Measured(a + b, on)


@given(st.lists(amounts, max_size=20))
def test_a_total_is_the_sum_and_an_empty_one_has_its_kind(values: list[float]) -> None:
    zero = Measured(0.0, MeasuredOn.ACCELERATOR)
    summed = total(zero, [Measured(v, MeasuredOn.ACCELERATOR) for v in values])
    assert summed.on is MeasuredOn.ACCELERATOR
    assert math.isclose(summed.flops, math.fsum(values), rel_tol=1e-9, abs_tol=1e-6)


def test_a_total_refuses_a_stranger_among_its_rates() -> None:
    with pytest.raises(TypeError):
        total(Nominal(0.0), [Nominal(1.0), Simulated(1.0)])  # type: ignore[list-item]


def test_only_an_accelerators_measured_rate_counts() -> None:
    assert [r.counts_towards_goal for r in ONE_OF_EACH] == [False, True, False, False, False]


@pytest.mark.parametrize("flops", [math.nan, math.inf, -1.0])
def test_a_rate_is_finite_and_not_negative(flops: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Nominal(flops)


@pytest.mark.parametrize("flops", [True, "1", None])
def test_a_rate_is_a_number(flops: object) -> None:
    with pytest.raises(TypeError):
        Nominal(flops)  # type: ignore[arg-type]


def test_powers_of_ten() -> None:
    assert (Nominal(7e17).pflops, Nominal(7e17).gflops) == (700.0, 7e8)
