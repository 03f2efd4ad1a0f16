"""A sample of cards: who is drawn, and how often the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.history.sampling import CannotEstimate, Unit, choose, estimate, strata_of, t_quantile


def fleet(
    racks: int = 6, nodes_a_rack: int = 4, models: tuple[str, ...] = ("fast", "slow"), cards: int = 8
) -> list[Unit]:
    return [
        Unit(f"{model}-{rack}-{node}", "here", model, f"{model}-r{rack}", cards)
        for model in models
        for rack in range(racks)
        for node in range(nodes_a_rack)
    ]


def rates(units: list[Unit], rng: np.random.Generator) -> dict[str, float]:
    """GFLOP/s of whole units: models differ, racks a little, cards too."""
    rack = {u.rack: rng.normal(0, 0.02) for u in units}
    base = {"fast": 700_000.0, "slow": 250_000.0}
    answer = {}
    for u in units:
        cards = base[u.model] * (1 + rack[u.rack] + rng.normal(0, 0.015, u.cards))
        answer[u.name] = float(cards.sum())
    return answer


@pytest.mark.parametrize(("wanted", "cards"), [(12, 8), (20, 8), (30, 1), (8, 8)])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(wanted: int, cards: int) -> None:
    units = fleet(cards=cards)
    rng = np.random.default_rng(12)
    held, rounds = 0, 400
    errors = []
    for round_ in range(rounds):
        truth = rates(units, rng)
        total = sum(truth.values()) / 1e6
        sample = choose(units, wanted, seed=round_)
        made = estimate(units, {u.name: truth[u.name] for u in sample})
        held += made.low_pflops <= total <= made.high_pflops
        errors.append(made.pflops / total - 1.0)
    # 95% are stated; 400 rounds tell it to about 2 points, and collapsed strata err on the wide side.
    assert 0.92 <= held / rounds <= 1.0
    assert abs(np.mean(errors)) < 0.002


@given(st.integers(2, 60), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_sample_is_of_the_size_asked_for_and_sees_every_model(wanted: int, seed: int, racks: int, nodes: int) -> None:
    units = fleet(racks, nodes)
    sample = choose(units, wanted, seed=seed)
    assert len(sample) == len({u.name for u in sample}) == min(wanted, len(units))
    assert {u.model for u in sample} == {"fast", "slow"}
    assert sample == choose(units, wanted, seed=seed)
    strata = strata_of(units, wanted)
    for mine in strata.values():
        assert set(mine) & set(sample)


def test_neyman_looks_more_closely_where_cards_differ_more() -> None:
    units = fleet(racks=1, nodes_a_rack=40)
    plain = choose(units, 20, seed=1)
    close = choose(units, 20, seed=1, spread={("here", "fast", ""): 9.0, ("here", "slow", ""): 1.0})
    assert sum(u.model == "fast" for u in plain) == 10
    assert sum(u.model == "fast" for u in close) == 18


def test_what_was_run_entirely_is_no_estimate() -> None:
    units = fleet(2, 2)
    truth = rates(units, np.random.default_rng(1))
    made = estimate(units, truth)
    assert made.low_pflops == made.pflops == made.high_pflops == pytest.approx(sum(truth.values()) / 1e6)
    assert (made.sampled, made.cards) == (64, 64)


def test_a_stratum_of_which_one_was_run_takes_its_models_spread_and_says_so() -> None:
    units = fleet(3, 4)
    truth = rates(units, np.random.default_rng(3))
    sample = [u for u in units if u.name.endswith("-0")]  # one node of each rack
    made = estimate(units, {u.name: truth[u.name] for u in sample})
    assert made.low_pflops < made.pflops < made.high_pflops
    assert "collapsed" in made.method
    assert "extrapolated" in made.method


def test_a_model_of_which_one_was_run_takes_the_spread_of_the_others() -> None:
    units = fleet(1, 4)
    sample = {"fast-0-0": 5_600_000.0, "fast-0-1": 5_700_000.0, "slow-0-0": 2_000_000.0}
    made = estimate(units, sample)
    assert made.high_pflops > made.low_pflops


@pytest.mark.parametrize(
    ("ran", "told"),
    [
        ({}, "no card was run"),
        ({"fast-0-0": 1.0, "fast-0-1": 2.0}, "no slow at here"),
        ({"fast-0-0": 1.0, "slow-0-0": 1.0}, "two units"),
    ],
)
def test_what_cannot_be_estimated_says_what_is_missing(ran: dict[str, float], told: str) -> None:
    with pytest.raises(CannotEstimate, match=told):
        estimate(fleet(1, 4), ran)


def test_fewer_than_there_are_models_are_refused() -> None:
    with pytest.raises(CannotEstimate, match="ask for 2 or more"):
        choose(fleet(), 1, seed=0)


@pytest.mark.parametrize(
    ("freedom", "value"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5.5, 2.5026), (10, 2.2281), (30, 2.0423), (1e9, 1.9600)],
)
def test_students_quantiles(freedom: float, value: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(value, abs=2e-3)
