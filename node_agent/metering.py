"""What did a run make its devices do? Energy, power, memory and utilisation, from readings while it lived. Pure.

Only whole devices are metered: of a shared one nobody can say whose the joules were. Energy comes from the device's
counter, at the run's start, at its end and in between (so that a counter that was set back loses no more than one
interval), never from adding up power. What no reading was had of is None. The time that is metered is told too: an
agent that was restarted has missed the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from node_agent.devices.counters import gained
from node_agent.devices.quantities import Quantity
from node_agent.devices.source import Measured, Quality, Reading, Unavailable
from node_agent.messages import DeviceUse, RunKey

READ_EVERY_S = 10.0
WANTED = (Quantity.ENERGY_JOULES, Quantity.MEMORY_USED_BYTES, Quantity.UTILISATION_PERCENT)


@dataclass(slots=True)
class _Meter:
    """One device of one run. Utilisation is weighted by the time that each reading stood for."""

    energy: Reading | None = None
    joules: float | None = None
    metered_s: float = 0.0
    at_least: bool = False
    peak_bytes: float | None = None
    weighed: float = 0.0
    weight_s: float = 0.0
    last_s: float | None = None
    simulated: bool = False

    def read(self, fields: Mapping[Quantity, Measured]) -> None:
        energy, memory, busy = (fields.get(quantity) for quantity in WANTED)
        if isinstance(energy, Reading):
            self._energy(energy)
        if isinstance(memory, Reading):
            self.peak_bytes = max(self.peak_bytes or 0.0, memory.value)
            self.simulated = memory.quality is not Quality.MEASURED
        if isinstance(busy, Reading) and (self.last_s is None or busy.at_s > self.last_s):
            if self.last_s is not None:
                over_s = busy.at_s - self.last_s
                self.weighed += busy.value * over_s
                self.weight_s += over_s
            self.last_s = busy.at_s

    def _energy(self, now: Reading) -> None:
        self.simulated = now.quality is not Quality.MEASURED
        if self.energy is None:
            self.energy = now
            return
        more = gained(self.energy, now)
        if isinstance(more, Unavailable):
            return  # the same reading again
        self.energy = now
        self.joules = (self.joules or 0.0) + more.value
        self.metered_s += more.over_s
        self.at_least = self.at_least or more.at_least


@dataclass(slots=True)
class RunMeters:
    """Of the runs that live, by key."""

    _meters: dict[RunKey, dict[str, _Meter]] = field(default_factory=dict)

    def begin(self, key: RunKey, uuids: Sequence[str]) -> None:
        if uuids and key not in self._meters:
            self._meters[key] = {uuid: _Meter() for uuid in uuids}

    def nodes(self) -> set[str]:
        """On which something is metered."""
        return {key.node for key in self._meters}

    def metered(self, key: RunKey) -> bool:
        return key in self._meters

    def read(self, node: str, readings: Mapping[str, Mapping[Quantity, Measured]]) -> None:
        for key, devices in self._meters.items():
            if key.node == node:
                for uuid, meter in devices.items():
                    meter.read(readings.get(uuid, {}))

    def end(self, key: RunKey) -> DeviceUse | None:
        """None where it was not metered, or nothing could be read."""
        meters = list(self._meters.pop(key, {}).values())
        if not meters:
            return None
        joules = [meter.joules for meter in meters if meter.joules is not None]
        peaks = [meter.peak_bytes for meter in meters if meter.peak_bytes is not None]
        weight_s = sum(meter.weight_s for meter in meters)
        if not joules and not peaks and not weight_s:
            return None
        metered_s = max(meter.metered_s for meter in meters)
        whole = len(joules) == len(meters)
        return DeviceUse(
            devices=len(meters),
            metered_s=metered_s,
            joules=sum(joules) if whole else None,
            joules_at_least=any(meter.at_least for meter in meters),
            mean_watts=sum(joules) / metered_s if whole and metered_s > 0 else None,
            peak_memory_bytes=max(peaks, default=None),
            mean_utilisation_percent=sum(meter.weighed for meter in meters) / weight_s if weight_s else None,
            simulated=any(meter.simulated for meter in meters),
        )
