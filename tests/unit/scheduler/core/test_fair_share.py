"""Dominant shares, and how the past fades."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.demand import Demand, DeviceFacts, NodeFacts, Placement
from scheduler.core.fair_share import (
    NOTHING,
    Amount,
    DecayedUsage,
    Totals,
    account,
    dominant_share,
    standing,
)

GIB = 2**30
HOUR_S = 3_600.0


def node(name: str, devices: int, *, cpus: int = 64, memory_gib: int = 512, simulated: bool = False) -> NodeFacts:
    facts = tuple(DeviceFacts(i, f"{name}-{i}", "H100", "nvidia", 80 * GIB, simulated) for i in range(devices))
    return NodeFacts(name, "north", "127.0.0.1", facts, cpus * 1000, memory_gib * GIB, simulated)


# ---- dominant share ----------------------------------------------------------------------------------------------

WHOLE = Amount(8_000, 64_000, 512 * GIB)


@pytest.mark.parametrize(
    ("held", "share"),
    [
        (NOTHING, 0.0),
        (Amount(4_000, 16_000, 64 * GIB), 0.5),  # devices dominate
        (Amount(1_000, 48_000, 64 * GIB), 0.75),  # CPUs
        (Amount(1_000, 1_000, 256 * GIB), 0.5),  # memory
        (WHOLE, 1.0),
    ],
)
def test_the_largest_share_of_any_resource_counts(held: Amount, share: float) -> None:
    assert dominant_share(held, WHOLE) == share


def test_the_example_of_the_paper() -> None:
    """9 CPUs and 18 GB; A's tasks take <1 CPU, 4 GB>, B's <3 CPUs, 1 GB>. Serving the lowest share gives A 3, B 2."""
    whole = Amount(0, 9_000, 18 * GIB)
    task = {"A": Amount(0, 1_000, 4 * GIB), "B": Amount(0, 3_000, 1 * GIB)}
    held, count = {"A": NOTHING, "B": NOTHING}, {"A": 0, "B": 0}
    while True:
        used = held["A"] + held["B"]
        turn = min("AB", key=lambda who: (standing(0.0, dominant_share(held[who], whole), 1.0), who))
        after = used + task[turn]
        if after.cpus_milli > whole.cpus_milli or after.memory_bytes > whole.memory_bytes:
            break
        held[turn], count[turn] = held[turn] + task[turn], count[turn] + 1
    assert count == {"A": 3, "B": 2}
    assert dominant_share(held["A"], whole) == dominant_share(held["B"], whole) == pytest.approx(2 / 3)


def test_what_there_is_none_of_counts_nothing() -> None:
    assert dominant_share(Amount(0, 8_000, 0), Amount(0, 16_000, 0)) == 0.5
    assert dominant_share(Amount(1_000, 0, 0), NOTHING) == 0.0


def test_placements_and_demands_are_added_up() -> None:
    placements = [Placement(0, "n0", (0, 1), 0, 2_000, GIB, 0), Placement(1, "n1", (3,), 250, 1_000, 0, 1)]
    assert Amount.of(placements) == Amount(2_250, 3_000, GIB)
    assert Amount.wanted(Demand(devices=2, cpus_milli=500, memory_bytes=GIB), 3) == Amount(6_000, 1_500, 3 * GIB)
    assert Amount.of(placements) - Amount(250, 1_000, GIB) == Amount(2_000, 2_000, 0)


def test_real_and_simulated_nodes_are_counted_apart() -> None:
    totals = Totals.of([node("n0", 8), node("c0", 0, cpus=128), node("s0", 4, cpus=8, memory_gib=1, simulated=True)])
    assert totals.whole(False) == Amount(8_000, 192_000, 1024 * GIB)
    assert totals.whole(True) == Amount(12_000, 200_000, 1025 * GIB)
    assert (account("film", False), account("film", True)) == ("film", "film/simulated")


# ---- the past ----------------------------------------------------------------------------------------------------


def test_half_of_it_is_forgotten_each_half_life() -> None:
    usage = DecayedUsage(HOUR_S, {"t": 0.8}, at_s=0.0)
    for hours, left in [(1, 0.4), (3, 0.1), (3, 0.1), (4, 0.05)]:
        usage.advance(hours * HOUR_S, {})
        assert usage.average("t") == pytest.approx(left)
    assert (usage.at_s, usage.half_life_s, usage.average("nobody")) == (4 * HOUR_S, HOUR_S, 0.0)


def test_what_is_held_for_long_becomes_the_average() -> None:
    usage = DecayedUsage(HOUR_S)
    usage.advance(0.0, {"t": 0.5})  # the first call says from when on
    assert usage.average("t") == 0.0
    for hours, average in [(1, 0.25), (2, 0.375), (60, 0.5)]:
        usage.advance(hours * HOUR_S, {"t": 0.5})
        assert usage.average("t") == pytest.approx(average)


def test_standing_is_the_average_one_half_life_from_now() -> None:
    usage = DecayedUsage(HOUR_S, {"t": 0.3}, at_s=0.0)
    usage.advance(HOUR_S, {"t": 0.7})
    assert standing(0.3, 0.7, 1.0) == pytest.approx(usage.average("t"))
    assert standing(0.3, 0.7, 2.0) == pytest.approx(usage.average("t") / 2)


def test_a_clock_set_back_counts_no_time() -> None:
    usage = DecayedUsage(HOUR_S, {"t": 0.8}, at_s=10 * HOUR_S)
    usage.advance(9 * HOUR_S, {"t": 0.1})
    assert usage.average("t") == 0.8
    usage.advance(10 * HOUR_S, {})
    assert usage.average("t") == pytest.approx(0.4)


def test_a_tenant_that_left_is_dropped_in_the_end_and_the_rest_can_be_kept() -> None:
    usage = DecayedUsage(HOUR_S, {"gone": 0.5, "t": 0.5}, at_s=0.0)
    usage.advance(50 * HOUR_S, {"t": 0.5})
    assert dict(usage.averages) == {"t": pytest.approx(0.5)}
    again = DecayedUsage(HOUR_S, usage.averages, usage.at_s)
    for either in (usage, again):
        either.advance(51 * HOUR_S, {})
    assert dict(again.averages) == dict(usage.averages)


@pytest.mark.parametrize("half_life_s", [0.0, -1.0, math.inf, math.nan])
def test_a_half_life_is_positive_and_finite(half_life_s: float) -> None:
    with pytest.raises(AssertionError):
        DecayedUsage(half_life_s)


SHARES = st.dictionaries(st.sampled_from("abc"), st.floats(0.0, 1.0))


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.floats(0.0, 5 * HOUR_S), SHARES, st.integers(1, 6)), max_size=8),
    start=SHARES,
    half_life_s=st.floats(60.0, 7 * 86_400.0),
)
def test_it_does_not_matter_how_often_it_is_asked(
    pieces: list[tuple[float, dict[str, float], int]], start: dict[str, float], half_life_s: float
) -> None:
    """What is held is constant within each piece. Once a piece, many times a piece, and the integral itself agree."""
    seldom, often = DecayedUsage(half_life_s, start, 0.0), DecayedUsage(half_life_s, start, 0.0)
    ends = [0.0]
    for length_s, held, parts in pieces:
        for part in range(1, parts + 1):
            often.advance(ends[-1] + length_s * part / parts, held)
        ends.append(ends[-1] + length_s)
        seldom.advance(ends[-1], held)
    for name in "abc":
        fade = [2.0 ** (-(ends[-1] - end_s) / half_life_s) for end_s in ends]
        integral = start.get(name, 0.0) * fade[0]
        for i, (_, held, _) in enumerate(pieces):
            integral += held.get(name, 0.0) * (fade[i + 1] - fade[i])
        assert seldom.average(name) == pytest.approx(integral, abs=1e-9)
        assert often.average(name) == pytest.approx(integral, abs=1e-9)
        assert 0.0 <= often.average(name) <= 1.0
