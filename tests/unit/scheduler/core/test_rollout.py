"""When a new version is given up, and what a service's parts add up to."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.jobs import Canary
from scheduler.core.rollout import (
    EARLY_LIMIT,
    Deployed,
    Figures,
    Rollout,
    Version,
    VersionState,
    binomial_tail,
    fisher,
    judge,
)

CANARY = Canary((10, 100), 60.0, 50)


def word(new: Figures, old: Figures, *, lasted_s: float = 60.0, slo: bool = True, before: Figures | None = None) -> str:
    verdict = judge(CANARY, new, old, before or old, lasted_s=lasted_s, has_slo=slo)
    return f"{verdict.word} {verdict.what}".strip()


@pytest.mark.parametrize(
    ("new", "old", "lasted_s", "said"),
    [
        (Figures(100, 0), Figures(900, 0), 60, "go on"),
        (Figures(100, 0), Figures(900, 0), 59, "wait"),
        (Figures(30, 0), Figures(900, 0), 60, "wait"),  # too few
        (Figures(30, 0), Figures(900, 0), 600, "go on"),  # and there will be no more
        (Figures(0, 0), Figures(0, 0), 600, "go on"),
        (Figures(95, 5), Figures(899, 1), 60, "go back errors"),
        (Figures(95, 5), Figures(850, 50), 60, "go on"),  # the old one is no better
        (Figures(98, 2), Figures(895, 5), 30, "wait"),  # worse, perhaps; not surely
        (Figures(10, 10), Figures(180, 0), 5, "go back errors"),
        (Figures(0, 3), Figures(0, 0), 60, "go back errors"),  # nothing is known of the old one: 1 % is usual
        (Figures(100, 0, 10), Figures(900, 0, 2), 60, "go back late answers"),
        (Figures(100, 0, 10), Figures(900, 0, 90), 60, "go on"),  # so was the old one
        (Figures(10_000, 0, 60), Figures(90_000, 0, 100), 60, "go on"),  # worse, and within the SLO
    ],
)
def test_the_rule(new: Figures, old: Figures, lasted_s: float, said: str) -> None:
    assert word(new, old, lasted_s=lasted_s) == said


def test_lateness_counts_only_where_there_is_an_slo() -> None:
    assert word(Figures(100, 0, 100), Figures(900), slo=False) == "go on"


def test_at_the_last_step_the_old_version_is_what_it_was_before() -> None:
    assert word(Figures(95, 5), Figures(), before=Figures(5_000, 5)) == "go back errors"
    assert word(Figures(95, 5), Figures(), before=Figures(5_000, 300)) == "go on"


def test_it_says_why_with_numbers() -> None:
    verdict = judge(CANARY, Figures(95, 5), Figures(899, 1), Figures(899, 1), lasted_s=60, has_slo=False)
    assert verdict.text.startswith("errors: 5 of 100 (5.00%) of the new version, 1 of 900 (0.11%) of the old one")
    assert "and 0.05 is the limit" in verdict.text


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_fisher_is_what_counting_gives(bad: int, good: int, other_bad: int, other_good: int) -> None:
    of, other_of = bad + good, other_bad + other_good
    total, total_bad = of + other_of, bad + other_bad
    chance = sum(
        math.comb(of, k) * math.comb(other_of, total_bad - k) for k in range(bad, min(of, total_bad) + 1)
    ) / math.comb(total, total_bad)
    found = fisher(bad, of, other_bad, other_of)
    if bad * total <= total_bad * of:
        assert found == 1.0
    else:
        assert found == pytest.approx(chance, rel=1e-6)


@given(st.integers(0, 40), st.integers(0, 200), st.floats(0.001, 0.5))
def test_the_binomial_tail_is_what_counting_gives(bad: int, good: int, usual: float) -> None:
    of = bad + good
    chance = math.fsum(math.comb(of, k) * usual**k * (1 - usual) ** (of - k) for k in range(bad, of + 1))
    found = binomial_tail(bad, of, usual)
    assert found == (1.0 if bad <= of * usual else pytest.approx(min(1.0, chance), rel=1e-6, abs=1e-300))


def test_large_counts_cost_little() -> None:
    assert fisher(60_000, 1_000_000, 50_000, 1_000_000) < EARLY_LIMIT
    assert binomial_tail(1_000_000, 90_000_000, 0.01) < EARLY_LIMIT


def test_an_equal_version_is_seldom_given_up_though_it_is_looked_at_a_hundred_times() -> None:
    """2 % of errors on both sides, a hundred looks of ten requests each: far fewer than one in twenty is given up
    early."""
    rng = random.Random(7)
    given_up = 0
    for _ in range(300):
        new, old = Figures(), Figures()
        for look in range(100):
            bad, other = (sum(rng.random() < 0.02 for _ in range(n)) for n in (10, 90))
            new, old = new.plus(Figures(10 - bad, bad)), old.plus(Figures(90 - other, other))
            if judge(CANARY, new, old, old, lasted_s=look * 0.5, has_slo=False).word == "go back":
                given_up += 1
                break
    assert given_up <= 10


words = st.sampled_from(["starting", "canary", "live", "stopped", "rolled back", "failed", "gone"])


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_weights_add_up_to_all_or_to_nothing(states: list[VersionState], data: st.DataObject) -> None:
    seen_live = False
    versions = []
    for number, state in enumerate(states, start=1):
        if state == "live" and seen_live:
            state = "stopped"
        seen_live |= state == "live"
        versions.append(Version(number, str(number), "", 0.0, state))
    live = next((each for each in versions if each.state == "live"), None)
    rollout = None
    if live is not None and len(versions) > 1 and data.draw(st.booleans()):
        to = data.draw(st.sampled_from([each.number for each in versions if each is not live]))
        rollout = Rollout(to, live.number, Canary((5, 25, 100)), 0.0, data.draw(st.integers(-1, 2)))
    service = Deployed("studio", "svc", tuple(versions), rollout)
    weights = [service.weight(each.number) for each in versions]
    assert sum(weights) == (1000 if live is not None else 0)
    assert all(0 <= each <= 1000 for each in weights)
    assert Deployed("studio", "svc", tuple(versions), rollout, deleted=True).weight(1) == 0
