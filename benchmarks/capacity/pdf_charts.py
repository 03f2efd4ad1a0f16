"""The PDF's drawings: evidence in colour and pattern, nights over time, how rates are spread."""

from __future__ import annotations

from fpdf.enums import RenderStyle

from benchmarks.capacity import numbers
from benchmarks.capacity.arithmetic import GoalCapacity
from benchmarks.capacity.cards import ModelRow
from benchmarks.capacity.pdf_sheet import INK, LINE, SOFT, WHITE, Colour, Sheet
from benchmarks.capacity.scales import mark_text, value_axis
from benchmarks.capacity.words import Words

GREEN: Colour = (11, 122, 83)
AMBER: Colour = (150, 96, 10)
VIOLET: Colour = (91, 47, 151)
VIOLET_INK: Colour = (122, 75, 181)
VIOLET_PALE: Colour = (248, 243, 253)
GREY: Colour = (118, 132, 154)
PALE: Colour = (243, 245, 248)
_GROUND = {
    "nominal": (227, 232, 239),
    "measured": GREEN,
    "extrapolated": (253, 240, 210),
    "estimate": (253, 240, 210),
    "simulated": VIOLET_PALE,
}
_INK = {
    "nominal": GREY,
    "measured": GREEN,
    "extrapolated": (201, 130, 8),
    "estimate": (201, 130, 8),
    "simulated": VIOLET_INK,
}
DAY_S = 86_400.0


def bar(sheet: Sheet, key: str, x: float, y: float, width: float, height: float, share: float) -> None:
    """A bar of `share` of the goal in the pattern of its evidence: plain and dashed, solid, hatched, dotted."""
    sheet.set_line_width(0.15)
    sheet.set_draw_color(*LINE)
    sheet.set_fill_color(*PALE)
    sheet.rect(x, y, width, height, RenderStyle.DF)
    if share <= 0:
        return
    filled = width * min(1.0, max(0.004, share))
    sheet.set_fill_color(*_GROUND[key])
    sheet.rect(x, y, filled, height, RenderStyle.F)
    sheet.set_draw_color(*_INK[key])
    with sheet.rect_clip(x, y, filled, height):
        if key == "extrapolated":
            _hatch(sheet, x, y, filled, height, step=2.2, line=0.8)
        elif key == "estimate":
            _hatch(sheet, x, y, filled, height, step=2.2, line=0.35)
        elif key == "simulated":
            _dots(sheet, x, y, filled, height)
    sheet.set_line_width(0.25)
    if key == "nominal":
        sheet.set_dash_pattern(1.4, 0.9)
    sheet.rect(x, y, filled, height)
    sheet.set_dash_pattern()


def trend(sheet: Sheet, g: GoalCapacity, words: Words, x: float, y: float, width: float, height: float) -> None:
    axis, holds_goal = value_axis([night.pflops for night in g.nights], g.goal.goal_pflops)
    left, top, bottom, right = x + 14, y + 5, y + height - 6, x + width
    first, last = g.nights[0].at_s, g.nights[-1].at_s

    def at_x(at_s: float) -> float:
        return left + 2 + (right - left - 4) * ((at_s - first) / (last - first) if last > first else 0.5)

    def at_y(pflops: float) -> float:
        return bottom - (bottom - top) * axis.place(pflops)

    sheet.set_line_width(0.15)
    for mark in axis.marks:
        sheet.set_draw_color(*(SOFT if mark == axis.low else LINE))
        sheet.line(left, at_y(mark), right, at_y(mark))
        _word(sheet, mark_text(mark, axis), x, at_y(mark) - 2, 12.5, "R")
    goal = numbers.goal_figure(g.goal.goal_pflops)
    if holds_goal:
        sheet.set_draw_color(*INK)
        sheet.set_dash_pattern(0.5, 0.9)
        sheet.line(left, at_y(g.goal.goal_pflops), right, at_y(g.goal.goal_pflops))
        sheet.set_dash_pattern()
        _word(sheet, words("trend.goal", pflops=goal), left, at_y(g.goal.goal_pflops) - 4.2, right - left, "R", INK)
    else:
        _word(sheet, words("trend.goal_above", pflops=goal), left, y, right - left, "R")
    trend_line = g.trend
    if trend_line.slope_pflops_per_day is not None and trend_line.level_pflops is not None:
        start = trend_line.level_pflops - trend_line.slope_pflops_per_day * (last - first) / DAY_S
        ends = [min(axis.high, max(axis.low, value)) for value in (start, trend_line.level_pflops)]
        sheet.set_draw_color(*GREEN)
        sheet.set_line_width(0.35)
        sheet.set_dash_pattern(1.8, 1)
        sheet.line(at_x(first), at_y(ends[0]), at_x(last), at_y(ends[1]))
        sheet.set_dash_pattern()
    sheet.set_fill_color(*GREEN)
    for night in g.nights:
        sheet.circle(at_x(night.at_s), at_y(night.pflops), 0.75, RenderStyle.F)
    _word(sheet, numbers.date(first), left, bottom + 1.5, 30, "L")
    if last > first:
        _word(sheet, numbers.date(last), right - 30, bottom + 1.5, 30, "R")


def spread(sheet: Sheet, m: ModelRow, words: Words, x: float, y: float, width: float, height: float) -> None:
    if m.spread is None or m.p50_gflops is None:
        return
    low, high, counts = m.spread.low_gflops, m.spread.high_gflops, m.spread.counts
    top, bottom = y + 6, y + height - 6
    each = width / len(counts)
    sheet.set_fill_color(60, 149, 117)
    for place, count in enumerate(counts):
        if count:
            tall = max(0.5, (bottom - top) * count / max(counts))
            sheet.rect(x + each * place + 0.15, bottom - tall, each - 0.3, tall, RenderStyle.F)
    sheet.set_draw_color(*SOFT)
    sheet.set_line_width(0.15)
    sheet.line(x, bottom, x + width, bottom)
    at = x + width * (m.p50_gflops - low) / (high - low)
    sheet.set_draw_color(*INK)
    sheet.set_line_width(0.3)
    sheet.line(at, y + 5, at, bottom)
    said = words("spread.median", rate=numbers.figure(m.p50_gflops))
    sheet.letters(7.5)
    beside = min(max(x, at - sheet.width_of(said) / 2), x + width - sheet.width_of(said))
    _word(sheet, said, beside, y + 0.6, sheet.width_of(said) + 1, "L", INK)
    _word(sheet, numbers.figure(low), x, bottom + 1.2, 30, "L")
    _word(sheet, numbers.figure(high), x + width - 30, bottom + 1.2, 30, "R")


def stamp(sheet: Sheet, text: str, x: float, y: float) -> float:
    """A tilted stamp; how wide it is."""
    sheet.letters(8.5, VIOLET, bold=True)
    width = sheet.width_of(text) + 5
    with sheet.upright(), sheet.rotation(3, x + width / 2, y + 3):
        sheet.set_draw_color(*VIOLET)
        sheet.set_fill_color(*WHITE)
        sheet.set_line_width(0.5)
        sheet.rect(x, y, width, 5.6, RenderStyle.DF)
        sheet.set_xy(x, y)
        sheet.cell(width, 5.6, text, align="C")
    return width


def watermark(sheet: Sheet, text: str, x: float, y: float, width: float, height: float) -> None:
    """A dashed violet box with the word all over it."""
    sheet.set_fill_color(*VIOLET_PALE)
    sheet.rect(x, y, width, height, RenderStyle.F)
    with sheet.upright(), sheet.rect_clip(x, y, width, height):
        sheet.letters(15, (228, 216, 244), bold=True)
        for row in range(int(height // 14) + 2):
            for column in range(int(width // 52) + 2):
                at_x, at_y = x + column * 52 - (row % 2) * 26, y + row * 14 - 4
                with sheet.rotation(14, at_x, at_y):
                    sheet.set_xy(at_x, at_y)
                    sheet.cell(40, 6, text)
    sheet.set_draw_color(*VIOLET_INK)
    sheet.set_line_width(0.4)
    sheet.set_dash_pattern(1.8, 1.2)
    sheet.rect(x, y, width, height)
    sheet.set_dash_pattern()


def _hatch(sheet: Sheet, x: float, y: float, width: float, height: float, *, step: float, line: float) -> None:
    sheet.set_line_width(line)
    place = x - height
    while place < x + width:
        sheet.line(place, y + height, place + height, y)
        place += step


def _dots(sheet: Sheet, x: float, y: float, width: float, height: float) -> None:
    sheet.set_fill_color(*VIOLET_INK)
    for row in range(int(height / 1.8) + 1):
        for column in range(int(width / 1.8) + 1):
            sheet.circle(x + 0.9 + 1.8 * column, y + 0.9 + 1.8 * row, 0.42, RenderStyle.F)


def _word(sheet: Sheet, text: str, x: float, y: float, width: float, align: str, colour: Colour = SOFT) -> None:
    with sheet.upright():
        sheet.letters(7.5, colour)
        sheet.set_xy(x, y)
        sheet.cell(width, 4, text, align=align)
