"""Which of these victims need not go after all? Of an answer that makes room, the dearest are dropped first.

Dropping one only matters on the nodes where it stands: the nodes' capacities less what it costs there must still add
up to the gang. That is worked out for all victims at once; it decides where capacities are all that counts, and spares
most of the asking where alternatives compete or workers must stand together.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools, Ints, count_true
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import FreeColumns, Stamps
from scheduler.core.gang import Gang
from scheduler.core.holdings import Holdings, Standing
from scheduler.core.victim_losses import Losses

_ASKED = 256  # full fit checks for one answer: bounds a search, not its correctness
_CAREFUL_ROUNDS = 64


def pruned(gang: Gang, free: FreeColumns, holdings: Holdings, victims: Bools, losses: Losses) -> Bools:
    """The same less every victim that the gang can do without. `free`: what is free once all of them have gone."""
    kept = victims.copy()
    dearest_first = losses.cheapest_first(np.flatnonzero(victims), losses.work)[::-1]
    rank = np.full(len(holdings), len(dearest_first), np.int64)
    rank[dearest_first] = np.arange(len(dearest_first))
    free = free.copy()
    open_ = victims.copy()  # not yet known to be needed
    asked = rounds = 0
    standing = holdings.standing(victims, gang.nodes())
    while True:
        standing = standing.of(open_)
        room = gang.most_by_node(free)
        surplus = int(room.sum()) - gang.workers
        cost = _workers_lost(gang, free, holdings, standing, room)
        open_ &= cost <= surplus
        spare = np.flatnonzero(open_)
        if not spare.size or asked == _ASKED:
            return kept
        spare = spare[np.argsort(rank[spare])]
        if gang.counted_by_node:
            rounds += 1
            going = _droppable(spare, cost, surplus, rank, standing, careful=rounds <= _CAREFUL_ROUNDS)
        else:
            asked += 1
            going = spare[:1]
        open_[going] = False
        staying = np.zeros(len(holdings), np.bool_)
        staying[going] = True
        claim = holdings.of(staying)
        free.take(claim)
        if gang.counted_by_node or gang.fits(free):
            kept[going] = False
        else:
            free.give(claim)


def _droppable(spare: Ints, cost: Ints, surplus: int, rank: Ints, standing: Standing, *, careful: bool) -> Ints:
    """As many of the spare victims (dearest first) as can be dropped at once: each the dearest one left on all of its
    nodes. One that costs some of the surplus must wait until it is the dearest of all: else it might take the place
    of a dearer one (but not for ever: not `careful`)."""
    first = np.full(int(standing.row.max(initial=-1)) + 1, len(rank), np.int64)
    is_spare = np.zeros(len(rank), np.bool_)
    is_spare[spare] = True
    mine = is_spare[standing.job]
    job, row = standing.job[mine], standing.row[mine]
    np.minimum.at(first, row, rank[job])
    is_spare[job[first[row] != rank[job]]] = False
    chosen = spare[is_spare[spare]]
    if careful:
        chosen = chosen[(cost[chosen] == 0) | (chosen == spare[0])]
    else:
        chosen = chosen[np.cumsum(cost[chosen]) <= surplus]
    return chosen


def _workers_lost(gang: Gang, free: FreeColumns, holdings: Holdings, standing: Standing, room: Ints) -> Ints:
    """int64[slots]: how many workers fewer the nodes could take if that job alone stayed."""
    claim, rows, device = holdings.claim, standing.row, holdings.claim.devices
    milli = free.milli[rows]
    cpus_milli, memory_bytes = free.cpus_milli[rows], free.memory_bytes[rows]
    slices, workers = standing.slices, standing.workers
    np.subtract.at(milli, (standing.slice_pair, device[slices]), claim.milli[slices].astype(np.int32))
    np.subtract.at(cpus_milli, standing.worker_pair, claim.cpus_milli[workers])
    np.subtract.at(memory_bytes, standing.worker_pair, claim.memory_bytes[workers])
    whole = count_true(milli == WHOLE_DEVICE_MILLI)
    stayed = FreeColumns(milli, whole, cpus_milli, memory_bytes, np.arange(len(rows)), Stamps())
    lost = room[rows] - gang.most_on(rows, stayed)
    return np.bincount(standing.job, lost, len(holdings)).astype(np.int64)
