"""What is said of how long the service's batches took."""

from __future__ import annotations

from scheduler.service.pass_times import PassTimes


def test_before_the_first_there_is_nothing_to_say() -> None:
    assert PassTimes().figures() == {"count": 0, "last_s": None, "p50_s": None, "p99_s": None, "longest_s": None}


def test_the_longest_is_remembered_and_the_rest_are_of_the_last() -> None:
    times = PassTimes(kept=100)
    times.note(9.0)
    for hundredths in range(100):
        times.note(hundredths / 100)
    assert times.figures() == {"count": 101, "last_s": 0.99, "p50_s": 0.5, "p99_s": 0.99, "longest_s": 9.0}
