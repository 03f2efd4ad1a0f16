"""What one worker asks for, and what a cluster says it has: the vocabulary of fitting.

Units: shares and CPUs in thousandths (`_milli`), memory in bytes. A share is a part of exactly one device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WHOLE_DEVICE_MILLI = 1000


@dataclass(frozen=True, slots=True)
class Demand:
    """One acceptable set of resources for one worker (an *alternative* when a job lists several).

    `model` and `vendor` are catalogue names; both None means any device. Exactly one of `devices` (whole devices)
    and `share_milli` (1..999, a part of one device) is positive, or both are zero for a CPU-only worker.
    `simulated=True` lets the worker land on a simulated device; without it a simulated node is never considered.
    `node` and `site` pin the worker to a named node or site.
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

    def __post_init__(self) -> None:
        assert self.devices >= 0, self
        assert 0 <= self.share_milli < WHOLE_DEVICE_MILLI, self
        assert not (self.devices and self.share_milli), self
        assert min(self.cpus_milli, self.memory_bytes) >= 0, self

    def device_text(self) -> str:
        """`2 x H100 SXM`, `0.25 of any device`, `4 CPUs, 2 GiB and no device`: for messages."""
        name = self.model or (f"any {self.vendor} device" if self.vendor else "any device")
        if self.share_milli:
            return f"{self.share_milli / WHOLE_DEVICE_MILLI:g} of {name}"
        if self.devices:
            return f"{self.devices} x {name}"
        memory = f", {self.memory_bytes / 2**30:.3g} GiB" if self.memory_bytes else ""
        return f"{self.cpus_milli / 1000:g} CPUs{memory} and no device"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One installed (or simulated) device. `index` is its position on its node, 0-based and stable."""

    index: int
    uuid: str
    model: str
    vendor: str
    memory_bytes: int
    simulated: bool


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
    labels: tuple[tuple[str, str], ...] = field(default=())


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
