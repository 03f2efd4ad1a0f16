"""Which nodes the workers of one job go to, given how many each could take.

Without wishes: as few nodes as possible, the largest rooms first, and the last, partly used one by the packing policy
(or the tightest: best fit, Johnson, "Near-optimal bin packing algorithms", MIT 1973). With a target for each domain the
same holds inside each domain. Ties are broken by the recorded seeded node order. Nothing here loops over nodes.

Units: shares and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools, Ints, sum_rows
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import Pool
from scheduler.core.pools import NEVER, Pools
from scheduler.core.topology import Units

_CPU_KEY_BITS = 31
# Of one job, in so many domains the packing policy chooses the last node; where there are more it is the tightest.
_POLICY_CHOICES = 64


def best_node(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, fits: Bools, workers: int) -> int:
    """The node among `fits` (bool[nodes], each with room for all these workers, at least one) that suits them best."""
    if pools.packing is not None:
        return pools.packing.best(free, demand, fits, workers)
    if demand.share_milli and workers == 1:
        return _tightest_device(pools, pool, free, demand, fits)
    key = tightness(pool, free, demand)
    return int(np.where(fits, key * len(key) + pools.tie_rank, NEVER).argmin())


def _tightest_device(pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, fits: Bools) -> int:
    """The node of the device left with least that has room for the share; then with fewest wholly free devices."""
    usable = fits[:, None] if pool.devices is None else pool.devices & fits[:, None]
    milli = np.where(usable & (free.milli >= demand.share_milli), free.milli, 2 * WHOLE_DEVICE_MILLI)
    rows = np.flatnonzero(milli == milli.min()) // milli.shape[1]
    key = free.whole_of(pool.devices)[rows] * len(milli) + pools.tie_rank[rows]
    return int(rows[key.argmin()])


def tightness(pool: Pool, free: FreeColumns, demand: Demand) -> Ints:
    """What a node has left for such workers: the less, the tighter: int64[nodes]."""
    if demand.devices:
        return free.whole_of(pool.devices)
    if demand.share_milli:
        milli = np.maximum(free.milli, 0)
        return sum_rows(milli if pool.devices is None else milli * pool.devices)
    # Work without devices goes where fewest devices lie idle, then where fewest CPUs do.
    key: Ints = (free.whole << _CPU_KEY_BITS) + np.clip(free.cpus_milli, 0, (1 << _CPU_KEY_BITS) - 1)
    return key


def fill(
    pools: Pools,
    pool: Pool,
    free: FreeColumns,
    demand: Demand,
    units: Units,
    room: Ints,
    domain: Ints,
    target: Ints,
) -> tuple[Ints, Ints]:
    """Units for `target[d]` workers in each domain d, and how many on each. `room` and `domain`: int64[units]; no
    domain is to get more than there is room for."""
    if len(target) == 1:
        workers = int(target[0])
        enough = np.flatnonzero(room >= workers)
        if enough.size:
            return np.array([_last_unit(pools, pool, free, demand, units, enough, workers)]), target
        if int(room.sum()) == workers:
            everywhere = np.flatnonzero(room)
            return everywhere, room[everywhere]
    active = np.flatnonzero((room > 0) & (target[domain] > 0))
    rows = units.row[active]
    key, tie, of, have = tightness(pool, free, demand)[rows], pools.tie_rank[rows], domain[active], room[active]
    order = np.lexsort((tie, key, -have, of))
    active, of, have = active[order], of[order], have[order]
    filled = np.cumsum(have)
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    filled -= np.repeat(filled[begins] - have[begins], np.diff(begins, append=len(of)))
    full = filled <= target[of]  # used up: within a domain these come first
    chosen, counts = active[full], have[full]
    rest = target - np.bincount(of[full], have[full], len(target)).astype(np.int64)
    last = np.flatnonzero(rest)
    if not last.size:
        return chosen, counts
    open_to = ~full & (have >= rest[of])
    if last.size <= _POLICY_CHOICES:
        ends = [
            _last_unit(pools, pool, free, demand, units, active[open_to & (of == each)], int(rest[each]))
            for each in last.tolist()
        ]
        return np.append(chosen, ends), np.append(counts, rest[last])
    active, of = active[open_to], of[open_to]
    rows = units.row[active]
    order = np.lexsort((pools.tie_rank[rows], tightness(pool, free, demand)[rows], of))
    first = order[np.flatnonzero(np.diff(of[order], prepend=-1))]
    return np.append(chosen, active[first]), np.append(counts, rest[of[first]])


def _last_unit(
    pools: Pools, pool: Pool, free: FreeColumns, demand: Demand, units: Units, among: Ints, workers: int
) -> int:
    """The one of these units that so many workers suit best."""
    if len(among) == 1:
        return int(among[0])
    fits = np.zeros(len(pools.nodes), np.bool_)
    fits[units.row[among]] = True
    row = best_node(pools, pool, free, demand, fits, workers)
    return int(among[np.flatnonzero(units.row[among] == row)[0]])


def evenly(have: Ints, room: Ints, rank: Ints, workers: int) -> Ints:
    """How many of `workers` each domain gets so that they stand as evenly as there is room: water-filling.

    `have`: how many stand there already; `room`: how many more would fit, together at least `workers`; both
    int64[domains]. Where some must get one more than others, those with the least room do, then by `rank`.
    """
    low, high = int(have.min()), int(have.max()) + workers  # a level that is not too high, and one that suffices
    while low < high:
        level = (low + high + 1) // 2
        if int(np.minimum(np.maximum(level - have, 0), room).sum()) <= workers:
            low = level
        else:
            high = level - 1
    given = np.minimum(np.maximum(low - have, 0), room)
    rest = workers - int(given.sum())
    if rest:
        one_more = np.flatnonzero((have + given == low) & (room > given))
        one_more = one_more[np.lexsort((rank[one_more], room[one_more]))[:rest]]
        given[one_more] += 1
    return given
