"""Where the workers of one job would stand, given what is free: all of the gang, or nothing.

Alternatives are tried in order for each worker, so that a gang mixes them only when a worker finds no room under an
earlier one. A demand that allows simulated nodes is served from those first, so that such work does not sit on real
devices. `group_choice.py` places the workers of one alternative: near each other, and as constraints say.

`within` (hard) holds for all workers, whatever their alternative: domains are tried in the order of how many workers
they could hold, how many of them under the first alternative, how near these would be, and how tight they are. For one
alternative the first try succeeds or none would. A gang that must mix alternatives inside one domain is placed greedily
there, so it may miss a place that exists, and after some domains the search gives up.

`free` is never changed. Nothing here loops over nodes: every step is over columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from typing import TypedDict

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.claims import Claim, OneWorker
from scheduler.core.demand import UNCONSTRAINED, WHOLE_DEVICE_MILLI, Constraints, Demand, Level, Placement
from scheduler.core.free_columns import FreeColumns
from scheduler.core.group_choice import (
    Company,
    Group,
    devices_of_one,
    node_for_one,
    open_units,
    place_group,
    restricted,
    room_of_domains,
    units_for,
    with_constraints,
)
from scheduler.core.node_columns import Pool
from scheduler.core.pools import Packing as Packing
from scheduler.core.pools import Pools as Pools
from scheduler.core.pools import any_room, room_up_to
from scheduler.core.pools import capacity as capacity
from scheduler.core.topology import LEVELS

_DOMAINS_TRIED = 64
_MANY = 64
_SET_FIELDS = tuple(getattr(Placement, each.name).__set__ for each in fields(Placement))

_Tries = list[tuple[int, Demand, Pool]]


@dataclass(frozen=True, slots=True)
class Fit:
    """Placements of a gang, in worker order, and the same as numbers."""

    placements: tuple[Placement, ...]
    claim: Claim


class Where(TypedDict, total=False):
    """What place() and fits() are told besides: what holds between the workers, and which nodes are (not) to be used
    (bool[nodes])."""

    constraints: Constraints
    beside: tuple[str, ...]
    excluded: Bools | None
    only: Bools | None


def place(
    pools: Pools,
    free: FreeColumns,
    alternatives: Sequence[Demand],
    *,
    wanted: int,
    at_least: int,
    constraints: Constraints = UNCONSTRAINED,
    beside: Sequence[str] = (),
    excluded: Bools | None = None,
    only: Bools | None = None,
) -> Fit | None:
    """A place for `wanted` workers or as many as fit, if those are `at_least`.

    `beside`: nodes where siblings stand already, once a sibling: `spread` and `one_per` count them, and `within` means
    their domain. Names of nodes that are not here are passed over. `excluded` and `only`, bool[nodes]: nodes that are
    not to be used, and the only ones that are. `apart_from` is not looked at: it belongs in `excluded`.
    """
    if wanted == 1 and constraints is UNCONSTRAINED and excluded is None and only is None:
        return _place_one(pools, free, alternatives)
    search = _Search(pools, free, alternatives, constraints, beside, excluded, only)
    if at_least > 1 and search.counts and search.room(at_least) < at_least:
        return None
    groups = search.run(wanted, max(1, at_least))
    if groups is None:
        return None
    if len(groups) == 1 and len(groups[0]) == 1:
        group = groups[0]
        return alone(pools, group.demand, group.alternative, group.worker_rows.item(), group.devices[0].tolist())
    placements: list[Placement] = []
    for group in groups:
        placements += placements_of(pools, group, len(placements))
    return Fit(tuple(placements), Claim.joined([group.claim() for group in groups]))


def fits(
    pools: Pools,
    free: FreeColumns,
    alternatives: Sequence[Demand],
    workers: int,
    *,
    constraints: Constraints = UNCONSTRAINED,
    beside: Sequence[str] = (),
    excluded: Bools | None = None,
    only: Bools | None = None,
) -> bool:
    """Whether place() would find room for that many."""
    if workers == 1 and constraints is UNCONSTRAINED and excluded is None and only is None:
        for demand in alternatives:
            for part in pools.of(demand):
                if any_room(part, free, demand):
                    return True
        return False
    if workers == 1 and not with_constraints(constraints):
        search = _Search(pools, free, alternatives, constraints, beside, excluded, only)
        return any(any_room(part, free, demand) for _, demand, part in search.tries(0))
    found = how_many(
        pools, free, alternatives, workers, constraints=constraints, beside=beside, excluded=excluded, only=only
    )
    return found >= workers


def how_many(
    pools: Pools,
    free: FreeColumns,
    alternatives: Sequence[Demand],
    wanted: int,
    *,
    constraints: Constraints = UNCONSTRAINED,
    beside: Sequence[str] = (),
    excluded: Bools | None = None,
    only: Bools | None = None,
) -> int:
    """How many workers would find room, at most `wanted`."""
    search = _Search(pools, free, alternatives, constraints, beside, excluded, only)
    return min(wanted, search.room(wanted)) if search.counts else search.most(wanted)


def _place_one(pools: Pools, free: FreeColumns, alternatives: Sequence[Demand]) -> Fit | None:
    """The place of a single worker that may stand anywhere, as most jobs have."""
    for alternative, demand in enumerate(alternatives):
        for part in pools.of(demand):
            row = node_for_one(pools, part, free, demand)
            if row is not None:
                return alone(pools, demand, alternative, row, devices_of_one(pools, part, free, demand, row))
    return None


def alone(pools: Pools, demand: Demand, alternative: int, row: int, devices: list[int]) -> Fit:
    """A single worker."""
    cpus_milli, memory_bytes, share_milli, listed = (
        demand.cpus_milli,
        demand.memory_bytes,
        demand.share_milli,
        tuple(devices),
    )
    placement = Placement(0, pools.nodes.names[row], listed, share_milli, cpus_milli, memory_bytes, alternative)
    one = OneWorker(row, listed, share_milli or WHOLE_DEVICE_MILLI, cpus_milli, memory_bytes)
    return Fit((placement,), Claim.of_one(one))


def placements_of(pools: Pools, group: Group, first: int) -> list[Placement]:
    demand = group.demand
    names = pools.nodes.names
    devices = group.devices
    same = len(devices) > 1 and bool((devices == devices[0]).all())
    columns: tuple[Iterable[object], ...] = (
        range(first, first + len(group)),
        [names[row] for row in group.worker_rows.tolist()],
        repeat(tuple(devices[0].tolist())) if same else map(tuple, devices.tolist()),
        repeat(demand.share_milli),
        repeat(demand.cpus_milli),
        repeat(demand.memory_bytes),
        repeat(group.alternative),
    )
    if len(group) < _MANY:
        return list(map(Placement, *columns))
    # A frozen dataclass sets its fields one by one from Python, which would be most of the time that it takes to place
    # a gang of a thousand workers; through the slots a whole column is set at once.
    made = list(map(object.__new__, repeat(Placement, len(group))))
    for set_field, column in zip(_SET_FIELDS, columns, strict=True):
        deque(map(set_field, made, column), maxlen=0)
    return made


class _Search:
    """One search for one job: what it may use, and what it may do there."""

    __slots__ = ("alternatives", "constrained", "constraints", "free", "mask", "pools", "siblings")

    def __init__(
        self,
        pools: Pools,
        free: FreeColumns,
        alternatives: Sequence[Demand],
        constraints: Constraints,
        beside: Sequence[str],
        excluded: Bools | None,
        only: Bools | None,
    ) -> None:
        self.pools = pools
        self.free = free
        self.alternatives = alternatives
        self.constraints = constraints
        self.constrained = with_constraints(constraints)
        self.siblings: Ints | None = None
        if self.constrained:
            row_of = pools.nodes.row_of
            self.siblings = np.array([row_of[name] for name in beside if name in row_of], np.int64)
        self.mask = only if excluded is None else ~excluded if only is None else only & ~excluded

    @property
    def counts(self) -> bool:
        """Whether so many workers find a place as the nodes have `room` for."""
        return len(self.alternatives) == 1 and not self.constrained

    def room(self, limit: int) -> int:
        """Of all nodes; `limit` or more where it is more."""
        # Parts of a pool are different nodes, so they do not compete.
        return sum([room_up_to(part, self.free, demand, limit) for _, demand, part in self.tries(0)])

    def tries(self, first: int) -> _Tries:
        """Alternatives from `first` on, each with the parts of its pool, in the order of preference."""
        found: _Tries = []
        for alternative in range(first, len(self.alternatives)):
            demand = self.alternatives[alternative]
            for part in self.pools.of(demand):
                usable = part if self.mask is None else Pool(part.nodes & self.mask, part.devices, part.last)
                found.append((alternative, demand, usable))
        return found

    def run(self, wanted: int, at_least: int) -> list[Group] | None:
        """Groups of placed workers. Where the first alternative used up what more workers would have fitted into under
        a later one, it starts again from that later one."""
        for first in range(len(self.alternatives)):
            groups = self._from(first, wanted, at_least)
            if sum(map(len, groups)) >= at_least:
                return groups
        return None

    def most(self, wanted: int) -> int:
        best = 0
        for first in range(len(self.alternatives)):
            best = max(best, sum(map(len, self._from(first, wanted, 1))))
            if best == wanted:
                break
        return best

    def _from(self, first: int, wanted: int, at_least: int) -> list[Group]:
        tries = self.tries(first)
        if wanted == 1 and not self.constrained:
            for alternative, demand, part in tries:
                row = node_for_one(self.pools, part, self.free, demand)
                if row is not None:
                    devices = np.array([devices_of_one(self.pools, part, self.free, demand, row)], np.int64)
                    return [Group(alternative, demand, np.array([row]), devices)]
            return []
        if self.constraints.within is None:
            return self._greedily(tries, wanted)
        return self._within(self.constraints.within, tries, wanted, at_least)

    def _company(self) -> Company:
        siblings = np.zeros(0, np.int64) if self.siblings is None else self.siblings
        return Company(self.pools, self.constraints, siblings)

    def _greedily(self, tries: _Tries, wanted: int) -> list[Group]:
        groups: list[Group] = []
        free, company = self.free, self._company()
        for position, (alternative, demand, part) in enumerate(tries):
            group = place_group(self.pools, part, free, demand, alternative, wanted, company)
            if group is None:
                continue
            groups.append(group)
            wanted -= len(group)
            if wanted == 0:
                break
            if position + 1 < len(tries):
                if free is self.free:
                    free = free.copy()
                free.take(group.claim())
        return groups

    # ---- all in one domain -----------------------------------------------------------------------------------------

    def _within(self, level: Level, tries: _Tries, wanted: int, at_least: int) -> list[Group]:
        best: list[Group] = []
        for domain, bound in self._candidates(level, tries, wanted, at_least):
            if bound <= sum(map(len, best)):
                break
            inside = [(i, demand, restricted(self.pools, part, demand, level, domain)) for i, demand, part in tries]
            groups = self._greedily(inside, wanted)
            if sum(map(len, groups)) > sum(map(len, best)):
                best = groups
        return best

    def _candidates(self, level: Level, tries: _Tries, wanted: int, at_least: int) -> list[tuple[int, int]]:
        """Domains that might hold the gang, the best first, each with a bound on how many workers it can hold."""
        pools, company = self.pools, self._company()
        size = pools.nodes.topology.count[level]
        held = np.zeros(size, np.int64)
        held_first = held
        for position, (_, demand, part) in enumerate(tries):
            held = held + self._rooms(level, demand, part, wanted, company)
            if position == 0:
                held_first = np.minimum(held, wanted)
        room, held = held, np.minimum(held, wanted)
        allowed = held >= at_least
        if self.siblings is not None and self.siblings.size:
            allowed &= pools.nodes.topology.siblings(self.siblings, level) > 0
        domains = np.flatnonzero(allowed)
        if not domains.size:
            return []
        _, demand, part = tries[0]
        distance, tight = self._nearness(level, demand, part, int(held.max()), company, room)
        order = np.lexsort(
            (
                pools.domain_rank(level)[domains],
                tight[domains],
                distance[domains],
                -held_first[domains],
                -held[domains],
            )
        )[:_DOMAINS_TRIED]
        return list(zip(domains[order].tolist(), held[domains[order]].tolist(), strict=True))

    def _rooms(self, level: Level, demand: Demand, part: Pool, wanted: int, company: Company) -> Ints:
        constraints = self.constraints
        units = units_for(self.pools, demand, (level, constraints.one_per))
        together = level is not Level.ISLAND
        room = open_units(self.pools, part, self.free, demand, units, wanted, company, together=together)
        return room_of_domains(self.pools.nodes.topology, units, room, level, constraints.one_per)

    def _nearness(
        self, level: Level, demand: Demand, part: Pool, workers: int, company: Company, room: Ints
    ) -> tuple[Ints, Ints]:
        """For each domain: how near its nearest domain that holds the whole gang is (0 the nearest; one without any
        counts as farthest), and how much room that has. With `spread`, which wants distance: the more domains to
        spread over, the better. Levels of which neither lies in the other are passed over."""
        topology, spread = self.pools.nodes.topology, self.constraints.spread
        distance, tight = np.full(len(room), len(LEVELS), np.int64), room.copy()
        if spread is not None:
            rooms, parent = self._rooms(spread, demand, part, workers, company), topology.parent(spread, level)
            if parent is not None:
                distance = -np.minimum(np.bincount(parent[np.flatnonzero(rooms)], minlength=len(room)), workers)
            return distance, tight
        for step, inner in enumerate(topology.ladder):
            parent = topology.parent(inner, level)
            if inner is level or LEVELS.index(inner) > LEVELS.index(level):
                break
            if parent is None:
                continue
            rooms = self._rooms(inner, demand, part, workers, company)
            enough = np.flatnonzero(rooms >= workers)
            enough = enough[distance[parent[enough]] == len(LEVELS)]
            tight[parent[enough]] = int(room.max(initial=0))
            np.minimum.at(tight, parent[enough], rooms[enough])
            distance[parent[enough]] = step
        return distance, tight
