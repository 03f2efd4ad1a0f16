"""What every device adapter offers, and what a reading is.

A missing reading is a value: `Unavailable(reason)`, never 0, NaN, -1 or "N/A".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Quality(StrEnum):
    """How a value came about. Simulated and measured values never mix."""

    MEASURED = "measured"  # read from the device, its driver or the kernel
    SIMULATED = "simulated"  # made up by a simulated device


@dataclass(frozen=True, slots=True)
class Reading:
    """`unit` is spelt out: percent, bytes, watts, joules, celsius, megahertz, count."""

    value: float
    unit: str
    at_s: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why there is no reading: "not supported by this device", "driver call failed: ...", "device lost"."""

    reason: str


Measured = Reading | Unavailable


class Quantity(StrEnum):
    """Fields of one schema for all vendors; adapters answer what they can and say Unavailable for the rest."""

    UTILISATION_PERCENT = "utilisation_percent"
    MEMORY_USED_BYTES = "memory_used_bytes"
    MEMORY_TOTAL_BYTES = "memory_total_bytes"
    POWER_WATTS = "power_watts"
    ENERGY_JOULES = "energy_joules"
    TEMPERATURE_CELSIUS = "temperature_celsius"
    CLOCK_MEGAHERTZ = "clock_megahertz"


@dataclass(frozen=True, slots=True)
class Device:
    """One device as enumerated. `index` is stable on its node; `visible_id` is what the vendor's variable takes.

    `island` names the devices that this one reaches over NVLink or the like, `mig_profile` is that of an instance of a
    partitioned card; None: not known, or none.
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


class DeviceSourceError(Exception):
    """The source as a whole cannot be used (no driver, library mismatch). The message says what to do."""


class DeviceSource(Protocol):
    """An adapter. One lost device never hides the others; no method raises for a single device."""

    @property
    def vendor(self) -> str: ...

    def enumerate(self) -> Sequence[Device]:
        """All devices, by index. Raises DeviceSourceError when the source cannot be used at all."""
        ...

    def read(self, now_s: float) -> Mapping[str, Mapping[Quantity, Measured]]:
        """By device uuid, every Quantity: a Reading stamped `now_s` or an Unavailable."""
        ...

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        """Environment variables that restrict a process to `devices` (for no devices: to none)."""
        ...

    def close(self) -> None: ...
