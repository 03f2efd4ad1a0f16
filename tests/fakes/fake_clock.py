"""A clock that a test moves."""

from __future__ import annotations


class FakeClock:
    def __init__(self, start_s: float = 1_000.0) -> None:
        self.time_s = start_s

    def now_s(self) -> float:
        return self.time_s

    def advance(self, seconds: float) -> None:
        self.time_s += seconds
