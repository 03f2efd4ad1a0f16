"""How is a number written in a report? The same digits in every format and language."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

CHINA = timezone(timedelta(hours=8))
ABSENT = "–"


def figure(value: float) -> str:
    """A rate as printed: 0, 0.00794, 12.35, 794.5, 12,661. Never rounded up to look like more than three digits."""
    if value < 0:
        return f"−{figure(-value)}"
    if value == 0:
        return "0"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def goal_figure(pflops: float) -> str:
    """A goal as it was published: 700, not 700.0."""
    return f"{pflops:,.10g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def signed_percent(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{abs(100 * value):.1f}%"


def chance(value: float) -> str:
    """A probability: 3.0%, and 99.99% rather than a 100.0% that nobody has."""
    text = f"{100 * value:.1f}%"
    return f"{100 * value:.4g}%" if text == "100.0%" and value < 1 else text


def joules(value: float) -> tuple[str, str]:
    """Digits and unit: 950 kJ, 12.6 MJ, 3.61 GJ."""
    for unit, size in (("GJ", 1e9), ("MJ", 1e6), ("kJ", 1e3)):
        if value >= size:
            return figure(value / size), unit
    return figure(value), "J"


def moment(at_s: float) -> str:
    """`2027-01-15 16:01` in China Standard Time."""
    return datetime.fromtimestamp(at_s, CHINA).strftime("%Y-%m-%d %H:%M")


def date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, CHINA).strftime("%Y-%m-%d")


def wall(at_s: float) -> datetime:
    """The same moment as a spreadsheet keeps it: without a zone, in China Standard Time, whole seconds."""
    return datetime.fromtimestamp(round(at_s), UTC).astimezone(CHINA).replace(tzinfo=None)
