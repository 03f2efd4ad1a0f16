"""How sure is a share that was counted? Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054  # the 97.5th percentile of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Proportion:
    """`hits` of `of`. `low` and `high`: Wilson's score interval at 95% (Wilson 1927, "Probable inference, the law of
    succession, and statistical inference"), which stays sensible where all or none are hits."""

    hits: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.of:
            raise ValueError(f"{self.hits} of {self.of} is no share")

    @property
    def share(self) -> float | None:
        """None of none."""
        return self.hits / self.of if self.of else None

    @property
    def low(self) -> float:
        return max(0.0, self._middle() - self._half()) if self.hits else 0.0

    @property
    def high(self) -> float:
        return min(1.0, self._middle() + self._half()) if self.hits < self.of else 1.0

    def decides(self, must: float) -> bool | None:
        """Whether the true share is at least `must`, as far as this many tell; None: they do not."""
        if self.of and self.low >= must:
            return True
        if self.of and self.high < must:
            return False
        return None

    def _middle(self) -> float:
        if not self.of:
            return 0.5
        return (self.hits + Z_95**2 / 2) / (self.of + Z_95**2)

    def _half(self) -> float:
        if not self.of:
            return 0.5
        n, p = self.of, self.hits / self.of
        return Z_95 / (n + Z_95**2) * math.sqrt(n * p * (1 - p) + Z_95**2 / 4)
