"""Devices that do not exist: what would a node with these cards report?

Every device and every reading says that it is simulated. Readings are plausible and repeatable: they depend on the
seed, the device, the second and on whether the device is busy, never on chance. A run on simulated devices is shown no
real one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from node_agent.devices.quantities import asked_for
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    Group,
    Measured,
    Quality,
    Quantity,
    Topology,
    Unavailable,
    reading,
)
from node_agent.devices.visibility import hidden

# Invented for the simulation, and nobody's specification.
BUSY_WATTS = 600.0
IDLE_WATTS = 90.0
BUSY_MEGAHERTZ = 1750.0
IDLE_MEGAHERTZ = 345.0
NOT_SIMULATED = Unavailable("not simulated", lasting=True)


@dataclass(frozen=True, slots=True)
class SimulatedSpec:
    """`count` cards of one model. `seed` varies their readings; two nodes may share a spec.

    Each `devices_per_island` cards are joined as by NVLink (0: none are). `mig_profiles`: every card is partitioned
    into instances of these, and the devices are the instances.
    """

    model: str
    vendor: str
    count: int
    memory_bytes: int
    seed: int = 0
    devices_per_island: int = 0
    mig_profiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.count >= 0, self
        assert self.memory_bytes >= 0, self
        assert self.devices_per_island >= 0, self


class SimulatedDevices:
    """A device source that invents. `node` is the node's name and makes uuids differ from node to node."""

    def __init__(self, spec: SimulatedSpec, node: str) -> None:
        self._spec = spec
        self._node = node
        self._busy: frozenset[int] = frozenset()
        profiles: tuple[str | None, ...] = spec.mig_profiles or (None,)
        # By device: its card, and the profile of the instance that it is.
        self._parts = tuple((card, profile) for card in range(spec.count) for profile in profiles)
        self._uuids = tuple(f"sim-{self._digest('uuid', index)[:20]}" for index in range(len(self._parts)))
        self._joules = [0.0] * len(self._parts)
        self._read_at_s: float | None = None

    @property
    def vendor(self) -> str:
        return self._spec.vendor

    def enumerate(self) -> Sequence[Device]:
        spec = self._spec
        return [
            Device(
                index,
                uuid,
                spec.model,
                spec.vendor,
                self._memory_bytes(index),
                True,
                uuid,
                island=f"{self._node}/{card // spec.devices_per_island}" if spec.devices_per_island else None,
                mig_profile=profile,
            )
            for index, (uuid, (card, profile)) in enumerate(zip(self._uuids, self._parts, strict=True))
        ]

    def _memory_bytes(self, index: int) -> int:
        """A profile says what its instances have: `1g.10gb`, 10 GB."""
        _, profile = self._parts[index]
        found = None if profile is None else re.search(r"(\d+)gb", profile)
        return self._spec.memory_bytes if found is None else int(found[1]) * 10**9

    def set_busy(self, indices: Iterable[int]) -> None:
        """Which devices have a run on them from now on."""
        self._busy = frozenset(indices)

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        """Energy counts what was drawn since the first reading, so it never falls."""
        quantities = asked_for(groups)
        if Quantity.POWER_WATTS not in quantities:
            return {uuid: dict.fromkeys(quantities, NOT_SIMULATED) for uuid in self._uuids}
        passed_s = max(0.0, now_s - self._read_at_s) if self._read_at_s is not None else 0.0
        self._read_at_s = now_s
        found: dict[str, Mapping[Quantity, Measured]] = {}
        for index, uuid in enumerate(self._uuids):
            invented = self._read_device(index, now_s, passed_s)
            found[uuid] = {quantity: invented.get(quantity, NOT_SIMULATED) for quantity in quantities}
        return found

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        return ()

    def topology(self) -> Topology:
        return Topology(found=len(self._parts), expected=len(self._parts))

    def _read_device(self, index: int, now_s: float, passed_s: float) -> Mapping[Quantity, Measured]:
        busy = index in self._busy
        ripple = self._ripple(index, int(now_s))
        watts = (BUSY_WATTS if busy else IDLE_WATTS) * (1.0 + 0.05 * ripple)
        self._joules[index] += watts * passed_s
        memory_bytes = self._memory_bytes(index)
        used_bytes = int(memory_bytes * ((0.6 + 0.05 * ripple) if busy else 0.005))

        invented = {
            Quantity.UTILISATION_PERCENT: round(92.0 + 6.0 * ripple, 1) if busy else 0.0,
            Quantity.MEMORY_USED_BYTES: float(used_bytes),
            Quantity.MEMORY_TOTAL_BYTES: float(memory_bytes),
            Quantity.POWER_WATTS: round(watts, 1),
            Quantity.ENERGY_JOULES: round(self._joules[index], 1),
            Quantity.TEMPERATURE_CELSIUS: round((64.0 if busy else 33.0) + 3.0 * ripple, 1),
            Quantity.CLOCK_MEGAHERTZ: BUSY_MEGAHERTZ if busy else IDLE_MEGAHERTZ,
        }
        return {name: reading(name, value, now_s, Quality.SIMULATED) for name, value in invented.items()}

    def _ripple(self, index: int, second: int) -> float:
        """A number in [-1, 1] that is the same for the same seed, device and second."""
        return int(self._digest(f"second {second}", index)[:8], 16) / 0x7FFFFFFF - 1.0

    def _digest(self, purpose: str, index: int) -> str:
        spec = self._spec
        text = f"{self._node}\n{spec.model}\n{spec.seed}\n{index}\n{purpose}"
        return hashlib.sha256(text.encode()).hexdigest()

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        """A simulated run never touches a real card."""
        return hidden()

    def close(self) -> None:
        """Nothing is held open."""
