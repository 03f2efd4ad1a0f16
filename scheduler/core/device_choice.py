"""Which devices of its node a worker is given, once the node is chosen.

Whole devices: those of one island, the tightest one with enough of them; where none has, as few islands as possible,
the largest remainders first (so that what NVLink joins stays whole for the next worker: Amaral, Polo, Carrera, Seelam
and Steinder, "Topology-aware GPU scheduling for learning workloads in cloud environments", SC 2017). A share: the
device left with least (best fit: Johnson, "Near-optimal bin packing algorithms", MIT 1973).

Of whole devices of one island that are all alike, those that are hot or slow (`Pool.last`) are taken last. That changes
which of them stays idle, and nothing else: what is free on each island afterwards is as much either way.
"""

from __future__ import annotations

import numpy as np

from scheduler.core.arrays import Bools, Ints, Milli, count_true
from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import Pool
from scheduler.core.topology import Topology

_BUSY = 2 * WHOLE_DEVICE_MILLI


def pick_devices(
    topology: Topology,
    pool: Pool,
    free: FreeColumns,
    demand: Demand,
    rows: Ints,
    counts: Ints,
    among: Bools | None = None,
) -> Ints:
    """Device indices for each worker, workers in the order of `rows` repeated by `counts`: int[workers, each].

    Each node has room for its workers. `among`, bool[rows, max_devices]: only these devices. A node may come twice if
    it comes with other devices.
    """
    workers = int(counts.sum())
    if not (demand.devices or demand.share_milli):
        return np.zeros((workers, 0), np.int64)
    if workers == 1 and among is None and (demand.share_milli or not topology.split[rows[0]]):
        return devices_for_one(pool, free, demand, int(rows[0]))
    milli = free.milli[rows]
    usable = milli >= 0 if pool.devices is None else pool.devices[rows]
    if among is not None:
        usable = usable & among
    if demand.share_milli:
        return _shares(milli, usable, demand.share_milli, counts)
    idle = (milli == WHOLE_DEVICE_MILLI) & usable
    all_of_it = bool((count_true(idle) == demand.devices).all())  # no choice is left
    if topology.cells.of_device is not None and not all_of_it and topology.split[rows].any():
        return _by_island(idle, topology.cells.of_device[rows], demand.devices, counts, _last(pool, rows))
    last = None if all_of_it else _last(pool, rows)
    if last is None:
        taken = idle & (np.cumsum(idle, axis=1) <= (counts * demand.devices)[:, None])
    else:
        before = idle & ~last
        turn = np.where(last, count_true(before)[:, None] + np.cumsum(idle & last, axis=1), np.cumsum(before, axis=1))
        taken = idle & (turn <= (counts * demand.devices)[:, None])
    return np.nonzero(taken)[1].reshape(workers, demand.devices)


def _last(pool: Pool, rows: Ints) -> Bools | None:
    """Devices of these rows that are taken last; None where none is."""
    if pool.last is None:
        return None
    last: Bools = pool.last[rows]
    return last if last.any() else None


def devices_for_one(pool: Pool, free: FreeColumns, demand: Demand, row: int) -> Ints:
    """The same for one worker on a node of one island, or for a share."""
    return np.array([devices_listed(pool, free, demand, row)], np.int64)


def devices_listed(pool: Pool, free: FreeColumns, demand: Demand, row: int) -> list[int]:
    """The same as a list: over so few devices that takes a tenth of the time of columns."""
    if pool.devices is None and pool.last is None and not demand.share_milli:
        idle = [i for i, milli in enumerate(free.milli[row].tolist()) if milli == WHOLE_DEVICE_MILLI]
        return idle[: demand.devices]
    usable = None if pool.devices is None else pool.devices[row].tolist()
    left = [(milli, i) for i, milli in enumerate(free.milli[row].tolist()) if usable is None or usable[i]]
    if demand.share_milli:
        return [min((milli, i) for milli, i in left if milli >= demand.share_milli)[1]]
    idle = [i for milli, i in left if milli == WHOLE_DEVICE_MILLI]
    if pool.last is not None and len(idle) > demand.devices:
        last = pool.last[row].tolist()
        idle = sorted(sorted(idle, key=last.__getitem__)[: demand.devices])
    return idle[: demand.devices]


def _shares(milli: Milli, usable: Bools, share_milli: int, counts: Ints) -> Ints:
    slots = np.where(usable, np.maximum(milli, 0) // share_milli, 0)
    order = np.argsort(np.where(slots > 0, milli, _BUSY), axis=1, kind="stable")  # tightest first
    slots = np.take_along_axis(slots, order, axis=1)
    given = np.clip(counts[:, None] - (np.cumsum(slots, axis=1) - slots), 0, slots)
    return np.repeat(order.ravel(), given.ravel()).reshape(-1, 1)


def _by_island(idle: Bools, cell: Ints, each: int, counts: Ints, last: Bools | None = None) -> Ints:
    """All nodes at once. An island of n idle devices holds n // each workers: these come first, tightest island first;
    then what is left over in each island, most first, for workers that must stand on several."""
    width = idle.shape[1]
    together = (cell[:, :, None] == cell[:, None, :]) & idle[:, None, :]  # [rows, device, device of the same island]
    size = together.sum(axis=2)
    turn = np.broadcast_to(np.arange(width), idle.shape) if last is None else np.arange(width) + width * last
    earlier = (together & (turn[:, None, :] < turn[:, :, None])).sum(axis=2)
    inside = size - size % each
    left_over = earlier >= inside
    key = np.where(left_over, width + 1 + width - size % each, size)
    key = (key * (int(cell.max()) + 1) + cell) * 2 * width + turn
    order = np.argsort(np.where(idle, key, np.iinfo(np.int64).max), axis=1)
    taken = np.arange(width) < (counts * each)[:, None]
    return np.sort(order[taken].reshape(-1, each), axis=1)
