"""The nodes that serve a job, as a small cluster of their own.

When could it start, and who would have to go? Such questions look at the job's own nodes alone, and cost what columns
of these cost: on a cluster of many models a tenth of what columns of all nodes do. Nodes stand in the part in their
order, and ties between them are broken as they are in the whole, so that an answer is the same; only where a rack or
site holds nodes of other kinds too may it stand elsewhere among racks and sites that are equally good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from scheduler.core.arrays import Bools, Ints
from scheduler.core.claims import Claim
from scheduler.core.demand import UNCONSTRAINED
from scheduler.core.free_columns import FreeColumns
from scheduler.core.node_columns import NodeColumns
from scheduler.core.placement import Fit, Pools, Where
from scheduler.core.quick import replaced

_ABSENT = -1


class Part:
    """Some of the nodes of `pools.nodes`: `rows`, which rise. `pools` are those of the part, with best fit."""

    __slots__ = ("_local", "_local_or_first", "nodes", "pools", "rows")

    def __init__(self, pools: Pools, nodes: Bools) -> None:
        """`nodes`: bool[nodes]."""
        self.nodes = nodes
        self.rows: Ints = np.flatnonzero(nodes)
        self._local: Ints = np.full(len(nodes), _ABSENT, np.int64)
        self._local[self.rows] = np.arange(len(self.rows))
        self._local_or_first: Ints = np.maximum(self._local, 0)
        tie_rank = np.empty(len(self.rows), np.int64)
        tie_rank[np.argsort(pools.tie_rank.take(self.rows))] = np.arange(len(self.rows))
        self.pools = Pools(_only(pools.nodes, nodes, self.rows), pools.schedulable.take(self.rows), tie_rank)

    @staticmethod
    def serving(pools: Pools, nodes: Bools, where: Where) -> Part | None:
        """Those nodes for a job that is to stand there, kept with the pools; None where that spares nothing, or where
        what stands on other nodes matters to it."""
        if where.get("beside") or where.get("constraints", UNCONSTRAINED) != UNCONSTRAINED:
            return None
        key = (Part, nodes.tobytes())
        if key not in pools.kept:
            pools.keep(key, Part(pools, nodes) if 2 * np.count_nonzero(nodes) <= len(nodes) else None)
        return cast("Part | None", pools.kept[key])

    # ---- from the whole to the part --------------------------------------------------------------------------------

    def of(self, free: FreeColumns) -> FreeColumns:
        """What is free there, as columns of their own."""
        return free.on(self.rows)

    def row_of(self, rows: Ints) -> Ints:
        """The rows in the part of those, the first for one that is not there."""
        return self._local_or_first.take(rows)

    def claim(self, claim: Claim) -> Claim:
        """What of it is on these nodes."""
        one = claim.one
        if one is not None and self.nodes.item(one.row):
            return Claim.of_one(replaced(one, row=self._local.item(one.row)))
        rows, worker_rows = self._local.take(claim.rows), self._local.take(claim.worker_rows)
        inside = Claim(rows, claim.devices, claim.milli, worker_rows, claim.cpus_milli, claim.memory_bytes)
        there = worker_rows >= 0
        return inside if np.count_nonzero(there) == len(there) else inside.where(rows >= 0, there)

    def where(self, where: Where) -> Where:
        excluded, only = where.get("excluded"), where.get("only")
        inside: Where = {}
        if excluded is not None:
            inside["excluded"] = excluded.take(self.rows)
        if only is not None:
            inside["only"] = only.take(self.rows)
        return inside

    # ---- from the part to the whole --------------------------------------------------------------------------------

    def fit(self, fit: Fit) -> Fit:
        claim, rows, one = fit.claim, self.rows, fit.claim.one
        if one is not None:
            return Fit(fit.placements, Claim.of_one(replaced(one, row=rows.item(one.row))))
        worker_rows = rows.take(claim.worker_rows)
        return Fit(
            fit.placements,
            Claim(rows.take(claim.rows), claim.devices, claim.milli, worker_rows, claim.cpus_milli, claim.memory_bytes),
        )

    def put(self, inside: FreeColumns, whole: FreeColumns) -> FreeColumns:
        """The whole with that on these nodes instead."""
        return whole.with_rows(self.rows, inside)


@dataclass(frozen=True, slots=True)
class Inside:
    """What is free on the part's nodes, told by the rows of the whole."""

    part: Part
    inside: FreeColumns

    def on(self, rows: Ints) -> FreeColumns:
        """Of these rows alone, all of which are the part's."""
        return self.inside.on(self.part.row_of(rows))


@dataclass(frozen=True, slots=True)
class PutTogether:
    """The whole with what is `inside` on the part's nodes instead, made when somebody wants to change or see it."""

    part: Part
    inside: FreeColumns
    whole: FreeColumns

    def copy(self) -> FreeColumns:
        return self.part.put(self.inside, self.whole)

    def on(self, rows: Ints) -> FreeColumns:
        """Of these rows alone, all of which are the part's."""
        return self.inside.on(self.part.row_of(rows))


def _only(nodes: NodeColumns, which: Bools, rows: Ints) -> NodeColumns:
    """Columns of these rows alone, kept with the nodes: they stay when nodes come to be given work, or no more."""
    key = (_only, which.tobytes())
    found = nodes.answers.get(key)
    if not isinstance(found, NodeColumns):
        found = nodes.only(rows)
        nodes.remember(key, found)
    return found
