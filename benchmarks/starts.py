"""When do the devices of a process begin, all at the same moment? Clocks, and who announces the start.

Every device arms in a thread of its own; when all have armed (or given up) one start is agreed on for them: at once
for a single device, some seconds on for several, a moment that was named on the command line, or what the coordinator
of a run over many nodes announces (`meeting.py`).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from benchmarks.protocol import Fault
from benchmarks.work import Clock

# A window's own warm-up: a tenth of it, at least half a second. Steadiness is asked for from 600 s on (protocol).
WARMUP_SHARE = 0.1
LEAST_WARMUP_S = 0.5
TOGETHER_WARMUP_S = 2.0


class SystemClock:
    """Epoch seconds that never run backwards: the wall clock read once, then the monotonic one."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.perf_counter()

    def now_s(self) -> float:
        return self._offset_s + time.perf_counter()

    def sleep_until(self, at_s: float) -> None:
        while (left_s := at_s - self.now_s()) > 0:
            time.sleep(left_s if left_s > 0.01 else left_s / 2)


class CorrectedClock:
    """Another clock's time, by one that is `ahead_s` of it."""

    def __init__(self, clock: Clock, ahead_s: float) -> None:
        self._clock = clock
        self._ahead_s = ahead_s

    def now_s(self) -> float:
        return self._clock.now_s() - self._ahead_s

    def sleep_until(self, at_s: float) -> None:
        self._clock.sleep_until(at_s + self._ahead_s)


@dataclass(frozen=True, slots=True)
class Start:
    """`at_s` None: as soon as it is warm. By `clock`; `fault`: the window is not to be run, and counts zero."""

    clock: Clock
    at_s: float | None = None
    ramp_at_s: float | None = None
    offset_s: float | None = None
    uncertainty_s: float | None = None
    fault: Fault | None = None


class Starts(Protocol):
    def agree(self, cards: int) -> Start:
        """Called once a window, when all devices have armed or given up; `cards` of them are armed. May block."""
        ...

    def over(self) -> Start | None:
        """The window is over: what is known now of clocks, where anybody asks. `fault`: it does not count after all."""
        ...


class OwnStarts:
    """Of a process that nobody coordinates. `at_s`: the moment that was named, if any."""

    def __init__(self, clock: Clock, devices: int, window_s: float, at_s: float | None = None) -> None:
        self._clock = clock
        self._several = devices > 1
        self._window_s = window_s
        self._at_s = at_s

    def agree(self, cards: int) -> Start:
        at_s = self._at_s
        if at_s is None and self._several:
            at_s = self._clock.now_s() + max(TOGETHER_WARMUP_S, WARMUP_SHARE * self._window_s)
        return Start(self._clock, at_s)

    def over(self) -> None:
        return None


class Gathering:
    """One window's devices, waiting for each other; whoever comes last asks for the start."""

    def __init__(self, devices: int, starts: Starts) -> None:
        self._starts = starts
        self._missing = devices
        self._armed = 0
        self._start: Start | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def wait(self) -> Start:
        """Blocks until every device has armed or given up. Raises what asking for the start raised."""
        self._arrive(armed=True)
        with self._changed:
            while self._start is None and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            assert self._start is not None
            return self._start

    def give_up(self) -> None:
        self._arrive(armed=False)

    def _arrive(self, *, armed: bool) -> None:
        with self._changed:
            self._armed += armed
            self._missing -= 1
            if self._missing:
                return
        try:
            start, error = self._starts.agree(self._armed), None
        except Exception as raised:  # the devices' threads tell it, each in its own record
            start, error = None, raised
        with self._changed:
            self._start, self._error = start, error
            self._changed.notify_all()
