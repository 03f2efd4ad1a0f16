"""What running jobs of low classes hold on each node, kept from pass to pass.

Who may be asked to go hangs on the class, so a pass wants to know for many jobs that wait: is there anybody of a lower
class on their nodes, and how much of each device is theirs? Between two passes few nodes see somebody come, go or
change. Only these are looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.claims import Claim

NOBODYS = int(np.iinfo(np.int64).max)
"""Above every class: where nobody stands."""
_KEPT = 16


@dataclass(slots=True)
class _Kept:
    """Figures by row, and when who stands on each row had changed last as they were made."""

    by_row: Ints
    touched: Ints | None = None

    def rows_to_see(self, touched: Ints) -> Bools | None:
        """Where something changed since, which is then taken for seen; None: nowhere."""
        before, self.touched = self.touched, touched
        if before is touched:
            return None
        if before is None:
            return np.ones(len(touched), np.bool_)
        rows: Bools = before != touched
        return rows if np.count_nonzero(rows) else None


class HeldByClass:
    """Over the rows of one cluster's nodes. `touched` is when who stands on each row changed last, in counted changes:
    int64[nodes], not to be changed later; `priority` the class of each slot: int64[slots]. Nor is what is given out."""

    __slots__ = ("_below", "_lowest", "_shape")

    def __init__(self, nodes: int, max_devices: int) -> None:
        self._shape = (nodes, max_devices)
        self._lowest = _Kept(np.full(nodes, NOBODYS, np.int64))
        self._below: dict[int, _Kept] = {}

    def lowest(self, touched: Ints, priority: Ints, alive: Bools, claim: Claim, worker_job: Ints) -> Ints:
        """int64[nodes]: the lowest class of those that stand there, or NOBODYS."""
        kept = self._lowest
        rows = kept.rows_to_see(touched)
        if rows is not None:
            there = np.flatnonzero(rows.take(claim.worker_rows))
            jobs = worker_job.take(there)
            kept.by_row[rows] = NOBODYS
            classes = np.where(alive.take(jobs), priority.take(jobs), NOBODYS)
            np.minimum.at(kept.by_row, claim.worker_rows.take(there), classes)
        return kept.by_row

    def below(self, reach: int, touched: Ints, priority: Ints, claim: Claim, slice_job: Ints) -> Ints:
        """int64[nodes, max_devices]: the thousandths of each device that jobs of a class below `reach` hold."""
        kept = self._below.get(reach)
        if kept is None:
            if len(self._below) >= _KEPT:
                del self._below[next(iter(self._below))]
            kept = self._below[reach] = _Kept(np.zeros(self._shape, np.int64))
        rows = kept.rows_to_see(touched)
        if rows is not None:
            there = np.flatnonzero(rows.take(claim.rows))
            there = there[priority.take(slice_job.take(there)) < reach]
            kept.by_row[rows] = 0
            device = claim.rows.take(there) * self._shape[1] + claim.devices.take(there)
            np.add.at(kept.by_row.reshape(-1), device, claim.milli.take(there))
        return kept.by_row
