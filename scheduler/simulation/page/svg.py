"""How is a line over time drawn? Small pure functions that return SVG, safe to place in a page.

Colours and dashes are the style sheet's (classes s0..s3), so that a chart follows light, dark and paper. Text comes in
as plain strings and is escaped here. Sizes are in units of the drawing, which the page scales to its width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from scheduler.simulation.page.scales import linear_marks, time_marks, with_room

WIDTH = 480.0
SLOTS = 4  # ways to draw a run, in colour, dash and filling
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 32.0, 36.0
PANEL_HEIGHT = {1: 190.0, 2: 120.0, 3: 100.0}
STRIP_HEIGHT = 78.0
CAPTION_LETTERS = 46
WORD_GAP = 64.0  # between the middles of two words on an axis, at the size a phone shows
# A line of more points than this is thinned to the lowest and highest of each of _BUCKETS.
_MOST_POINTS, _BUCKETS = 600, 240
_TIPS = 32


@dataclass(frozen=True, slots=True)
class Line:
    """One run's values over time; None is a gap. `slot`: how it is drawn; a ghost is the base behind another run."""

    slot: int
    name: str
    t_s: Sequence[float]
    values: Sequence[float | None]
    ghost: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """`top`: the end of the axis, or None for what the lines need; `bottom`: its start. `whole`: only whole numbers are
    marked."""

    caption: str
    lines: Sequence[Line]
    say: Callable[[float], str]
    top: float | None = None
    whole: bool = False
    bottom: float = 0.0


def tag(name: str, *children: str | Markup, **attributes: object) -> Markup:
    """An element; `class_` and `text_anchor` become class and text-anchor, numbers are cut to two digits."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{''.join(map(escape, children))}</{name}>")


def drawing(label: str, height: float, *children: Markup, stamp: Markup) -> Markup:
    """A whole chart with its name for a screen reader. `stamp` is drawn into it, so a copied chart stays labelled."""
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return tag("svg", *children, stamp, class_="chart", role="img", viewBox=box, aria_label=label)


def words(x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> Markup:
    return tag("text", text, x=x, y=y, class_=f"t {class_}".strip(), text_anchor=anchor)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def fit(text: str, most: int) -> str:
    """Cut to the width of `most` Latin letters; a Chinese character takes two."""
    used = 0
    for index, letter in enumerate(text):
        used += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if used > most:
            return text[: max(0, index - 1)] + "…"
    return text


def time_chart(
    label: str,
    panels: Sequence[Panel],
    *,
    end_s: float,
    tick: Callable[[float, float], str],
    at: Callable[[float], str],
    axis: str,
    stamp: str,
    strips: bool = False,
) -> Markup:
    """Panels above one another on one time axis. `tick(seconds, step)` and `at(seconds)` say a time."""
    end_s = max(end_s, 1.0)
    each = STRIP_HEIGHT if strips else PANEL_HEIGHT[min(len(panels), 3)]
    parts: list[Markup] = []
    y = 0.0
    for panel in panels:
        parts.append(_panel(panel, y + TOP, each, end_s))
        y += TOP + each
    marks, step = time_marks(end_s)
    places = [_x(mark, end_s) for mark in marks]
    named = with_room(places, WORD_GAP)
    for index, place in enumerate(places):
        parts.append(rule(place, y, place, y + 4, "axis"))
        if index in named:
            anchor = "end" if place > WIDTH - RIGHT - 16 else "middle"
            parts.append(words(place, y + 17, tick(marks[index], step), anchor=anchor))
    parts.append(words(LEFT, y + 32, axis, "soft"))
    parts.append(_tips(panels, y, end_s, at))
    return drawing(label, y + BOTTOM + 2, *parts, stamp=words(WIDTH - RIGHT, 13, stamp, "stamp", "end"))


def _panel(panel: Panel, y: float, height: float, end_s: float) -> Markup:
    highest = max((value for line in panel.lines for value in line.values if value is not None), default=0.0)
    span = (panel.top if panel.top is not None else highest) - panel.bottom
    above = linear_marks(span, whole=panel.whole, most=5 if height > 90 else 2)
    marks = [panel.bottom + mark for mark in above]
    ends = (marks[0], marks[-1])
    parts = [words(0, y - 12, fit(panel.caption, CAPTION_LETTERS), "soft")]
    places = [y + height * (1 - mark / above[-1]) for mark in above]
    named = with_room(places, 17, (0, len(marks) - 1))
    for index, place in enumerate(places):
        parts.append(rule(LEFT, place, WIDTH - RIGHT, place, "axis" if index == 0 else "grid"))
        if index in named:
            parts.append(words(LEFT - 6, place + 4, panel.say(marks[index]), anchor="end"))
    # In their order: the dashes of later runs leave the first, unbroken one to be seen between them.
    parts += [_line(line, y, height, ends, end_s) for line in panel.lines]
    return tag("g", *parts)


def _line(line: Line, y: float, height: float, ends: tuple[float, float], end_s: float) -> Markup:
    shown = "ghost" if line.ghost else f"s{line.slot % SLOTS}"
    parts: list[Markup] = [tag("title", line.name)]
    low, high = ends
    for stretch in _stretches(line):
        points = [
            (_x(t_s, end_s), y + height * (1 - min(1.0, max(0.0, (value - low) / (high - low)))))
            for t_s, value in _thinned(stretch, end_s)
        ]
        if len({x for x, _ in points}) == 1:  # alone between two gaps
            parts.append(tag("circle", cx=points[-1][0], cy=points[-1][1], r=2.2, class_=f"point {shown}"))
        else:
            path = "M" + "L".join(f"{x:.1f} {at:.1f}" for x, at in points)
            parts.append(tag("path", d=path, class_=f"line {shown}"))
    return tag("g", *parts)


def _stretches(line: Line) -> list[list[tuple[float, float]]]:
    """The line's points between its gaps."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for t_s, value in zip(line.t_s, line.values, strict=True):
        if value is not None:
            stretches[-1].append((t_s, value))
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def _thinned(points: list[tuple[float, float]], end_s: float) -> list[tuple[float, float]]:
    """No peak and no trough is lost: the lowest and the highest of each bucket stay, in their order."""
    if len(points) <= _MOST_POINTS:
        return points
    buckets: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        buckets.setdefault(int(_BUCKETS * point[0] / end_s), []).append(point)
    kept = [
        sorted({min(b, key=lambda p: p[1]), max(b, key=lambda p: p[1])}, key=lambda p: p[0]) for b in buckets.values()
    ]
    return [point for bucket in kept for point in bucket]


def _tips(panels: Sequence[Panel], height: float, end_s: float, at: Callable[[float], str]) -> Markup:
    """Invisible columns over the chart that say the figures of their time when pointed at."""
    last: list[tuple[Panel, Line, dict[int, float]]] = []
    for panel in panels:
        for line in panel.lines:
            if not line.ghost:
                held = zip(line.t_s, line.values, strict=True)
                columns = {min(_TIPS - 1, int(_TIPS * max(0.0, t_s) / end_s)): v for t_s, v in held if v is not None}
                last.append((panel, line, columns))
    edges = [end_s * n / _TIPS for n in range(_TIPS + 1)]
    parts = []
    for column, (start_s, stop_s) in enumerate(pairwise(edges)):
        said = [f"{line.name}, {panel.caption}: {panel.say(c[column])}" for panel, line, c in last if column in c]
        if said:
            tip = tag("title", "\n".join([at(start_s), *said]))
            box = {"x": _x(start_s, end_s), "y": TOP, "height": height - TOP}
            parts.append(tag("rect", tip, class_="tip", width=_x(stop_s, end_s) - _x(start_s, end_s), **box))
    return tag("g", *parts)


def _x(t_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, t_s / end_s))


def _short(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
