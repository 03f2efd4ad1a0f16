"""The report for a spreadsheet: one workbook with a sheet a table, and CSV for everything that reads lines.

Numbers are numbers with a format, times are times, and nothing that came from a device name or an error message can
become a formula: a text that begins with = + - @, a tab or a line break gets an apostrophe in front (OWASP, "CSV
injection"). Every table of figures names its evidence. All rows are here, also those that a page leaves out.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from benchmarks.capacity import numbers, telling
from benchmarks.capacity.report import CapacityReport
from benchmarks.capacity.tables import Cell, Column, Kind, Table, goal_title, report_tables
from benchmarks.capacity.words import Language, Words

if TYPE_CHECKING:
    from openpyxl.worksheet._write_only import WriteOnlyWorksheet

_FORMATS = {
    Kind.COUNT: "#,##0",
    Kind.FIGURE: "#,##0.######",
    Kind.SHARE: "0.0%",
    Kind.CHANGE: "+0.0%;-0.0%",
    Kind.DAYS: "#,##0.0",
    Kind.WHEN: "yyyy-mm-dd hh:mm",
}
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# What XML 1.0 cannot hold.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udfff]")
_NOT_IN_A_SHEET_NAME = re.compile(r"[\[\]:*?/\\]")
_MOST_LETTERS = 32_000  # a cell's limit is 32,767
_EPOCH = datetime(2000, 1, 1)


def safe_text(text: str) -> str:
    """Never a formula, never longer than a cell, never what XML cannot hold."""
    cleaned = _UNPRINTABLE.sub("\ufffd", text)[:_MOST_LETTERS]
    return f"'{cleaned}" if cleaned.startswith(_STARTS_A_FORMULA) else cleaned


def csv_text(report: CapacityReport, lang: Language) -> str:
    """The goals' figures, one a line. Starts with a byte order mark, by which Excel knows UTF-8."""
    words = Words(lang)
    return _csv(_figures(report, words))


def cards_csv_text(report: CapacityReport, lang: Language) -> str:
    """Every card of every goal: those that count with their rates, the others with their reasons."""
    return _csv(_all_cards(report, Words(lang)))


def workbook_bytes(report: CapacityReport, lang: Language) -> bytes:
    from openpyxl import Workbook

    words = Words(lang)
    book = Workbook(write_only=True)
    names: set[str] = set()
    mark = words("watermark") if report.simulated_only else ""
    for table in _sheets(report, words):
        sheet = book.create_sheet(_sheet_name(f"{mark} {table.title}".strip(), names))
        if mark:
            sheet.oddHeader.center.text = mark
            sheet.sheet_properties.tabColor = "7A4BB5"
        _sheet(sheet, table, words)
    book.properties.title = words("title")
    book.properties.creator = "Suanli"
    book.properties.created = book.properties.modified = numbers.wall(report.generated_at_s)
    made = io.BytesIO()
    book.save(made)
    return _without_moments(made.getvalue())


def _sheets(report: CapacityReport, words: Words) -> Iterator[Table]:
    tables = report_tables(report, words)
    yield _figures(report, words)
    yield _all_cards(report, words)
    for kind in ("models", "missing", "nights", "exclusions"):
        joined = _joined([(goal_title(t.goal.goal, words), getattr(t, kind)) for t in tables.goals], words)
        if joined is not None:
            yield joined
    found = (tables.changes, tables.outliers, *tables.simulated, tables.cpu, tables.others, tables.unrated)
    yield from (table for table in found if table is not None)
    yield _audit(report, words)


def _joined(found: Sequence[tuple[str, Table | None]], words: Words) -> Table | None:
    """One sheet of a table that every goal has, with the goal in front of each row."""
    there = [(goal, table) for goal, table in found if table is not None]
    if not there:
        return None
    first = there[0][1]
    columns = (Column(words("goal"), width=30), *first.columns)
    return Table(
        first.key, first.title, columns, tuple((goal, *row) for goal, t in there for row in t.rows), "", first.evidence
    )


def _figures(report: CapacityReport, w: Words) -> Table:
    columns = (
        Column(w("goal"), width=36),
        Column(w("figure"), width=20),
        Column(w("evidence"), width=14),
        Column(w("value"), Kind.FIGURE, 14, absent=""),
        Column(w("unit"), width=12),
        Column(w("devices"), Kind.COUNT, 10, absent=""),
        Column(w("note"), width=70),
    )
    rows: list[tuple[Cell, ...]] = []
    if report.simulated_only:
        rows.append(("", "", w("watermark"), None, "", None, w("simulated.only")))
    colon = "：" if w.language == "zh" else ": "
    for g in report.goals:
        title, measured, extrapolated = goal_title(g.goal, w), w("measured"), w("extrapolated")
        rows.append((title, w("goal"), "", g.goal.goal_pflops, "PFlops", None, telling.goal_line(g, w)))
        for part in telling.parts(g, w):
            evidence = extrapolated if part.key == "estimate" else part.name
            note = part.means if part.pflops is not None else f"{part.means}{colon}{part.about}"
            rows.append((title, part.name, evidence, part.pflops, "PFlops", part.devices, note))
        if g.interval is not None:
            for end in (g.interval.low_pflops, g.interval.high_pflops):
                rows.append((title, w("interval.name"), measured, end, "PFlops", None, telling.interval_text(g, w)))
        rows.append((title, w("missing.name"), "", g.missing_pflops, "PFlops", None, telling.missing_text(g, w)))
        for m in g.missing_cards:
            rows.append((title, w("missing_cards"), measured, m.cards, m.model, None, w("missing_cards.note")))
        for tile in telling.tiles(g, w):
            unit = "" if tile.unit == "share" else tile.unit
            rows.append((title, tile.name, measured, tile.value, unit, None, tile.means))
        rows.append((title, w("owned"), "", g.cards_owned, "", None, telling.window_text(g, w)))
        slope = g.trend.slope_pflops_per_day
        rows.append((title, w("trend"), measured, slope, "PFlops/d", None, telling.outlook_text(g, w)))
        if g.simulated_installed:
            simulated = (g.simulated.pflops, "PFlops", g.simulated.devices, w("simulated.means"))
            rows.append((title, w("simulated"), w("watermark"), *simulated))
    return Table("figures", w("figures"), columns, tuple(rows))


def _all_cards(report: CapacityReport, w: Words) -> Table:
    columns = (
        Column(w("goal"), width=30),
        Column(w("device"), width=40),
        Column(w("node"), width=16),
        Column(w("rack"), width=10, absent=""),
        Column(w("model"), width=20),
        Column(w("evidence"), width=10),
        Column(w("rate"), Kind.FIGURE, 12, absent=""),
        Column(w("of_median"), Kind.SHARE, 11, absent=""),
        Column(w("clock"), Kind.FIGURE, 11, absent=""),
        Column(w("power"), Kind.FIGURE, 10, absent=""),
    )
    measured = w("measured")
    rows: list[tuple[Cell, ...]] = []
    if report.simulated_only:
        rows.append(("", w("simulated.only"), "", None, "", w("watermark"), None, None, None, None))
    for g in report.goals:
        title = goal_title(g.goal, w)
        for c in g.cards:
            about = (title, c.uuid, c.node, c.rack, c.model, measured)
            rows.append((*about, c.gflops, c.of_median, c.mean_clock_megahertz, c.mean_power_watts))
    return Table("cards", w("cards.sheet"), columns, tuple(rows))


def _audit(report: CapacityReport, w: Words) -> Table:
    columns = (Column(w("figure"), width=30), Column(w("note"), width=110))
    rows: list[tuple[Cell, ...]] = [
        (w("title"), telling.generated_text(report, w)),
        (w("label"), w(f"label.{report.label or 'none'}")),
        *([(w("watermark"), w("simulated.only"))] if report.simulated_only else []),
        (w("inventory"), telling.inventory_text(report, w)),
        (w("evidence"), w("apart")),
        (w("audit"), telling.log_text(report.log, w)),
    ]
    if report.log is not None:
        rows += [("SHA-256", report.log.sha256), ("", telling.COMMAND)]
    if report.unreadable_history_lines:
        rows.append(("", w("unreadable", n=report.unreadable_history_lines)))
    rows.append((w("method"), w("method.text")))
    rows += [
        (f"{w('source')} ({goal.name})", goal.source) for goal in (*(g.goal for g in report.goals), *report.context)
    ]
    rows += [(w(name), str(report.provenance.get(name) or w("none"))) for name in ("host", "commit", "protocol")]
    return Table("audit", w("audit.sheet"), columns, tuple(rows))


def _sheet(sheet: WriteOnlyWorksheet, table: Table, words: Words) -> None:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.utils import get_column_letter

    has_evidence = not table.evidence or any(c.title == words("evidence") for c in table.columns)
    columns = table.columns if has_evidence else (*table.columns, Column(words("evidence"), width=10))
    sheet.freeze_panes = "A2"
    for index, column in enumerate(columns, 1):
        sheet.column_dimensions[get_column_letter(index)].width = column.width + 2
    head = []
    for column in columns:
        cell = WriteOnlyCell(sheet, safe_text(column.title))
        cell.font, cell.fill = Font(bold=True), PatternFill("solid", fgColor="FFE3E8EF")
        cell.alignment = Alignment(wrap_text=True, vertical="bottom")
        head.append(cell)
    sheet.append(head)
    for row in table.rows:
        cells = [_cell(sheet, column, value) for column, value in zip(table.columns, row, strict=True)]
        sheet.append(cells if has_evidence else [*cells, table.evidence])
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{len(table.rows) + 1}"


def _cell(sheet: WriteOnlyWorksheet, column: Column, value: Cell) -> Any:
    from openpyxl.cell import WriteOnlyCell

    if value is None:
        return column.absent or None
    if isinstance(value, str):
        return safe_text(value)
    cell = WriteOnlyCell(sheet, numbers.wall(value) if column.kind is Kind.WHEN else value)
    cell.number_format = _FORMATS.get(column.kind, "General")
    return cell


def _sheet_name(title: str, taken: set[str]) -> str:
    """At most 31 letters, none of those that Excel refuses, each name once."""
    base = _NOT_IN_A_SHEET_NAME.sub(" ", title)[:28].strip()
    name, number = base, 2
    while name.lower() in taken:
        name, number = f"{base} {number}", number + 1
    taken.add(name.lower())
    return name


def _without_moments(data: bytes) -> bytes:
    """The same workbook with the moment of packing left out, so that equal reports are equal files."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            kept = zipfile.ZipInfo(entry.filename, _EPOCH.timetuple()[:6])
            kept.compress_type, kept.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            content = old.read(entry)
            if entry.filename == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + _moment_of(content), content)
            new.writestr(kept, content, compresslevel=6)
    return made.getvalue()


def _moment_of(core: bytes) -> bytes:
    """openpyxl writes now as the time of the last change; when the report was made is what it should say."""
    found = re.search(rb"<dcterms:created[^>]*>([^<]*)", core)
    return found[1] if found else b"2000-01-01T00:00:00Z"


def _csv(table: Table) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow([safe_text(c.title) for c in table.columns])
    for row in table.rows:
        writer.writerow([_plain(column, value) for column, value in zip(table.columns, row, strict=True)])
    return "\ufeff" + lines.getvalue()


def _plain(column: Column, value: Cell) -> str:
    """A number's own digits, never rounded for the eye; a time as text."""
    if value is None:
        return column.absent
    if isinstance(value, str):
        return safe_text(value)
    return numbers.moment(value) if column.kind is Kind.WHEN else repr(value)
