"""When could a gang that does not fit now start, as far as the time limits of what runs tell?

Source: the shadow time of EASY backfilling (Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995; Mu'alem and
Feitelson, "Utilization, predictability, workloads, and user runtime estimates in scheduling the IBM SP2 with
backfilling", IEEE TPDS 2001), kept per device rather than as a count of processors.

Times are epoch seconds; infinity stands for "never, as far as limits tell".
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.claims import Claim
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.first_for_nodes import asks_for_nodes, first_for_nodes
from scheduler.core.first_for_one import asks_for_one, first_for_one
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import ANYWHERE, Gang
from scheduler.core.holdings import Holdings
from scheduler.core.late_devices import with_late_devices
from scheduler.core.part import Inside, Part
from scheduler.core.placement import Fit, Pools, Where
from scheduler.core.quick import quick
from scheduler.core.release_order import ReleaseOrder, Releases
from scheduler.core.reservations import FreeThen
from scheduler.core.reserved_nodes import NOTHING_RESERVED, ReservedNodes, Window, latest_start_s

_HOLES = 16  # times before promises that are looked at one by one: bounds a search, not its correctness


@dataclass(frozen=True, slots=True)
class Slot:
    """The first time a gang fits: when, what is free then, on its nodes, without it, and where it would stand."""

    at_s: float
    free: FreeThen
    fit: Fit


@quick
@dataclass(frozen=True, slots=True, eq=False)
class _Occupied:
    """Taken or promised from one time (-inf: now) to another."""

    claim: Claim
    from_s: float
    until_s: float
    starts_now: bool

    def latest_start_s(self, limit_s: float) -> float:
        """When a job of that length starts at the latest so as to be over before."""
        return min(latest_start_s(self.from_s, limit_s), sys.float_info.max)


class Timeline:
    """What is free from a time on, as far as time limits tell.

    A promise that starts later counts from now on, unless the job in question would be over before: what is free goes
    below zero where a promise is on a device that is still busy. So no estimate made here is too early because of it,
    and promises may be made one after the other. With that, and but for advance reservations, adding time only ever
    adds capacity. `free` is not to change as long as this is used.

    A question about a gang is answered from what comes free on the nodes that serve it: on a cluster of many models
    that is a tenth of everything.
    """

    __slots__ = (
        "_anything_leaves",
        "_could_be_free",
        "_evictions",
        "_last_changes",
        "_leaving_nodes",
        "_leaving_slices",
        "_now",
        "_now_heeds",
        "_now_s",
        "_occupied",
        "_occupied_there",
        "_orders",
        "_reserved",
        "_start",
        "_started",
        "holdings",
    )

    def __init__(
        self,
        free: FreeColumns,
        holdings: Holdings,
        *,
        now_s: float,
        reserved: ReservedNodes = NOTHING_RESERVED,
        started: FreeColumns | None = None,
    ) -> None:
        """`started`: where somebody keeps it, what is left of `free` beside all that is occupied without a time from
        which on. It may change meanwhile, as more is."""
        self.holdings = holdings
        self._started = started
        self._start = free
        self._now_s = now_s
        self._reserved = reserved
        self._occupied: list[_Occupied] = []
        # By the identity of the nodes, which are kept: those of them that are there, of the first so many.
        self._occupied_there: dict[int, tuple[Bools, list[_Occupied], int]] = {}
        self._last_changes: dict[int, tuple[Bools, tuple[int, int]]] = {}  # the same
        # The same: all that comes free there, and how many of what is occupied there it heeds.
        self._orders: dict[tuple[int, Part | None], tuple[Bools, ReleaseOrder, int]] = {}
        # And the devices that could be free there if all below a class went.
        self._could_be_free: dict[tuple[int, Part | None, int | None], tuple[Bools, Bools, int]] = {}
        self._now: FreeColumns | None = None
        self._evictions = 0
        self._now_heeds = 0  # so many of what is occupied
        self._anything_leaves = False
        self._leaving_nodes: Bools | None = None  # where; not known yet
        self._leaving_slices: Ints | None = None  # which of the holdings' claim; the same

    def occupy(self, claim: Claim, *, until_s: float, from_s: float | None = None) -> None:
        """To `until_s` this is taken, or promised to what is to start at `from_s`."""
        since_s = -math.inf if from_s is None or from_s <= self._now_s else from_s
        self._occupied.append(_Occupied(claim, since_s, until_s, from_s is None))

    def evict(self, which: Bools) -> None:
        """These running jobs (bool[slots]) are asked to leave now."""
        self.holdings.leaves_s[which] = self._now_s
        self._evictions += 1
        self._orders.clear()
        self._could_be_free.clear()
        self._now = self._leaving_nodes = self._leaving_slices = None

    def something_leaves_now(self, nodes: Bools) -> bool:
        """Whether anything on these nodes is on its way out."""
        if self._leaving_nodes is None:
            leaving = self._leaving()
            self._anything_leaves = bool(np.count_nonzero(leaving))
            if not self._anything_leaves:
                self._leaving_nodes = np.zeros(len(self._start.whole), np.bool_)
            else:
                self._leaving_nodes = self.holdings.nodes_of(leaving, len(self._start.whole))
        return self._anything_leaves and bool(np.count_nonzero(self._leaving_nodes & nodes))

    @property
    def decisions(self) -> int:
        """A number that rises whenever something is occupied or somebody asked to leave."""
        return len(self._occupied) + self._evictions

    def last_changes(self, nodes: Bools) -> tuple[int, int]:
        """Of these nodes, which are not to be changed later, when the pass began: the latest stamp of what is free
        there, and Holdings.last_touch(); -1 where there are none."""
        found = self._last_changes.get(id(nodes))
        if found is None:
            stamp = int(self._start.stamps.max(initial=-1, where=nodes))
            found = self._last_changes[id(nodes)] = (nodes, (stamp, self.holdings.last_touch(nodes)))
        return found[1]

    def decided(self, nodes: Bools) -> tuple[Claim, ...]:
        """What was taken or promised of these nodes since then, in order. (One that is over already counts as well.)"""
        return tuple([each.claim for each in self._occupied_on(nodes)])

    def _leaving(self) -> Bools:
        leaving: Bools = self.holdings.slots.alive & (self.holdings.leaves_s <= self._now_s)
        return leaving

    def now(self) -> FreeColumns:
        """What is free once what is leaving has left, promises kept. Not to be changed by the caller; it changes when
        more is occupied."""
        if self._now is None:
            self._now, self._now_heeds = self._as_it_is(), len(self._occupied)
            leaving = self._leaving()
            if leaving.any():
                self._now.give(self.holdings.of(leaving))
        for each in self._occupied[self._now_heeds :]:
            if each.until_s > self._now_s:  # given back by now, it changes nothing of what is free now
                self._now.take(each.claim)
        self._now_heeds = len(self._occupied)
        return self._now

    def _as_it_is(self) -> FreeColumns:
        """What is free while nothing leaves, promises kept."""
        free = (self._start if self._started is None else self._started).copy()
        for each in self._occupied:
            is_taken = each.starts_now and self._started is not None
            if each.until_s > self._now_s and not is_taken:
                free.take(each.claim)
            elif is_taken and each.until_s <= self._now_s:
                free.give(each.claim)
        return free

    def could_be_free(self, nodes: Bools, part: Part | None, reach: int | None) -> Bools:
        """bool[nodes, max_devices]: devices of these nodes (`part`: the same, where rows are numbered by them alone)
        that are wholly free if all jobs of a class below `reach` go (None: nobody is asked to), and all that is
        leaving, promises kept. Neither the nodes nor the answer are to be changed."""
        key, occupied = (id(nodes), part, reach), self._occupied_on(nodes)
        found = self._could_be_free.get(key)
        if found is None:
            free, heeded = self._free_without(nodes, part, reach), 0
        else:
            _, free, heeded = found
        for each in occupied[heeded:]:
            if each.until_s > self._now_s:
                claim = each.claim if part is None else part.claim(each.claim)
                one = claim.one
                if one is not None:
                    free[one.row, list(one.devices)] = False
                else:
                    free[claim.rows, claim.devices] = False
        self._could_be_free[key] = (nodes, free, len(occupied))
        return free

    def _free_without(self, nodes: Bools, part: Part | None, reach: int | None) -> Bools:
        """The same as the pass began."""
        held = self.holdings
        free = self._start.milli.copy() if part is None else self._start.milli.take(part.rows, axis=0)
        if reach is not None:
            free += held.below(reach, None if part is None else part.rows)
        if self.something_leaves_now(nodes):
            if self._leaving_slices is None:
                self._leaving_slices = np.flatnonzero(self._leaving().take(held.slice_job))
            leaving = self._leaving_slices
            if reach is not None:  # the others are counted already
                leaving = leaving[held.slots.priority.take(held.slice_job.take(leaving)) >= reach]
            leaving = leaving[nodes.take(held.claim.rows.take(leaving))]
            rows = held.claim.rows.take(leaving)
            at = (rows if part is None else part.row_of(rows)) * free.shape[1] + held.claim.devices.take(leaving)
            np.add.at(free.reshape(-1), at, held.claim.milli.take(leaving).astype(np.int32))
        wholly: Bools = free == WHOLE_DEVICE_MILLI
        return wholly

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
        reservation that they name, if any: within it or never. What the slot says is free on nodes that do not serve
        them is as it is when that is asked."""
        nodes = pools.nodes_of(alternatives)
        part = Part.serving(pools, nodes, where)
        if part is None:
            gang = Gang(pools, alternatives, workers, where)
        else:
            gang = Gang(part.pools, alternatives, workers, part.where(where))
        slot = self._for_whole(gang, nodes, part, limit_s)
        if slot is not None:
            return slot
        for window in self._reserved.windows(self._now_s, limit_s, exempt=exempt):
            blocked = window.blocked
            allowed = gang.keeping_off(blocked if blocked is None or part is None else blocked.take(part.rows))
            for since_s, until_s, order in self._stretches(allowed, nodes, part, window, limit_s):
                point = order.first(allowed, since=since_s, until=until_s)
                if point is not None:
                    fit = with_late_devices(gang, point.fit, point.free, order.device_keys())
                    if part is None:
                        return Slot(point.key, point.free, fit)
                    return Slot(point.key, Inside(part, point.free), part.fit(fit))
        return None

    def _for_whole(self, gang: Gang, nodes: Bools, part: Part | None, limit_s: float) -> Slot | None:
        """On a short way, as most that ask are single workers that want whole devices, or want whole nodes; None: that
        does not tell."""
        one = asks_for_one(gang)
        if len(self._reserved) or not (one or asks_for_nodes(gang)):
            return None
        occupied = self._occupied_on(nodes)
        if not all(each.latest_start_s(limit_s) < self._now_s for each in occupied):
            return None  # it need not heed them all: it may be over before something promised begins
        until = [(each.claim, each.until_s) for each in occupied]
        found: tuple[float, Fit, FreeThen] | None
        if one:
            found = first_for_one(gang, part, self._start, self.holdings, until, self._now_s)
        else:
            found = first_for_nodes(gang, part, self._start, self.holdings, until, self._now_s)
        if found is None:
            return None
        at_s, fit, free = found
        return Slot(at_s, free, fit)

    def _stretches(
        self, gang: Gang, nodes: Bools, part: Part | None, window: Window, limit_s: float
    ) -> Iterator[tuple[float, float, ReleaseOrder]]:
        """Times of the window, in order, at which it might fit, with what comes free for a job of that length that
        starts then: it need not heed what is promised from after its end. After some such holes, all is heeded."""
        occupied = self._occupied_on(nodes)
        since_s, latest = window.since_s, [each.latest_start_s(limit_s) for each in occupied]
        ends = sorted({end_s for end_s in latest if since_s <= end_s < window.until_s})
        if ends:
            device_keys = self._release_order(nodes, part, []).device_keys()
            by_latest = sorted(range(len(latest)), key=latest.__getitem__)
        holes = _HOLES if all(demand.devices for demand in gang.alternatives) else _HOLES // 4
        heeded: list[_Occupied] = []
        bound = -math.inf  # the more is heeded, the later
        for end_s in ends[:holes]:
            while len(heeded) < len(latest) and latest[by_latest[len(heeded)]] < end_s:
                heeded.append(occupied[by_latest[len(heeded)]])
                claim = heeded[-1].claim if part is None else part.claim(heeded[-1].claim)
                np.maximum.at(device_keys, (claim.rows, claim.devices), heeded[-1].until_s)
            if bound <= end_s:
                bound = gang.not_before(device_keys)
            if bound <= end_s:
                yield since_s, end_s, self._release_order(nodes, part, heeded)
            since_s = math.nextafter(end_s, math.inf)
        rest = [each for each, end_s in zip(occupied, latest, strict=True) if end_s < window.until_s]
        everything = len(rest) == len(occupied)
        order = self._releases(nodes, part) if everything else self._release_order(nodes, part, rest)
        yield since_s, window.until_s, order

    def _occupied_on(self, nodes: Bools) -> list[_Occupied]:
        """In order. `nodes` is not to be changed later."""
        _, there, seen = self._occupied_there.get(id(nodes), (nodes, [], 0))
        if seen < len(self._occupied):
            new = self._occupied[seen:]
            there = [*there, *[each for each in new if each.claim.stands_on(nodes)]]
            self._occupied_there[id(nodes)] = (nodes, there, len(self._occupied))
        return there

    def _releases(self, nodes: Bools, part: Part | None) -> ReleaseOrder:
        """All that is heeded by a job without a limit on these nodes, which are not to be changed later."""
        occupied, key = self._occupied_on(nodes), (id(nodes), part)
        found = self._orders.get(key)
        if found is None:
            order = self._release_order(nodes, part, occupied)
        else:
            _, order, heeded = found
            if heeded < len(occupied):
                _occupy(order, part, occupied[heeded:])
        self._orders[key] = (nodes, order, len(occupied))
        return order

    def _release_order(self, nodes: Bools, part: Part | None, heeded: Sequence[_Occupied]) -> ReleaseOrder:
        """`part`: these nodes, where rows are numbered by them alone."""
        held = self.holdings.on(nodes) if part is None else self.holdings.within(part)
        leaves_s = held.leaves_s
        order = ReleaseOrder(
            self._start.copy() if part is None else part.of(self._start),
            Releases(held.claim, leaves_s.take(held.slice_job), leaves_s.take(held.worker_job)),
        )
        if heeded:
            _occupy(order, part, heeded)
        return order


def _occupy(order: ReleaseOrder, part: Part | None, heeded: Sequence[_Occupied]) -> None:
    """All of that is taken from the first. There must be some."""
    claims = [(each.claim if part is None else part.claim(each.claim), each.until_s) for each in heeded]
    order.occupy(Releases.joined([Releases.at_once(claim, until_s) for claim, until_s in claims]))
