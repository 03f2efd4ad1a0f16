"""The wall clock: the one place where the live system reads the time for its logic."""

from __future__ import annotations

import time


class SystemClock:
    """Implements scheduler.ports.Clock."""

    def now_s(self) -> float:
        return time.time()
