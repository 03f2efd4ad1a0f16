"""When is an agent asked for its readings, and which way? Over a connection to its door while that works, else by Ray.

Over the connection a question is for `COUNT` readings, one every so often, and another goes out when half of them have
come: so most of what the service does is to receive. What is missing here, or long silent, is asked for again, as of
what is here. An agent that twice says nothing (a firewall is in between, or its version does not know the question) is
asked by Ray for a while. Without I/O or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

EVERY_S = 2.0
COUNT = 30
SILENT_S = 8.0
BY_RAY_EVERY_S = 5.0
FAILURES = 2
BY_RAY_FOR_S = 300.0


class Way(Enum):
    """What is to be done now."""

    NOTHING = "nothing"
    CONNECT = "open a connection"
    ASK = "ask over the connection"
    RAY = "ask by Ray"


@dataclass(slots=True)
class ReadingsFeed:
    """Of one agent. `refusals`: batches in a row of which something could not be taken."""

    every_s: float = EVERY_S
    refusals: int = 0
    _left: int = 0
    _missing: bool = False
    _asked_s: float | None = None
    _answered: bool = True
    _heard_s: float = 0.0
    _failures: int = 0
    _by_ray_until_s: float = 0.0
    _ray_s: float | None = None

    def step(self, now_s: float, *, connected: bool, offered: bool) -> Way:
        """To be asked now and then. `offered`: there is a door to connect to."""
        if offered and now_s >= self._by_ray_until_s:
            if not connected:
                return Way.CONNECT
            if self._asked_s is not None and now_s >= max(self._asked_s, self._heard_s) + SILENT_S:
                self.fail(now_s)
                self._missing = True
            if now_s >= self._by_ray_until_s:
                return Way.ASK if self.wants(now_s) else Way.NOTHING
        if self._ray_s is not None and now_s < self._ray_s + BY_RAY_EVERY_S:
            return Way.NOTHING
        self._ray_s = now_s
        return Way.RAY

    def wants(self, now_s: float) -> bool:
        """Whether to ask over the connection now."""
        if self._asked_s is None or self._left <= COUNT // 2:
            return True
        # The answer takes up to `every_s`. What cannot be taken is asked for again too, but all of it only so often.
        patience_s = SILENT_S * min(self.refusals, 8) if self.refusals > 1 else 1.5 * self.every_s
        return self._missing and now_s >= self._asked_s + patience_s

    def asked(self, now_s: float) -> None:
        self._asked_s, self._left, self._missing, self._answered = now_s, COUNT, False, False

    def heard(self, now_s: float, *, whole: bool, refused: bool) -> None:
        """A batch came over the connection. Not `whole`: something is missing; `refused`: for it could not be taken."""
        self._heard_s, self._answered, self._failures = now_s, True, 0
        self._left -= 1
        self._missing = self._missing or not whole
        self.refusals = self.refusals + 1 if refused else 0

    def lost(self, now_s: float) -> None:
        """The connection is no more: did the question break it?"""
        if not self._answered:
            self.fail(now_s)
        self._asked_s, self._left, self._missing, self._answered = None, 0, False, True

    def fail(self, now_s: float) -> None:
        """It could not be connected to, or says nothing."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._failures, self._by_ray_until_s = 0, now_s + BY_RAY_FOR_S
