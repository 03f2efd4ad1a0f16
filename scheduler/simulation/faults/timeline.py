"""Virtual time: what happens when, one thing after the other. The same things in the same order, the same run.

Nothing waits and nothing is concurrent: an action runs to its end at one moment, and what follows from it later is put
on the timeline by it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Appointment:
    """Something that is still to happen, unless it is called off."""

    __slots__ = ("action", "at_s", "off")

    def __init__(self, at_s: float, action: Action) -> None:
        self.at_s = at_s
        self.action = action
        self.off = False

    def call_off(self) -> None:
        self.off = True


class Timeline:
    """`now_s` is true time, which no host's clock has to agree with."""

    def __init__(self, start_s: float) -> None:
        self.now_s = start_s
        self.steps = 0
        """How many things have happened so far."""
        self._heap: list[tuple[float, int, Appointment]] = []
        self._count = 0

    def at(self, at_s: float, action: Action) -> Appointment:
        """Of several at one moment, the one that was put down first goes first."""
        appointment = Appointment(max(at_s, self.now_s), action)
        self._count += 1
        heapq.heappush(self._heap, (appointment.at_s, self._count, appointment))
        return appointment

    def after(self, delay_s: float, action: Action) -> Appointment:
        return self.at(self.now_s + delay_s, action)

    def run(self, until_s: float, after_each: Action) -> None:
        """Let happen what is due until then; `after_each` looks at the world after each of it."""
        while self._heap and self._heap[0][0] <= until_s:
            at_s, _, appointment = heapq.heappop(self._heap)
            if appointment.off:
                continue
            self.now_s = at_s
            self.steps += 1
            appointment.action()
            after_each()
        self.now_s = max(self.now_s, until_s)
