"""When could a gang that does not fit now start, as far as the time limits of what runs tell?

Source: the shadow time of EASY backfilling (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; Mu'alem and
Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with
backfilling", IEEE TPDS 2001), kept per device rather than as a count of processors.

Times are epoch seconds; infinity stands for "never, as far as limits tell".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.core.arrays import Bools
from scheduler.core.demand import Demand
from scheduler.core.free_columns import Claim, FreeColumns
from scheduler.core.gang import ANYWHERE, Gang, Where
from scheduler.core.holdings import Holdings
from scheduler.core.late_devices import with_late_devices
from scheduler.core.placement import Fit, Pools
from scheduler.core.release_order import ReleaseOrder, Releases
from scheduler.core.reserved_nodes import NOTHING_RESERVED, ReservedNodes


@dataclass(frozen=True, slots=True)
class Slot:
    """The first time a gang fits: when, what is free then without it, and where it would stand."""

    at_s: float
    free: FreeColumns
    fit: Fit


class Timeline:
    """What is free from a time on, as far as time limits tell.

    A promise counts from now on, though its job starts later: what is free goes below zero where a promise is on a
    device that is still busy. So an estimate made here is never too early because of it, promises may be made one
    after the other, and adding time only ever adds capacity, but for advance reservations: a job keeps off their nodes
    where it would run in their time.
    """

    __slots__ = ("_now", "_now_s", "_occupied", "_order", "_reserved", "_start", "holdings")

    def __init__(
        self,
        free: FreeColumns,
        holdings: Holdings,
        *,
        now_s: float,
        reserved: ReservedNodes = NOTHING_RESERVED,
    ) -> None:
        self.holdings = holdings
        self._start = free
        self._now_s = now_s
        self._reserved = reserved
        self._occupied: list[tuple[Claim, float]] = []
        self._order: ReleaseOrder | None = None
        self._now: FreeColumns | None = None

    def occupy(self, claim: Claim, *, until_s: float) -> None:
        """From now to `until_s` this is taken or promised."""
        self._occupied.append((claim, until_s))
        self._now = None
        if self._order is not None:
            self._order.occupy(claim, until_s)

    def evict(self, which: Bools) -> None:
        """These running jobs (bool[slots]) are asked to leave now."""
        self.holdings.leaves_s[which] = self._now_s
        self._order = self._now = None

    @property
    def something_leaves_now(self) -> bool:
        return bool((self.holdings.slots.alive & (self.holdings.leaves_s <= self._now_s)).any())

    def now(self) -> FreeColumns:
        """What is free once what is leaving has left, promises kept. Not to be changed by the caller."""
        if self._now is None:
            self._now = self.at(self._now_s)
        return self._now

    def at(self, time_s: float) -> FreeColumns:
        """What is free at that time, promises kept."""
        return self._releases().until(time_s)

    def first_slot(
        self,
        pools: Pools,
        alternatives: Sequence[Demand],
        workers: int,
        *,
        limit_s: float = math.inf,
        exempt: str | None = None,
        where: Where = ANYWHERE,
    ) -> Slot | None:
        """When that many workers fit first, at the soonest now; at infinity where it takes the end of a job without a
        limit; None where even that does not help. `limit_s` is how long they would run, `exempt` the advance
        reservation that they name, if any: within it or never."""
        gang = Gang(pools, alternatives, workers, where)
        order = self._releases()
        for window in self._reserved.windows(self._now_s, limit_s, exempt=exempt):
            point = order.first(gang.keeping_off(window.blocked), since=window.since_s, until=window.until_s)
            if point is not None:
                fit = with_late_devices(gang, point.fit, point.free, order.device_keys())
                return Slot(point.key, point.free, fit)
        return None

    def _releases(self) -> ReleaseOrder:
        if self._order is None:
            held, leaves_s = self.holdings, self.holdings.leaves_s
            releases = Releases(held.claim, leaves_s[held.slice_job], leaves_s[held.worker_job])
            self._order = ReleaseOrder(self._start.copy(), releases)
            for claim, until_s in self._occupied:
                self._order.occupy(claim, until_s)
        return self._order
