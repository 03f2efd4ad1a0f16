"""How sure is a window's total, and what energy did it take?

A total is a count, not a sample of cards, so two things are left to be unsure of: that rates wander within the window,
and where each card's window begins and ends.
- Wander: a card's batch rates have a standard deviation of about (p95 - p5) / 3.29. One value in 30 s (the protocol's
  span for drift) is taken as independent, fewer where there were fewer batches: the mean's error is s / sqrt(W / 30).
  Cards share power and cooling, so their errors are added up, as if all moved together: the widest that they can be.
- Clock: a card whose clock is off by d counts a window that is shifted by d; at most d of work at either end.
The interval is 1.96 of the first plus the second. Where a verified card's batch rates were not recorded there is none.

Energy is what counters or integrated power said over the same window, of all cards that ran: that of a card which
failed verification is spent too, and its work counts zero. Only measured energy is added; a simulated reading never.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.evidence import FLOPS_PER_GFLOPS, FLOPS_PER_PFLOPS
from benchmarks.history.store import StoredResult

DRIFT_SPAN_S = 30.0
P5_TO_P95_IN_DEVIATIONS = 3.29
Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Interval:
    low_pflops: float
    high_pflops: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules of `cards` of the `cards_run`, and what they counted meanwhile in FLOP."""

    joules: float
    flop: float
    cards: int
    cards_run: int

    @property
    def gflops_per_watt(self) -> float | None:
        """GFLOP/s a watt is GFLOP a joule."""
        return self.flop / FLOPS_PER_GFLOPS / self.joules if self.joules > 0 else None


def interval_of(ran: Mapping[str, StoredResult], window_s: float) -> Interval | None:
    """None where nothing was verified or a verified card's batch rates are not there."""
    total = reach = 0.0
    verified = [r.record for r in ran.values() if r.record.verified]
    for record in verified:
        if record.batch_gflops_p5 is None or record.batch_gflops_p95 is None or not record.gflops:
            return None
        values = max(1.0, min(float(record.batches or 1), window_s / DRIFT_SPAN_S))
        deviation = (record.batch_gflops_p95 - record.batch_gflops_p5) / P5_TO_P95_IN_DEVIATIONS
        total += record.gflops
        reach += Z95 * deviation / math.sqrt(values) + record.gflops * abs(record.clock_offset_s or 0.0) / window_s
    if not verified:
        return None
    scale = FLOPS_PER_GFLOPS / FLOPS_PER_PFLOPS
    return Interval(max(0.0, total - reach) * scale, (total + reach) * scale, 0.95)


def energy_of(ran: Mapping[str, StoredResult], window_s: float) -> Energy | None:
    """None where no card's energy was read."""
    read = [r.record for r in ran.values() if r.record.energy_joules and r.record.energy_quality == "measured"]
    if not read:
        return None
    return Energy(
        joules=sum(r.energy_joules or 0.0 for r in read),
        flop=sum((r.gflops or 0.0) * FLOPS_PER_GFLOPS * window_s for r in read if r.verified),
        cards=len(read),
        cards_run=len(ran),
    )
