"""What one worker asks for, and what a cluster says it has: the vocabulary of fitting.

Units: shares and CPUs in thousandths (`_milli`), memory in bytes. A share is a part of exactly one device.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import lru_cache

from scheduler.core.quick import quick

WHOLE_DEVICE_MILLI = 1000

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name, each name once."""


class Level(StrEnum):
    """How near two devices are, nearest first: within one NVLink (HCCS, ...) island, node, rack, site."""

    ISLAND = "island"
    NODE = "node"
    RACK = "rack"
    SITE = "site"


class Barred(IntEnum):
    """What a device is kept from, in rising severity. What runs on it goes on."""

    NOTHING = 0
    LINKED = 1  # work whose devices talk to each other
    ALL = 2  # any new work


@dataclass(frozen=True, slots=True)
class Demand:
    """One acceptable set of resources for one worker (an *alternative* when a job lists several).

    `model` and `vendor` are catalogue names; both None means any device. Exactly one of `devices` (whole devices)
    and `share_milli` (1..999, a part of one device) is positive, or both are zero for a CPU-only worker.
    `simulated=True` lets the worker land on a simulated device; without it a simulated node is never considered.
    `node` and `site` pin the worker to a named node or site. `node_labels` and `device_labels` must all be carried by
    the node and by each device. `mig_profile` asks for MIG instances of that profile (`1g.10gb`); without it a MIG
    instance is never considered, also not by a demand for any device. `linked`: its one device talks to those of the
    gang's other workers. `only` (with `node`): these devices of that node, by index, and no others.
    """

    vendor: str | None = None
    model: str | None = None
    devices: int = 1
    share_milli: int = 0
    cpus_milli: int = 1000
    memory_bytes: int = 0
    simulated: bool = False
    node: str | None = None
    site: str | None = None
    mig_profile: str | None = None
    node_labels: Labels = ()
    device_labels: Labels = ()
    linked: bool = False
    only: tuple[int, ...] = ()

    @property
    def kept_off(self) -> Barred:
        """It gets no device that is barred from so much, or from more."""
        return Barred.LINKED if self.linked or self.devices > 1 else Barred.ALL

    @property
    def milli(self) -> int:
        """Thousandths of devices that one worker takes, over all its devices."""
        return self.devices * WHOLE_DEVICE_MILLI + self.share_milli

    def __post_init__(self) -> None:
        assert self.devices >= 0, self
        assert 0 <= self.share_milli < WHOLE_DEVICE_MILLI, self
        assert not (self.devices and self.share_milli), self
        assert min(self.cpus_milli, self.memory_bytes) >= 0, self
        assert not self.only or self.node is not None, self

    def device_text(self) -> str:
        """`2 x H100 SXM`, `0.25 of any device`, `4 CPUs, 2 GiB and no device`: for messages."""
        name = self.model or (f"any {self.vendor} device" if self.vendor else "any device")
        if self.mig_profile is not None:
            name = f"MIG {self.mig_profile} of {name}"
        if self.share_milli:
            return f"{self.share_milli / WHOLE_DEVICE_MILLI:g} of {name}"
        if self.devices:
            return f"{self.devices} x {name}"
        memory = f", {self.memory_bytes / 2**30:.3g} GiB" if self.memory_bytes else ""
        return f"{self.cpus_milli / 1000:g} CPUs{memory} and no device"


@lru_cache(maxsize=1024)
def linked(alternatives: tuple[Demand, ...]) -> tuple[Demand, ...]:
    """The same for a gang, whose workers' devices talk to one another: one tuple for equal ones, which is known again
    by identity."""
    return tuple([replace(demand, linked=True) if demand.milli else demand for demand in alternatives])


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One installed (or simulated) device. `index` is its position on its node, 0-based and stable.

    A card that is partitioned by MIG is listed as its instances, each with `mig_profile` (`1g.10gb`). `island` names
    the set of devices that it reaches over NVLink or the like; the same name on several nodes is one island over them.
    None: not known, or none. `barred` is what it is kept from at the moment, and `doubtful` that others like it are
    taken before it: the things here that pass.
    """

    index: int
    uuid: str
    model: str
    vendor: str
    memory_bytes: int
    simulated: bool
    island: str | None = None
    mig_profile: str | None = None
    labels: Labels = ()
    barred: Barred = Barred.NOTHING
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself when it joins. A node's devices are all real or all simulated."""

    name: str
    site: str
    address: str
    devices: tuple[DeviceFacts, ...]
    cpus_milli: int
    memory_bytes: int
    simulated: bool
    labels: Labels = field(default=())
    rack: str | None = None


@dataclass(frozen=True, slots=True)
class Constraints:
    """What holds between the workers of one job, and between it and others.

    `within`: all workers in one island, node, rack or site. `spread`: as evenly over the islands, nodes, racks or sites
    as there is room. `one_per`: at most one worker in each. `apart_from`: names of jobs of the same tenant that must
    share no node with it; it holds both ways.
    """

    within: Level | None = None
    spread: Level | None = None
    one_per: Level | None = None
    apart_from: tuple[str, ...] = ()

    @property
    def are_none(self) -> bool:
        """Whether nothing needs to hold: as if equal to UNCONSTRAINED, for less."""
        return self.within is None and self.spread is None and self.one_per is None and not self.apart_from


UNCONSTRAINED = Constraints()


@quick
@dataclass(frozen=True, slots=True)
class Placement:
    """Where one worker of a job stands: a node, and either whole devices or a share of one.

    `devices` are device indices on that node; `share_milli` is 0 for whole devices. `alternative` says which of the
    job's demands was met. `cpus_milli` and `memory_bytes` are copied from it, so that books need no second look-up.
    """

    worker: int
    node: str
    devices: tuple[int, ...]
    share_milli: int
    cpus_milli: int
    memory_bytes: int
    alternative: int
