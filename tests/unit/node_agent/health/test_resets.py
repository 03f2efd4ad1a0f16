"""A counter that begins again says that the device was reset, if it stays there; and what a reset lifts is lifted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_agent.devices.source import Measured, Quality, Reading, Unavailable
from node_agent.health.resets import Counted, counted


def joules(value: float, at_s: float) -> dict[str, Measured]:
    return {"energy_joules": Reading(value, "joules", at_s, Quality.MEASURED)}


@pytest.mark.parametrize(
    ("values", "resets"),
    [
        ((1.0, 2.0, 3.0), 0),
        ((9.0, 1.0), 0),  # once: it may be a slip
        ((9.0, 1.0, 9.5), 0),
        ((9.0, 1.0, 2.0), 1),
        ((9.0, 1.0, 2.0, 3.0, 10.0), 1),
        ((9.0, 1.0, 2.0, 0.5, 0.7), 2),
        ((9.0, math.nan, 1.0, math.nan, 2.0), 1),
        ((9.0, 9.0, 9.0), 0),
    ],
)
def test_what_stays_lower_began_again(values: tuple[float, ...], resets: int) -> None:
    count = Counted()
    for at_s, value in enumerate(values):
        count = counted(count, joules(value, float(at_s)))
    assert count.resets == resets
    assert count.mark == f"reset {resets}"


def test_the_same_reading_seen_twice_is_one() -> None:
    count = counted(Counted(), joules(9.0, 0.0))
    for _ in range(5):
        count = counted(count, joules(1.0, 1.0))
    assert count.resets == 0


def test_what_is_not_known_says_nothing() -> None:
    count = counted(Counted(), {"energy_joules": Unavailable("device lost")})
    assert (count.mark, count.resets) == ("", 0)
    assert counted(Counted(), {}).mark == ""


@given(st.lists(st.floats(0, 1e9), max_size=30))
def test_a_counter_that_only_grows_is_never_a_reset(steps: list[float]) -> None:
    count, total = Counted(), 0.0
    for at_s, step in enumerate(steps):
        total += step
        count = counted(count, joules(total, float(at_s)))
    assert count.resets == 0
