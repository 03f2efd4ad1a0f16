"""What the cluster's nodes are, in NumPy columns: kind, place, reality and size of each, one row a node.

Nothing here changes while jobs come and go; `NodeColumns` is replaced as a whole when a node joins or leaves, and is
shared by every copy of the cluster. What is free at the moment is in `free_columns.py`.

Units: CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scheduler.core.demand import Demand, NodeFacts

Ints = npt.NDArray[np.int64]
Milli = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

ABSENT = -1  # in a device matrix: the node has no such device
_CACHED_POOLS = 512  # demands pinned to single nodes could otherwise grow the cache without bound


@dataclass(frozen=True, slots=True)
class Pool:
    """The nodes that can serve a demand, were they empty and up; and which of their devices, where not all of them.

    `nodes` is bool[nodes]; `devices` is bool[nodes, max_devices], or None when every device of those nodes will do.
    """

    nodes: Bools
    devices: Bools | None


@dataclass(slots=True)
class _Ids:
    """Small numbers for names, append-only, so that a name keeps its number over all versions of the columns."""

    of: dict[str, int]

    def number(self, name: str) -> int:
        return self.of.setdefault(name, len(self.of))

    def known(self, name: str) -> int:
        return self.of.get(name, -2)  # equal to no row's number


class NodeColumns:
    """Rows of nodes, never changed in place. `with_node` and `without_node` give the next version."""

    __slots__ = (
        "_pools",
        "_tie_ranks",
        "cpus_milli",
        "device_count",
        "device_model",
        "device_vendor",
        "facts",
        "memory_bytes",
        "models",
        "row_of",
        "simulated",
        "site",
        "sites",
        "vendors",
    )

    def __init__(self) -> None:
        self.facts: tuple[NodeFacts, ...] = ()
        self.row_of: dict[str, int] = {}
        self.sites, self.models, self.vendors = _Ids({}), _Ids({}), _Ids({})
        self.site: Ints = np.zeros(0, np.int64)
        self.simulated: Bools = np.zeros(0, np.bool_)
        self.cpus_milli: Ints = np.zeros(0, np.int64)
        self.memory_bytes: Ints = np.zeros(0, np.int64)
        self.device_count: Ints = np.zeros(0, np.int64)
        self.device_model: Milli = np.zeros((0, 0), np.int32)
        self.device_vendor: Milli = np.zeros((0, 0), np.int32)
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._tie_ranks: dict[int, Ints] = {}

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def max_devices(self) -> int:
        return int(self.device_model.shape[1])

    # ---- versions ------------------------------------------------------------------------------------------------

    def with_node(self, facts: NodeFacts) -> NodeColumns:
        """The columns with one more row, the last. The name must be new."""
        assert facts.name not in self.row_of, f"node {facts.name} is already here"
        width = 1 + max((device.index for device in facts.devices), default=-1)
        models = np.full((1, max(width, self.max_devices)), ABSENT, np.int32)
        vendors = models.copy()
        for device in facts.devices:
            models[0, device.index] = self.models.number(device.model)
            vendors[0, device.index] = self.vendors.number(device.vendor)
        new = self._next()
        new.facts = (*self.facts, facts)
        new.row_of = {**self.row_of, facts.name: len(self.facts)}
        new.site = np.append(self.site, self.sites.number(facts.site))
        new.simulated = np.append(self.simulated, facts.simulated)
        new.cpus_milli = np.append(self.cpus_milli, facts.cpus_milli)
        new.memory_bytes = np.append(self.memory_bytes, facts.memory_bytes)
        new.device_count = np.append(self.device_count, len(facts.devices))
        new.device_model = np.concatenate((widened(self.device_model, models.shape[1]), models))
        new.device_vendor = np.concatenate((widened(self.device_vendor, vendors.shape[1]), vendors))
        return new

    def without_node(self, name: str) -> NodeColumns:
        """The columns without that row; later rows move up by one."""
        row = self.row_of[name]
        new = self._next()
        new.facts = self.facts[:row] + self.facts[row + 1 :]
        new.row_of = {facts.name: i for i, facts in enumerate(new.facts)}
        new.site = np.delete(self.site, row)
        new.simulated = np.delete(self.simulated, row)
        new.cpus_milli = np.delete(self.cpus_milli, row)
        new.memory_bytes = np.delete(self.memory_bytes, row)
        new.device_count = np.delete(self.device_count, row)
        new.device_model = np.delete(self.device_model, row, axis=0)
        new.device_vendor = np.delete(self.device_vendor, row, axis=0)
        return new

    def _next(self) -> NodeColumns:
        new = NodeColumns()
        new.sites, new.models, new.vendors = self.sites, self.models, self.vendors
        return new

    # ---- questions -----------------------------------------------------------------------------------------------

    def device_match(self, demand: Demand) -> Bools:
        """bool[nodes, max_devices]: devices of the demanded model and vendor."""
        match: Bools = self.device_model != ABSENT
        if demand.model is not None:
            match &= self.device_model == self.models.known(demand.model)
        if demand.vendor is not None:
            match &= self.device_vendor == self.vendors.known(demand.vendor)
        return match

    def pool(self, demand: Demand) -> Pool:
        """Nodes and devices that serve the demand, busy, drained or not. Sizes are not looked at."""
        wants_device = bool(demand.devices or demand.share_milli)
        key = (demand.vendor, demand.model, wants_device, demand.simulated, demand.node, demand.site)
        found = self._pools.get(key)
        if found is not None:
            return found
        nodes: Bools = np.ones(len(self), np.bool_)
        if not demand.simulated:
            nodes &= ~self.simulated
        if demand.site is not None:
            nodes &= self.site == self.sites.known(demand.site)
        if demand.node is not None:
            nodes &= np.arange(len(self)) == self.row_of.get(demand.node, -1)
        devices: Bools | None = None
        if wants_device:
            match = self.device_match(demand)
            matching = match.sum(axis=1)
            nodes &= matching > 0
            if bool((matching[nodes] != self.device_count[nodes]).any()):
                devices = match
        if len(self._pools) >= _CACHED_POOLS:
            self._pools.clear()
        pool = self._pools[key] = Pool(nodes, devices)
        return pool

    def tie_rank(self, seed: int) -> Ints:
        """A permutation of 0..nodes-1 that breaks every tie between nodes, drawn once from the seed.

        It ranks a keyed hash of each name, so that it depends on the seed and the names alone, and a node that joins
        or leaves does not reorder the others. Why a fixed order: packing by fragmentation gradient loses its lead
        with a fresh random tie for each job (DESIGN.md, decision 9).
        """
        found = self._tie_ranks.get(seed)
        if found is None:
            key = seed.to_bytes(16, "little", signed=True)
            digests = [hashlib.blake2b(f.name.encode(), key=key, digest_size=8).digest() for f in self.facts]
            order = sorted(range(len(digests)), key=digests.__getitem__)
            found = np.empty(len(order), np.int64)
            found[order] = np.arange(len(order))
            self._tie_ranks[seed] = found
        return found


def distinct(values: Ints) -> tuple[Ints, Ints]:
    """The different values in order, and how often each comes. (NumPy's own loads a module at its first call, and the
    planner reads no file.)"""
    ordered = np.sort(values)
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    return ordered[first], np.diff(np.append(first, len(ordered)))


def widened(matrix: Milli, width: int) -> Milli:
    """The matrix with columns of ABSENT added on the right up to `width`."""
    missing = width - matrix.shape[1]
    if missing <= 0:
        return matrix
    return np.pad(matrix, ((0, 0), (0, missing)), constant_values=ABSENT)
