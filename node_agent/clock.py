"""What time is it, for deadlines and stamps, when somebody may set the wall clock?

CLOCK_BOOTTIME is moved by no adjustment and counts a suspended machine's sleep, clock_gettime(2).
"""

from __future__ import annotations

import time
from collections.abc import Callable


def boottime_s() -> float:
    """Seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """Epoch seconds, read once from the wall clock; from then on the seconds since boot are counted."""

    def __init__(self, wall_s: Callable[[], float] | None = None, boot_s: Callable[[], float] = boottime_s) -> None:
        self._boot_s = boot_s
        self._boot_was_at_s = (wall_s or time.time)() - boot_s()

    def now_s(self) -> float:
        return self._boot_was_at_s + self._boot_s()
