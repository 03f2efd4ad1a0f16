"""How long did requests take? Counts in logarithmic buckets: a fixed size however many requests, however long ago."""

from __future__ import annotations

import math
from collections.abc import Sequence

SMALLEST_S = 1e-5
LARGEST_S = 1e3
GROWTH = 1.05  # a quantile is wrong by at most half of 5%
_LOG_GROWTH = math.log(GROWTH)
_PER_LOG = 1.0 / _LOG_GROWTH
_LOG_SMALLEST = math.log(SMALLEST_S)
_log = math.log
_BUCKETS = math.ceil(math.log(LARGEST_S / SMALLEST_S) / _LOG_GROWTH) + 1


class LogHistogram:
    """Durations in seconds; those outside 10 us to 1,000 s count in the outermost buckets."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.largest_s = 0.0
        self._buckets = [0] * _BUCKETS

    def add(self, duration_s: float) -> None:
        self.count += 1
        if duration_s <= SMALLEST_S:
            self._buckets[0] += 1
            self.total_s += duration_s
            return
        self.total_s += duration_s
        if duration_s > self.largest_s:
            self.largest_s = duration_s
        index = int((_log(duration_s) - _LOG_SMALLEST) * _PER_LOG) + 1
        self._buckets[index if index < _BUCKETS else _BUCKETS - 1] += 1

    @staticmethod
    def together(several: Sequence[LogHistogram]) -> LogHistogram:
        """All that was added to any of them, as a copy."""
        made = LogHistogram()
        made._buckets = [sum(column) for column in zip(*(one._buckets for one in several), strict=True)]
        made.count = sum(one.count for one in several)
        made.total_s = sum(one.total_s for one in several)
        made.largest_s = max(one.largest_s for one in several)
        return made

    def since(self, before: LogHistogram) -> LogHistogram:
        """What was added after `before` was copied. Its largest is that of all."""
        made = LogHistogram()
        made._buckets = [now - then for now, then in zip(self._buckets, before._buckets, strict=True)]
        made.count = self.count - before.count
        made.total_s = self.total_s - before.total_s
        made.largest_s = self.largest_s
        return made

    def quantile_s(self, q: float) -> float | None:
        """The middle (geometric) of the bucket that holds the ceil(q * count)-th smallest; None when empty."""
        if not self.count:
            return None
        rank = max(1, math.ceil(q * self.count))
        seen = 0
        for index, held in enumerate(self._buckets):
            seen += held
            if seen >= rank:
                return min(SMALLEST_S * GROWTH ** (index - 0.5), self.largest_s) if index else SMALLEST_S
        raise AssertionError(f"{self.count} durations counted, {seen} found in the buckets")

    def summary_ms(self) -> dict[str, float | int | None]:
        """{"count", "mean", "p50", "p95", "p99", "max"}: durations in milliseconds, None when there are none."""

        def ms(value_s: float | None) -> float | None:
            return None if value_s is None else round(value_s * 1e3, 4)

        return {
            "count": self.count,
            "mean": ms(self.total_s / self.count) if self.count else None,
            "p50": ms(self.quantile_s(0.50)),
            "p95": ms(self.quantile_s(0.95)),
            "p99": ms(self.quantile_s(0.99)),
            "max": ms(self.largest_s) if self.count else None,
        }
