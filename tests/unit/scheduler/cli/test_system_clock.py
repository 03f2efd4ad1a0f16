"""The service's clock tells epoch seconds and does not follow a step of the wall clock."""

from __future__ import annotations

import time

import pytest

from scheduler.cli.system_clock import SystemClock


def test_it_tells_the_time_and_a_step_of_the_wall_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before_s = clock.now_s()
    assert abs(before_s - time.time()) < 1
    monkeypatch.setattr(time, "time", lambda: before_s - 600)
    assert before_s <= clock.now_s() < before_s + 5
