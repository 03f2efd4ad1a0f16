"""How is a figure said to people? 1.2 d, 3 h 05 min, 93.4 %, 12,345; None is a dash, and nothing rounds up to a whole.

Durations come in seconds, shares as 0..1. The units' words are in words.py.
"""

from __future__ import annotations

import math

from scheduler.simulation.page.words import Words

NONE = "–"
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


class Numbers:
    def __init__(self, words: Words) -> None:
        self._words = words

    def count(self, value: float | None) -> str:
        return NONE if value is None else signed(f"{value:,.0f}")

    def quantity(self, value: float | None) -> str:
        """Three digits, more only before the point: 0, 0.00794, 12.3, 12,661."""
        if value is None:
            return NONE
        if value == 0:
            return "0"
        size = abs(value)
        if size >= 99.95:
            return signed(f"{value:,.0f}")
        if size >= 9.995:
            return signed(f"{value:.1f}")
        return signed(f"{value:.2f}" if size >= 0.9995 else f"{value:.3g}")

    def percent(self, share: float | None) -> str:
        """Of what is nearly all, but not all, it never says 100; of what is there it never says 0."""
        if share is None:
            return NONE
        return self._words("percent", n=_percent_digits(share))

    def points(self, share: float) -> str:
        """A difference of shares, with its sign."""
        return self._words("points", n=signed(f"{100 * share:+,.1f}"))

    def ratio(self, value: float | None) -> str:
        return NONE if value is None else signed(f"{value:.3f}")

    def with_unit(self, value: float | None, unit: str) -> str:
        return NONE if value is None else self._words(f"unit.{unit}", n=self.quantity(value))

    def device_hours(self, device_s: float | None) -> str:
        return NONE if device_s is None else self.with_unit(device_s / HOUR_S, "device_h")

    def kwh(self, value: float | None) -> str:
        return self.with_unit(value, "kwh")

    def milliseconds(self, value: float | None) -> str:
        return self.with_unit(value, "ms")

    def duration(self, seconds: float | None) -> str:
        if seconds is None:
            return NONE
        if seconds < 0:
            return "−" + self.duration(-seconds)
        if seconds < 9.95:
            return self._unit("s", f"{seconds:.1f}" if seconds >= 0.95 else f"{seconds:.2g}")
        if seconds < 59.5:
            return self._unit("s", f"{seconds:.0f}")
        if seconds < 599.5:
            return self._pair("min", "s", round(seconds))
        if round(seconds / MINUTE_S) < 60:
            return self._unit("min", str(round(seconds / MINUTE_S)))
        if round(seconds / MINUTE_S) < 1440:
            return self._pair("h", "min", round(seconds / MINUTE_S))
        days = seconds / DAY_S
        return self._unit("d", f"{days:.1f}".removesuffix(".0") if days < 9.95 else f"{days:,.0f}")

    def tick(self, seconds: float, step_s: float) -> str:
        """A mark on a time axis, in the unit of the axis' step: 0, 6 h, 36 h, 2 d."""
        if seconds == 0:
            return "0"
        for unit, size_s in (("d", DAY_S), ("h", HOUR_S), ("min", MINUTE_S), ("s", 1.0)):
            if step_s >= size_s or unit == "s":
                return self._unit(
                    unit, f"{seconds / size_s:,.4g}" if seconds < 1e4 * size_s else short(seconds / size_s)
                )
        raise AssertionError("seconds are the last unit")

    def _pair(self, unit: str, part: str, parts: int) -> str:
        """3 h 05 min; of whole hours 3 h."""
        whole, rest = divmod(parts, 60)
        return self._unit(unit, str(whole)) + (f" {self._unit(part, f'{rest:02d}')}" if rest else "")

    def _unit(self, unit: str, n: str) -> str:
        return self._words(f"unit.{unit}", n=n)


def signed(text: str) -> str:
    """With a true minus sign, and never a minus before nothing."""
    if text.startswith("-") and not text.strip("-0.,"):
        return text[1:]
    return text.replace("-", "−", 1) if text.startswith("-") else text


def short(value: float) -> str:
    """A mark on an axis of numbers: 0, 0.5, 250, 12.5k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):,.4g}{letter}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _percent_digits(share: float) -> str:
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f}"
    if 99.95 <= percent < 100:
        return f"{math.floor(percent * 100) / 100:.2f}"
    if 0 < percent < 0.05:
        return "<0.1"
    return signed(f"{percent:,.1f}")
