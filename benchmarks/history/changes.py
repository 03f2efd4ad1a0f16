"""Since when is a level another one? Change points of many series of nights: E-divisive, and what stands against
chance.

Source: Matteson and James (2014), see `energy.py`. A series is divided where its statistic is largest, each part again,
as long as the permutation test of the best split among all parts stays under LEVEL. Here that test is read off one
shared distribution (`nulls.py`) instead of permuting each series: parts are ranked within themselves, the part with the
rarest split is divided, and its chance among k parts is 1 - (1 - p)^k, since parts are permuted independently. Whether
there is a change is asked of normal scores; where it is, of the rates: the estimate is the paper's own.

Over a night's ten thousand series a level says nothing, so false discoveries are controlled: a series' p-value is that
of its first division, or 1 where nothing of at least MIN_MAGNITUDE stands at the end; Benjamini and Hochberg's step-up
("Controlling the false discovery rate", J. R. Stat. Soc. B 57, 1995) selects R of m series at rate q; within those,
what was found later must itself be under R q / m (Y. Benjamini and M. Bogomolov, "Selective inference on multiple
families of hypotheses", J. R. Stat. Soc. B 76, 2014). Missing nights are missing: a series is the nights that it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.history.energy import Floats, best_splits, normal_scores
from benchmarks.history.findings import ChangePoint
from benchmarks.history.nights import Nights
from benchmarks.history.nulls import LONGEST, p_values

FALSE_DISCOVERY_RATE = 0.05
# A split that chance alone gives more often than this is none: the paper's default.
LEVEL = 0.05
MIN_MAGNITUDE = 0.02
# With fewer nights there is no series yet; median and MAD tell what there is to tell (`outliers.py`).
FIRST_NIGHTS = 14


Part = tuple[int, int]
"""Nights [begin, end) of one series, counted from its first."""


@dataclass(slots=True)
class _Division:
    """One series on its way: `parts` with the p-value of the best split of each, `found` the splits that were taken."""

    parts: dict[Part, float]
    found: dict[int, float]

    def best(self) -> tuple[Part, float] | None:
        """The part with the rarest split and its chance among all parts; None where there is nothing to divide."""
        if not self.parts:
            return None
        part = min(self.parts, key=lambda part: (self.parts[part], part))
        p_value = self.parts[part]
        return part, -math.expm1(len(self.parts) * math.log1p(-p_value)) if p_value < 1.0 else 1.0


def change_points(
    nights: Nights, *, rate: float = FALSE_DISCOVERY_RATE, magnitude: float = MIN_MAGNITUDE
) -> tuple[ChangePoint, ...]:
    """Of all series of `nights` (its last LONGEST nights), in their order. m is every series that has FIRST_NIGHTS
    nights, whether or not anything was found in it."""
    values, at_s = nights.values[:, -LONGEST:], nights.at_s[-LONGEST:]
    there = ~np.isnan(values)
    rows = [row for row in range(len(values)) if there[row].sum() >= FIRST_NIGHTS]
    series = {row: values[row, there[row]] for row in rows}
    divided = _divided(series)
    kept = {row: _of_size(series[row], divided[row].found, magnitude) for row in rows}
    first = np.array([min(divided[row].found.values(), default=1.0) if kept[row] else 1.0 for row in rows])
    threshold = benjamini_hochberg(first, rate)
    answer = []
    for row, p_value in zip(rows, first, strict=True):
        if p_value > threshold:
            continue
        # What is dropped here joins the levels on either side of it.
        passed = {at: p for at, p in divided[row].found.items() if p <= threshold}
        places = _of_size(series[row], passed, magnitude)
        nights_of = np.flatnonzero(there[row])
        edges = [0, *places, len(series[row])]
        for begin, at, end in zip(edges, edges[1:], edges[2:], strict=False):
            answer.append(
                ChangePoint(
                    series=nights.series[row],
                    at_s=float(at_s[nights_of[at]]),
                    before=float(np.median(series[row][begin:at])),
                    after=float(np.median(series[row][at:end])),
                    unit=nights.units[row],
                    p_value=divided[row].found[at],
                    nights_before=at - begin,
                    nights_after=end - at,
                )
            )
    return tuple(answer)


def benjamini_hochberg(p_values_: Floats, rate: float) -> float:
    """The largest p-value that is discovered at this rate of false ones; -1 where none is."""
    ordered = np.sort(p_values_)
    allowed = np.arange(1, len(ordered) + 1) * rate / max(1, len(ordered))
    passing = np.flatnonzero((ordered <= allowed) & (ordered < 1.0))
    return float(allowed[passing[-1]]) if len(passing) else -1.0


def _divided(series: dict[int, Floats]) -> dict[int, _Division]:
    """Every series divided as far as it goes. Parts of one length are looked at together, whosever they are."""
    divisions = {row: _Division({}, {}) for row in series}
    chances: dict[int, float] = {}
    new = [(row, (0, len(values))) for row, values in series.items()]
    while new:
        for (row, part), p_value in zip(new, _tested(series, new), strict=True):
            divisions[row].parts[part] = p_value
        dividing: list[tuple[int, Part]] = []
        for row in dict.fromkeys(row for row, _ in new):
            best = divisions[row].best()
            if best is not None and best[1] <= LEVEL:
                part, chance = best
                del divisions[row].parts[part]
                dividing.append((row, part))
                chances[row] = chance
        new = []
        for (row, (begin, end)), tau in zip(dividing, _places(series, dividing), strict=True):
            divisions[row].found[begin + tau] = chances[row]
            new += [(row, (begin, begin + tau)), (row, (begin + tau, end))]
    return divisions


def _tested(series: dict[int, Floats], parts: Sequence[tuple[int, Part]]) -> list[float]:
    """The p-value of each part's best split: on normal scores, whose distribution is known."""
    answer = [1.0] * len(parts)
    for places in _by_length(parts).values():
        splits = best_splits(normal_scores(_block(series, parts, places)))
        (begin, end) = parts[places[0]][1]
        for place, p_value in zip(places, p_values(splits.q, splits.tau, splits.kappa, end - begin), strict=True):
            answer[place] = float(p_value)
    return answer


def _places(series: dict[int, Floats], parts: Sequence[tuple[int, Part]]) -> list[int]:
    """Where in each part the level changes: on the rates themselves, which tell a night that is a little low from one
    that is of the other level, where ranks are next to one another."""
    answer = [0] * len(parts)
    for places in _by_length(parts).values():
        for place, tau in zip(places, best_splits(_block(series, parts, places)).tau, strict=True):
            answer[place] = int(tau)
    return answer


def _by_length(parts: Sequence[tuple[int, Part]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place, (_, (begin, end)) in enumerate(parts):
        found.setdefault(end - begin, []).append(place)
    return found


def _block(series: dict[int, Floats], parts: Sequence[tuple[int, Part]], places: Sequence[int]) -> Floats:
    return np.stack([series[parts[place][0]][slice(*parts[place][1])] for place in places])


def _of_size(values: Floats, found: dict[int, float], magnitude: float) -> list[int]:
    """Which splits stand between levels that differ by at least `magnitude`. The smallest goes first, and the levels on
    either side of it become one, until all that are left are large enough."""
    places = sorted(found)
    while places:
        edges = [0, *places, len(values)]
        levels = [float(np.median(values[begin:end])) for begin, end in pairwise(edges)]
        sizes = [abs(after / before - 1.0) for before, after in pairwise(levels)]
        smallest = min(range(len(sizes)), key=sizes.__getitem__)
        if sizes[smallest] >= magnitude:
            break
        del places[smallest]
    return places
