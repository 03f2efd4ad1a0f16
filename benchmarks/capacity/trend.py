"""Where is a goal's figure going, night by night, and when would it get there?

Method: the slope over accepted nights is Theil and Sen's, the median of the slopes of all pairs of nights; its 95%
interval is Sen's, from the variance of Kendall's S with correction for ties (P. K. Sen, "Estimates of the regression
coefficient based on Kendall's tau", JASA 63, 1968; as worked out in R. O. Gilbert, "Statistical Methods for
Environmental Pollution Monitoring", 1987, 16.5 and 17.3). The level is the median of y - slope x. It supposes that
nights are independent and that growth is even; cards arrive in batches, so a date is an orientation.

No date is given below MIN_NIGHTS, where the interval of the slope holds zero, or where the date lies more than
MAX_SPANS times the observed period ahead. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.capacity.windows import Night
from benchmarks.history.which_night import DAY_S

MIN_NIGHTS = 14
MAX_SPANS = 10.0
CONFIDENCE = 0.95
# The last nights whose range is given: of 19 exchangeable nights the range holds the next one with 90%.
RANGE_NIGHTS = 19
MIN_RANGE_NIGHTS = 3

Numbers = NDArray[np.float64]


class Outlook(StrEnum):
    """What the nights say about the goal. Reports translate these."""

    REACHED = "reached"
    NO_NIGHTS = "no_nights"
    TOO_FEW_NIGHTS = "too_few_nights"
    FLAT = "flat"
    FALLING = "falling"
    TOO_FAR = "too_far"
    BEFORE_DUE = "before_due"
    AROUND_DUE = "around_due"
    AFTER_DUE = "after_due"


@dataclass(frozen=True, slots=True)
class Trend:
    """Slopes in PFlops a day. `latest_at_s` None beside a projected date: no later bound within what may be said."""

    nights: int
    needed_nights: int
    outlook: Outlook
    confidence: float = CONFIDENCE
    slope_pflops_per_day: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    level_pflops: float | None = None
    projected_at_s: float | None = None
    earliest_at_s: float | None = None
    latest_at_s: float | None = None
    horizon_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class NightRange:
    """Lowest and highest of the last `nights` nights. `holds_next`: the chance (n - 1) / (n + 1) that the next night
    falls between them if nothing changes, whatever the distribution."""

    low_pflops: float
    high_pflops: float
    nights: int
    holds_next: float


def night_range(nights: Sequence[Night]) -> NightRange | None:
    last = nights[-RANGE_NIGHTS:]
    if len(last) < MIN_RANGE_NIGHTS:
        return None
    figures = [night.pflops for night in last]
    return NightRange(min(figures), max(figures), len(last), (len(last) - 1) / (len(last) + 1))


def trend(nights: Sequence[Night], *, goal_pflops: float, due: str, achieved_pflops: float) -> Trend:
    """`due` is an ISO date. `achieved_pflops`: of the window that stands, which alone decides whether it is reached."""
    count = len(nights)
    reached = achieved_pflops >= goal_pflops
    if count < MIN_NIGHTS:
        few = Outlook.REACHED if reached else Outlook.TOO_FEW_NIGHTS if count else Outlook.NO_NIGHTS
        return Trend(count, MIN_NIGHTS, few)
    first_s, last_s = nights[0].at_s, nights[-1].at_s
    days = np.array([(night.at_s - first_s) / DAY_S for night in nights])
    figures = np.array([night.pflops for night in nights])
    slope, low, high = sen_slope(days, figures)
    level = float(np.median(figures - slope * days)) + slope * float(days[-1])
    horizon_s = last_s + MAX_SPANS * (last_s - first_s)

    def when(rate: float) -> float:
        return last_s + max(0.0, goal_pflops - level) / rate * DAY_S

    known = Trend(count, MIN_NIGHTS, Outlook.FLAT, CONFIDENCE, slope, low, high, level, horizon_at_s=horizon_s)
    if reached:
        return _replaced(known, Outlook.REACHED)
    if low <= 0.0 <= high:
        return known
    if high < 0.0:
        return _replaced(known, Outlook.FALLING)
    if when(slope) > horizon_s:
        return _replaced(known, Outlook.TOO_FAR)
    due_s = end_of_day_s(due)
    earliest_s, latest_s = when(high), when(low)
    outlook = Outlook.AROUND_DUE
    if latest_s <= due_s:
        outlook = Outlook.BEFORE_DUE
    elif earliest_s > due_s:
        outlook = Outlook.AFTER_DUE
    return _replaced(known, outlook, when(slope), earliest_s, latest_s if latest_s <= horizon_s else None)


def sen_slope(x: Numbers, y: Numbers) -> tuple[float, float, float]:
    """Slope, and the ends of its interval. `x` has no two equal values; at least two points."""
    first, second = np.triu_indices(len(x), k=1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    n, pairs = len(x), len(slopes)
    _, ties = np.unique(y, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - float(np.sum(ties * (ties - 1) * (2 * ties + 5)))) / 18
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance)
    low = slopes[max(0, math.floor((pairs - reach) / 2) - 1)]
    high = slopes[min(pairs - 1, math.ceil((pairs + reach) / 2))]
    return float(np.median(slopes)), float(low), float(high)


def end_of_day_s(date: str) -> float:
    """The last moment of an ISO date in China Standard Time."""
    day = datetime.fromisoformat(date).replace(tzinfo=UTC)
    return (day + timedelta(days=1) - timedelta(hours=8)).timestamp()


def _replaced(
    known: Trend,
    outlook: Outlook,
    projected_s: float | None = None,
    earliest_s: float | None = None,
    latest_s: float | None = None,
) -> Trend:
    return replace(known, outlook=outlook, projected_at_s=projected_s, earliest_at_s=earliest_s, latest_at_s=latest_s)
