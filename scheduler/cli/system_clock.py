"""The one place where the live system reads the time for its logic: epoch seconds that never step.

Leases, time limits and graces are differences of these seconds. If the wall clock were stepped back ten minutes, no
lease would be renewed for ten minutes and every node would stop its training; stepped forward, a fence would end early.
So the wall clock is read once, and from then on CLOCK_BOOTTIME is added, which steps for nobody and goes on through a
suspend. What is shown may therefore differ from a corrected wall clock until the process starts again.
"""

from __future__ import annotations

import time


class SystemClock:
    """Implements scheduler.ports.Clock."""

    def __init__(self) -> None:
        self._anchor_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def now_s(self) -> float:
        return self._anchor_s + time.clock_gettime(time.CLOCK_BOOTTIME)
