"""The report on paper: PDF with embedded glyphs, written by fpdf2; no browser is needed and nothing is loaded.

The same tables, sentences and figures as the page, and capacity.json attached, by which `suanli report verify` knows
what the paper says. Equal reports set in the same font are equal files.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from benchmarks.capacity import numbers, pdf_charts, telling
from benchmarks.capacity.arithmetic import GoalCapacity
from benchmarks.capacity.carried import ATTACHED
from benchmarks.capacity.fonts import Faces
from benchmarks.capacity.pdf_charts import AMBER, GREEN, VIOLET
from benchmarks.capacity.pdf_sheet import INK, LINE, MARGIN, SOFT, WHITE, Sheet
from benchmarks.capacity.report import CapacityReport
from benchmarks.capacity.tables import (
    GoalTables,
    Table,
    goal_title,
    report_tables,
    shown_text,
    site_title,
)
from benchmarks.capacity.words import Language, Words

_PART_COLOURS = {"measured": GREEN, "extrapolated": AMBER, "estimate": AMBER}
BAD = (140, 47, 0)


def pdf_bytes(report: CapacityReport, language: Language, document: Mapping[str, Any], faces: Faces) -> bytes:
    """`document` is the report as JSON."""
    # Subsetting tells of every table that it leaves out; nobody has asked.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    words = Words(language)
    title = words("title")
    foot = words("page_of", title=title, at=numbers.moment(report.generated_at_s))
    mark = words("watermark") if report.simulated_only else ""
    foot = f"{foot} · {mark}" if mark else foot
    sheet = Sheet(faces, title=title, foot=foot, made_at_s=report.generated_at_s, language=language, mark=mark)
    sheet.set_keywords(font_mark(faces))
    tables = report_tables(report, words)
    _head(sheet, report, words)
    for number, held in enumerate(tables.goals):
        if number:
            sheet.need(120)  # its figure, its bars and its ratios stand on one page
            if sheet.get_y() > MARGIN + 1:
                sheet.gap(7)
                sheet.rule()
                sheet.gap(4)
        _goal(sheet, report, held, words)
    for table in (tables.changes, tables.outliers):
        if table is not None:
            _section(sheet, table.title, words, table)
    if tables.simulated:
        _simulated_findings(sheet, tables.simulated, words)
    _section(sheet, words("cpu"), words, tables.cpu, note=words("cpu.note"), absent=words("cpu.none"))
    if tables.others is not None:
        _section(sheet, tables.others.title, words, tables.others)
    _section(sheet, words("unrated"), words, tables.unrated, absent=words("unrated.none"))
    _closing(sheet, report, document, words)
    made = datetime.fromtimestamp(report.generated_at_s, UTC)
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    sheet.embed_file(
        bytes=text.encode(),
        basename=ATTACHED,
        mime_type="application/json",
        creation_date=made,
        modification_date=made,
        compress=True,
    )
    return bytes(sheet.output())


def font_mark(faces: Faces) -> str:
    """Names the font files by what is in them: in another font no page can come out the same."""
    both = hashlib.sha256()
    for face in (faces.regular, faces.bold):
        both.update(face.path.read_bytes() + bytes([face.number]))
    return f"suanli-font-{both.hexdigest()[:16]}"


def _head(sheet: Sheet, report: CapacityReport, words: Words) -> None:
    sheet.say(words("title"), 20, bold=True)
    sheet.gap(1)
    sheet.say(telling.generated_text(report, words), 8.5, SOFT)
    sheet.say(telling.inventory_text(report, words), 8.5, SOFT)
    sheet.gap(1.5)
    proof = report.label in ("nightly", "acceptance")
    colour = GREEN if proof else BAD
    text = words(f"label.{report.label or 'none'}")
    sheet.letters(9, colour, bold=True)
    width = sheet.width_of(text) + 8
    sheet.set_draw_color(*colour)
    sheet.set_fill_color(*WHITE)
    sheet.set_line_width(0.4)
    sheet.rect(MARGIN, sheet.get_y(), width, 6.4)
    sheet.set_xy(MARGIN, sheet.get_y())
    sheet.cell(width, 6.4, text, align="C")
    sheet.set_y(sheet.get_y() + 8.5)
    if report.simulated_only:
        sheet.say(words("simulated.only"), 9.5, VIOLET, bold=True)
    sheet.say(words("apart"), 9)
    sheet.gap(4)
    sheet.rule()
    sheet.gap(4)


def _goal(sheet: Sheet, report: CapacityReport, held: GoalTables, words: Words) -> None:
    g = held.goal
    colon = "：" if words.language == "zh" else ": "
    sheet.say(goal_title(g.goal, words), 14, bold=True)
    sites = words("separator").join(site_title(report, site, words) for site in g.goal.sites)
    sheet.say(f"{words('goal')}{colon}{telling.goal_line(g, words)} · {sites}", 8.5, SOFT)
    _headline(sheet, g, words)
    for part in telling.parts(g, words):
        _bar_row(sheet, g, part, words)
    identity = telling.identity_text(g, words)
    if identity:
        sheet.gap(1.5)
        sheet.say(identity, 9.5)
    _tiles(sheet, g, words)
    if g.window is not None:
        sheet.gap(1.5)
        sheet.say(telling.window_text(g, words), 8, SOFT)
    _charts(sheet, g, words)
    for table in (held.missing, held.models, held.slow_cards, held.exclusions):
        if table is not None:
            sheet.heading(table.title, 10.5, before=5, keep=24)
            _table(sheet, table, words)
    if g.simulated_installed:
        _simulated_box(sheet, g, words)


def _headline(sheet: Sheet, g: GoalCapacity, words: Words) -> None:
    sheet.gap(2)
    top = sheet.get_y()
    figure = telling.headline_figure(g)
    sheet.letters(27, SOFT if g.measured.pflops is None else GREEN, bold=True)
    sheet.set_xy(MARGIN, top)
    wide = sheet.width_of(figure)
    sheet.cell(wide + 1, 12, figure)
    sheet.letters(9.5, SOFT)
    sheet.set_xy(MARGIN + wide + 2.5, top + 4.2)
    sheet.cell(60, 6, telling.headline_text(g, words))
    half = MARGIN + sheet.epw * 0.55
    room = sheet.epw * 0.45
    sheet.set_xy(MARGIN, top + 12)
    if telling.interval_text(g, words):
        sheet.say(telling.interval_text(g, words), 8.5, SOFT, width=sheet.epw * 0.53)
    below = sheet.get_y()
    sheet.set_y(top + 3.8)
    sheet.say(telling.missing_text(g, words), 10, bold=True, x=half, width=room, align="R")
    needed = telling.cards_needed_text(g, words)
    if needed:
        sheet.say(needed, 8.5, SOFT, x=half, width=room, align="R")
    sheet.set_y(max(below, sheet.get_y()) + 2)


def _bar_row(sheet: Sheet, g: GoalCapacity, part: telling.Part, words: Words) -> None:
    name, bar, value = 0.36 * sheet.epw, 0.4 * sheet.epw, 0.24 * sheet.epw
    height = max(10.5, 7.0 + max(sheet.tall(part.means, 7.5, name - 5), sheet.tall(part.about, 7.5, value)))
    sheet.need(height)
    top = sheet.get_y()
    sheet.rule()
    sheet.set_y(top + 1)
    sheet.say(part.name, 9.5, _PART_COLOURS.get(part.key, INK), bold=True, width=name - 5)
    sheet.say(part.means, 7.5, SOFT, width=name - 5)
    share = (part.pflops or 0.0) / g.goal.goal_pflops
    pdf_charts.bar(sheet, part.key, MARGIN + name, top + height / 2 - 2.6, bar - 5, 5.2, share)
    x = MARGIN + name + bar
    sheet.set_y(top + 1)
    sheet.say(part.figure if part.pflops is None else f"{part.figure} PFlops", 9.5, bold=True, x=x, width=value)
    sheet.say(part.about, 7.5, SOFT, x=x, width=value)
    sheet.set_y(top + height)


def _tiles(sheet: Sheet, g: GoalCapacity, words: Words) -> None:
    tiles = telling.tiles(g, words)
    each = sheet.epw / len(tiles)
    height = 12 + max(sheet.tall(tile.means, 6.8, each - 4) for tile in tiles)
    sheet.need(height + 3)
    sheet.gap(3)
    top = sheet.get_y()
    sheet.set_draw_color(*LINE)
    sheet.set_line_width(0.2)
    sheet.rect(MARGIN, top, sheet.epw, height)
    for number, tile in enumerate(tiles):
        x = MARGIN + number * each
        if number:
            sheet.set_draw_color(*LINE)
            sheet.line(x, top, x, top + height)
        sheet.set_y(top + 1.2)
        sheet.say(tile.name, 7.5, SOFT, x=x + 2, width=each - 3)
        sheet.set_y(top + 5)
        absent = tile.value is None
        sheet.say(tile.text, 9 if absent else 12, SOFT if absent else INK, bold=not absent, x=x + 2, width=each - 3)
        sheet.set_y(top + 11)
        sheet.say(tile.means, 6.8, SOFT, x=x + 2, width=each - 4)
    sheet.set_y(top + height)


def _charts(sheet: Sheet, g: GoalCapacity, words: Words) -> None:
    """Nights at the left, the first models at the right; further models below in pairs."""
    width = (sheet.epw - 10) / 2
    shown = [m for m in g.models if m.spread is not None]
    outlook = telling.nights_text(g, words)
    tall = (46 if g.nights else 0) + 8 + sheet.tall(outlook, 8, width if g.nights else sheet.epw)
    sheet.need(tall + 4)
    sheet.gap(4)
    top = sheet.get_y()
    sheet.say(words("trend"), 10.5, bold=True, width=width)
    if g.nights:
        pdf_charts.trend(sheet, g, words, MARGIN, sheet.get_y() + 1, width, 44)
        sheet.set_y(sheet.get_y() + 46)
    sheet.say(outlook, 8, SOFT, width=width if g.nights else sheet.epw)
    below = sheet.get_y()
    if shown and g.nights:
        sheet.set_y(top)
        _spread(sheet, shown[0], words, MARGIN + width + 10, width)
        below = max(below, sheet.get_y())
        shown = shown[1:]
    sheet.set_y(below)
    for pair in range(0, len(shown), 2):
        sheet.need(52)
        sheet.gap(3)
        top = sheet.get_y()
        for side, model in enumerate(shown[pair : pair + 2]):
            sheet.set_y(top)
            _spread(sheet, model, words, MARGIN + side * (width + 10), width)


def _spread(sheet: Sheet, model: Any, words: Words, x: float, width: float) -> None:
    sheet.say(words("spread"), 10.5, bold=True, x=x, width=width)
    pdf_charts.spread(sheet, model, words, x, sheet.get_y() + 1, width, 36)
    sheet.set_y(sheet.get_y() + 38)
    sheet.say(words("spread.chart", model=model.model, n=f"{model.verified:,}"), 8, SOFT, x=x, width=width)


def _table(sheet: Sheet, table: Table, words: Words, **colours: Any) -> None:
    if table.note:
        sheet.say(table.note, 8, SOFT)
        sheet.gap(0.8)
    sheet.ruled_table(
        [column.title for column in table.columns],
        [[shown_text(c, v) for c, v in zip(table.columns, row, strict=True)] for row in table.shown],
        right=[column.kind.is_number for column in table.columns],
        **colours,
    )
    if table.more:
        sheet.gap(1)
        sheet.say(words("more", n=f"{table.more:,}"), 8, SOFT)


def _section(sheet: Sheet, title: str, words: Words, table: Table | None, *, note: str = "", absent: str = "") -> None:
    sheet.heading(title, 12.5, before=7, keep=22)
    if table is not None:
        _table(sheet, table, words)
        return
    for text in (note, absent):
        if text:
            sheet.say(text, 9, SOFT)


def _simulated_box(sheet: Sheet, g: GoalCapacity, words: Words) -> None:
    inside = sheet.epw - 10
    height = 23 + sheet.tall(words("simulated.means"), 8, inside)
    sheet.need(height + 5)
    sheet.gap(5)
    top = sheet.get_y()
    pdf_charts.watermark(sheet, words("watermark"), MARGIN, top, sheet.epw, height)
    wide = pdf_charts.stamp(sheet, words("watermark"), MARGIN + 5, top + 3)
    sheet.set_y(top + 3.2)
    sheet.say(words("simulated.box"), 9.5, VIOLET, bold=True, x=MARGIN + wide + 9, width=inside - wide)
    pdf_charts.bar(
        sheet, "simulated", MARGIN + 5, top + 10.5, inside, 3.6, (g.simulated.pflops or 0.0) / g.goal.goal_pflops
    )
    sheet.set_y(top + 15.5)
    sheet.say(telling.simulated_text(g, words), 9, VIOLET, x=MARGIN + 5, width=inside)
    sheet.say(words("simulated.means"), 8, VIOLET, x=MARGIN + 5, width=inside)
    sheet.set_y(top + height)


def _simulated_findings(sheet: Sheet, tables: tuple[Table, ...], words: Words) -> None:
    sheet.heading(words("simulated.findings"), 12.5, before=7, keep=40)
    inside = sheet.epw - 10
    height = 12 + sheet.tall(words("simulated.means"), 8, inside)
    top = sheet.get_y() + 1
    pdf_charts.watermark(sheet, words("watermark"), MARGIN, top, sheet.epw, height)
    pdf_charts.stamp(sheet, words("watermark"), MARGIN + 5, top + 2.5)
    sheet.set_y(top + 9.5)
    sheet.say(words("simulated.means"), 8, VIOLET, x=MARGIN + 5, width=inside)
    sheet.set_y(top + height)
    for table in tables:
        sheet.heading(f"{table.title} ({words('simulated')})", 10.5, before=4, keep=20)
        _table(sheet, table, words, colour=VIOLET, soft=VIOLET)


def _closing(sheet: Sheet, report: CapacityReport, document: Mapping[str, Any], words: Words) -> None:
    colon = "：" if words.language == "zh" else ": "
    if report.context:
        sheet.heading(words("context"), 12.5, before=7, keep=18)
        sheet.say(words("context.note"), 8.5, SOFT)
        for goal in report.context:
            precision = words.or_as_given("precision", goal.precision)
            line = words("goal.line", pflops=numbers.goal_figure(goal.goal_pflops), precision=precision, due=goal.due)
            sheet.say(f"{goal_title(goal, words)}{colon}{line}", 9)
    sheet.heading(words("method"), 12.5, before=7, keep=18)
    sheet.say(words("method.text"), 9)
    sheet.heading(words("audit"), 12.5, before=7, keep=22)
    sheet.say(telling.log_text(report.log, words), 9)
    if report.log is not None:
        sheet.say(report.log.sha256, 9, bold=True)
    if report.unreadable_history_lines:
        sheet.say(words("unreadable", n=report.unreadable_history_lines), 9)
    sheet.say(words("audit.figures"), 9)
    sheet.say(str(document["figures_sha256"]), 9, bold=True)
    if report.log is not None:
        sheet.say(words("audit.command"), 9)
        sheet.say(telling.COMMAND.replace(ATTACHED, "capacity.pdf"), 9, bold=True)
    sheet.heading(words("provenance"), 12.5, before=7, keep=18)
    sources = [
        (f"{words('source')} ({goal.name})", goal.source) for goal in (*(g.goal for g in report.goals), *report.context)
    ]
    about = [
        (words(name), str(report.provenance.get(name) or words("none"))) for name in ("host", "commit", "protocol")
    ]
    for name, text in (*sources, *about):
        sheet.say(f"{name}{colon}{text}", 8.5)
    sheet.need(30)
    sheet.gap(10)
    sheet.say(words("sign"), 10.5, bold=True)
    sheet.gap(10)
    for number, name in enumerate((words("sign.name"), words("sign.date"))):
        x = MARGIN + number * sheet.epw * 0.55
        sheet.letters(9, SOFT)
        sheet.set_xy(x, sheet.get_y())
        sheet.cell(20, 5, name)
        sheet.set_draw_color(*SOFT)
        sheet.line(x + 16, sheet.get_y() + 5, x + sheet.epw * 0.42, sheet.get_y() + 5)
