"""What is said of how long the service's batches took."""

from __future__ import annotations

import pytest

from scheduler.service.pass_times import PassTimes


def test_before_the_first_there_is_nothing_to_say() -> None:
    unknown = dict.fromkeys(("last_s", "p50_s", "p99_s", "longest_s"))
    assert PassTimes().figures() == {"count": 0, "total_s": 0.0, **unknown}


def test_the_longest_is_remembered_and_the_rest_are_of_the_last() -> None:
    times = PassTimes(kept=100)
    times.note(9.0)
    for hundredths in range(100):
        times.note(hundredths / 100)
    figures = times.figures()
    assert figures.pop("total_s") == pytest.approx(9.0 + 49.5)  # of all, as a rate over time needs it
    assert figures == {"count": 101, "last_s": 0.99, "p50_s": 0.5, "p99_s": 0.99, "longest_s": 9.0}
