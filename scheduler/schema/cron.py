"""When does a recurring job come next? Cron expressions in a time zone, by the library cronsim, which does as Debian's
cron: a time that the clocks skip in spring counts at the first moment after the gap, one that comes twice in autumn
counts the first time; expressions for every hour or minute (`*` in the hour or minute) go by elapsed time instead.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from scheduler.schema.fields import expected
from scheduler.schema.problems import did_you_mean, nearest

CRON_WORDS: Final = 'a cron expression of five fields, minute hour day month weekday, such as "0 2 * * *"'
MAX_CRON_CHARS: Final = 200
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}", re.ASCII)


def next_after(cron: str, zone: str, after_s: float) -> float | None:
    """The first time after `after_s` (epoch seconds) that the expression names; None where none comes in 50 years.

    Implements scheduler.ports.NextTime for expressions and zones that `as_cron` and `as_zone` have passed.
    """
    try:
        moments = CronSim(cron, datetime.fromtimestamp(after_s, _zone(zone)))
    except CronSimError:
        return None
    for moment in moments:
        # In the hour that comes twice the library may name a time of its first turn while the second one runs.
        if moment.timestamp() > after_s:
            return moment.timestamp()
    return None


def as_cron(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_CRON_CHARS or len(value.split()) != 5:
        raise expected(CRON_WORDS)
    try:
        CronSim(value, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise expected(f"{CRON_WORDS} ({str(error).lower()})") from None
    if next_after(value, "UTC", datetime(2026, 1, 1, tzinfo=UTC).timestamp()) is None:
        raise expected(f"{CRON_WORDS}, whose time comes at all")
    return " ".join(value.split())


def as_zone(value: object) -> str:
    if isinstance(value, str) and is_zone(value):
        return value
    known = nearest(value, available_timezones(), count=3) if isinstance(value, str) else ()
    raise expected(f'the name of a time zone, such as "Asia/Shanghai" or "UTC"{did_you_mean(known)}')


def is_zone(name: str) -> bool:
    if not _ZONE.fullmatch(name):
        return False
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return False
    return True


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_zone() -> str:
    """This machine's time zone by name; UTC where the machine does not say."""
    named = [os.environ.get("TZ", "").removeprefix(":")]
    try:
        named.append(str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2])
    except OSError:
        pass
    return next((name for name in named if name and is_zone(name)), "UTC")
