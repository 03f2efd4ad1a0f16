"""What would be lost if a running job went, and in which order jobs that lose the same would go.

Losses are whole numbers of thousandths of devices times milliseconds, kept as floats: exact below 2**53, so that
sums do not depend on the order of jobs, and equal losses are found equal.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.holdings import Floats, Holdings

DEVICE_SECOND = 1_000_000.0
"""One device for one second, in the unit of a loss."""


class Losses:
    """By slot: `work`, what is lost; `each`, the same for each device held (milliseconds since the last checkpoint)."""

    __slots__ = ("_holdings", "each", "work")

    def __init__(self, holdings: Holdings, now_s: float) -> None:
        slots = holdings.slots
        self._holdings = holdings
        self.each: Floats = np.maximum(np.rint((now_s - slots.saved_s) * 1000), 0.0)
        self.work: Floats = slots.milli * self.each

    def of(self, which: Bools) -> float:
        """What these lose together."""
        return float(self.work[which].sum())

    def cheapest_first(self, slots: Ints, loss: Floats) -> Ints:
        """These slots by `loss` (`work` or `each`); where it is equal, by CPU-seconds, then the lowest class, the
        newest, the id."""
        losses = loss[slots]
        order = np.argsort(losses)
        ordered = losses[order]
        same = ordered[1:] == ordered[:-1]
        if same.any():  # all columns are sorted only among those: it costs five times as much
            tied = np.zeros(len(order), np.bool_)
            tied[1:] |= same
            tied[:-1] |= same
            these, of = slots[order[tied]], self._holdings.slots
            cpu_work = of.cpus_milli[these] * self.each[these]
            keys = (of.id_hash[these], -of.started_s[these], of.priority[these], cpu_work, ordered[tied])
            order[tied] = order[tied][np.lexsort(keys)]
        return slots[order]

    def rank_of(self, which: Bools) -> tuple[int, int, list[int]]:
        """Among answers of equal loss and harm the smallest goes: fewest jobs, then the lowest classes, then ids."""
        of = self._holdings.slots
        return int(which.sum()), int(of.priority[which].sum()), sorted(of.id_hash[which].tolist())
