"""How long something that died rests before it is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.backoff import Backoff


def test_what_ran_steadily_is_started_at_once() -> None:
    backoff = Backoff(steady_s=20.0)
    assert [backoff.after_death(ran_s) for ran_s in (20.0, 500.0, 20.0)] == [0.0, 0.0, 0.0]


def test_what_dies_again_and_again_rests_twice_as_long_each_time() -> None:
    backoff = Backoff(first_s=0.5, longest_s=3.0, steady_s=20.0)
    assert [backoff.after_death(1.0) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.quick_deaths == 5
    assert backoff.after_death(60.0) == 0.0
    assert (backoff.quick_deaths, backoff.after_death(1.0)) == (0, 0.5)


@given(st.lists(st.floats(0.0, 1e6), max_size=2_000))
def test_it_never_rests_for_longer_than_it_may(lives_s: list[float]) -> None:
    backoff = Backoff()
    assert all(0.0 <= backoff.after_death(ran_s) <= 30.0 for ran_s in lives_s)
