"""What do the results of many nights tell? The values that change points, outliers and estimates are told in.

Pure values; how they are found stands in `changes.py`, `outliers.py` and `sampling.py`, how they are shown in
`benchmarks.capacity`. Rates are GFLOP/s (or the workload's own unit where it counts no FLOP), times epoch seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from benchmarks.evidence import EvidenceKind


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """Whose figures, night by night: of a card, or the median of a rack, of a model at a site, or of a site.

    The empty string where a level does not apply: a site's series has neither model, rack nor device.
    """

    evidence: EvidenceKind
    workload: str
    precision: str
    site: str
    model: str = ""
    rack: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """From the night at `at_s` on the level is another one. `p_value` is before control of false discoveries over all
    series of the night; what stands here has passed it."""

    series: Series
    at_s: float
    before: float
    after: float
    unit: str
    p_value: float
    nights_before: int
    nights_after: int

    @property
    def relative(self) -> float:
        """-0.05: five percent less than before."""
        return self.after / self.before - 1.0


class OutlierKind(StrEnum):
    SLOW_THAN_LIKE = "slow_than_like"
    SLOW_THAN_BEFORE = "slow_than_before"


@dataclass(frozen=True, slots=True)
class Outlier:
    """A card that is slower than its like in the same night, or than it was itself. `score`: (value - expected) in
    robust standard deviations (1.4826 x MAD); negative is slower."""

    series: Series
    node: str | None
    kind: OutlierKind
    at_s: float
    value: float
    expected: float
    unit: str
    score: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A total from a sample of cards, stratified by site, model and rack. Extrapolated, whatever its interval."""

    pflops: float
    low_pflops: float
    high_pflops: float
    confidence: float
    sampled: int
    cards: int
    strata: int
    method: str
