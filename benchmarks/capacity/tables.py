"""The report's tables, once for all formats: typed columns, raw values, and how much of each a page may show.

A page shows the first SHOWN rows of a long table and says how many more there are; spreadsheets and CSV have all.
A cell holds a number, a text, a time in epoch seconds, or None where nobody knows (then the column says what to print).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.capacity import numbers
from benchmarks.capacity.arithmetic import CpuEntry, GoalCapacity
from benchmarks.capacity.as_json import age_days
from benchmarks.capacity.report import CapacityReport
from benchmarks.capacity.words import Words
from benchmarks.history.findings import ChangePoint, Outlier, Series
from benchmarks.protocol import window_label
from scheduler.schema.model import Goal

SHOWN = 12

Cell = str | float | int | None


class Kind(StrEnum):
    TEXT = "text"
    ID = "id"  # breaks anywhere
    COUNT = "count"
    FIGURE = "figure"
    SHARE = "share"
    CHANGE = "change"
    WHEN = "when"
    DAYS = "days"

    @property
    def is_number(self) -> bool:
        return self in (Kind.COUNT, Kind.FIGURE, Kind.SHARE, Kind.CHANGE, Kind.DAYS)


@dataclass(frozen=True, slots=True)
class Column:
    """`absent`: what stands for None. `width`: how much room it asks for beside the others, in letters."""

    title: str
    kind: Kind = Kind.TEXT
    width: int = 12
    absent: str = numbers.ABSENT


@dataclass(frozen=True, slots=True)
class Table:
    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    evidence: str = ""

    @property
    def shown(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[:SHOWN]

    @property
    def more(self) -> int:
        return max(0, len(self.rows) - SHOWN)


@dataclass(frozen=True, slots=True)
class GoalTables:
    """The tables of one goal; those that have nothing to say are not there."""

    goal: GoalCapacity
    missing: Table | None
    models: Table | None
    nights: Table | None
    slow_cards: Table | None
    exclusions: Table | None


@dataclass(frozen=True, slots=True)
class ReportTables:
    goals: tuple[GoalTables, ...]
    changes: Table | None
    outliers: Table | None
    simulated: tuple[Table, ...]
    cpu: Table | None
    others: Table | None
    unrated: Table | None


def shown_text(column: Column, value: Cell) -> str:
    if value is None:
        return column.absent
    if isinstance(value, str):
        return value
    match column.kind:
        case Kind.COUNT:
            return f"{value:,.0f}"
        case Kind.SHARE:
            return numbers.percent(value)
        case Kind.CHANGE:
            return numbers.signed_percent(value)
        case Kind.WHEN:
            return numbers.moment(value)
        case Kind.DAYS:
            return f"{value:,.1f}"
        case _:
            return numbers.figure(value)


def goal_title(goal: Goal, words: Words) -> str:
    return goal.title_zh if words.language == "zh" else goal.title_en


def site_title(report: CapacityReport, site: str, words: Words) -> str:
    known = report.sites.get(site)
    return site if known is None else known.title_zh if words.language == "zh" else known.title_en


def report_tables(report: CapacityReport, words: Words) -> ReportTables:
    simulated = (
        _changes(report, report.simulated_changes, words, words("simulated")),
        _outliers(report, report.simulated_outliers, words, words("simulated")),
    )
    return ReportTables(
        goals=tuple(
            GoalTables(
                goal=g,
                missing=_missing(g, words),
                models=_models(g, words),
                nights=_nights(g, words),
                slow_cards=_cards(g, words),
                exclusions=_exclusions(report, g, words),
            )
            for g in report.goals
        ),
        changes=_changes(report, report.changes, words, words("measured")),
        outliers=_outliers(report, report.outliers, words, words("measured")),
        simulated=tuple(t for t in simulated if t is not None),
        cpu=_cpu(report, words),
        others=_others(report, words),
        unrated=_unrated(report, words),
    )


def _missing(g: GoalCapacity, w: Words) -> Table | None:
    columns = (
        Column(w("model"), width=22),
        Column(w("vendor")),
        Column(w("measured_rate"), Kind.FIGURE, 16),
        Column(w("cards_each"), Kind.COUNT, 10),
    )
    rows = tuple((m.model, m.vendor, m.gflops_each, m.cards) for m in g.missing_cards)
    return _table("missing", w("missing_cards"), columns, rows, w("missing_cards.note"), w("measured"))


def _models(g: GoalCapacity, w: Words) -> Table | None:
    columns = (
        Column(w("model"), width=20),
        Column(w("vendor"), width=9),
        Column(w("installed"), Kind.COUNT, 9),
        Column(w("peak"), Kind.FIGURE, 11, w("unknown")),
        Column(w("verified"), Kind.COUNT, 9),
        Column(w("slowest"), Kind.FIGURE, 10),
        Column(w("p5"), Kind.FIGURE, 10),
        Column(w("p50"), Kind.FIGURE, 10),
        Column(w("p95"), Kind.FIGURE, 10),
        Column(w("highest"), Kind.FIGURE, 10),
    )
    rows = tuple(
        (
            *(m.model, m.vendor, m.installed, m.peak_tflops, m.verified),
            *(m.min_gflops, m.p5_gflops, m.p50_gflops, m.p95_gflops, m.max_gflops),
        )
        for m in g.models
    )
    return _table("models", w("models"), columns, rows, w("models.note"), w("measured"))


def _nights(g: GoalCapacity, w: Words) -> Table | None:
    columns = (
        Column(w("night"), Kind.WHEN, 16),
        Column("PFlops", Kind.FIGURE, 10),
        Column(w("verified"), Kind.COUNT, 10),
        Column(w("cards_run"), Kind.COUNT, 10),
        Column(w("window_s"), Kind.COUNT, 10),
        Column(w("precision"), width=8),
        Column(w("run"), Kind.ID, 18),
    )
    rows = tuple(
        (n.at_s, n.pflops, n.cards_verified, n.cards_run, n.window_s, n.precision, n.run) for n in reversed(g.nights)
    )
    return _table("nights", w("nights"), columns, rows, evidence=w("measured"))


def _cards(g: GoalCapacity, w: Words) -> Table | None:
    columns = (
        Column(w("device"), Kind.ID, 26),
        Column(w("node"), width=14),
        Column(w("rack"), width=10),
        Column(w("model"), width=18),
        Column(w("rate"), Kind.FIGURE, 11),
        Column(w("of_median"), Kind.SHARE, 10),
        Column(w("clock"), Kind.FIGURE, 10),
        Column(w("power"), Kind.FIGURE, 9),
    )
    rows = tuple(
        (c.uuid, c.node, c.rack, c.model, c.gflops, c.of_median, c.mean_clock_megahertz, c.mean_power_watts)
        for c in g.cards
        if c.of_median < 1.0
    )
    return _table("cards", w("slow_cards"), columns, rows, w("slow_cards.note"), w("measured"))


def _exclusions(report: CapacityReport, g: GoalCapacity, w: Words) -> Table | None:
    columns = (
        Column(w("device"), Kind.ID, 26),
        Column(w("node"), width=14),
        Column(w("model"), width=18),
        Column(w("reason"), width=22),
        Column(w("detail"), width=30, absent=""),
        Column(w("last"), Kind.WHEN, 16, w("never")),
        Column(w("age"), Kind.DAYS, 9),
    )
    at_s = report.generated_at_s
    reasons = {why: w(f"excluded.{why}") for why in {e.why for e in g.exclusions}}
    rows = tuple(
        (
            *(e.uuid, e.node, e.model, reasons[e.why], e.detail),
            *(e.last_verified_at_s, age_days(e.last_verified_at_s, at_s)),
        )
        for e in g.exclusions
    )
    counted = Counter(e.why for e in g.exclusions).most_common()
    told = w("separator").join(w("exclusions.count", reason=reasons[why], n=n) for why, n in counted)
    note = w("exclusions.note", n=len(rows), reasons=told)
    return _table("exclusions", w("exclusions"), columns, rows, note)


def _changes(report: CapacityReport, found: Sequence[ChangePoint], w: Words, evidence: str) -> Table | None:
    columns = (
        Column(w("since"), Kind.WHEN, 16),
        Column(w("whose"), Kind.ID, 26),
        Column(w("evidence"), width=10),
        Column(w("workload"), width=14),
        Column(w("before"), Kind.FIGURE, 10),
        Column(w("after"), Kind.FIGURE, 10),
        Column(w("unit"), width=9),
        Column(w("change"), Kind.CHANGE, 9),
        Column("p", Kind.FIGURE, 9),
    )
    rows = tuple(
        (
            *(c.at_s, series_name(report, c.series, w), evidence, _what(c.series)),
            *(c.before, c.after, c.unit, c.relative, c.p_value),
        )
        for c in found
    )
    return _table("changes", w("changes"), columns, rows, w("changes.note"), evidence)


def _outliers(report: CapacityReport, found: Sequence[Outlier], w: Words, evidence: str) -> Table | None:
    columns = (
        Column(w("whose"), Kind.ID, 26),
        Column(w("node"), width=14),
        Column(w("evidence"), width=10),
        Column(w("workload"), width=14),
        Column(w("found"), width=18),
        Column(w("value"), Kind.FIGURE, 10),
        Column(w("expected"), Kind.FIGURE, 10),
        Column(w("unit"), width=9),
        Column(w("score"), Kind.FIGURE, 8),
        Column(w("night"), Kind.WHEN, 16),
    )
    rows = tuple(
        (
            *(series_name(report, o.series, w), o.node, evidence, _what(o.series), w(f"outlier.{o.kind}")),
            *(o.value, o.expected, o.unit, o.score, o.at_s),
        )
        for o in found
    )
    return _table("outliers", w("outliers"), columns, rows, w("outliers.note"), evidence)


def _cpu(report: CapacityReport, w: Words) -> Table | None:
    columns = (
        Column(w("node"), width=14),
        Column(w("site"), width=20),
        Column(w("model"), width=18),
        Column(w("devices"), Kind.COUNT, 8),
        Column(w("precision"), width=9),
        Column(w("cpu.rate"), Kind.FIGURE, 14),
        Column(w("verified"), width=12),
        Column(w("label"), width=14),
    )
    rows = tuple(
        (
            *(e.node, site_title(report, e.site, w), e.model, e.devices, e.precision, e.gflops),
            cpu_verified(e, w),
            None if e.window_s is None else f"{w(f'short.{window_label(e.window_s)}')} · {e.window_s:g} s",
        )
        for e in report.cpu
    )
    return _table("cpu", w("cpu"), columns, rows, w("cpu.note"), w("measured"))


def _others(report: CapacityReport, w: Words) -> Table | None:
    columns = (
        Column(w("workload"), width=14),
        Column(w("precision"), width=9),
        Column(w("site"), width=20),
        Column(w("model"), width=18),
        Column(w("devices"), Kind.COUNT, 8),
        Column(w("slowest"), Kind.FIGURE, 11),
        Column(w("median"), Kind.FIGURE, 11),
        Column(w("highest"), Kind.FIGURE, 11),
        Column(w("unit"), width=12),
        Column(w("others.last"), Kind.WHEN, 16),
    )
    rows = tuple(
        (
            *(w.or_as_given("workload", e.workload), e.precision, site_title(report, e.site, w), e.model, e.devices),
            *(e.lowest, e.median, e.highest, e.unit, e.recorded_at_s),
        )
        for e in report.others
    )
    return _table("others", w("others"), columns, rows, w("others.note"), w("measured"))


def _unrated(report: CapacityReport, w: Words) -> Table | None:
    columns = (
        Column(w("model"), width=22),
        Column(w("vendor")),
        Column(w("site"), width=26),
        Column(w("devices"), Kind.COUNT, 10),
    )
    rows = tuple((u.model, u.vendor, site_title(report, u.site, w), u.devices) for u in report.unrated)
    return _table("unrated", w("unrated"), columns, rows, w("unrated.note"))


def cpu_verified(entry: CpuEntry, w: Words) -> str:
    """Whether it was verified; why not in the report's own words, since what the machine said is English."""
    if entry.verified:
        return w("yes")
    said = w(f"excluded.{entry.verdict}")
    return w("no", why=f"{said} ({entry.reason})" if entry.reason and w.language == "en" else said)


def series_name(report: CapacityReport, series: Series, w: Words) -> str:
    site = site_title(report, series.site, w)
    if series.device:
        return w("series.device", device=series.device, model=series.model or numbers.ABSENT)
    if series.rack:
        return w("series.rack", rack=series.rack, site=site)
    return w("series.model", model=series.model, site=site) if series.model else w("series.site", site=site)


def _what(series: Series) -> str:
    return " ".join(part for part in (series.workload, series.precision) if part)


def _table(
    key: str,
    title: str,
    columns: tuple[Column, ...],
    rows: tuple[tuple[Cell, ...], ...],
    note: str = "",
    evidence: str = "",
) -> Table | None:
    return Table(key, title, columns, rows, note, evidence) if rows else None
