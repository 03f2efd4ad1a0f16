"""The control law: Erlang's formulas against tables, and what holds for every load."""

from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.autoscaling import (
    MISSES,
    MOST_BUSY,
    Decision,
    History,
    Sample,
    Scaling,
    decide,
    erlang_c,
    needed,
    servers_for,
)
from scheduler.simulation.autoscaling import TRACES, Trace, run

SCALING = Scaling(1, 50, slo_s=0.4, down_after_s=60.0)


@pytest.mark.parametrize(
    ("servers", "load", "waits"),
    [
        (1, 0.5, 0.5),  # M/M/1: the load itself
        (2, 1.0, 1 / 3),
        (10, 8.0, 0.4092),  # Cooper, "Introduction to Queueing Theory", 1981, and every table since
        (5, 3.0, 0.2362),
        (3, 0.0, 0.0),
        (3, 3.0, 1.0),
        (3, 9.0, 1.0),
    ],
)
def test_erlang_c(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits, abs=1e-4)


def test_erlang_c_of_many_servers_does_not_overflow() -> None:
    assert 0.0 < erlang_c(2_050, 2_000.0) < 1.0


@given(st.floats(0.01, 300.0), st.floats(0.001, 2.0), st.floats(0.0, 2.0))
def test_the_least_number_of_servers_that_keeps_the_promise(load: float, service_s: float, patience_s: float) -> None:
    def keeps(servers: int) -> bool:
        if load > MOST_BUSY * servers:
            return False
        return erlang_c(servers, load) * math.exp(-(servers - load) * patience_s / service_s) <= MISSES

    found = servers_for(load, service_s, patience_s, MISSES, at_most=2_000)
    assert keeps(found)
    assert found == 1 or not keeps(found - 1)


@given(st.floats(0.0, 1_000.0), st.floats(0.0, 1_000.0), st.floats(0.001, 1.0))
def test_more_load_never_needs_fewer(one: float, other: float, service_s: float) -> None:
    low, high = sorted((one, other))
    assert needed(low, service_s, SCALING) <= needed(high, service_s, SCALING)


@given(st.floats(0.1, 500.0), st.floats(0.001, 0.5), st.floats(0.01, 2.0), st.floats(0.01, 2.0))
def test_a_tighter_slo_never_needs_fewer(rate: float, service_s: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert needed(rate, service_s, Scaling(1, 500, low)) >= needed(rate, service_s, Scaling(1, 500, high))


def test_replicas_that_take_several_requests_at_a_time_are_fewer() -> None:
    assert needed(100.0, 0.1, Scaling(1, 50, 0.4)) > needed(100.0, 0.1, Scaling(1, 50, 0.4, concurrency=4)) == 4


samples = st.lists(
    st.tuples(st.floats(0.1, 20.0), st.integers(0, 300), st.integers(0, 50), st.floats(0.005, 0.5), st.booleans()),
    min_size=1,
    max_size=120,
)


@settings(max_examples=200)
@given(samples, st.integers(0, 3), st.integers(3, 30), st.sampled_from([None, 0.1, 1.0]))
def test_whatever_comes_the_bounds_hold_and_nothing_flaps(
    told: list[tuple[float, int, int, float, bool]], low: int, high: int, slo_s: float | None
) -> None:
    """No change down sooner than `down_after_s` after one up, but to nothing when nobody asks any more."""
    scaling = Scaling(low, high, slo_s, idle_s=30.0, down_after_s=60.0)
    history, current, now_s, used_s, up_s = History(0.0), low, 0.0, 0.0, -math.inf
    for gap_s, arrivals, waiting, service_s, heard in told:
        now_s += gap_s
        used_s = now_s if arrivals or waiting else used_s
        history.take(Sample(now_s, gap_s, arrivals, arrivals, service_s if arrivals else None))
        made = decide(
            history,
            scaling,
            now_s=now_s,
            current=current,
            ready=current,
            waiting=waiting,
            idle_s=now_s - used_s,
            may_shrink=heard,
        )
        if made is None:
            continue
        assert (made.before, low <= made.wanted <= high, made.wanted != current) == (current, True, True)
        assert made.text
        if made.wanted < current:
            assert heard
            assert made.why == "idle" or now_s - up_s >= scaling.down_after_s
        elif made.why != "wake":
            up_s = now_s
        current = made.wanted


def ask(history: History, **more: object) -> Decision | None:
    given_: dict[str, object] = {"now_s": 100.0, "current": 2, "ready": 2, "waiting": 0, "idle_s": 0.0, **more}
    return decide(history, SCALING, **given_)  # type: ignore[arg-type]


def known(*samples_: Sample, service_s: float | None = 0.1) -> History:
    return History(0.0, deque(samples_), service_s)


def test_a_step_is_believed_as_soon_as_it_is_sure() -> None:
    steady = [Sample(float(at), 1.0, 5, 5, 0.1) for at in range(40, 100)]
    assert ask(known(*steady)) is None
    sudden = ask(known(*steady, Sample(100.0, 0.5, 60)))
    assert sudden is not None
    assert (sudden.why, sudden.wanted >= 8) == ("step", True)
    assert "the load has risen" in sudden.text
    assert ask(known(*steady, Sample(100.0, 0.5, 6))) is None  # 12 a second, but 6 are no proof of it


def test_what_waits_counts_only_beyond_what_is_served_in_time() -> None:
    steady = [Sample(float(at), 1.0, 5, 5, 0.1) for at in range(40, 101)]
    assert ask(known(*steady), waiting=4) is None
    late = ask(known(*steady), waiting=100)
    assert late is not None
    assert late.why == "backlog"
    assert ask(known(*steady), waiting=100, ready=1) is None  # more were asked for and are on their way


def test_requests_that_were_turned_away_are_a_sign_too() -> None:
    steady = [Sample(float(at), 1.0, 5, 5, 0.1, hopeless=2) for at in range(40, 101)]
    more = ask(known(*steady))
    assert more is not None
    assert (more.why, more.wanted) == ("turned away", 3)


@pytest.mark.parametrize(
    ("more", "wanted", "why"),
    [
        ({"current": 99}, 50, "bounds"),
        ({"current": 0}, 1, "bounds"),
        ({"current": 3, "ready": 3}, 1, "less"),
    ],
)
def test_the_bounds(more: dict[str, object], wanted: int, why: str) -> None:
    made = ask(known(), **more)
    assert made is not None
    assert (made.wanted, made.why) == (wanted, why)


@pytest.mark.parametrize("name", ["steady", "step", "noise"])
def test_on_a_simulated_queue_the_slo_holds_without_flapping(name: str) -> None:
    trace = TRACES[name]
    short = Trace(trace.rate, trace.most, min(900.0, trace.long_s), trace.starts_with)
    figures = run(short, Scaling(1, 40, 0.4), service_s=0.05, seed=1)
    assert figures.within_slo >= (0.985 if name == "step" else 0.99)
    assert figures.turns <= 6
    assert figures.shortest_down_after_up_s >= 120.0
    assert figures.replica_s <= 2.0 * figures.ideal_s


def test_a_step_is_seen_by_the_first_report_that_shows_it() -> None:
    """Ten times the rate, at 300 s: half a second later more replicas are wanted."""
    step = Trace(lambda s: 20.0 if s < 300 else 200.0, 200.0, 310.0, 3)
    for seed in range(5):
        figures = run(step, Scaling(1, 40, 0.4), service_s=0.05, seed=seed)
        assert min(at_s for at_s in figures.decided_s if at_s > 300.0) <= 300.5
