"""How long the service's thread took for its batches: each keeps everybody else waiting."""

from __future__ import annotations

from collections import deque

KEPT = 4096


class PassTimes:
    """Of the last few thousand batches in which something was done. One thread notes, others may look."""

    def __init__(self, kept: int = KEPT) -> None:
        self._last_s: deque[float] = deque(maxlen=kept)
        self._longest_s = 0.0
        self._total_s = 0.0
        self._count = 0

    def note(self, seconds: float) -> None:
        self._last_s.append(seconds)
        self._longest_s = max(self._longest_s, seconds)
        self._count += 1
        self._total_s += seconds

    def figures(self) -> dict[str, float | int | None]:
        """`p50_s` and `p99_s` are of the batches kept, `longest_s` is of all since the start; None: there were none."""
        kept = sorted(self._last_s.copy())
        return {
            "count": self._count,
            "total_s": self._total_s,
            "last_s": self._last_s[-1] if kept else None,
            "p50_s": kept[len(kept) // 2] if kept else None,
            "p99_s": kept[min(len(kept) - 1, len(kept) * 99 // 100)] if kept else None,
            "longest_s": self._longest_s if kept else None,
        }
