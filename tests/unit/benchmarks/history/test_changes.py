"""Change points: the statistic against its paper written down plainly, the shared test against permuting, and what is
found and made up on made-up nights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evidence import EvidenceKind
from benchmarks.history.changes import FIRST_NIGHTS, benjamini_hochberg, change_points
from benchmarks.history.energy import MIN_NIGHTS, Floats, best_splits, normal_scores
from benchmarks.history.findings import Series
from benchmarks.history.nights import Nights
from benchmarks.history.nulls import LONGEST, drawn, p_values

DAY_S = 86_400.0


def plainly(z: Floats, alpha: float, least: int) -> tuple[float, int, int]:
    """Equations (5) to (7) of the paper, word by word."""
    best = (-np.inf, 0, 0)
    for tau in range(least, len(z) - least + 1):
        for kappa in range(tau + least, len(z) + 1):
            x, y = z[:tau], z[tau:kappa]
            n, m = len(x), len(y)
            between = sum(abs(a - b) ** alpha for a in x for b in y)
            in_x = sum(abs(x[i] - x[k]) ** alpha for i in range(n) for k in range(i + 1, n))
            in_y = sum(abs(y[j] - y[k]) ** alpha for j in range(m) for k in range(j + 1, m))
            energy = 2 / (m * n) * between - in_x / (n * (n - 1) / 2) - in_y / (m * (m - 1) / 2)
            q = m * n / (m + n) * energy
            if q > best[0] + 1e-9:
                best = (q, tau, kappa)
    return best


@given(
    st.integers(6, 14).flatmap(lambda n: st.lists(st.floats(-100, 100, width=32), min_size=n, max_size=n)),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.integers(2, 3),
)
def test_the_statistic_is_the_papers(values: list[float], alpha: float, least: int) -> None:
    z = np.array(values)
    found = best_splits(z[None, :], alpha=alpha, min_nights=least)
    q, _, _ = plainly(z, alpha, least)
    assert found.q[0] == pytest.approx(q, abs=1e-6)
    # Of splits that tie any may be told; what is told has the statistic that it is told with.
    told = plainly_at(z, alpha, int(found.tau[0]), int(found.kappa[0]))
    assert told == pytest.approx(q, abs=1e-6)


def plainly_at(z: Floats, alpha: float, tau: int, kappa: int) -> float:
    x, y = z[:tau], z[tau:kappa]
    n, m = len(x), len(y)
    between = (np.abs(x[:, None] - y) ** alpha).mean()
    in_x = (np.abs(x[:, None] - x) ** alpha).sum() / (n * (n - 1))
    in_y = (np.abs(y[:, None] - y) ** alpha).sum() / (m * (m - 1))
    return float(m * n / (m + n) * (2 * between - in_x - in_y))


def test_series_looked_at_together_are_found_as_alone() -> None:
    rows = np.random.default_rng(3).normal(size=(300, 40))
    rows[:, 25:] += 2.0
    together = best_splits(rows)
    for i in (0, 17, 299):
        alone = best_splits(rows[i : i + 1])
        assert (together.tau[i], together.kappa[i]) == (alone.tau[0], alone.kappa[0])
    assert abs(np.median(together.tau) - 25) <= 1


def test_kappa_finds_a_level_that_comes_and_goes() -> None:
    z = np.concatenate([np.zeros(20), np.full(10, 5.0), np.zeros(20)]) + np.random.default_rng(1).normal(size=50) * 0.1
    found = best_splits(z[None, :])
    assert (found.tau[0], found.kappa[0]) == (20, 30)


@pytest.mark.parametrize(("alpha", "least"), [(0.0, 3), (2.0, 3), (-1.0, 3), (1.0, 1)])
def test_what_the_statistic_is_not_defined_for_is_refused(alpha: float, least: int) -> None:
    with pytest.raises(ValueError, match=r"alpha|at least two"):
        best_splits(np.zeros((1, 20)), alpha=alpha, min_nights=least)


def test_too_few_nights_are_no_split() -> None:
    found = best_splits(np.zeros((2, 2 * MIN_NIGHTS - 1)))
    assert np.all(np.isneginf(found.q))
    assert list(p_values(found.q, found.tau, found.kappa, 5)) == [1.0, 1.0]


@pytest.mark.parametrize("nights", [16, 33, 64])
def test_the_shared_distribution_is_what_permuting_gives(nights: int) -> None:
    """Off the table's grid, too: the share of permuted series under each level is that level."""
    q = drawn(nights, 4_000, np.random.default_rng(11))
    middle = np.full(len(q), nights // 2, np.intp)
    p = p_values(q, middle, np.full(len(q), nights, np.intp), nights)
    for level in (0.5, 0.1, 0.05, 0.01):
        error = 4 * np.sqrt(level * (1 - level) / len(q))
        assert np.mean(p <= level) == pytest.approx(level, abs=error + 0.05 * level)


def test_beyond_the_table_the_chance_goes_on_falling_but_never_under_that_of_the_arrangement() -> None:
    q = np.array([5.0, 10.0, 15.0, 25.0, 1e6])
    p = p_values(q, np.full(5, 45, np.intp), np.full(5, 90, np.intp), 90)
    assert np.all(np.diff(p) < 0)
    assert p[3] < 1e-6
    few = p_values(np.array([1e6]), np.array([3]), np.array([6]), 6)
    assert few[0] >= 1 / 20  # 3! 3! / 6!
    with pytest.raises(ValueError, match=str(LONGEST)):
        p_values(q, np.full(5, 45, np.intp), np.full(5, 90, np.intp), LONGEST + 1)


def test_ties_share_their_rank() -> None:
    scores = normal_scores(np.array([[5.0, 1.0, 5.0, 9.0]]))[0]
    assert scores[0] == scores[2]
    assert scores[1] < scores[0] < scores[3]
    assert scores[1] == pytest.approx(-scores[3])


def test_benjamini_and_hochberg_step_up() -> None:
    """Their own example: 15 p-values of which 4 are discovered at 0.05."""
    p = np.array(
        [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1,
        ]
    )
    assert np.count_nonzero(p <= benjamini_hochberg(p, 0.05)) == 4
    assert benjamini_hochberg(np.ones(5), 0.05) == -1.0
    assert benjamini_hochberg(np.empty(0), 0.05) == -1.0


# ---- over nights -------------------------------------------------------------------------------------------------


def nights(values: Floats) -> Nights:
    count = len(values)
    series = tuple(Series(EvidenceKind.SIMULATED, "gemm", "bf16", "here", "m", "", f"c{i}") for i in range(count))
    at_s = DAY_S * np.arange(values.shape[1])
    runs = tuple(f"n{t}" for t in range(values.shape[1]))
    return Nights(EvidenceKind.SIMULATED, at_s, runs, series, (None,) * count, ("GFLOP/s",) * count, values)


def calm(cards: int, count: int, seed: int = 5, noise: float = 0.005) -> Floats:
    return 1000.0 * (1.0 + noise * np.random.default_rng(seed).normal(size=(cards, count)))


def test_a_step_is_found_with_its_night_and_size() -> None:
    values = calm(200, 60)
    values[7, 40:] *= 0.95
    (change,) = change_points(nights(values))
    assert (change.series.device, change.at_s) == ("c7", 40 * DAY_S)
    assert change.relative == pytest.approx(-0.05, abs=0.005)
    assert (change.nights_before, change.nights_after) == (40, 20)
    assert change.p_value < 1e-6


def test_several_steps_are_found_one_by_one() -> None:
    values = calm(50, 90)
    values[3, 30:] *= 0.95
    values[3, 60:] *= 1.10
    assert [round(c.at_s / DAY_S) for c in change_points(nights(values))] == [30, 60]


def test_missing_nights_are_missing_and_no_level() -> None:
    values = calm(50, 60)
    values[0, 20:35] = np.nan
    assert change_points(nights(values)) == ()
    values[0, 35:] *= 0.95
    (change,) = change_points(nights(values))
    assert (change.at_s, change.nights_before, change.nights_after) == (35 * DAY_S, 20, 25)


def test_a_change_under_two_percent_is_none_however_sure_it_is() -> None:
    values = calm(50, 90, noise=0.0005)
    values[0, 45:] *= 0.985
    assert change_points(nights(values)) == ()
    assert len(change_points(nights(values), magnitude=0.01)) == 1


def test_one_bad_night_is_no_change_of_level() -> None:
    values = calm(50, 60)
    values[0, 30] *= 0.5
    assert change_points(nights(values)) == ()


def test_fewer_than_two_weeks_are_no_series() -> None:
    values = calm(5, FIRST_NIGHTS - 1, noise=0.0001)
    values[:, 7:] *= 0.8
    assert change_points(nights(values)) == ()


def test_nothing_is_made_up_where_nothing_changes() -> None:
    assert change_points(nights(calm(1000, 60, noise=0.02))) == ()


def test_a_constant_series_is_fine() -> None:
    assert change_points(nights(np.full((20, 30), 7.0))) == ()
