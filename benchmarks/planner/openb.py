"""The cluster of the openb trace for the planner to fill: read from its file, or made up of as many nodes of each kind.

Source of the make-up: Alibaba cluster-trace-gpu-v2023 (openb), as in Weng et al., "Beware of Fragmentation", USENIX ATC
2023: 1,213 nodes with 6,212 devices. The shapes are those that make up 95% of its default workload's pods.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scheduler.core.demand import WHOLE_DEVICE_MILLI, Demand, DeviceFacts, NodeFacts
from scheduler.core.node_columns import ABSENT, Ints, Milli
from scheduler.core.packing.rows import Ask
from scheduler.core.packing.shapes import Shape, TypicalShapes

GIB = 2**30
_MIB = 2**20
# What every device of every node has the CPUs and memory for, so that all are filled.
ONE_DEVICE = Demand(devices=1, cpus_milli=4_000, memory_bytes=16 * GIB)

# count, CPUs, memory in MiB, devices, model
_MAKE_UP = (
    (549, 96, 393_216, 8, "G2"),
    (387, 104, 524_288, 2, "T4"),
    (107, 16, 122_880, 2, "P100"),
    (39, 128, 786_432, 8, "G3"),
    (28, 32, 131_072, 4, "V100M16"),
    (22, 64, 262_144, 2, "P100"),
    (21, 96, 786_432, 8, "V100M32"),
    (19, 8, 32_768, 1, "V100M16"),
    (17, 96, 393_216, 4, "T4"),
    (9, 48, 376_832, 4, "V100M32"),
    (7, 64, 262_144, 8, "V100M16"),
    (3, 8, 61_440, 1, "P100"),
    (2, 8, 61_440, 2, "P100"),
    (2, 128, 1_048_576, 1, "A10"),
    (1, 82, 344_064, 8, "V100M16"),
)
# pods, CPUs in thousandths, devices, thousandths of each
_SHAPES = (
    (1_047, 3_152, 1, 810),
    (874, 11_300, 1, 1_000),
    (599, 11_400, 1, 1_000),
    (470, 3_152, 1, 1_000),
    (388, 11_908, 1, 470),
    (366, 12_500, 0, 0),
    (360, 8_000, 1, 470),
    (326, 12_000, 1, 1_000),
    (290, 32_000, 0, 0),
    (255, 18_708, 1, 1_000),
    (237, 11_908, 1, 650),
    (232, 4_000, 1, 320),
    (195, 9_810, 1, 1_000),
    (185, 8_000, 0, 0),
    (164, 8_000, 1, 1_000),
    (159, 4_000, 1, 1_000),
    (158, 15_700, 1, 1_000),
    (153, 11_908, 1, 1_000),
    (150, 16_000, 1, 1_000),
    (122, 4_000, 1, 230),
    (120, 6_000, 1, 460),
    (120, 15_400, 0, 0),
    (95, 16_500, 0, 0),
    (93, 14_200, 1, 1_000),
    (84, 24_200, 1, 1_000),
    (75, 3_152, 1, 590),
    (72, 8_000, 1, 320),
    (72, 4_152, 1, 550),
    (55, 11_900, 1, 1_000),
    (54, 4_000, 1, 160),
    (45, 4_152, 1, 370),
    (43, 4_000, 1, 220),
    (41, 8_200, 1, 1_000),
    (36, 15_200, 1, 1_000),
    (31, 4_152, 1, 810),
)


@dataclass(frozen=True, slots=True)
class OpenbFleet:
    """`origin` says where the nodes are from."""

    nodes: tuple[NodeFacts, ...]
    origin: str

    @property
    def devices(self) -> int:
        return sum(len(facts.devices) for facts in self.nodes)


class TraceNode(Protocol):
    """A node as a trace's file describes it; memory in bytes."""

    @property
    def name(self) -> str: ...
    @property
    def cpus_milli(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def devices(self) -> int: ...
    @property
    def model(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Made:
    name: str
    cpus_milli: int
    memory_bytes: int
    devices: int
    model: str


def made_up() -> OpenbFleet:
    """As many nodes of each kind as the trace has; only their order is not the trace's."""
    nodes = [
        _Made(f"{model.lower()}-{kind:02d}-{i:03d}", cpus * 1000, memory_mib * _MIB, devices, model)
        for kind, (count, cpus, memory_mib, devices, model) in enumerate(_MAKE_UP)
        for i in range(count)
    ]
    return fleet_of(nodes, "made up of as many nodes of each kind as the openb trace has")


def fleet_of(nodes: Sequence[TraceNode], origin: str) -> OpenbFleet:
    """Those nodes."""
    return OpenbFleet(tuple(_facts(node) for node in nodes), origin)


def shapes() -> TypicalShapes:
    return TypicalShapes.of_counts(
        {Shape(cpus_milli, devices, gpu_milli): count for count, cpus_milli, devices, gpu_milli in _SHAPES}
    )


def _facts(node: TraceNode) -> NodeFacts:
    return NodeFacts(
        name=node.name,
        site="openb",
        address="127.0.0.1",
        devices=tuple(
            DeviceFacts(i, f"{node.name}-{i}", node.model, "trace", 16 * GIB, False) for i in range(node.devices)
        ),
        cpus_milli=node.cpus_milli,
        memory_bytes=node.memory_bytes,
        simulated=False,
    )


class OpenbColumns:
    """What is free on the nodes, as a packing policy sees it, and only ever taken: nothing departs."""

    __slots__ = ("_stamp", "cpus_milli", "followed", "memory_bytes", "milli", "stamps")

    def __init__(self, nodes: Sequence[NodeFacts]) -> None:
        devices = np.array([len(facts.devices) for facts in nodes])
        there = np.arange(int(devices.max(initial=0))) < devices[:, None]
        self.milli: Milli = np.where(there, WHOLE_DEVICE_MILLI, ABSENT).astype(np.int32)
        self.cpus_milli: Ints = np.array([facts.cpus_milli for facts in nodes], np.int64)
        self.memory_bytes: Ints = np.array([facts.memory_bytes for facts in nodes], np.int64)
        self.stamps: Ints = np.zeros(len(nodes), np.int64)
        self.followed: deque[int] | None = None
        self._stamp = 0

    def take(self, row: int, devices: Sequence[int], ask: Ask) -> None:
        for device in devices:
            self.milli[row, device] -= ask.share_milli or WHOLE_DEVICE_MILLI
        self.cpus_milli[row] -= ask.cpus_milli
        self.memory_bytes[row] -= ask.memory_bytes
        self._stamp += 1
        self.stamps[row] = self._stamp
        if self.followed is not None:
            self.followed.append(row)
