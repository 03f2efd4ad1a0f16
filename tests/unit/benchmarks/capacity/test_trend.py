"""Which window stands, what a night is, and when a trend may be continued: as tables."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.arithmetic import goal_capacity
from benchmarks.capacity.trend import MIN_NIGHTS, Outlook, end_of_day_s, night_range, sen_slope, trend
from benchmarks.capacity.windows import Night, accepted_nights, shared_windows, standing
from benchmarks.history.which_night import DAY_S, night_of
from benchmarks.protocol import Verdict
from tests.fakes.bench_records import CATALOGUE, T0, failed, goal, record, stored
from tests.fakes.capacity_reports import measured, site_nodes, site_results

BF16 = ("bf16", "fp16")


def nights(*pflops: float, start_s: float = T0) -> list[Night]:
    return [Night(start_s + DAY_S * n, f"r{n}", "bf16", 600.0, p, 4, 4) for n, p in enumerate(pflops)]


def rising(count: int, step: float, first: float = 100.0) -> list[Night]:
    """Even growth with a wobble that no line explains."""
    return nights(*(first + step * n + 0.2 * step * ((n * 5) % 3) for n in range(count)))


# ---- the slope -----------------------------------------------------------------------------------------------------


def test_the_slope_is_the_median_of_pairs() -> None:
    """Gilbert 1987, example 16.2: yearly values 10, 15, 14, 20 have the pairwise slopes 5, 2, 3.33, -1, 2.5, 6."""
    slope, low, high = sen_slope(np.arange(4.0), np.array([10.0, 15.0, 14.0, 20.0]))
    assert slope == pytest.approx((2.5 + 10 / 3) / 2)
    assert low <= slope <= high


def test_the_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    days = np.arange(20.0)
    held = 0
    for _ in range(400):
        _, low, high = sen_slope(days, 0.3 * days + rng.normal(0, 1, 20))
        held += low <= 0.3 <= high
    assert 0.92 <= held / 400 <= 0.99


def test_one_bad_night_in_twenty_does_not_turn_the_slope() -> None:
    even = rising(20, 1.0)
    spoilt = [*even[:-1], Night(even[-1].at_s, "r", "bf16", 600.0, 1.0, 4, 1)]
    slopes = [
        trend(n, goal_pflops=700, due="2029-03-15", achieved_pflops=1).slope_pflops_per_day for n in (even, spoilt)
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.15)


@given(st.lists(st.floats(1.0, 1e3), min_size=4, max_size=25), st.floats(-5, 5))
def test_a_slope_that_is_added_is_found_again(values: list[float], added: float) -> None:
    days = np.arange(float(len(values)))
    before, after = sen_slope(days, np.array(values)), sen_slope(days, np.array(values) + added * days)
    assert before[1] <= before[0] <= before[2]
    assert after[0] == pytest.approx(before[0] + added, abs=1e-6)


# ---- what may be said ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "goal_pflops", "due", "outlook", "dated"),
    [
        ([], 700, "2029-03-15", Outlook.NO_NIGHTS, False),
        (rising(MIN_NIGHTS - 1, 1.0), 700, "2029-03-15", Outlook.TOO_FEW_NIGHTS, False),
        (rising(5, 1.0, 900.0), 700, "2029-03-15", Outlook.REACHED, False),
        (rising(20, 1.0, 900.0), 700, "2029-03-15", Outlook.REACHED, False),
        (nights(*([100.0] * 20)), 700, "2029-03-15", Outlook.FLAT, False),
        (nights(*(100 + (n * 7) % 5 for n in range(20))), 700, "2029-03-15", Outlook.FLAT, False),
        (rising(20, -1.0), 700, "2029-03-15", Outlook.FALLING, False),
        (rising(20, 1.0), 700, "2029-03-15", Outlook.TOO_FAR, False),  # 580 days on from 19 nights
        (rising(20, 1.0), 200, "2029-03-15", Outlook.BEFORE_DUE, True),
        (rising(20, 1.0), 200, "2027-02-10", Outlook.AFTER_DUE, True),
        (nights(*(100 + n + 12 * math.sin(n * n) for n in range(30))), 200, "2027-04-17", Outlook.AROUND_DUE, True),
    ],
)
def test_outlooks(told: list[Night], goal_pflops: float, due: str, outlook: Outlook, dated: bool) -> None:
    achieved = told[-1].pflops if told else 0.0
    made = trend(told, goal_pflops=goal_pflops, due=due, achieved_pflops=achieved)
    assert made.outlook is outlook
    assert (made.projected_at_s is not None) is dated
    if dated:
        assert made.earliest_at_s is not None
        assert made.projected_at_s is not None
        assert told[-1].at_s <= made.earliest_at_s <= made.projected_at_s
        assert made.latest_at_s is None or made.latest_at_s >= made.projected_at_s


def test_the_date_is_where_the_line_meets_the_goal() -> None:
    made = trend(nights(*(100.0 + n for n in range(20))), goal_pflops=150, due="2029-03-15", achieved_pflops=119)
    assert made.projected_at_s == pytest.approx(T0 + 50 * DAY_S)


def test_a_due_date_lasts_until_midnight_in_china() -> None:
    assert end_of_day_s("2027-12-31") == datetime(2027, 12, 31, 16, tzinfo=UTC).timestamp()


def test_the_range_of_nights_says_how_much_it_holds() -> None:
    assert night_range(nights(1.0, 2.0)) is None
    held = night_range(nights(*(float(n) for n in range(40))))
    assert held is not None
    assert (held.low_pflops, held.high_pflops, held.nights, held.holds_next) == (21.0, 39.0, 19, 0.9)


# ---- windows -------------------------------------------------------------------------------------------------------


def test_a_smoke_run_after_the_night_does_not_stand_in_its_place() -> None:
    night = [measured("a", 800_000, T0), measured("b", 800_000, T0)]
    smoke = stored(record("a", 900_000), run="smoke", at_s=T0 + 3_600)
    chosen, passed_over = standing(shared_windows([*night, smoke]), BF16)
    assert chosen is not None
    assert (chosen.run, len(chosen.results), passed_over) == (night[0].run, 2, 1)


def test_a_rerun_of_one_card_in_the_same_night_does_not_stand_in_its_place() -> None:
    night = [measured("a", 800_000, T0), measured("b", 700_000, T0)]
    again = stored(record("b", 800_000, window_s=600.0, window_start_s=T0 + 7_200), run="again", at_s=T0 + 7_900)
    chosen, passed_over = standing(shared_windows([*night, again]), BF16)
    assert chosen is not None
    assert (chosen.run, passed_over) == (night[0].run, 1)


def test_a_window_that_was_interrupted_takes_no_nights_place() -> None:
    night = [measured("a", 800_000, T0), measured("b", 700_000, T0)]
    stopped = [
        stored(failed(name, Verdict.INTERRUPTED, "stopped", window_s=600.0), run="stopped", at_s=T0 + at_s)
        for name in ("a", "b")
        for at_s in (3_600.0, DAY_S)
    ]
    for later in (stopped[::2], stopped[1::2]):
        chosen, passed_over = standing(shared_windows([*night, *later]), BF16)
        assert chosen is not None
        assert (chosen.run, passed_over) == (night[0].run, 1)
    assert len(accepted_nights(shared_windows([*night, *stopped]), "bf16")) == 1
    alone, _ = standing(shared_windows(stopped[::2]), BF16)
    assert alone is not None
    assert alone.run == "stopped"  # where there is nothing else, it is told


def test_of_equal_windows_the_newest_stands_never_the_fastest() -> None:
    first = stored(record("a", 900_000, window_s=600.0), run="first", at_s=T0)
    second = stored(record("a", 700_000, window_s=600.0), run="second", at_s=T0 + 700)
    chosen, _ = standing(shared_windows([second, first]), BF16)
    assert chosen is not None
    assert chosen.run == "second"


def test_an_accepted_night_is_a_full_window_with_a_verified_card() -> None:
    results = [
        measured("a", 800_000, T0),
        stored(record("a"), run="smoke", at_s=T0 + DAY_S),
        stored(failed("a", Verdict.LATE_START, "late", window_s=600.0), run="bad", at_s=T0 + 2 * DAY_S),
        measured("a", 810_000, T0 + 3 * DAY_S),
    ]
    told = accepted_nights(shared_windows(results), "bf16")
    assert [night.pflops for night in told] == [pytest.approx(0.8), pytest.approx(0.81)]


def test_a_night_lasts_from_noon_to_noon_in_china() -> None:
    evening, morning, noon = (datetime(2027, 1, d, h, tzinfo=UTC).timestamp() for d, h in ((1, 14), (2, 3), (2, 4)))
    assert night_of(evening) == night_of(morning) == night_of(noon) - 1


def test_a_site_has_its_nights_trend_and_range() -> None:
    g = goal_capacity(goal(), site_nodes(), CATALOGUE, site_results(nights=20))
    assert len(g.nights) == 20
    assert g.trend.outlook is Outlook.TOO_FAR
    assert g.night_range is not None
    assert g.night_range.low_pflops == g.nights[-1].pflops  # two cards did not count in the last night
