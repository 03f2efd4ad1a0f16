"""Where do the marks of an axis stand? Numbers in round steps, time in hours and days, waits on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scheduler.simulation.page.numbers import DAY_S, HOUR_S, MINUTE_S

_TIME_STEPS_S = (
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(n * MINUTE_S for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR_S for n in (1, 2, 3, 6, 12)),
    *(n * DAY_S for n in (1, 2, 7, 14, 28)),
)
_LOG_MARKS_S = (
    *(1.0, 10.0, MINUTE_S, 10 * MINUTE_S, HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S, 30 * DAY_S, 365 * DAY_S),
    *(365 * DAY_S * 10.0**power for power in range(1, 300)),
)
# Which marks of the logarithmic axis keep their words where there is no room for all.
_LOG_FIRST_S = (HOUR_S, DAY_S, MINUTE_S, 1.0, 7 * DAY_S, 30 * DAY_S)


def linear_marks(top: float, *, whole: bool = False, most: int = 5) -> tuple[float, ...]:
    """From 0 in round steps to the first mark that is not under `top`; 0 and 1 where nothing is above 0. `whole`: of
    what can be counted only, so no mark stands at half a job."""
    if top < 1e-9:
        return (0.0, 1.0)
    step = max(1.0 if whole else 0.0, _round_step(top / most))
    return tuple(step * n for n in range(math.ceil(top / step - 1e-9) + 1))


def time_marks(end_s: float, most: int = 6) -> tuple[tuple[float, ...], float]:
    """Marks from 0 to at most `end_s`, and their step."""
    step = next((step for step in _TIME_STEPS_S if end_s / step <= most), None)
    if step is None:
        step = _round_step(end_s / most / DAY_S) * DAY_S
    return tuple(step * n for n in range(math.floor(end_s / step + 1e-9) + 1)), step


def log_marks(lowest_s: float, highest_s: float) -> tuple[float, ...]:
    """Marks such that all of lowest..highest is between the first and the last; never under 1 s, at least two marks."""
    low = max(i for i, mark in enumerate(_LOG_MARKS_S) if i == 0 or mark <= lowest_s)
    high = next((i for i, mark in enumerate(_LOG_MARKS_S) if mark >= highest_s), len(_LOG_MARKS_S) - 1)
    return _LOG_MARKS_S[low : max(high, low + 1) + 1]


def log_place(seconds: float, marks: Sequence[float]) -> float:
    """0 at the first mark, 1 at the last; what lies outside stands at the edge."""
    first, last = math.log(marks[0]), math.log(marks[-1])
    return min(1.0, max(0.0, (math.log(max(seconds, marks[0])) - first) / (last - first)))


def with_room(places: Sequence[float], gap: float, first: Sequence[int] = ()) -> tuple[int, ...]:
    """Which of the marks at `places` can carry words that need `gap` between them; those of `first` are asked first."""
    kept: list[int] = []
    for index in dict.fromkeys([*first, *range(len(places))]):
        if all(abs(places[index] - places[other]) >= gap for other in kept):
            kept.append(index)
    return tuple(sorted(kept))


def log_words(marks: Sequence[float]) -> tuple[int, ...]:
    """The order in which marks of a logarithmic axis are given words, for `with_room`."""
    return (0, *(marks.index(mark) for mark in _LOG_FIRST_S if mark in marks), len(marks) - 1)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1.0, 2.0, 5.0, 10.0) if n * power >= least * (1 - 1e-9))
