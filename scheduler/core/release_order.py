"""Things come free one after another: at which point does a gang fit for the first time?

What comes free has a *key*: the time it is over (`timeline.py`), or its place in the order in which running jobs would
be asked to leave (`victim_search.py`). More is free at a later key and never less, so the answer can be bisected; for
whole devices it is mostly read off the order statistics of the devices' keys and then only verified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.core.claims import Claim
from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.free_columns import FreeColumns
from scheduler.core.gang import NEVER, Gang
from scheduler.core.holdings import Floats, taken_from
from scheduler.core.placement import Fit
from scheduler.core.quick import quick


@dataclass(frozen=True, slots=True)
class Point:
    """The first key at which a gang fits, what is free then without it, and where it would stand."""

    key: float
    free: FreeColumns
    fit: Fit


@quick
@dataclass(frozen=True, slots=True)
class Releases:
    """A claim, and the key of each of its slices and workers."""

    claim: Claim
    slice_key: Floats
    worker_key: Floats

    @staticmethod
    def at_once(claim: Claim, key: float) -> Releases:
        return Releases(claim, np.full(len(claim.rows), key), np.full(len(claim.worker_rows), key))

    @staticmethod
    def joined(several: Sequence[Releases]) -> Releases:
        """All of them as one. There must be at least one."""
        if len(several) == 1:
            return several[0]
        return Releases(
            Claim.joined([each.claim for each in several]),
            np.concatenate([each.slice_key for each in several]),
            np.concatenate([each.worker_key for each in several]),
        )

    def given(self, free: FreeColumns, key: float) -> FreeColumns:
        """What is free with all whose key is not above this given back: sums over all, which is sooner done than it is
        chosen what to add."""
        claim, shape, count = self.claim, free.milli.shape, len(free.whole)
        slices, workers = self.slice_key <= key, self.worker_key <= key
        device, row = claim.rows * shape[1] + claim.devices, claim.worker_rows
        milli = np.bincount(device, slices * claim.milli, free.milli.size).astype(np.int32).reshape(shape)
        cpus_milli = np.bincount(row, workers * claim.cpus_milli, count).astype(np.int64)
        memory_bytes = np.bincount(row, workers * claim.memory_bytes, count).astype(np.int64)  # below 2**53: exact
        return free.anew(free.milli + milli, free.cpus_milli + cpus_milli, free.memory_bytes + memory_bytes)

    def between(self, above: float, until: float) -> Releases:
        """Those with a key above the one and not above the other."""
        slices = np.flatnonzero((self.slice_key > above) & (self.slice_key <= until))
        workers = np.flatnonzero((self.worker_key > above) & (self.worker_key <= until))
        return Releases(taken_from(self.claim, slices, workers), self.slice_key[slices], self.worker_key[workers])


class ReleaseOrder:
    """`base` is free before anything comes; it may stand below zero where something is spoken for twice over time.
    `releases`: what comes."""

    __slots__ = ("_device_keys", "_releases", "base")

    def __init__(self, base: FreeColumns, releases: Releases) -> None:
        self.base = base
        self._releases = releases
        self._device_keys: Floats | None = None

    def occupy(self, taken: Releases) -> None:
        """This is taken from the first, and comes as it says."""
        self.base.take(taken.claim)
        self._releases = Releases.joined([self._releases, taken])
        if self._device_keys is not None:
            where = (taken.claim.rows, taken.claim.devices)
            np.maximum.at(self._device_keys, where, taken.slice_key)  # NEVER stays

    def until(self, key: float) -> FreeColumns:
        """What is free once all up to this key has come."""
        return self._releases.given(self.base, key)

    def device_keys(self) -> Floats:
        """When each device is wholly free: float[nodes, max_devices], -inf from the first, NEVER for one of which a
        part never comes (who holds it is not in the order)."""
        if self._device_keys is None:
            milli, claim = self.base.milli, self._releases.claim
            keys = np.full(milli.size, -math.inf)
            device = claim.rows * milli.shape[1] + claim.devices
            # Entries of jobs that went stay for a while, with nothing in them: they keep no device.
            np.maximum.at(keys, device, np.where(claim.milli > 0, self._releases.slice_key, -math.inf))
            total = milli.ravel() + np.bincount(device, claim.milli, milli.size)
            keys[total != WHOLE_DEVICE_MILLI] = NEVER
            self._device_keys = keys.reshape(milli.shape)
        return self._device_keys

    def first(self, gang: Gang, *, since: float = -math.inf, until: float = math.inf) -> Point | None:
        """The smallest key from `since` to `until` at which it fits; `since` itself where it fits already then."""
        bound = gang.not_before(self.device_keys())
        low = max(since, bound)
        if math.isnan(bound) or low > until:
            return None
        free = self.until(low)
        fit = gang.place(free)
        return self._bisected(gang, free, low, until) if fit is None else Point(low, free, fit)

    def _bisected(self, gang: Gang, free: FreeColumns, low: float, until: float) -> Point | None:
        """The same where it does not fit in `free`, which is what there is at `low`: each step looks at half of what
        the one before looked at."""
        left = self._releases.between(low, until)
        keys = np.sort(left.worker_key)  # no slice is without its worker
        if not len(keys):
            return None
        if not gang.fits(left.given(free, math.inf)):
            return None
        at, end = 0, len(keys) - 1
        while at < end:
            middle = (at + end) // 2
            key = float(keys[middle])
            then = left.given(free, key)
            if gang.fits(then):
                end, left = middle, left.between(-math.inf, key)
            else:
                at = middle + 1
                free, left = then, left.between(key, math.inf)
        key = float(keys[at])
        free = left.given(free, key)
        fit = gang.place(free)
        assert fit is not None, f"a gang of {gang.workers} fits at {key} and has no place there"
        return Point(key, free, fit)
