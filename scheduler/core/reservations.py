"""What is promised to jobs that wait, and what that leaves for the others.

A promise is the gang's planned start and `after`: what will be free at that time once the gang stands there. A job
that is over by then may use anything that is free now; any other may use only what is free both now and after. That is
EASY's rule of "extra nodes" (Lifka 1995), said per device, CPU and byte: no start made by it can delay the promise.

A promise to a job whose victims are on their way out, or whose devices are about to come free, starts now: nothing is
over by then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduler.core.free_columns import Claim, FreeColumns


@dataclass(frozen=True, slots=True)
class Promise:
    """`after` is changed as later jobs start beside it; `start_s` is infinite where no time limit bounds the wait."""

    job_id: str
    start_s: float
    after: FreeColumns

    def delayed_by(self, end_s: float) -> bool:
        """Whether a job that ends then could be in the way. A job without a limit always could."""
        return end_s > self.start_s or math.isinf(end_s)


class Promises:
    """All promises of a pass, and what is free under them."""

    __slots__ = ("_free_for_all", "free", "promises")

    def __init__(self, free: FreeColumns) -> None:
        self.free = free
        self.promises: list[Promise] = []
        self._free_for_all: FreeColumns | None = free

    def add(self, promise: Promise) -> None:
        self.promises.append(promise)
        self._free_for_all = None

    def free_until(self, end_s: float) -> FreeColumns:
        """What a job that ends at `end_s` may use now. Not to be changed by the caller."""
        heeded = [promise for promise in self.promises if promise.delayed_by(end_s)]
        if len(heeded) < len(self.promises):
            return self._under(heeded)
        if self._free_for_all is None:
            self._free_for_all = self._under(heeded)
        return self._free_for_all

    def start(self, claim: Claim, *, end_s: float) -> None:
        """Something starts now and ends at `end_s`."""
        self.free.take(claim)
        for promise in self.promises:
            if promise.delayed_by(end_s):
                promise.after.take(claim)
        if self.promises:
            self._free_for_all = None

    def _under(self, promises: list[Promise]) -> FreeColumns:
        free = self.free
        for promise in promises:
            free = free.lesser(promise.after)
        return free
