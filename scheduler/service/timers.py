"""When does time itself make something happen? A heap of due times; who reads one checks that it still means something.

Nothing is ever taken out early: a timer that has become meaningless is ignored when it fires.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal

TimerKind = Literal["time_limit", "not_before", "replica", "silence", "first_contact"]


@dataclass(frozen=True, slots=True, order=True)
class Timer:
    """`subject` is a job's id or a node's name, by kind; `number` an attempt or a worker where one is meant."""

    due_s: float
    kind: TimerKind = field(compare=False)
    subject: str = field(compare=False)
    number: int = field(default=0, compare=False)


@dataclass(slots=True)
class Timers:
    _heap: list[Timer] = field(default_factory=list)

    def add(self, timer: Timer) -> None:
        heapq.heappush(self._heap, timer)

    def next_due_s(self) -> float | None:
        return self._heap[0].due_s if self._heap else None

    def pop_due(self, now_s: float) -> list[Timer]:
        """Those due at `now_s`, earliest first."""
        due: list[Timer] = []
        while self._heap and self._heap[0].due_s <= now_s:
            due.append(heapq.heappop(self._heap))
        return due
