"""A wall clock that is set moves no deadline."""

from __future__ import annotations

from node_agent.clock import SteadyClock


def test_the_wall_clock_is_read_once() -> None:
    wall, boot = [1000.0], [50.0]
    clock = SteadyClock(lambda: wall[0], lambda: boot[0])
    assert clock.now_s() == 1000.0
    wall[0] += 3600.0
    boot[0] += 2.0
    assert clock.now_s() == 1002.0
