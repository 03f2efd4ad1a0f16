"""How are groups told apart by a length? Horizontal bars, and quantile ranges on a logarithmic axis, as SVG.

Each group has its name on a line of its own, so that a long one has room on a phone too, and under it one row a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from markupsafe import Markup

from scheduler.simulation.page.scales import linear_marks, log_marks, log_place, log_words, with_room
from scheduler.simulation.page.svg import SLOTS, WIDTH, WORD_GAP, drawing, fit, rule, tag, words

NAME_HEIGHT, ROW_HEIGHT, GROUP_GAP = 19.0, 19.0, 7.0
TOP, BOTTOM = 22.0, 38.0
LETTER, VALUE = 20.0, 96.0  # room for a run's letter on the left, and for the figure on the right
NAME_LETTERS = 52


@dataclass(frozen=True, slots=True)
class Bar:
    """`letter`: the run's, empty where there is one run only. `mark`: a value to compare the bar with."""

    slot: int
    letter: str
    tip: str
    value: float | None
    text: str
    mark: float | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Three quantiles, in seconds. `text` stands at the end of the row."""

    slot: int
    letter: str
    tip: str
    p50: float | None
    p95: float | None
    p99: float | None
    text: str


T = TypeVar("T", Bar, Range)


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    name: str
    rows: Sequence[T]


def bar_chart(
    label: str,
    groups: Sequence[Group[Bar]],
    *,
    say: Callable[[float], str],
    axis: str,
    stamp: str,
    top: float | None = None,
    whole: bool = False,
) -> Markup:
    bars = [bar for group in groups for bar in group.rows]
    highest = max((value for bar in bars for value in (bar.value, bar.mark) if value is not None), default=0.0)
    marks = linear_marks(top if top is not None else highest, whole=whole)

    def draw(bar: Bar, x: Callable[[float], float], y: float) -> list[Markup]:
        parts = []
        if bar.value is not None:
            length = max(0.8 if bar.value > 0 else 0.0, x(bar.value / marks[-1]) - x(0))
            box = {"x": x(0), "y": y + 3, "width": length, "height": ROW_HEIGHT - 6}
            slot = bar.slot % SLOTS
            parts.append(tag("rect", class_=f"bar s{slot}", fill=f"url(#fill-{slot})", **box))
        if bar.mark is not None:
            place = x(bar.mark / marks[-1])
            parts.append(rule(place, y, place, y + ROW_HEIGHT, "mark"))
        return parts

    places = [mark / marks[-1] for mark in marks]
    return _rows(label, groups, draw, places, [say(m) for m in marks], (0, len(marks) - 1), axis=axis, stamp=stamp)


def range_chart(
    label: str,
    groups: Sequence[Group[Range]],
    *,
    say: Callable[[float], str],
    axis: str,
    stamp: str,
    heading: str,
) -> Markup:
    """`heading`: of the rows' texts, on the right."""
    rows = [row for group in groups for row in group.rows]
    held = [value for row in rows for value in (row.p50, row.p95, row.p99) if value is not None]
    marks = log_marks(min(held, default=1.0), max(held, default=1.0))

    def draw(row: Range, x: Callable[[float], float], y: float) -> list[Markup]:
        shown, middle = f"s{row.slot % SLOTS}", y + ROW_HEIGHT / 2
        at = [None if value is None else x(log_place(value, marks)) for value in (row.p50, row.p95, row.p99)]
        known = [place for place in at if place is not None]
        parts = []
        if len(known) > 1:
            parts.append(rule(known[0], middle, known[-1], middle, f"line {shown}"))
        p50, p95, p99 = at
        if p95 is not None:
            parts.append(rule(p95, middle - 6, p95, middle + 6, f"line solid {shown}"))
        if p99 is not None:
            diamond = f"M{p99 - 5:.1f} {middle:.1f}l5 -5l5 5l-5 5z"
            parts.append(tag("path", d=diamond, class_=f"hollow {shown}"))
        if p50 is not None:
            parts.append(tag("circle", cx=p50, cy=middle, r=4.5, class_=f"point {shown}"))
        return parts

    places = [log_place(mark, marks) for mark in marks]
    return _rows(
        label, groups, draw, places, [say(m) for m in marks], log_words(marks), axis=axis, stamp=stamp, heading=heading
    )


def _rows(
    label: str,
    groups: Sequence[Group[T]],
    draw: Callable[[T, Callable[[float], float], float], list[Markup]],
    places: Sequence[float],
    said: Sequence[str],
    first: Sequence[int],
    *,
    axis: str,
    stamp: str,
    heading: str = "",
) -> Markup:
    """The frame that bars and ranges share. `places`: the axis' marks, 0..1, and what is `said` at them. `heading`: of
    the figures on the right."""
    lettered = any(row.letter for group in groups for row in group.rows)
    left = LETTER if lettered else 8.0

    def x(share: float) -> float:
        return left + (WIDTH - VALUE - left) * min(1.0, max(0.0, share))

    bottom = TOP + sum(NAME_HEIGHT + ROW_HEIGHT * len(group.rows) + GROUP_GAP for group in groups)
    parts = [] if not heading else [words(WIDTH, 13, heading, "soft", "end")]
    named = with_room([x(place) for place in places], WORD_GAP, first)
    for index in named:
        anchor = "start" if index == 0 else "middle"
        parts.append(words(x(places[index]) - (4 if index == 0 else 0), bottom + 16, said[index], anchor=anchor))
    parts.append(words(0, bottom + 32, axis, "soft"))
    y = TOP
    for group in groups:
        name = fit(group.name, NAME_LETTERS)
        parts.append(tag("text", tag("title", group.name), name, x=0, y=y + 14, class_="t name"))
        y += NAME_HEIGHT
        # Through the rows only: no rule strikes a name out.
        down = y + ROW_HEIGHT * len(group.rows)
        parts += [rule(x(place), y, x(place), down, "axis" if place == 0 else "grid") for place in places]
        for row in group.rows:
            drawn = draw(row, x, y)
            if row.letter:
                drawn.append(words(0, y + 14, row.letter, "soft"))
            drawn.append(words(WIDTH, y + 14, row.text, anchor="end"))
            hit = tag("rect", class_="tip", x=0, y=y, width=WIDTH, height=ROW_HEIGHT)
            parts.append(tag("g", tag("title", row.tip), *drawn, hit))
            y += ROW_HEIGHT
        y += GROUP_GAP
    return drawing(label, bottom + BOTTOM, *parts, stamp=words(0, 13, stamp, "stamp"))
