"""Where the workers of one alternative go, on the nodes it may use: near each other, or as the job's constraints say.

A gang is kept inside one NVLink island if one can hold it, else one node, else one rack, else one site; of the domains
of the nearest level that can, it takes the one left with least room (best fit over the lowest switch, as Slurm's
topology/tree plugin does it: SchedMD, "Topology Guide"; why nearness pays: Jeannot, Mercier and Tessier, "Process
placement in multicore clusters: algorithmic issues and practical techniques", IEEE TPDS 25(4), 2014; Amaral, Polo,
Carrera, Seelam and Steinder, "Topology-aware GPU scheduling for learning workloads in cloud environments", SC 2017).

Constraints of the job: `one_per` is hard, `spread` is soft, and with it nearness is not sought. At the level of islands
a worker with devices stands in one island: `one_per: island` finds no room for a worker larger than any island.

Greedy where exactness would be a matching problem: islands that share a node with other islands and span nodes too, on
nodes short of CPUs, under `one_per: island`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scheduler.core.arrays import Bools, Ints, distinct
from scheduler.core.claims import Claim
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Constraints, Demand, Level
from scheduler.core.device_choice import devices_listed, pick_devices
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_choice import best_node, evenly, fill, tightness
from scheduler.core.node_columns import Pool
from scheduler.core.pools import Pools, capacity, cell_capacity, has_room, has_room_on
from scheduler.core.topology import Topology, Units


@dataclass(frozen=True, slots=True)
class Group:
    """Workers of one alternative: the node of each, and its devices, int[workers, devices each]."""

    alternative: int
    demand: Demand
    worker_rows: Ints
    devices: Ints

    def __len__(self) -> int:
        return len(self.worker_rows)

    def claim(self) -> Claim:
        workers, each = self.devices.shape
        milli = self.demand.share_milli or WHOLE_DEVICE_MILLI
        return Claim(
            rows=np.repeat(self.worker_rows, each),
            devices=self.devices.ravel(),
            milli=np.full(workers * each, milli, np.int64),
            worker_rows=self.worker_rows,
            cpus_milli=np.full(workers, self.demand.cpus_milli, np.int64),
            memory_bytes=np.full(workers, self.demand.memory_bytes, np.int64),
        )


@dataclass(slots=True)
class Company:
    """The job's other workers: `siblings` (int64, nodes, one entry a sibling that stands already), and what the groups
    so far took, in each domain of the levels that the constraints name."""

    pools: Pools
    constraints: Constraints
    siblings: Ints
    stands: dict[Level, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        topology = self.pools.nodes.topology
        for level in (self.constraints.spread, self.constraints.one_per):
            if level is not None:
                self.stands[level] = topology.siblings(self.siblings, level)

    def joined_by(self, units: Units, chosen: Ints, counts: Ints) -> None:
        for level, stands in self.stands.items():
            np.add.at(stands, units.domains[level][chosen], counts)


def with_constraints(constraints: Constraints) -> bool:
    """Whether placing such a job differs from placing one without constraints. (`apart_from` is the caller's to turn
    into excluded nodes.)"""
    return not (constraints.within is None and constraints.spread is None and constraints.one_per is None)


def units_for(pools: Pools, demand: Demand, levels: tuple[Level | None, ...]) -> Units:
    """What to count over where domains of these levels matter."""
    topology = pools.nodes.topology
    return topology.cells if Level.ISLAND in levels and demand.milli else topology.rows


def room_of_domains(topology: Topology, units: Units, room: Ints, level: Level, one_per: Level | None) -> Ints:
    """How many workers each domain of the level could take, given the room of its units: int64[domains]. `one_per`: one
    worker at most in each domain of that level."""
    domain, size = units.domains[level], topology.count[level]
    total = np.bincount(domain, room, size).astype(np.int64)
    if one_per is None:
        return total
    if topology.parent(level, one_per) is not None:
        return np.minimum(total, 1)
    apart = units.domains[one_per]
    parent = topology.parent(one_per, level)
    if parent is not None:
        return np.bincount(parent[np.flatnonzero(np.bincount(apart, room))], minlength=size)
    has = np.flatnonzero(room)
    pairs, _ = distinct(domain[has] * topology.count[one_per] + apart[has])
    return np.bincount(pairs // topology.count[one_per], minlength=size)


def restricted(pools: Pools, pool: Pool, demand: Demand, level: Level, domain: int) -> Pool:
    """The part of the pool that is in that domain."""
    units = units_for(pools, demand, (level,))
    inside = units.domains[level] == domain
    if units.of_device is None:
        return Pool(pool.nodes & inside, pool.devices, pool.last)
    nodes = np.zeros(len(pool.nodes), np.bool_)
    nodes[units.row[inside]] = True
    devices = inside[units.of_device]
    return Pool(pool.nodes & nodes, devices if pool.devices is None else devices & pool.devices, pool.last)


def open_units(
    pools: Pools,
    pool: Pool,
    free: FreeColumns,
    demand: Demand,
    units: Units,
    limit: int,
    company: Company,
    *,
    together: bool,
) -> Ints:
    """How many workers each unit could take as the job's constraints allow: int64[units]. `together`: so that all of
    them could be taken at once; without it cells of one node are counted each as if it were the only one used."""
    one_per = company.constraints.one_per
    if units.of_device is None:
        room = capacity(pool, free, demand, limit)
    else:
        room = cell_capacity(pool, free, demand, limit, units.of_device, units.row)
    if one_per is not None:
        room = np.minimum(room, 1)
        room[company.stands[one_per][units.domains[one_per]] > 0] = 0
    if together and units.of_device is not None:
        room = _together(room, units.row, capacity(pool, free, demand, limit))
    return room


def _together(room: Ints, row: Ints, of_node: Ints) -> Ints:
    """Room of cells, cut down so that the cells of one node do not add up to more than the node's room, which CPUs and
    memory may bound."""
    upto = np.cumsum(room)
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    before = upto - room
    before -= np.repeat(before[begins], np.diff(begins, append=len(row)))
    return np.minimum(room, np.maximum(of_node[row] - before, 0))


def place_group(
    pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, alternative: int, wanted: int, company: Company
) -> Group | None:
    """As many of `wanted` workers as the pool has room for; None where it has none. `company` learns of them."""
    constraints = company.constraints
    units = units_for(pools, demand, (constraints.spread, constraints.one_per))
    room = open_units(pools, pool, free, demand, units, wanted, company, together=True)
    workers = _placeable(units, room, wanted, constraints.one_per)
    if workers < wanted and constraints.spread is Level.ISLAND and constraints.one_per is not Level.ISLAND:
        rows = pools.nodes.topology.rows  # spreading is a wish: workers larger than an island may span islands
        by_node = open_units(pools, pool, free, demand, rows, wanted, company, together=True)
        if _placeable(rows, by_node, wanted, constraints.one_per) > workers:
            units, room = rows, by_node
            workers = _placeable(units, room, wanted, constraints.one_per)
    if workers == 0:
        return None
    if constraints.spread is None:
        pool, room = _near(pools, pool, free, demand, units, room, workers, company)
    one_per = constraints.one_per
    if workers > 1 and one_per is not None:
        room = _representatives(pools, units, room, units.domains[one_per], tightness(pool, free, demand))
    domain, target = np.zeros(len(units), np.int64), np.array([workers])
    if constraints.spread is not None:
        domain, target = _spread(pools, units, room, workers, constraints.spread, company)
    chosen, counts = fill(pools, pool, free, demand, units, room, domain, target)
    company.joined_by(units, chosen, counts)
    on = units.row[chosen]
    among = None if units.of_device is None else units.of_device[on] == chosen[:, None]
    devices = devices_of(pools, pool, free, demand, on, counts, among)
    return Group(alternative, demand, np.repeat(on, counts), devices)


def _placeable(units: Units, room: Ints, wanted: int, one_per: Level | None) -> int:
    """How many of the workers the units have room for together."""
    total = room.sum() if one_per is None else np.count_nonzero(np.bincount(units.domains[one_per], room))
    return min(wanted, int(total))


def node_for_one(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand) -> int | None:
    """The node of one worker without constraints: what place_group() would choose, on the shortest way. None: no node
    has room."""
    if pools.packing is not None and pool.devices is None and (demand.devices < 2 or not pools.nodes.topology.splits):
        # Most of the time what the policy would choose, did only devices matter, has room for the rest.
        row = pools.packing.first_choice(free, demand)
        if row is None or has_room_on(pool, free, demand, row):
            return row
    fits = has_room(pool, free, demand)
    if not np.count_nonzero(fits):
        return None
    return best_node(pools, pool, free, demand, _in_one_island(pools, pool, free, demand, fits), 1)


def devices_of_one(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, row: int) -> list[int]:
    """Those of one worker on that node: devices_of() on the shortest way."""
    if demand.share_milli:
        if pools.packing is not None and pool.devices is pools.nodes.pool(demand).devices:
            return list(pools.packing.devices(free, row, demand))
        return devices_listed(pool, free, demand, row)
    if not demand.devices:
        return []
    if not pools.nodes.topology.split.item(row):
        return devices_listed(pool, free, demand, row)
    devices: list[int] = devices_of(pools, pool, free, demand, np.array([row]), np.ones(1, np.int64))[0].tolist()
    return devices


def devices_of(
    pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, rows: Ints, counts: Ints, among: Bools | None = None
) -> Ints:
    """As pick_devices(); the device of a single share is the packing policy's choice."""
    alone = demand.share_milli and among is None and len(rows) == 1 and counts[0] == 1
    # A policy knows the demand's devices; where a constraint leaves only some of them open, best fit decides.
    if alone and pools.packing is not None and pool.devices is pools.nodes.pool(demand).devices:
        return np.array([pools.packing.devices(free, int(rows[0]), demand)], np.int64)
    return pick_devices(pools.nodes.topology, pool, free, demand, rows, counts, among)


def _in_one_island(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, fits: Bools) -> Bools:
    """Those of the nodes that fit where the worker's devices would be of one island; all, where there are none."""
    topology = pools.nodes.topology
    if demand.devices < 2 or topology.cells.of_device is None:
        return fits
    cells = topology.cells
    room = cell_capacity(Pool(fits, pool.devices), free, demand, 1, topology.cells.of_device, cells.row)
    near = np.zeros(len(fits), np.bool_)
    near[cells.row[room > 0]] = True
    return near if near.any() else fits


def _near(
    pools: Pools,
    pool: Pool,
    free: FreeColumns,
    demand: Demand,
    units: Units,
    room: Ints,
    workers: int,
    company: Company,
) -> tuple[Pool, Ints]:
    """The part of the pool, and of the room, that is the tightest domain of the nearest level with room for all."""
    topology = pools.nodes.topology
    if workers == 1:
        if demand.devices < 2 or units.of_device is not None:
            return pool, room
        return pool, room * _in_one_island(pools, pool, free, demand, room > 0)
    one_per = company.constraints.one_per
    for level in topology.ladder:
        finer = units_for(pools, demand, (level, company.constraints.one_per))
        if finer is units and not (level is Level.ISLAND and finer.of_device is not None):
            there = room
        else:
            alone = level is Level.ISLAND
            there = open_units(pools, pool, free, demand, finer, workers, company, together=not alone)
        rooms = room_of_domains(topology, finer, there, level, one_per)
        enough = np.flatnonzero(rooms >= workers)
        if enough.size and finer.of_device is None and topology.parent(level, Level.NODE) is not None:
            return pool, room * (rooms >= workers)[units.domains[level]]  # one node: which, is for packing to say
        if enough.size:
            tightest = enough[np.lexsort((pools.domain_rank(level)[enough], rooms[enough]))[0]]
            part = restricted(pools, pool, demand, level, int(tightest))
            if units.of_device is None and finer is units:
                return part, room * (units.domains[level] == tightest)
            return part, open_units(pools, part, free, demand, units, workers, company, together=True)
    return pool, room


def _representatives(pools: Pools, units: Units, room: Ints, one_per: Ints, tight: Ints) -> Ints:
    """Room for one worker on one unit of each domain: that of the tightest node."""
    has = np.flatnonzero(room)
    rows = units.row[has]
    order = has[np.lexsort((pools.tie_rank[rows], tight[rows], one_per[has]))]
    first = order[np.flatnonzero(np.diff(one_per[order], prepend=-1))]
    ones = np.zeros(len(room), np.int64)
    ones[first] = 1
    return ones


def _spread(pools: Pools, units: Units, room: Ints, workers: int, level: Level, company: Company) -> tuple[Ints, Ints]:
    """What fill() is to be told: the domain of each unit, and how many workers each domain gets."""
    domain = units.domains[level]
    rooms = np.bincount(domain, room, len(company.stands[level])).astype(np.int64)
    stands = company.stands[level]
    if workers == 1:
        # Any domain with fewest of them will do: as one domain, so that the packing policy chooses among them all.
        least = (rooms > 0) & (stands == stands[rooms > 0].min())
        return np.where(least[domain], 0, 1), np.array([1, 0])
    open_to = np.flatnonzero(rooms)
    target = np.zeros(len(rooms), np.int64)
    target[open_to] = evenly(stands[open_to], rooms[open_to], pools.domain_rank(level)[open_to], workers)
    return domain, target
