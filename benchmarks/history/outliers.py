"""Which cards are slower than their like tonight, and which than they were themselves? Median and MAD, both times.

Among equals: cards of one model under one software in the same window. A card is told where it is both THRESHOLD robust
standard deviations and MIN_MAGNITUDE below their median.

Against its own history, on two nights in a row or once by AT_ONCE: a card's last nights before this one, times what its
like did tonight against theirs: a hot night or a new driver moves all of them and is a change of the model's level
(`changes.py`), not ten thousand slow cards. The spread of a few nights is a poor estimate, and a lucky one would make
an outlier of anything; so no card is believed to be steadier than the middle one of its like. Groups (racks, models,
sites) are set against their own history alone.

A robust standard deviation is 1.4826 x MAD (consistent for the normal distribution). Where cards are tied it is 0: it
is never taken below MIN_SPREAD of the median. This is also what tells of the first two weeks, when there are too few
nights to divide: from MIN_OWN_NIGHTS on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.history.changes import MIN_MAGNITUDE
from benchmarks.history.energy import Floats
from benchmarks.history.findings import Outlier, OutlierKind
from benchmarks.history.nights import Nights, column_medians, row_medians

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]

THRESHOLD = 5.0
# So far below itself that one night is enough; nearer, the next night must agree. Nights have heavier tails than a
# normal distribution, and a card that is told a night later is no loss.
AT_ONCE = 15.0
MIN_LIKE = 8
MIN_OWN_NIGHTS = 5
OWN_NIGHTS = 28
MIN_SPREAD = 0.0025
TO_SIGMA = 1.4826


def outliers(nights: Nights, *, threshold: float = THRESHOLD, magnitude: float = MIN_MAGNITUDE) -> tuple[Outlier, ...]:
    """Of the last night, slower ones only, in the order of the series; of a card that is both, both."""
    if not len(nights.at_s):
        return ()
    like = _like(nights)
    tonight = nights.values[:, -1]
    middle, sigma = _of_like(tonight, like)
    slow = _is_slow(tonight, middle, sigma, threshold, magnitude)
    found = _told(nights, OutlierKind.SLOW_THAN_LIKE, slow, middle, sigma)
    own, spread = _own(nights.values, like)
    slow = _is_slow(tonight, own, spread, threshold, magnitude)
    far = _is_slow(tonight, own, spread, AT_ONCE, magnitude)
    again = slow & _was_slow(nights.values, like, threshold, magnitude)
    found += _told(nights, OutlierKind.SLOW_THAN_BEFORE, far | again, own, spread)
    return tuple(outlier for _, outlier in sorted(found, key=lambda pair: pair[0]))


def _is_slow(tonight: Floats, expected: Floats, sigma: Floats, threshold: float, magnitude: float) -> Flags:
    with np.errstate(invalid="ignore"):
        slow: Flags = (tonight - expected <= -threshold * sigma) & (tonight <= (1.0 - magnitude) * expected)
    return slow


def _was_slow(values: Floats, like: Sequence[Rows], threshold: float, magnitude: float) -> Flags:
    """Whether the night before, or the one before that where a card missed it, was slow, too."""
    answer, known = np.zeros(len(values), bool), np.zeros(len(values), bool)
    for nights_ago in (1, 2):
        before = values[:, :-nights_ago]
        if not before.shape[1]:
            break
        slow = _is_slow(before[:, -1], *_own(before, like), threshold, magnitude)
        answer |= slow & ~known
        known |= ~np.isnan(before[:, -1])
    return answer


def _of_like(tonight: Floats, like: Sequence[Rows]) -> tuple[Floats, Floats]:
    """Median and robust standard deviation of each card's like; NaN where there are too few."""
    expected, sigma = np.full(len(tonight), np.nan), np.full(len(tonight), np.nan)
    for members in like:
        values = tonight[members]
        values = values[~np.isnan(values)]
        if len(values) >= MIN_LIKE:
            middle = float(np.median(values))
            expected[members] = middle
            sigma[members] = max(TO_SIGMA * float(np.median(np.abs(values - middle))), MIN_SPREAD * middle)
    return expected, sigma


def _like(nights: Nights) -> list[Rows]:
    """Rows of equal cards: model, software, workload and precision."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for row, (one, about) in enumerate(zip(nights.series, nights.about, strict=True)):
        if about is not None:
            groups.setdefault((one.workload, one.precision, *about.like), []).append(row)
    return [np.array(members) for members in groups.values()]


def _own(values: Floats, like: Sequence[Rows]) -> tuple[Floats, Floats]:
    """What each series was expected to do on the last night by its own before, and its robust standard deviation."""
    recent = values[:, -1 - OWN_NIGHTS :]
    before = recent[:, :-1]
    rows = len(before)
    if not before.shape[1]:
        return np.full(rows, np.nan), np.full(rows, np.nan)
    usual = row_medians(before)
    usual[(~np.isnan(before)).sum(axis=1) < MIN_OWN_NIGHTS] = np.nan
    # What all of its like do together is none of a card's doing, tonight or before.
    moved = np.ones(recent.shape)
    for members in like:
        relative = recent[members] / usual[members, None]
        there = (~np.isnan(relative)).sum(axis=0)
        moved[members] = np.where(there >= MIN_LIKE, column_medians(relative), 1.0)
    calm = before / moved[:, :-1]
    middle = row_medians(calm)
    sigma = TO_SIGMA * row_medians(np.abs(calm - middle[:, None])) / middle
    for members in like:
        known = sigma[members][~np.isnan(sigma[members] + usual[members])]
        if len(known) >= MIN_LIKE:
            sigma[members] = np.maximum(sigma[members], np.median(known))
    expected = np.where(np.isnan(usual), np.nan, middle * moved[:, -1])
    return expected, np.maximum(sigma, MIN_SPREAD) * expected


def _told(nights: Nights, kind: OutlierKind, slow: Flags, expected: Floats, sigma: Floats) -> list[tuple[int, Outlier]]:
    tonight = nights.values[:, -1]
    answer = []
    for row in np.flatnonzero(slow).tolist():
        about = nights.about[row]
        answer.append(
            (
                row,
                Outlier(
                    series=nights.series[row],
                    node=None if about is None else about.node or None,
                    kind=kind,
                    at_s=float(nights.at_s[-1]),
                    value=float(tonight[row]),
                    expected=float(expected[row]),
                    unit=nights.units[row],
                    score=float((tonight[row] - expected[row]) / sigma[row]),
                ),
            )
        )
    return answer
