"""When does a month begin and end in a time zone, and which day is it there? Months touch: one ends where the next
begins, also where clocks are changed."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from scheduler.core.usage_book import Month
from scheduler.errors import BadInput

_NAME = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
FIRST, LAST = "1970-01", "9998-12"


def month_named(name: str, zone: str) -> Month:
    """`name` is YYYY-MM. Raises BadInput."""
    match = _NAME.fullmatch(name)
    if match is None or not FIRST <= name <= LAST:
        raise BadInput(f"{name[:40]!r} is no month: YYYY-MM is expected, such as 2026-11", field="month")
    return Month(name, _begin_ms(name, zone), _begin_ms(following(name), zone))


def month_at(at_s: float, zone: str) -> Month:
    """The one in which a moment lies."""
    return month_named(datetime.fromtimestamp(at_s, ZoneInfo(zone)).strftime("%Y-%m"), zone)


def day_at(at_s: float, zone: str) -> str:
    """YYYY-MM-DD."""
    return datetime.fromtimestamp(at_s, ZoneInfo(zone)).strftime("%Y-%m-%d")


def following(name: str) -> str:
    year, month = int(name[:4]), int(name[5:])
    return f"{year + month // 12:04d}-{month % 12 + 1:02d}"


def _begin_ms(name: str, zone: str) -> int:
    begin = datetime(int(name[:4]), int(name[5:]), 1, tzinfo=ZoneInfo(zone))
    return round(begin.timestamp()) * 1000
