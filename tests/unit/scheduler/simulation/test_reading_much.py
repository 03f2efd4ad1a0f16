"""What is done for each of a hundred thousand jobs as a workload is read, done quickly, is what it was done slowly."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulation.collecting import rarely_collecting
from scheduler.simulation.workload import LONGEST_S, USUAL_LIMITS_S, usual_limit_s


@given(st.one_of(st.floats(0.0, 3e7), st.sampled_from(USUAL_LIMITS_S)))
def test_a_usual_limit_is_the_first_above(duration_s: float) -> None:
    above = [limit_s for limit_s in USUAL_LIMITS_S if limit_s > duration_s]
    assert usual_limit_s(duration_s) == (above[0] if above else min(1.5 * duration_s, LONGEST_S))


def _interrupted(seen: list[int]) -> None:
    with rarely_collecting():
        seen.append(gc.get_threshold()[0])
        raise KeyboardInterrupt


def test_cycles_are_looked_for_as_before_afterwards() -> None:
    before, seen = gc.get_threshold(), list[int]()
    with pytest.raises(KeyboardInterrupt):
        _interrupted(seen)
    assert seen[0] > before[0]
    assert gc.get_threshold() == before
