"""How sure a total is, what energy it took, what would close the gap, and who is slow or left out."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.capacity.arithmetic import GoalCapacity, WhyNone, goal_capacity
from benchmarks.capacity.as_json import age_days
from benchmarks.capacity.cards import BINS, WhyExcluded
from benchmarks.history.store import StoredResult
from benchmarks.inventory import Node
from benchmarks.protocol import Verdict
from tests.fakes.bench_records import CATALOGUE, T0, goal, record, simulated, stored
from tests.fakes.capacity_reports import DAY_S, SUBNODE, devices, measured


def capacity(*results: StoredResult, cards: str = "ab", **more: Any) -> GoalCapacity:
    nodes = [Node("edge-0", SUBNODE, "ready", False, devices(*cards))]
    return goal_capacity(more.get("goal", goal()), nodes, CATALOGUE, results)


def test_the_interval_is_of_batches_that_move_together() -> None:
    """600 s are 20 spans of 30 s; (p95 - p5) / 3.29 is the deviation; no clock offset."""
    rates = {"batch_gflops_p5": 790_000.0, "batch_gflops_p95": 822_900.0, "clock_offset_s": 0.0}
    g = capacity(*(measured(name, 800_000, T0, **rates) for name in "ab"))
    assert g.interval is not None
    reach = 2 * 1.96 * 10_000 / 20**0.5 / 1e6
    assert g.interval.low_pflops == pytest.approx(1.6 - reach)
    assert g.interval.high_pflops == pytest.approx(1.6 + reach)


def test_a_clock_that_is_off_widens_the_interval() -> None:
    flat = {"batch_gflops_p5": 800_000.0, "batch_gflops_p95": 800_000.0}
    g = capacity(measured("a", 800_000, T0, **flat, clock_offset_s=-0.03))
    assert g.interval is not None
    assert g.interval.high_pflops - 0.8 == pytest.approx(0.8 * 0.03 / 600)


def test_without_every_cards_batch_rates_there_is_no_interval() -> None:
    assert capacity(measured("a", 8e5, T0), measured("b", 8e5, T0, batch_gflops_p5=None)).interval is None
    assert capacity().interval is None


def test_energy_of_a_failed_card_is_spent_and_its_work_is_not_counted() -> None:
    wrong = {"verified": False, "verdict": Verdict.WRONG_PRODUCT, "reason": "residual"}
    g = capacity(measured("a", 800_000, T0), measured("b", 0.0, T0, **wrong))
    assert g.energy_joules.value == 780_000.0
    assert g.gflops_per_watt.value == pytest.approx(800_000 * 600 / 780_000)


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ([], WhyNone.NO_WINDOW),
        ([stored(record("a"))], WhyNone.ENERGY_NOT_READ),
        ([measured("a", 8e5, T0, energy_quality="simulated")], WhyNone.ENERGY_NOT_READ),
    ],
)
def test_energy_that_was_not_read_is_none_with_a_reason(results: list[StoredResult], why: WhyNone) -> None:
    g = capacity(*results)
    assert (g.energy_joules.value, g.energy_joules.reason) == (None, why)
    assert (g.gflops_per_watt.value, g.gflops_per_watt.reason) == (None, why)


def test_what_is_missing_in_cards_of_each_model_at_its_measured_rate() -> None:
    g = capacity(measured("a", 800_000, T0), measured("b", 600_000, T0), goal=goal(pflops=10.0))
    (row,) = g.missing_cards
    assert (row.model, row.gflops_each, row.cards) == ("H100 SXM", 700_000, 13)  # 8.6 PFlops at 0.7 each
    assert capacity(measured("a", 800_000, T0), goal=goal(pflops=0.5)).missing_cards == ()
    assert capacity().missing_cards == ()


def test_verified_cards_stand_slowest_first_by_their_models_median() -> None:
    g = capacity(*(measured(n, 800_000 - 1_000 * i, T0) for i, n in enumerate("abc")), cards="abc")
    assert [(c.uuid, round(c.of_median, 4)) for c in g.cards] == [("c", 0.9987), ("b", 1.0), ("a", 1.0013)]


def test_the_spread_counts_every_verified_card_once() -> None:
    g = capacity(*(measured(n, 700_000 + 10_000 * i, T0) for i, n in enumerate("abcdef")), cards="abcdefgh")
    (row,) = g.models
    assert row.spread is not None
    assert (len(row.spread.counts), sum(row.spread.counts)) == (BINS, 6)
    assert (row.min_gflops, row.max_gflops) == (row.spread.low_gflops, row.spread.high_gflops) == (700_000, 750_000)


def test_equal_cards_are_one_bin_and_no_shape() -> None:
    (row,) = capacity(measured("a", 8e5, T0), measured("b", 8e5, T0)).models
    assert row.spread is not None
    assert max(row.spread.counts) == 2
    assert row.spread.low_gflops < 8e5 < row.spread.high_gflops


def test_an_exclusion_has_the_age_of_its_last_verified_figure() -> None:
    g = capacity(measured("b", 8e5, T0 - 3 * DAY_S), measured("a", 8e5, T0))
    (left,) = g.exclusions
    assert (left.uuid, left.why) == ("b", WhyExcluded.NOT_IN_WINDOW)
    assert age_days(left.last_verified_at_s, T0 + 640) == pytest.approx(3.0)
    assert age_days(None, T0) is None


@pytest.mark.parametrize("workload", ["training-step", "attention", "memory-bandwidth"])
def test_only_the_product_of_matrices_stands_against_a_goal(workload: str) -> None:
    other = measured("a", 900_000, T0, workload=workload)
    made_up = stored(simulated("s", 900_000, workload=workload))
    nodes = [Node("e", SUBNODE, "ready", False, devices("a")), Node("sim", SUBNODE, "ready", True, devices("s"))]
    g = goal_capacity(goal(), nodes, CATALOGUE, [other, made_up])
    assert (g.measured.rate.pflops, g.simulated.devices, g.window) == (0.0, 0, None)
