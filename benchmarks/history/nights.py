"""Which series are watched over the nights? Rates as a matrix, a row a card or group, a column a night; gaps stay gaps.

A night lasts from noon to noon (`which_night.py`) and has one shared window for each workload and precision: of several
runs of the same in one night the window that has figures of most cards stands, of equals the newest. Chosen by how much
was covered, never by how fast it was, and never mixed: cards of one column shared their window. Windows of another
length than the one asked for play no part: a card that is measured for five seconds is cooler than one that is measured
for ten minutes, and that is no change. Measured and simulated nights never stand in one matrix.

The series of a rack, of a model at a site, and of a site is the median over its cards of how each stands to its own
median over the nights, times the median of these medians. So a night on which half of the cards were busy, or a rack of
another model was added, is no change of level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence import EvidenceKind
from benchmarks.history.columns import About, Columns, Whose
from benchmarks.history.energy import Floats
from benchmarks.history.findings import Series
from benchmarks.history.which_night import night_of

# So many cards make a group whose median says something.
MIN_CARDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Nights:
    """`values[i, t]`: the rate of series i in night t, NaN where there is none. `about[i]` is None for a group.

    `series[i].device` is empty for a group. Nights ascend; `at_s[t]` and `runs[t]` are those of the last window that
    stands in night t.
    """

    evidence: EvidenceKind
    at_s: Floats
    runs: tuple[str, ...]
    series: tuple[Series, ...]
    about: tuple[About | None, ...]
    units: tuple[str, ...]
    values: Floats

    def only(self, chosen: Sequence[int]) -> Nights:
        return Nights(
            self.evidence,
            self.at_s,
            self.runs,
            tuple(self.series[i] for i in chosen),
            tuple(self.about[i] for i in chosen),
            tuple(self.units[i] for i in chosen),
            self.values[list(chosen)],
        )

    @property
    def cards(self) -> Nights:
        return self.only([i for i, about in enumerate(self.about) if about is not None])

    @property
    def groups(self) -> Nights:
        return self.only([i for i, about in enumerate(self.about) if about is None])


def card_nights(columns: Columns, evidence: EvidenceKind, *, window_s: float) -> Nights:
    """The cards' own series, of windows that stand in their night. Of two results of a card in one window the later
    counts. All precisions of a night are one night: "two nights in a row" are never two precisions.
    """
    of_length = np.array([run.window_s == window_s for run in columns.runs], bool)
    mine = np.array([w.evidence == evidence.value for w in columns.whose], bool)
    kept = np.flatnonzero(mine[columns.who] & of_length[columns.run]) if len(columns) else np.empty(0, np.intp)
    kept, nights = _standing(columns, kept)
    who = columns.who[kept]
    night_of_run = np.full(len(columns.runs), -1, np.int64)
    for night, members in enumerate(nights):
        night_of_run[members] = night
    present, row = np.unique(who, return_inverse=True)
    values = np.full((len(present), len(nights)), np.nan)
    values[row, night_of_run[columns.run[kept]]] = columns.rate[kept]
    latest = np.zeros(len(present), np.int64)
    latest[row] = columns.under[kept]  # the last written wins
    about = [columns.about[i] for i in latest]
    whose = [columns.whose[i] for i in present]
    last = [columns.runs[members[-1]] for members in nights]
    return Nights(
        evidence,
        np.array([run.at_s for run in last]),
        tuple(run.name for run in last),
        tuple(_card(evidence, w, a) for w, a in zip(whose, about, strict=True)),
        tuple(about),
        tuple(a.unit for a in about),
        values,
    )


def _standing(columns: Columns, kept: NDArray[np.intp]) -> tuple[NDArray[np.intp], list[list[int]]]:
    """Which of the entries `kept` are of a window that stands, and the runs of each night, both in order."""
    kinds: dict[tuple[str, str], int] = {}
    kind_of = np.array([kinds.setdefault((w.workload, w.precision), len(kinds)) for w in columns.whose], np.int64)
    # A window is a run and what was run in it; its cards are counted once, however often they were written.
    windows = columns.run[kept].astype(np.int64) * max(1, len(kinds)) + kind_of[columns.who[kept]]
    cards = np.unique(np.stack([windows, columns.who[kept].astype(np.int64)]), axis=1)[0]
    covered = dict(zip(*(part.tolist() for part in np.unique(cards, return_counts=True)), strict=True))
    chosen: dict[tuple[int, int], tuple[int, float, int]] = {}
    for window, count in covered.items():
        run, kind = divmod(window, max(1, len(kinds)))
        at_s = columns.runs[run].at_s
        mark = (night_of(at_s), kind)
        chosen[mark] = max(chosen.get(mark, (0, 0.0, -1)), (count, at_s, run))
    nights: dict[int, set[int]] = {}
    for (night, _), (_, _, run) in chosen.items():
        nights.setdefault(night, set()).add(run)
    standing = [run * max(1, len(kinds)) + kind for (_, kind), (_, _, run) in chosen.items()]
    ordered = [sorted(nights[night], key=lambda run: columns.runs[run].at_s) for night in sorted(nights)]
    return kept[np.isin(windows, standing)], ordered


def with_groups(cards: Nights) -> Nights:
    """The cards, and the series of their racks, models and sites."""
    own = row_medians(cards.values)
    relative = cards.values / own[:, None]
    series, units, rows = list(cards.series), list(cards.units), [cards.values]
    for group, members in _groups(cards).items():
        if len(members) < MIN_CARDS:
            continue
        level = column_medians(relative[members]) * float(np.median(own[members]))
        series.append(group)
        units.append(cards.units[members[0]])
        rows.append(level[None, :])
    about = (*cards.about, *([None] * (len(series) - len(cards.series))))
    return Nights(cards.evidence, cards.at_s, cards.runs, tuple(series), about, tuple(units), np.concatenate(rows))


def _card(evidence: EvidenceKind, whose: Whose, about: About) -> Series:
    return Series(
        evidence, whose.workload, whose.precision, about.site, about.model, about.rack, whose.device or "unknown"
    )


def _groups(cards: Nights) -> dict[Series, list[int]]:
    """Members by group. A rack where one is known; CPUs and accelerators of a site do not mix."""
    found: dict[tuple[str, Series], list[int]] = {}
    levels: tuple[Callable[[Series], tuple[str, str, str] | None], ...] = (
        lambda s: (s.site, s.model, s.rack) if s.rack else None,
        lambda s: (s.site, s.model, ""),
        lambda s: (s.site, "", ""),
    )
    for i, (one, about) in enumerate(zip(cards.series, cards.about, strict=True)):
        assert about is not None, one
        if about.on == "cpu":
            continue  # a node's CPUs are one figure already, and are no accelerators of the site
        for level in levels:
            place = level(one)
            if place is not None:
                group = Series(one.evidence, one.workload, one.precision, *place)
                found.setdefault((about.unit, group), []).append(i)
    return {group: members for (_, group), members in found.items()}


def column_medians(values: Floats) -> Floats:
    """Of each column over its rows that are there; NaN where none is."""
    ordered = np.sort(values, axis=0)  # NaN last
    there = (~np.isnan(values)).sum(axis=0)
    last = np.maximum(there - 1, 0)
    at = np.arange(values.shape[1])
    middle: Floats = (ordered[last // 2, at] + ordered[np.minimum(there // 2, last), at]) / 2.0
    return middle


def row_medians(values: Floats) -> Floats:
    """Of each row over its nights that are there; NaN where none is."""
    return column_medians(values.T)
