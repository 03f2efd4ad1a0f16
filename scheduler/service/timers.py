"""When does time itself make something happen? A heap of due times; of each thing only its newest time counts.

A timer that was replaced or dropped stays in the heap until its time comes or the heap is rebuilt, which happens when
most of it is such: a job's time limit may be days away when the job has ended after a second.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal

TimerKind = Literal[
    "time_limit",
    "not_before",
    "replica",
    "silence",
    "first_contact",
    "reservation",
    "drain",
    "schedule",
    "autoscale",
    "rollout",
]

REBUILD_FROM = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Timer:
    """`subject` is a job's id, or the name of a node, a reservation or a schedule, by kind; `number` a worker where one
    is meant."""

    due_s: float
    kind: TimerKind = field(compare=False)
    subject: str = field(compare=False)
    number: int = field(default=0, compare=False)


@dataclass(slots=True)
class Timers:
    _heap: list[Timer] = field(default_factory=list)
    _live: dict[tuple[TimerKind, str, int], float] = field(default_factory=dict)
    """When what is still to happen is due."""

    def __len__(self) -> int:
        """How many are held, stale ones included."""
        return len(self._heap)

    def add(self, timer: Timer) -> None:
        """Replaces the one of the same kind, subject and number."""
        name = (timer.kind, timer.subject, timer.number)
        if self._live.get(name) == timer.due_s:
            return
        self._live[name] = timer.due_s
        heapq.heappush(self._heap, timer)
        if len(self._heap) >= REBUILD_FROM and len(self._heap) > 2 * len(self._live):
            self._heap = [Timer(due_s, *live) for live, due_s in self._live.items()]
            heapq.heapify(self._heap)

    def drop(self, kind: TimerKind, subject: str, number: int = 0) -> None:
        """It is not to happen any more."""
        self._live.pop((kind, subject, number), None)

    def next_due_s(self) -> float | None:
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].due_s if self._heap else None

    def pop_due(self, now_s: float) -> list[Timer]:
        """Those due at `now_s`, earliest first."""
        due: list[Timer] = []
        while self._heap and self._heap[0].due_s <= now_s:
            timer = heapq.heappop(self._heap)
            if self._is_live(timer):
                del self._live[timer.kind, timer.subject, timer.number]
                due.append(timer)
        return due

    def _is_live(self, timer: Timer) -> bool:
        return self._live.get((timer.kind, timer.subject, timer.number)) == timer.due_s
