"""How long the loop's passes take, commit included: what `suanli status` and /metrics say of it. Seconds."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

REMEMBERED = 1_000


@dataclass(slots=True)
class PassTimes:
    """For the loop's thread. The 99th percentile is of the last REMEMBERED passes, the longest of all."""

    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    _newest: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def took(self, seconds: float) -> None:
        self.count += 1
        self.total_s += seconds
        self.longest_s = max(self.longest_s, seconds)
        self._newest.append(seconds)

    @property
    def last_s(self) -> float | None:
        return self._newest[-1] if self._newest else None

    def p99_s(self) -> float | None:
        """The smallest that 99 of 100 do not exceed (nearest rank)."""
        if not self._newest:
            return None
        ordered = sorted(self._newest)
        return ordered[math.ceil(0.99 * len(ordered)) - 1]
