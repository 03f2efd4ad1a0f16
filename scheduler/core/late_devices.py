"""Which devices of its nodes does a promise take? Those that come free last.

A gang that is to stand on a part of a node may take any devices that are free by then. If it takes those that are free
already, they lie idle meanwhile, or serve only what is over in time; if it takes those that come free last, anything
may run on the others: they are EASY's extra nodes (Lifka, JSSPP 1995), said per device. It also keeps promises where
they are from pass to pass, though they are made anew in each.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from scheduler.core.arrays import distinct
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Gang
from scheduler.core.holdings import Floats
from scheduler.core.placement import Fit


def with_late_devices(gang: Gang, fit: Fit, free: FreeColumns, device_keys: Floats) -> Fit:
    """The same workers on the same nodes, `free` being what there is then, `device_keys` when each device comes free.

    Only where devices are whole and alike: islands within a node, and alternatives, are left as they were chosen.
    """
    demand, nodes, claim = gang.alternatives[0], gang.pools.nodes, fit.claim
    if len(gang.alternatives) > 1 or not demand.devices or nodes.topology.splits:
        return fit
    rows, taken = distinct(claim.rows)
    if (free.whole[rows] == taken).all():
        return fit  # all that there is: nothing to choose
    usable = free.milli[rows] == WHOLE_DEVICE_MILLI
    mask = nodes.pool(demand).devices
    if mask is not None:
        usable &= mask[rows]
    keys = device_keys[rows]
    late_first = np.where(np.isneginf(keys), np.finfo(np.float64).max, -keys)  # free from the first: last of all
    order = np.argsort(np.where(usable, late_first, math.inf), axis=1, kind="stable")
    picked = np.zeros(usable.shape, np.bool_)
    np.put_along_axis(picked, order, np.arange(usable.shape[1]) < taken[:, None], axis=1)
    devices = np.empty(len(claim.rows), np.int64)
    devices[np.argsort(claim.rows, kind="stable")] = np.nonzero(picked)[1]
    if (devices == claim.devices).all():
        return fit
    by_worker = map(tuple, devices.reshape(len(fit.placements), demand.devices).tolist())
    placements = tuple(
        replace(placement, devices=own) for placement, own in zip(fit.placements, by_worker, strict=True)
    )
    return Fit(placements, claim.on_devices(devices))
