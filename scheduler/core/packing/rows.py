"""What a packing policy is told: the ask, the kinds of the nodes, and what is free on some of them.

Everything here is a view over columns, one entry a node. Units: devices and CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI
from scheduler.core.node_columns import ABSENT, Bools, Ints, Milli, NodeColumns


class Free(Protocol):
    """What is free at the moment, one row a node.

    `milli`: int32[nodes, max_devices], 1000 wholly free, below zero where there is no device or it is over-promised.
    `stamps`: int64[nodes]; every change of a row gives it a number that no other content of it, in this or any copy,
    ever had: equal stamps mean equal rows. `followed`: each row that changes is appended to it; None as long as nobody
    follows. Who does puts a new one there, and is followed no more when it finds another.
    """

    followed: deque[int] | None

    @property
    def milli(self) -> Milli: ...
    @property
    def cpus_milli(self) -> Ints: ...
    @property
    def memory_bytes(self) -> Ints: ...
    @property
    def stamps(self) -> Ints: ...


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """What one worker asks for. Two asks are the same only if they are one object: make one for each kind of demand and
    keep it, since scores are cached under it.

    Either `devices` (whole ones) or `share_milli` (1..999 of one device) is positive, or neither. `rows`, bool[nodes],
    are the nodes that may serve it at all; `usable`, bool[nodes, max_devices], those of their devices that may, or
    None for all (with it, nothing is cached). `everywhere`: all nodes may.
    """

    rows: Bools
    devices: int = 0
    share_milli: int = 0
    cpus_milli: int = 0
    memory_bytes: int = 0
    usable: Bools | None = None
    everywhere: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        assert self.devices >= 0, self
        assert 0 <= self.share_milli < WHOLE_DEVICE_MILLI, self
        assert not (self.devices and self.share_milli), self
        object.__setattr__(self, "everywhere", bool(self.rows.all()))

    @property
    def milli(self) -> int:
        """All it asks of devices."""
        return self.share_milli or self.devices * WHOLE_DEVICE_MILLI


@dataclass(frozen=True, slots=True)
class NodeKinds:
    """What nodes are: `device_count`, int64[nodes], how many devices each has, and `kind`, int64[nodes], a number that
    nodes with as many devices of the same set of models share; `models[kind]` is that set, `largest_cpus_milli` and
    `largest_memory_bytes`, int64[kinds], the most that a node of the kind has when nothing stands on it."""

    kind: Ints
    models: tuple[frozenset[str], ...]
    device_count: Ints
    largest_cpus_milli: Ints
    largest_memory_bytes: Ints

    @staticmethod
    def of_nodes(devices: Iterable[Sequence[str]], cpus_milli: Ints, memory_bytes: Ints) -> NodeKinds:
        """From the models of each node's devices, and all its CPUs and memory, int64[nodes]."""
        numbers: dict[tuple[frozenset[str], int], int] = {}
        each = [numbers.setdefault((frozenset(models), len(models)), len(numbers)) for models in devices]
        kind = np.array(each, np.int64)
        counts = np.array([count for _, count in numbers], np.int64)
        largest_cpus, largest_memory = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.int64)
        np.maximum.at(largest_cpus, kind, cpus_milli)
        np.maximum.at(largest_memory, kind, memory_bytes)
        return NodeKinds(kind, tuple(models for models, _ in numbers), counts.take(kind), largest_cpus, largest_memory)

    @staticmethod
    def of(nodes: NodeColumns) -> NodeKinds:
        kinds = nodes.answers.get(NodeKinds)
        if not isinstance(kinds, NodeKinds):
            devices = ([device.model for device in facts.devices] for facts in nodes.facts)
            kinds = NodeKinds.of_nodes(devices, nodes.cpus_milli, nodes.memory_bytes)
            nodes.remember(NodeKinds, kinds)
        return kinds


@dataclass(frozen=True, slots=True)
class NodeRows:
    """What is free on those of some nodes that have room for an ask.

    `place`, int64[rows], says which of the given ones they are; `kind`, `device_count`: int64[rows]. `milli`,
    int32[rows, max_devices], is what each device has left, never below zero (an absent device has nothing left);
    `usable_milli` the same with 0 for devices that the ask cannot use. Where it can use all, the two are one array, and
    each row of it rises: which device has what left is nothing to a score. `cpus_milli`, `memory_bytes`: int64[rows].
    """

    place: Ints
    kind: Ints
    device_count: Ints
    milli: Milli
    usable_milli: Milli
    cpus_milli: Ints
    memory_bytes: Ints

    def __len__(self) -> int:
        return len(self.place)

    @staticmethod
    def with_room(free: Free, kinds: NodeKinds, ask: Ask, rows: Ints) -> NodeRows:
        """Of these rows, those that serve the ask and have room for one worker of it."""
        cpus_milli, memory_bytes = free.cpus_milli.take(rows), free.memory_bytes.take(rows)
        fits = cpus_milli >= ask.cpus_milli
        fits &= memory_bytes >= ask.memory_bytes
        if not ask.everywhere:
            fits &= ask.rows.take(rows)
        milli = free.milli.take(rows, axis=0)
        np.maximum(milli, 0, out=milli)
        if ask.usable is None:
            milli.sort(axis=1)
            usable_milli = rising = milli
        else:
            usable_milli = milli * ask.usable.take(rows, axis=0)
            rising = np.sort(usable_milli, axis=1)
        if ask.milli:
            width, wanted = milli.shape[1], ask.devices or 1
            least = ask.share_milli or WHOLE_DEVICE_MILLI
            fits &= rising[:, width - wanted] >= least if wanted <= width else False
        place = fits.nonzero()[0]
        if len(place) < len(rows):
            rows, cpus_milli, memory_bytes = rows.take(place), cpus_milli.take(place), memory_bytes.take(place)
            left = milli.take(place, axis=0)
            usable_milli = left if usable_milli is milli else usable_milli.take(place, axis=0)
            milli = left
        kind, device_count = kinds.kind.take(rows), kinds.device_count.take(rows)
        return NodeRows(place, kind, device_count, milli, usable_milli, cpus_milli, memory_bytes)


def with_room_for(free: Free, ask: Ask, workers: int) -> Bools:
    """bool[nodes]: those that serve the ask and have room for so many workers of it, which ask for shares."""
    fits = ask.rows & (free.cpus_milli >= ask.cpus_milli * workers) & (free.memory_bytes >= ask.memory_bytes * workers)
    usable = free.milli if ask.usable is None else np.where(ask.usable, free.milli, ABSENT)
    room: Bools = fits & ((np.maximum(usable, 0) // ask.share_milli).sum(axis=1) >= workers)
    return room
