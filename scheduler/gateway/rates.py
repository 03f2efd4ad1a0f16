"""May this tenant send one more request now? A token bucket: `rate_per_s` on average, a second's worth at once.

Pure: time is an argument. (Turner, "New directions in communications (or which way to the information age?)", 1986,
describes the bucket.)
"""

from __future__ import annotations


class TokenBucket:
    __slots__ = ("_at_s", "_held", "_rate_per_s")

    def __init__(self, rate_per_s: float, now_s: float) -> None:
        assert rate_per_s > 0, f"a rate of {rate_per_s} lets nothing through: refuse without a bucket"
        self._rate_per_s = rate_per_s
        self._held = self._most
        self._at_s = now_s

    @property
    def _most(self) -> float:
        return max(1.0, self._rate_per_s)

    def change_rate(self, rate_per_s: float, now_s: float) -> None:
        """What is held stays, up to the new most."""
        self._fill(now_s)
        self._rate_per_s = rate_per_s
        self._held = min(self._held, self._most)

    def take(self, now_s: float) -> float:
        """0 where one was taken; else in how many seconds there will be one."""
        self._fill(now_s)
        if self._held >= 1.0:
            self._held -= 1.0
            return 0.0
        return (1.0 - self._held) / self._rate_per_s

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._held = min(self._most, self._held + (now_s - self._at_s) * self._rate_per_s)
            self._at_s = now_s
