"""The page's charts as inline SVG: nights over time, and how the rates of one model are spread.

Colours and patterns are the style sheet's, so that a chart follows light, dark and paper. A drawing is WIDTH units wide
and scaled to its place; its letters stay readable at the width of a phone. Text is escaped here.
"""

from __future__ import annotations

from markupsafe import Markup, escape

from benchmarks.capacity import numbers
from benchmarks.capacity.arithmetic import GoalCapacity
from benchmarks.capacity.cards import ModelRow
from benchmarks.capacity.scales import mark_text, value_axis
from benchmarks.capacity.words import Words

WIDTH = 420.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 16.0, 24.0
TREND_HEIGHT = 190.0
SPREAD_HEIGHT = 120.0


def trend_chart(g: GoalCapacity, words: Words) -> Markup:
    """One point a night; empty where there is none."""
    if not g.nights:
        return Markup("")
    axis, holds_goal = value_axis([night.pflops for night in g.nights], g.goal.goal_pflops)
    first, last = g.nights[0].at_s, g.nights[-1].at_s
    span = max(last - first, 86_400.0)
    bottom = TREND_HEIGHT - BOTTOM

    def x(at_s: float) -> float:
        return LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * ((at_s - first) / span if last > first else 0.5)

    def y(pflops: float) -> float:
        return bottom - (bottom - TOP) * axis.place(pflops)

    parts = []
    for mark in axis.marks:
        parts.append(_line(LEFT, y(mark), WIDTH - RIGHT, y(mark), "axis" if mark == axis.low else "grid"))
        parts.append(_text(LEFT - 6, y(mark) + 4, mark_text(mark, axis), anchor="end"))
    goal = numbers.goal_figure(g.goal.goal_pflops)
    if holds_goal:
        at = y(g.goal.goal_pflops)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, "goal"))
        parts.append(_text(WIDTH - RIGHT, at - 5, words("trend.goal", pflops=goal), "strong", "end"))
    else:
        parts.append(_text(WIDTH - RIGHT, TOP - 5, words("trend.goal_above", pflops=goal), "soft", "end"))
    trend = g.trend
    if trend.slope_pflops_per_day is not None and trend.level_pflops is not None:
        start = trend.level_pflops - trend.slope_pflops_per_day * (last - first) / 86_400.0
        ends = (min(axis.high, max(axis.low, start)), min(axis.high, max(axis.low, trend.level_pflops)))
        parts.append(_line(x(first), y(ends[0]), x(last), y(ends[1]), "slope"))
    for night in g.nights:
        tip = Markup("<title>{}: {} PFlops</title>").format(numbers.moment(night.at_s), numbers.figure(night.pflops))
        parts.append(
            Markup('<circle class="point" cx="{}" cy="{}" r="3.2">{}</circle>').format(
                _n(x(night.at_s)), _n(y(night.pflops)), tip
            )
        )
    parts.append(_text(LEFT, TREND_HEIGHT - 6, numbers.date(first)))
    if last > first:
        parts.append(_text(WIDTH - RIGHT, TREND_HEIGHT - 6, numbers.date(last), anchor="end"))
    return _drawing(words("trend.chart"), TREND_HEIGHT, parts)


def spread_chart(m: ModelRow, words: Words) -> Markup:
    """A histogram of verified cards' rates."""
    if m.spread is None or m.p50_gflops is None:
        return Markup("")
    low, high, counts = m.spread.low_gflops, m.spread.high_gflops, m.spread.counts
    bottom, most = SPREAD_HEIGHT - BOTTOM, max(m.spread.counts)
    left = RIGHT
    each = (WIDTH - left - RIGHT) / len(counts)

    def x(rate: float) -> float:
        return left + (WIDTH - left - RIGHT) * (rate - low) / (high - low)

    parts = [_line(left, bottom, WIDTH - RIGHT, bottom, "axis")]
    for place, count in enumerate(counts):
        if count:
            height = max(1.5, (bottom - TOP - 12) * count / most)
            tip = Markup("<title>{}–{}: {}</title>").format(
                numbers.figure(low + (high - low) * place / len(counts)),
                numbers.figure(low + (high - low) * (place + 1) / len(counts)),
                count,
            )
            parts.append(
                Markup('<rect class="bin" x="{}" y="{}" width="{}" height="{}">{}</rect>').format(
                    _n(left + each * place + 0.5), _n(bottom - height), _n(each - 1), _n(height), tip
                )
            )
    at = x(m.p50_gflops)
    parts.append(_line(at, TOP - 8, at, bottom, "median"))
    beside = "start" if at < WIDTH * 0.55 else "end"
    said = words("spread.median", rate=numbers.figure(m.p50_gflops))
    parts.append(_text(at + (5 if beside == "start" else -5), TOP + 2, said, "strong", beside))
    parts.append(_text(left, SPREAD_HEIGHT - 6, numbers.figure(low)))
    parts.append(_text(WIDTH - RIGHT, SPREAD_HEIGHT - 6, numbers.figure(high), anchor="end"))
    return _drawing(words("spread.chart", model=m.model, n=m.verified), SPREAD_HEIGHT, parts)


def _drawing(label: str, height: float, parts: list[Markup]) -> Markup:
    return Markup('<svg class="chart" role="img" viewBox="0 0 {} {}" aria-label="{}">{}</svg>').format(
        _n(WIDTH), _n(height), label, Markup("").join(parts)
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, _n(x1), _n(y1), _n(x2), _n(y2))


def _text(x: float, y: float, text: str, kind: str = "soft", anchor: str = "start") -> Markup:
    return Markup('<text class="t {}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _n(x), _n(y), anchor, escape(text)
    )


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
