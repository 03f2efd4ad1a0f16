"""Where do an axis and its marks lie? For the charts of the page and of the PDF alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`, with round marks between them."""

    low: float
    high: float
    marks: tuple[float, ...]

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


def value_axis(values: Sequence[float], goal: float) -> tuple[Axis, bool]:
    """An axis for nightly totals, and whether the goal lies on it. It starts at 0 unless all values keep within a fifth
    of the highest; the goal is drawn in where it is at most half as high again."""
    top, bottom = max(values), min(values)
    holds_goal = goal <= 1.5 * top
    if holds_goal:
        top = max(top, goal)
    start = 0.0 if bottom < 0.8 * top else bottom - 0.25 * max(top - bottom, 0.02 * top)
    return round_axis(start, top + 0.05 * (top - start)), holds_goal


def round_axis(low: float, high: float, most: int = 4) -> Axis:
    span = max(high - low, abs(high) * 1e-6, 1e-12)
    step = _round_step(span / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(step * n for n in range(first, last + 1))
    return Axis(marks[0], marks[-1], marks)


def mark_text(value: float, axis: Axis) -> str:
    """As many digits as the step of the marks needs."""
    step = axis.marks[1] - axis.marks[0]
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1.0, 2.0, 5.0, 10.0) if n * power >= least * (1 - 1e-9))
