"""What every device adapter offers, and what a reading is.

A missing reading is a value: `Unavailable(reason)`, never 0, NaN, -1 or "N/A". What may be read is in `quantities.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from node_agent.devices.quantities import MEANINGS, Group, Quantity

__all__ = [
    "NOT_SUPPORTED",
    "Device",
    "DeviceEvent",
    "DeviceProcess",
    "DeviceSource",
    "DeviceSourceError",
    "Group",
    "Link",
    "Measured",
    "Quality",
    "Quantity",
    "Reading",
    "Topology",
    "Unavailable",
    "reading",
]


class Quality(StrEnum):
    """How a value came about. Only what is measured counts as such; the others never mix with it."""

    MEASURED = "measured"  # read from the device, its driver or the kernel
    SIMULATED = "simulated"  # made up by a simulated device
    REPLAYED = "replayed"  # played back from a recording, on a device that counts as simulated


@dataclass(frozen=True, slots=True)
class Reading:
    """`unit` is spelt out: percent, bytes, watts, joules, celsius, megahertz, count, flag (1 or 0), code."""

    value: float
    unit: str
    at_s: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why there is no reading: "not supported by this device", "driver call failed: ...", "device lost".

    `lasting`: this device, driver or adapter never has it, so its absence is no trouble.
    """

    reason: str
    lasting: bool = field(default=False, compare=False)


Measured = Reading | Unavailable

NOT_SUPPORTED = Unavailable("not supported by this device", lasting=True)


def reading(quantity: Quantity, value: float, at_s: float, quality: Quality = Quality.MEASURED) -> Reading:
    """A reading in the schema's unit."""
    return Reading(value, MEANINGS[quantity].unit, at_s, quality)


@dataclass(frozen=True, slots=True)
class Device:
    """One device as enumerated. `index` is stable on its node; `visible_id` is what the vendor's variable takes.

    `island` names the devices that this one reaches over NVLink or the like, `mig_profile` is that of an instance of a
    partitioned card, `card` the uuid of that card, `bus_id` its place on PCI (`0000:3b:00.0`). None: unknown, or none.
    """

    index: int
    uuid: str
    model: str
    vendor: str
    memory_bytes: int
    simulated: bool
    visible_id: str
    island: str | None = None
    mig_profile: str | None = None
    card: str | None = None
    bus_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """Something a driver told of by itself. `uuid` None: it could not be told of which device.

    `kind` is "xid" (a fault by NVIDIA's number), "sxid" (of an NVSwitch), "lost", "recovery" or "vendor"; `code` its
    number where it has one. `heard` is by whom: the driver, or the kernel's log; the same fault may come by both.
    """

    uuid: str | None
    kind: str
    code: int | None
    text: str
    at_s: float
    heard: str
    bus_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process on a device. `memory_bytes` None: the driver does not say."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Link:
    """Two devices and what joins them, as the vendor names it ("NVLink x18", "PCIe switch", "node")."""

    one: str
    other: str
    by: str


@dataclass(frozen=True, slots=True)
class Topology:
    """The devices as a whole. `expected` is how many there must be: those that the PCI bus has, or that were seen once.

    `missing` names those that were seen and are not there. `versions` are driver and library, by name. `processes` are
    by device. `notes` are sentences for operators: what was never tried on such hardware, what cannot be listened to.
    """

    found: int
    expected: int
    missing: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    processes: Mapping[str, tuple[DeviceProcess, ...] | Unavailable] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class DeviceSourceError(Exception):
    """The source as a whole cannot be used (no driver, library mismatch). The message says what to do."""


class DeviceSource(Protocol):
    """An adapter. One lost device never hides the others; no method raises for a single device."""

    @property
    def vendor(self) -> str: ...

    def enumerate(self) -> Sequence[Device]:
        """All devices, by index. Raises DeviceSourceError when the source cannot be used at all."""
        ...

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        """By device uuid, every quantity of `groups` (None: of all): a Reading or an Unavailable.

        A reading is stamped `now_s`, or with the earlier moment at which it was taken where it is kept.
        """
        ...

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        """What was heard since this was last asked. Waits for nothing."""
        ...

    def topology(self) -> Topology:
        """Raises DeviceSourceError when the source cannot be used at all."""
        ...

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        """Environment variables that restrict a process to `devices` (for no devices: to none)."""
        ...

    def close(self) -> None: ...
