"""Which nodes and devices are near each other: the domains of each level, as numbers that can be counted over.

A *domain* is one island, node, rack or site. Domains of a level are numbered 0..count-1; some numbers may be unused.
A node without a rack is a rack of its own; racks of the same name at two sites are two racks. Devices without an island
are, together, the node's own island.

An island can span several nodes (a rack-scale NVLink domain) or a part of one (two boards of four in a node of eight).
Where some node has devices of more than one island, what is counted at the level of islands are *cells*: the devices
of one node in one island. Otherwise a cell is simply a node. What knows only its node (a worker without devices,
a sibling that runs already) counts on a split node as in the node's own island, or in each of its islands, as said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.core.arrays import ABSENT, Bools, Ints, Milli, distinct
from scheduler.core.demand import Level

LEVELS = (Level.ISLAND, Level.NODE, Level.RACK, Level.SITE)
"""Nearest first."""

NO_ISLAND = -2  # in a device matrix: the device has none, or none is known


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What workers are counted over: nodes, or, where islands split nodes, cells. `row`: the node of each unit, in
    order. `of_device`, int[nodes, max_devices]: the unit of each device (0 where absent); None where units are nodes.
    `domains[level]`: the domain of each unit."""

    row: Ints
    of_device: Ints | None
    domains: dict[Level, Ints]

    def __len__(self) -> int:
        return len(self.row)


class Topology:
    """Domains over one version of the node columns. `split`, bool[nodes]: nodes with devices of several islands.

    `rows` are units that are nodes, `cells` those for work with devices at the level of islands (the same object where
    no node is split). `ladder`: the levels whose domains differ from those of the level before and are not all
    one: where nobody told of racks, a rack is a node, and need not be tried.
    """

    __slots__ = ("_parents", "cells", "count", "ladder", "rows", "split", "splits")

    def __init__(self, device_island: Milli, islands: int, rack: Ints, racks: int, site: Ints, sites: int) -> None:
        """`device_island`: int32[nodes, max_devices], an island's number, NO_ISLAND or ABSENT. `rack`: int64[nodes], a
        rack's number or ABSENT."""
        nodes = len(device_island)
        own = np.arange(nodes)
        there = device_island != ABSENT
        highest = np.where(there, device_island, NO_ISLAND).max(axis=1, initial=NO_ISLAND)
        lowest = np.where(there, device_island, np.iinfo(np.int32).max).min(axis=1, initial=np.iinfo(np.int32).max)
        self.split: Bools = there.any(axis=1) & (highest != lowest)
        self.splits = bool(self.split.any())
        whole = (highest >= 0) & ~self.split
        by_row: dict[Level, Ints] = {
            Level.ISLAND: np.where(whole, highest, islands + own),
            Level.NODE: own,
            Level.RACK: np.where(rack >= 0, rack, racks + own),
            Level.SITE: site,
        }
        self.count = {
            Level.ISLAND: islands + nodes,
            Level.NODE: nodes,
            Level.RACK: racks + nodes,
            Level.SITE: sites,
        }
        self.rows = Units(own, None, by_row)
        self.cells = self._cells(device_island, islands) if self.splits else self.rows
        self.ladder = self._ladder()
        self._parents: dict[tuple[Level, Level], Ints | None] = {}

    def parent(self, inner: Level, outer: Level) -> Ints | None:
        """For each domain of `inner` the one of `outer` that it lies in; None where some lie in several. (Nodes lie in
        racks, racks in sites; islands may span nodes, or be a part of one.)"""
        if (inner, outer) not in self._parents:
            parent = np.zeros(self.count[inner], np.int64)
            units = (self.rows, self.cells)
            for each in units:
                parent[each.domains[inner]] = each.domains[outer]
            nested = all(bool((parent[each.domains[inner]] == each.domains[outer]).all()) for each in units)
            self._parents[inner, outer] = parent if nested else None
        return self._parents[inner, outer]

    def siblings(self, rows: Ints, level: Level) -> Ints:
        """How many siblings stand in each domain of the level, where one stands on each of these nodes: int64[count].
        On a split node it counts in each island, since nobody knows in which it stands."""
        counts = np.bincount(self.rows.domains[level][rows], minlength=self.count[level])
        if level is Level.ISLAND and self.splits and self.split[rows].any():
            on = np.bincount(rows[self.split[rows]], minlength=len(self.split))
            more = np.bincount(self.cells.domains[level], on[self.cells.row], self.count[level]).astype(np.int64)
            more[self.rows.domains[level][self.split]] = 0  # the nodes' own islands are counted
            counts += more
        return counts

    def _cells(self, device_island: Milli, islands: int) -> Units:
        nodes, width = device_island.shape
        own = np.arange(nodes)
        domain = np.where(device_island >= 0, device_island, islands + own[:, None])  # also of absent devices
        span = islands + nodes
        keys = own[:, None] * span + domain
        there = device_island != ABSENT
        # A node that is not split has one cell, also without devices; a split one has its devices' islands only.
        plain = own[~self.split]
        known, _ = distinct(np.append(keys[there], plain * span + self.rows.domains[Level.ISLAND][plain]))
        row = known // span
        of_device = np.minimum(np.searchsorted(known, keys.ravel()), len(known) - 1).reshape(nodes, width)
        of_device[~there] = 0
        domains = {level: self.rows.domains[level][row] for level in LEVELS}
        domains[Level.ISLAND] = known % span
        return Units(row, of_device, domains)

    def _ladder(self) -> tuple[Level, ...]:
        worth: list[Level] = []
        before: Ints | None = None
        for level in LEVELS:
            of = (self.cells if level is Level.ISLAND else self.rows).domains[level]
            if not len(of) or (of == of[0]).all():
                break
            if before is None or len(before) != len(of) or not _same_partition(before, of):
                worth.append(level)
            before = of
        return tuple(worth)


def _same_partition(one: Ints, other: Ints) -> bool:
    """Whether both number the same sets."""
    pairs, _ = distinct(one * (int(other.max(initial=0)) + 1) + other)
    return len(pairs) == len(distinct(one)[0]) == len(distinct(other)[0])
