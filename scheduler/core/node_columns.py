"""What the cluster's nodes are, in NumPy columns: kind, place, reality and size of each, one row a node.

Nothing here changes while jobs come and go; `NodeColumns` is replaced as a whole when a node joins or leaves, and is
shared by every copy of the cluster. What is free at the moment is in `free_columns.py`.

Units: CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import Generic, TypeVar

import numpy as np

from scheduler.core.arrays import ABSENT as ABSENT
from scheduler.core.arrays import Bools as Bools
from scheduler.core.arrays import Ints as Ints
from scheduler.core.arrays import Milli as Milli
from scheduler.core.arrays import count_true as count_true
from scheduler.core.arrays import distinct as distinct
from scheduler.core.arrays import widened as widened
from scheduler.core.demand import Barred, Demand, DeviceFacts, Labels, NodeFacts
from scheduler.core.pool import Pool as Pool
from scheduler.core.topology import NO_ISLAND, Topology

NO_PROFILE = 0  # the number of a whole device among MIG profiles
_Name = TypeVar("_Name", bound=Hashable)
_CACHED_POOLS = 512  # demands pinned to single nodes could otherwise grow the cache without bound
_CACHED_ANSWERS = 512
_NODE_COLUMNS = ("site", "rack", "simulated", "cpus_milli", "memory_bytes", "device_count", "node_labels")
# What makes one device of a node as good as another to any demand.
_KIND_COLUMNS = ("device_model", "device_vendor", "device_profile", "device_labels", "device_barred")
_DEVICE_COLUMNS = (*_KIND_COLUMNS, "device_island", "device_doubtful")
_what_a_device_is = attrgetter("index", "model", "vendor", "island", "mig_profile", "labels", "barred", "doubtful")


@dataclass(slots=True)
class _Ids(Generic[_Name]):
    """Small numbers for names, append-only, so that a name keeps its number over all versions of the columns."""

    of: dict[_Name, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.of)

    def numbers(self, names: Sequence[_Name]) -> list[int]:
        for name in dict.fromkeys(names):
            self.of.setdefault(name, len(self.of))
        return list(map(self.of.__getitem__, names))

    def known(self, name: _Name) -> int:
        return self.of.get(name, -2)  # equal to no row's number


@dataclass(frozen=True, slots=True)
class _Names:
    """All numbers of names, shared by every version of the columns. A rack is named within its site."""

    sites: _Ids[str] = field(default_factory=_Ids)
    racks: _Ids[tuple[str, str]] = field(default_factory=_Ids)
    models: _Ids[str] = field(default_factory=_Ids)
    vendors: _Ids[str] = field(default_factory=_Ids)
    islands: _Ids[str] = field(default_factory=_Ids)
    profiles: _Ids[str | None] = field(default_factory=lambda: _Ids({None: NO_PROFILE}))
    labels: _Ids[Labels] = field(default_factory=_Ids)


class NodeColumns:
    """Rows of nodes, never changed in place. `with_nodes` and `without_node` give the next version.

    int64[nodes]: `site`, `rack` (ABSENT: in none), `cpus_milli`, `memory_bytes`, `device_count`, `node_labels` (the
    number of the node's whole set of labels); bool[nodes]: `simulated`. int32[nodes, max_devices], ABSENT where there
    is no device: `device_model`, `device_vendor`, `device_island` (NO_ISLAND: none known), `device_profile` (of a MIG
    instance; NO_PROFILE: a whole device), `device_labels`, `device_barred` (Barred; `any_barred`: whether any is from
    anything), `device_doubtful` (1: others are taken before it; `last`: where that matters, None where nowhere).
    `answers` keeps what others worked out from the nodes alone.
    """

    __slots__ = (
        "_pools",
        "_sound",
        "_there",
        "_tie_ranks",
        "_topology",
        "answers",
        "any_barred",
        "cpus_milli",
        "device_barred",
        "device_count",
        "device_doubtful",
        "device_island",
        "device_labels",
        "device_model",
        "device_profile",
        "device_vendor",
        "facts",
        "last",
        "memory_bytes",
        "names",
        "node_labels",
        "numbers",
        "rack",
        "row_of",
        "simulated",
        "site",
    )

    def __init__(self) -> None:
        self.facts: tuple[NodeFacts, ...] = ()
        self.names: tuple[str, ...] = ()
        self.row_of: dict[str, int] = {}
        self.numbers = _Names()
        self.site: Ints = np.zeros(0, np.int64)
        self.rack: Ints = np.zeros(0, np.int64)
        self.simulated: Bools = np.zeros(0, np.bool_)
        self.cpus_milli: Ints = np.zeros(0, np.int64)
        self.memory_bytes: Ints = np.zeros(0, np.int64)
        self.device_count: Ints = np.zeros(0, np.int64)
        self.node_labels: Ints = np.zeros(0, np.int64)
        self.device_model: Milli = np.zeros((0, 0), np.int32)
        self.device_vendor: Milli = np.zeros((0, 0), np.int32)
        self.device_island: Milli = np.zeros((0, 0), np.int32)
        self.device_profile: Milli = np.zeros((0, 0), np.int32)
        self.device_labels: Milli = np.zeros((0, 0), np.int32)
        self.device_barred: Milli = np.zeros((0, 0), np.int32)
        self.device_doubtful: Milli = np.zeros((0, 0), np.int32)
        self.any_barred = False
        self.last: Bools | None = None
        self.answers: dict[Hashable, object] = {}
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._tie_ranks: dict[int, Ints] = {}
        self._topology: Topology | None = None
        self._sound: NodeColumns | None = None
        self._there: dict[int, frozenset[int]] = {}  # by row, once asked for

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def max_devices(self) -> int:
        return int(self.device_model.shape[1])

    def devices_there(self, row: int, devices: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the devices that the row's node has."""
        there = self._there.get(row)
        if there is None:
            there = self._there[row] = frozenset((self.device_model[row] != ABSENT).nonzero()[0].tolist())
        return devices if there.issuperset(devices) else tuple([device for device in devices if device in there])

    # ---- versions ------------------------------------------------------------------------------------------------

    def with_node(self, facts: NodeFacts) -> NodeColumns:
        """The columns with one more row, the last. The name must be new."""
        return self.with_nodes((facts,))

    def with_nodes(self, joining: Sequence[NodeFacts]) -> NodeColumns:
        """The columns with a row for each of these at the end, in order. Their names must be new, each once."""
        rows = range(len(self), len(self) + len(joining))
        new = self._next()
        new.facts = (*self.facts, *joining)
        new.names = tuple([facts.name for facts in new.facts])
        new.row_of = {**self.row_of, **dict(zip(new.names[len(self) :], rows, strict=True))}
        assert len(new.row_of) == len(new), f"a node of {new.names[len(self) :]} is already here"
        numbers = self.numbers
        racks = [None if facts.rack is None else (facts.site, facts.rack) for facts in joining]
        in_rack = [rack is not None for rack in racks]
        rack = np.full(len(joining), ABSENT, np.int64)
        rack[in_rack] = numbers.racks.numbers([rack for rack in racks if rack is not None])
        columns = {
            "site": numbers.sites.numbers([facts.site for facts in joining]),
            "rack": rack,
            "simulated": [facts.simulated for facts in joining],
            "cpus_milli": [facts.cpus_milli for facts in joining],
            "memory_bytes": [facts.memory_bytes for facts in joining],
            "device_count": [len(facts.devices) for facts in joining],
            "node_labels": numbers.labels.numbers([facts.labels for facts in joining]),
        }
        for name in _NODE_COLUMNS:
            old = getattr(self, name)
            setattr(new, name, np.append(old, np.array(columns[name], old.dtype)))
        devices = self._device_matrices(joining)
        for name in _DEVICE_COLUMNS:
            setattr(new, name, np.concatenate((widened(getattr(self, name), devices[name].shape[1]), devices[name])))
        new._look_over()
        return new

    def _device_matrices(self, joining: Sequence[NodeFacts]) -> dict[str, Milli]:
        numbers = self.numbers
        counts = [len(facts.devices) for facts in joining]
        devices: Iterable[DeviceFacts] = chain.from_iterable(facts.devices for facts in joining)
        columns = list(zip(*map(_what_a_device_is, devices), strict=True)) or [()] * 8
        index, model, vendor, island, profile, labels, barred, doubtful = columns
        width = max(self.max_devices, 1 + max(index, default=-1))
        named = np.array([name is not None for name in island], np.bool_)
        islands = np.full(len(index), NO_ISLAND, np.int32)
        islands[named] = numbers.islands.numbers([name for name in island if name is not None])
        values: dict[str, Sequence[int] | Milli] = {
            "device_model": numbers.models.numbers(model),
            "device_vendor": numbers.vendors.numbers(vendor),
            "device_island": islands,
            "device_profile": numbers.profiles.numbers(profile),
            "device_labels": numbers.labels.numbers(labels),
            "device_barred": barred,
            "device_doubtful": doubtful,
        }
        at = np.repeat(np.arange(len(joining)) * width, counts) + np.array(index, np.int64)
        matrices: dict[str, Milli] = {}
        for name in _DEVICE_COLUMNS:
            matrices[name] = np.full((len(joining), width), ABSENT, np.int32)
            matrices[name].reshape(-1)[at] = np.asarray(values[name], np.int32)
        return matrices

    def without_node(self, name: str) -> NodeColumns:
        """The columns without that row; later rows move up by one."""
        return self.without_nodes((name,))

    def without_nodes(self, names: Sequence[str]) -> NodeColumns:
        """The columns without these rows; later ones move up."""
        rows = [self.row_of[name] for name in names]
        gone = set(rows)
        new = self._next()
        new.facts = tuple([facts for row, facts in enumerate(self.facts) if row not in gone])
        new.names = tuple([name for row, name in enumerate(self.names) if row not in gone])
        new.row_of = {name: i for i, name in enumerate(new.names)}
        for column in (*_NODE_COLUMNS, *_DEVICE_COLUMNS):
            setattr(new, column, np.delete(getattr(self, column), rows, axis=0))
        new._look_over()
        return new

    def only(self, rows: Ints) -> NodeColumns:
        """Those rows, which rise, as columns of their own. Names of sites, racks and islands keep their numbers."""
        new = self._next()
        new.facts = tuple([self.facts[row] for row in rows.tolist()])
        new.names = tuple([facts.name for facts in new.facts])
        new.row_of = {name: i for i, name in enumerate(new.names)}
        for column in (*_NODE_COLUMNS, *_DEVICE_COLUMNS):
            setattr(new, column, getattr(self, column).take(rows, axis=0))
        new._look_over()
        return new

    def as_sound(self) -> NodeColumns:
        """The same nodes with no device barred: what the cluster is when all is well."""
        if not self.any_barred:
            return self
        if self._sound is None:
            new = self._sound = self._next()
            new.facts, new.names, new.row_of = self.facts, self.names, self.row_of
            for column in (*_NODE_COLUMNS, *_DEVICE_COLUMNS):
                setattr(new, column, getattr(self, column))
            new.device_barred = np.minimum(self.device_barred, Barred.NOTHING)
            new._look_over()
        return self._sound

    def _next(self) -> NodeColumns:
        new = NodeColumns()
        new.numbers = self.numbers
        return new

    def _look_over(self) -> None:
        """What the columns of devices come to."""
        self.any_barred = bool((self.device_barred > Barred.NOTHING).any())
        self.last = None
        if not (self.device_doubtful > 0).any():
            return
        # Only where all devices of a node are of one kind does it change nothing else which of them is taken.
        there = self.device_model != ABSENT
        first = there.argmax(axis=1) if self.max_devices else np.zeros(len(self), np.int64)
        alike = np.ones(len(self), np.bool_)
        for name in _KIND_COLUMNS:
            column: Milli = getattr(self, name)
            alike &= ((column == column[np.arange(len(self)), first][:, None]) | ~there).all(axis=1)
        last: Bools = (self.device_doubtful > 0) & alike[:, None]
        if last.any():
            self.last = last

    # ---- questions -----------------------------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        """Which of these nodes and devices are near each other, worked out when first asked for."""
        if self._topology is None:
            numbers = self.numbers
            self._topology = Topology(
                self.device_island,
                len(numbers.islands),
                self.rack,
                len(numbers.racks),
                self.site,
                len(numbers.sites),
            )
        return self._topology

    def label_match(self, wanted: Labels, carried: Ints | Milli) -> Bools:
        """Which of these sets of labels (their numbers; ABSENT never) have all that are wanted."""
        wants = set(wanted)
        has = np.array([wants.issubset(labels) for labels in self.numbers.labels.of], np.bool_)
        match: Bools = has[carried] & (carried != ABSENT)
        return match

    def all_of_vendor(self, vendor: str) -> Bools:
        """bool[nodes]: those that have devices, all of that vendor."""
        others = (self.device_vendor != self.numbers.vendors.known(vendor)) & (self.device_model != ABSENT)
        rows: Bools = (self.device_count > 0) & ~others.any(axis=1)
        return rows

    def kind_match(self, vendor: str | None, model: str | None) -> Bools:
        """bool[nodes, max_devices]: devices and MIG instances of that vendor and model (None: of any)."""
        match: Bools = self.device_model != ABSENT
        if model is not None:
            match &= self.device_model == self.numbers.models.known(model)
        if vendor is not None:
            match &= self.device_vendor == self.numbers.vendors.known(vendor)
        return match

    def device_match(self, demand: Demand) -> Bools:
        """bool[nodes, max_devices]: devices of the demanded model, vendor, MIG profile (or none), labels, indices."""
        match = self.kind_match(demand.vendor, demand.model)
        match &= self.device_profile == self.numbers.profiles.known(demand.mig_profile)
        if demand.device_labels:
            match &= self.label_match(demand.device_labels, self.device_labels)
        if demand.only:
            match &= np.isin(np.arange(self.max_devices), demand.only)
        return match

    def pool(self, demand: Demand) -> Pool:
        """Nodes and devices that serve the demand, busy, drained or not, but for barred devices. Sizes are not looked
        at."""
        wants_device = bool(demand.devices or demand.share_milli)
        kind = None
        if wants_device:
            kind = (demand.vendor, demand.model, demand.mig_profile, demand.device_labels, demand.only)
        kept_off = demand.kept_off if wants_device and self.any_barred else None
        whole = bool(demand.devices)
        key = (kind, whole, kept_off, demand.simulated, demand.node, demand.site, demand.node_labels)
        found = self._pools.get(key)
        if found is not None:
            return found
        nodes: Bools = np.ones(len(self), np.bool_)
        if not demand.simulated:
            nodes &= ~self.simulated
        if demand.site is not None:
            nodes &= self.site == self.numbers.sites.known(demand.site)
        if demand.node is not None:
            nodes &= np.arange(len(self)) == self.row_of.get(demand.node, -1)
        if demand.node_labels:
            nodes &= self.label_match(demand.node_labels, self.node_labels)
        devices: Bools | None = None
        if wants_device:
            match = self.device_match(demand)
            if kept_off is not None:
                match &= self.device_barred < kept_off
            matching = count_true(match)
            nodes &= matching > 0
            if kept_off is not None or bool((matching[nodes] != self.device_count[nodes]).any()):
                devices = match
        if len(self._pools) >= _CACHED_POOLS:
            self._pools.clear()
        pool = self._pools[key] = Pool(nodes, devices, self.last if whole else None)
        return pool

    def remember(self, question: Hashable, answer: object) -> None:
        """Keep an answer that follows from these nodes alone, in `answers`; old ones go when there are too many."""
        if len(self.answers) >= _CACHED_ANSWERS:
            self.answers.clear()
        self.answers[question] = answer

    def tie_rank(self, seed: int) -> Ints:
        """A permutation of 0..nodes-1 that breaks every tie between nodes, drawn once from the seed.

        It ranks a keyed hash of each name, so that it depends on the seed and the names alone, and a node that joins
        or leaves does not reorder the others. Why a fixed order: packing by fragmentation gradient loses its lead
        with a fresh random tie for each job (DESIGN.md, decision 9).
        """
        found = self._tie_ranks.get(seed)
        if found is None:
            key = seed.to_bytes(16, "little", signed=True)
            digests = [hashlib.blake2b(name.encode(), key=key, digest_size=8).digest() for name in self.names]
            order = sorted(range(len(digests)), key=digests.__getitem__)
            found = np.empty(len(order), np.int64)
            found[order] = np.arange(len(order))
            self._tie_ranks[seed] = found
        return found
