"""What do the nights tell, all in all? Change points and outliers of everything that was recorded, and what goes to
health.

Measured and simulated nights are looked at apart: neither takes part in the other's medians or discoveries, and no
simulated figure is ever a flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.evidence import EvidenceKind
from benchmarks.history.changes import change_points
from benchmarks.history.columns import Columns
from benchmarks.history.findings import ChangePoint, Outlier, OutlierKind, Series
from benchmarks.history.nights import Nights, card_nights, with_groups
from benchmarks.history.outliers import OWN_NIGHTS, outliers

# Change points of racks, models and sites within so many nights of a card's are the same event.
SAME_EVENT_NIGHTS = 3


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one kind of evidence in windows of `window_s`, as of the last night.

    `cards` counts devices (a node's CPUs are one), however many workloads and precisions each has; `groups` the racks,
    models and sites that are watched. `series` is what was looked at: one for each of them and each workload and
    precision that it has figures of.
    """

    evidence: EvidenceKind
    window_s: float
    run: str
    at_s: float
    nights: int
    cards: int
    groups: int
    series: int
    changes: tuple[ChangePoint, ...]
    outliers: tuple[Outlier, ...]

    @property
    def own_changes(self) -> tuple[ChangePoint, ...]:
        """Changes of groups, and of cards that changed alone: not with their rack, model or site."""
        groups = [c for c in self.changes if not c.series.device]
        return tuple(c for c in self.changes if not c.series.device or not any(_same(c, g) for g in groups))


def analysed(
    columns: Columns, *, window_s: float | None = None, measured_window_s: float | None = None
) -> tuple[Findings, ...]:
    """Measured first, then simulated; only kinds of which there are nights. `window_s` None: that of each kind's last
    run; `measured_window_s`: of what was measured alone."""
    answer = []
    for evidence in (EvidenceKind.MEASURED, EvidenceKind.SIMULATED):
        told_s = measured_window_s if evidence is EvidenceKind.MEASURED and window_s is None else window_s
        length = _last_window(columns, evidence) if told_s is None else told_s
        if length is None:
            continue
        cards = card_nights(columns, evidence, window_s=length)
        if len(cards.at_s):
            answer.append(findings_of(cards, length))
    return tuple(answer)


def findings_of(cards: Nights, window_s: float) -> Findings:
    every = with_groups(cards)
    return Findings(
        evidence=cards.evidence,
        window_s=window_s,
        run=cards.runs[-1],
        at_s=float(cards.at_s[-1]),
        nights=len(cards.at_s),
        cards=len({each.device for each in cards.series}),
        groups=len({(s.site, s.model, s.rack) for s in every.series if not s.device}),
        series=len(every.series),
        changes=change_points(every),
        outliers=outliers(every),
    )


def _last_window(columns: Columns, evidence: EvidenceKind) -> float | None:
    whose = [w.evidence == evidence.value for w in columns.whose]
    runs = {run for run, who in zip(columns.run.tolist(), columns.who.tolist(), strict=True) if whose[who]}
    last = max(runs, key=lambda i: columns.runs[i].at_s, default=None)
    return None if last is None else columns.runs[last].window_s


def _same(of_card: ChangePoint, of_group: ChangePoint) -> bool:
    card, group = of_card.series, of_group.series
    inside = (
        (card.evidence, card.workload, card.precision, card.site)
        == (group.evidence, group.workload, group.precision, group.site)
        and group.model in ("", card.model)
        and group.rack in ("", card.rack)
    )
    near_s = SAME_EVENT_NIGHTS * 86_400.0
    return inside and abs(of_card.at_s - of_group.at_s) <= near_s and (of_card.relative > 0) == (of_group.relative > 0)


# ---- what goes to health -----------------------------------------------------------------------------------------


def flags(found: Sequence[Findings], accelerators: Mapping[str, str]) -> list[dict[str, Any]]:
    """Entries for POST /v1/health/flags: real accelerators that are slower than their like or than they were, one entry
    a card and rule (the worst figure of it). `accelerators`: their names by uuid; nothing else is ever flagged.

    A card whose level fell, alone, within OWN_NIGHTS is slower than before although its nights have got used to it.
    """
    entries: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    def add(series: Series, rule: OutlierKind, value: float, expected: float, unit: str, since_s: float) -> None:
        if series.evidence is not EvidenceKind.MEASURED or series.device not in accelerators:
            return
        less = value / expected - 1.0
        than = "its like tonight" if rule is OutlierKind.SLOW_THAN_LIKE else "it was"
        entry = {
            "device": series.device,
            "rule": str(rule),
            "value": value,
            "expected": expected,
            "unit": unit,
            "text": f"{series.workload} {series.precision}: {value:,.4g} {unit} is {-less:.1%} less than {than} "
            f"({expected:,.4g})",
            "since_s": since_s,
        }
        known = entries.get((series.device, str(rule)))
        if known is None or less < known[0]:
            entries[series.device, str(rule)] = (less, entry)

    for each in found:
        since: dict[Series, float] = {}
        for change in each.own_changes:
            recent = change.at_s >= each.at_s - OWN_NIGHTS * 86_400.0
            if change.series.device and change.relative < 0 and recent:
                since[change.series] = change.at_s
                add(
                    change.series,
                    OutlierKind.SLOW_THAN_BEFORE,
                    change.after,
                    change.before,
                    change.unit,
                    change.at_s,
                )
        for outlier in each.outliers:
            add(
                outlier.series,
                outlier.kind,
                outlier.value,
                outlier.expected,
                outlier.unit,
                since.get(outlier.series, outlier.at_s),
            )
    return [entry for _, (_, entry) in sorted(entries.items())]


# ---- as JSON -----------------------------------------------------------------------------------------------------


def findings_json(found: Findings) -> dict[str, Any]:
    return {
        "evidence": found.evidence.value,
        "window_s": found.window_s,
        "run": found.run,
        "at_s": found.at_s,
        "nights": found.nights,
        "cards": found.cards,
        "groups": found.groups,
        "series": found.series,
        "changes": [
            {**_series_json(c.series), **_without_series(asdict(c)), "relative": c.relative} for c in found.changes
        ],
        "outliers": [
            {**_series_json(o.series), **_without_series(asdict(o)), "kind": str(o.kind)} for o in found.outliers
        ],
    }


def _series_json(series: Series) -> dict[str, Any]:
    return {**asdict(series), "evidence": series.evidence.value}


def _without_series(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "series"}
