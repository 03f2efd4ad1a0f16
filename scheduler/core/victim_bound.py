"""How little could be lost at the very least so that a gang fits, and on which nodes?

For whole devices only. A device is free once all that hold a part of it have gone, and each of them loses at least its
time since the last checkpoint times that part. So no j workers of d devices cost a node less than its j d cheapest
devices, each next one no less than the one before, and the cheapest workers of all nodes together are a lower bound:
exact where each victim holds a single device, and CPUs and memory suffice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools, Ints, count_true
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import Gang
from scheduler.core.holdings import Floats, Holdings
from scheduler.core.victim_losses import Losses

_NODES_MORE = 32  # looked at first, besides those of the cheapest workers


@dataclass(frozen=True, slots=True, eq=False)
class LeastLoss:
    """Lower bounds, in the unit of `Losses`: of the whole gang, of all its workers but the dearest, and of the first
    worker on each node (float[nodes], inf where there is no room). `dearest`: what the last of the cheapest costs.
    `for_one`: closer ones, for a single worker."""

    all_workers: float
    all_but_one: float
    dearest: float
    first_on: Floats
    for_one: LeastForOne | None = None

    def nodes_near(self) -> Bools:
        """bool[nodes]: where the cheapest workers stand, and some more."""
        enough = min(len(self.first_on), int((self.first_on <= self.dearest).sum()) + _NODES_MORE)
        reach = float(np.partition(self.first_on, enough - 1)[enough - 1])
        near: Bools = (self.first_on <= reach) & (self.first_on < math.inf)
        return near

    def nodes_within(self, loss: float) -> Bools:
        """bool[nodes]: those that an answer which loses no more than this could use."""
        return self.first_on <= loss - self.all_but_one


@dataclass(frozen=True, slots=True, eq=False)
class LeastForOne:
    """For a single worker: who holds a device whole goes with all that he holds. `part` and `whole`: what each device
    costs at least, by the part of its jobs that stands on it, and with all that who holds it whole loses;
    float[nodes, max_devices], inf for one that cannot be freed or used. `first_on`: what a worker costs each node at
    least, float[nodes]; `least`: anywhere."""

    devices: int
    part: Floats
    whole: Floats
    first_on: Floats
    least: float

    def without(self, rows: Ints, held: Bools) -> float:
        """What it costs these rows at the least while those devices (bool[nodes, max_devices]) stay held."""
        together = _together(self.devices, np.where(held[rows], math.inf, self.part[rows]))
        return float(_no_less(self.devices, together, self.whole[rows]).min())


def _together(devices: int, part: Floats) -> Floats:
    """float[rows]: what so many devices cost there together."""
    costs: Floats = np.partition(part, devices - 1)[:, :devices].sum(axis=1)
    return costs


def _no_less(devices: int, together: Floats, whole: Floats) -> Floats:
    """float[rows]: the same, and no less than the dearest of them costs whole."""
    costs: Floats = np.maximum(together, np.partition(whole, devices - 1)[:, devices - 1])
    return costs


def is_bounded(gang: Gang) -> bool:
    """Whether anything is known for such a gang."""
    return len(gang.alternatives) == 1 and gang.alternatives[0].devices > 0 and gang.constraints.within is None


def devices_suffice(gang: Gang, free: Bools) -> bool:
    """Whether the nodes have enough devices for all workers, whatever else they lack. `free`: those that are wholly
    free, bool[nodes, max_devices]. The gang is to be bounded."""
    (demand,) = gang.alternatives
    most, room = gang.at_most(free.shape[1]), 0
    for part in gang.pools.of(demand):
        devices, nodes = count_true(free if part.devices is None else free & part.devices), gang.usable(part.nodes)
        if gang.workers == 1:
            room += int(np.count_nonzero(nodes & (devices >= demand.devices)))
        else:
            room += int(np.minimum(devices // demand.devices, most)[nodes].sum())
    return room >= gang.workers


def least_loss(gang: Gang, free: FreeColumns, holdings: Holdings, allowed: Bools, losses: Losses) -> LeastLoss | None:
    """The bound, were only `allowed` (bool[slots]) to go. None: nothing is known for such a gang."""
    if not is_bounded(gang):
        return None
    going = _Going.of(free, holdings, allowed)
    if gang.workers == 1 and gang.alternatives[0].devices <= going.free.shape[1]:
        return _for_one(gang, going, losses)
    if not devices_suffice(gang, going.free):
        return LeastLoss(math.inf, math.inf, math.inf, np.full(len(free.whole), math.inf))
    workers = _by_worker(gang, going.costs(going.parts(losses), going.free, math.nan))
    first_on = np.where(np.isnan(workers[:, 0]), math.inf, workers[:, 0])
    costs = workers.ravel()
    costs = costs[~np.isnan(costs)]
    cheapest = np.sort(np.partition(costs, gang.workers - 1)[: gang.workers])
    return LeastLoss(float(cheapest.sum()), float(cheapest[:-1].sum()), float(cheapest[-1]), first_on)


def _for_one(gang: Gang, going: _Going, losses: Losses) -> LeastLoss:
    """The same for a single worker, which only the first on each node is of use to."""
    (demand,) = gang.alternatives
    usable = np.zeros(going.free.shape, np.bool_)
    for pool in gang.pools.of(demand):
        nodes = gang.usable(pool.nodes)[:, np.newaxis]
        usable |= nodes if pool.devices is None else nodes & pool.devices
    usable &= going.free
    loss = going.parts(losses)
    part = going.costs(loss, usable, math.inf)
    together = _together(demand.devices, part)
    least = float(together.min(initial=math.inf))
    if least == math.inf:
        return LeastLoss(least, least, least, together)
    loss = np.where(going.milli == WHOLE_DEVICE_MILLI, losses.work.take(going.job), loss)
    whole = going.costs(loss, usable, math.inf)
    first_on = _no_less(demand.devices, together, whole)
    closer = LeastForOne(demand.devices, part, whole, first_on, float(first_on.min()))
    return LeastLoss(least, 0.0, least, together, closer)


@dataclass(frozen=True, slots=True, eq=False)
class _Going:
    """The slices of all that may go: whose they are, which device of all nodes' in a row, how much of it; and the
    devices that would be free without them: bool[nodes, max_devices]."""

    job: Ints
    device: Ints
    milli: Ints
    free: Bools

    @staticmethod
    def of(free: FreeColumns, holdings: Holdings, allowed: Bools) -> _Going:
        claim, shape = holdings.claim, free.milli.shape
        going = np.flatnonzero(allowed.take(holdings.slice_job))
        device, milli = claim.rows.take(going) * shape[1] + claim.devices.take(going), claim.milli.take(going)
        total = np.bincount(device, milli, free.milli.size).reshape(shape) + free.milli
        return _Going(holdings.slice_job.take(going), device, milli, total == WHOLE_DEVICE_MILLI)

    def parts(self, losses: Losses) -> Floats:
        """What each slice's job loses at least for that slice."""
        return losses.each.take(self.job) * self.milli

    def costs(self, loss: Floats, usable: Bools, absent: float) -> Floats:
        """float[nodes, max_devices]: what each device costs if each slice costs that; `absent` for one that is not
        `usable` (or free without them)."""
        cost = np.bincount(self.device, loss, self.free.size)
        return np.where(usable, cost.reshape(self.free.shape), absent)


def _by_worker(gang: Gang, costs: Floats) -> Floats:
    """float[nodes, workers]: what one worker more costs each node at least; nan where there is no room for it. `costs`:
    float[nodes, max_devices], what each device costs at least, nan for one that cannot be freed."""
    (demand,) = gang.alternatives
    by_worker = np.full((len(costs), costs.shape[1] // demand.devices), math.nan)
    for part in gang.pools.of(demand):
        usable = costs if part.devices is None else np.where(part.devices, costs, math.nan)
        ordered = np.cumsum(np.sort(usable, axis=1), axis=1)[:, demand.devices - 1 :: demand.devices]
        nodes = gang.usable(part.nodes)
        ordered[:, 1:] -= ordered[:, :-1].copy()
        by_worker[nodes] = ordered[nodes]
    return by_worker[:, : gang.at_most(by_worker.shape[1])]
