"""One node as its agent sees it: what it is configured to be, which devices it has, how they are."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_agent.devices.collector import CollectedDevices
from node_agent.devices.cpu import memory_bytes
from node_agent.devices.detect import probe
from node_agent.devices.openers import DEFAULT_NAMES
from node_agent.devices.simulated import SimulatedDevices, SimulatedSpec
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceSource,
    DeviceSourceError,
    Measured,
    Quantity,
    Reading,
    Topology,
    Unavailable,
)
from node_agent.execution.accounts import isolation_note
from node_agent.execution.mps import agents_daemon, held_to_share
from node_agent.exporter import NodeFacts
from node_agent.health.verdicts import Finding
from node_agent.launcher.ports import Limits
from node_agent.messages import DeviceReport, NodeReport

READ_TIMEOUT_S = 2.0
SIMULATED_CPUS_MILLI_PER_DEVICE = 16_000
SIMULATED_MEMORY_BYTES_PER_DEVICE = 128 << 30


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A node to stand for. `source` names device sources in order of preference, or describes simulated devices.

    `cpus_milli` and `memory_bytes` None: what this process may use of the machine; for a simulated node, a round figure
    a device. `expected_devices`: how many it must have, by the word of who runs it; None: as many as the bus has, or as
    were ever seen.
    """

    name: str
    site: str
    address: str
    source: tuple[str, ...] | SimulatedSpec = DEFAULT_NAMES
    cpus_milli: int | None = None
    memory_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    rack: str | None = None
    expected_devices: int | None = None


class NodeAgent:
    """Holds one node's device source. Raises DeviceSourceError when it has none that works."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self._passed_over: tuple[str, ...] = ()
        self._simulated: SimulatedDevices | None = None
        if isinstance(config.source, SimulatedSpec):
            self._simulated = SimulatedDevices(config.source, config.name)
            self._source: DeviceSource = self._simulated
        else:
            detected = probe(config.source)
            self._source, self._passed_over = detected.source, detected.passed_over
        self._devices = tuple(self._source.enumerate())
        self._reading: asyncio.Future[Mapping[str, Mapping[Quantity, Measured]]] | None = None
        self._reading_since_s = 0.0

    @property
    def made_up(self) -> bool:
        """Its devices are invented by the second, so that nothing is ever wrong with them."""
        return self._simulated is not None

    @property
    def simulated(self) -> bool:
        """Its devices are made up, or played back from a recording."""
        return self.made_up or (bool(self._devices) and all(device.simulated for device in self._devices))

    def refresh(self) -> None:
        """Enumerate again; a source that fails now leaves the devices as they were, and readings tell the trouble."""
        try:
            self._devices = tuple(self._source.enumerate())
        except DeviceSourceError:
            pass

    @property
    def uuids(self) -> tuple[str, ...]:
        return tuple(device.uuid for device in self._devices)

    def devices(self, indices: Iterable[int]) -> Sequence[Device]:
        """Raises KeyError with the index that this node has not."""
        by_index = {device.index: device for device in self._devices}
        return [by_index[index] for index in indices]

    def require(self, devices: Iterable[Device]) -> None:
        """Raises LookupError when one of them is not there any more."""
        there = {device.uuid for device in self._devices}
        gone = [device for device in devices if device.uuid not in there]
        if gone:
            raise LookupError(f"device {gone[0].index} ({gone[0].uuid}) is not there any more")

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        return self._source.visibility(devices)

    def set_busy(self, indices: Iterable[int]) -> None:
        if self._simulated is not None:
            self._simulated.set_busy(indices)

    def report(self, limits: Limits, trouble: str = "", findings: tuple[Finding, ...] = ()) -> NodeReport:
        """`limits` is what the kernel enforces here; `trouble` a sentence about the agent as a whole, for the notes;
        `findings` what is wrong with the devices."""
        config = self.config
        cpus_milli, memory = config.cpus_milli, config.memory_bytes
        if cpus_milli is None:
            cpus_milli = (
                SIMULATED_CPUS_MILLI_PER_DEVICE * len(self._devices)
                if self.made_up
                else 1000 * len(os.sched_getaffinity(0))
            )
        if memory is None:
            memory = SIMULATED_MEMORY_BYTES_PER_DEVICE * len(self._devices) if self.made_up else _machine_memory_bytes()
        return NodeReport(
            name=config.name,
            site=config.site,
            address=config.address,
            devices=tuple(
                DeviceReport(d.index, d.uuid, d.model, d.vendor, d.memory_bytes, d.simulated, d.island, d.mig_profile)
                for d in self._devices
            ),
            cpus_milli=cpus_milli,
            memory_bytes=memory,
            simulated=self.simulated,
            labels=config.labels,
            notes=self._notes(limits) if not trouble else (trouble, *self._notes(limits)),
            rack=config.rack,
            shares="mps" if held_to_share(self._devices, agents_daemon()) else "advisory",
            findings=findings,
        )

    def _notes(self, limits: Limits) -> tuple[str, ...]:
        notes = [isolation_note(), *limits_notes(limits)]
        if self.simulated:
            notes.insert(0, "simulated devices: nothing here is measured")
        # Of other sources, asking may take a driver's time.
        if isinstance(self._source, CollectedDevices) or (self.simulated and not self.made_up):
            notes += self._source.topology().notes
        return (*notes, *self._passed_over)

    def topology(self) -> Topology:
        """Of the devices as a whole. Raises DeviceSourceError. A driver in this process may take its time."""
        return self._source.topology()

    def facts(self) -> NodeFacts:
        """What Prometheus is told of the node beside readings; waits for nothing."""
        name, source = self.config.name, self._source
        told = self.config.expected_devices
        if not isinstance(source, CollectedDevices):
            return NodeFacts(name, len(self._devices), told)
        topology, state = source.topology(), source.state
        stuck_s = max(0.0, time.time() - state.since_s) if state.phase == "stuck" else 0.0
        expected = topology.expected if told is None else told
        return NodeFacts(name, topology.found, expected, topology.versions, state.phase, stuck_s, state.restarts)

    @property
    def meters_devices(self) -> bool:
        """Whether what a device reads is its own: a CPU core's memory is the whole node's, and it counts no energy."""
        return self._source.vendor != "cpu"

    @property
    def all_devices(self) -> Sequence[Device]:
        return self._devices

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        """Faults heard of since this was last asked; waits for nothing."""
        return self._source.events(now_s)

    async def readings(self) -> Mapping[str, Mapping[Quantity, Measured]]:
        """By device uuid. A driver that does not answer holds up nothing: its devices are Unavailable until it does."""
        if self.made_up:
            return self._source.read(time.time())
        if self._reading is None or self._reading.done():
            self._reading_since_s = time.time()
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._source.read, self._reading_since_s))
        done, _ = await asyncio.wait({self._reading}, timeout=READ_TIMEOUT_S)
        if done:
            return self._reading.result()
        stuck = Unavailable(f"the driver has not answered for {time.time() - self._reading_since_s:.0f} s")
        return {device.uuid: dict.fromkeys(Quantity, stuck) for device in self._devices}

    def close(self) -> None:
        self._source.close()


def limits_notes(limits: Limits) -> list[str]:
    """What is not as the job files say: where the kernel enforces all, nothing."""
    why = f" ({limits.why})" if limits.why else ""
    notes = []
    if not limits.memory:
        notes.append(f"memory limits are enforced by looking four times a second, not by the kernel{why}")
    if not limits.cpus:
        notes.append(f"nothing holds jobs to their CPUs{why}")
    return notes


def _machine_memory_bytes() -> int:
    return memory_bytes(Path("/proc/meminfo").read_text()).get("MemTotal", 0)


# Told of every device, with the reason where it is missing. Of the others, what this device never has is left out.
ALWAYS_TOLD = frozenset(
    {
        Quantity.UTILISATION_PERCENT,
        Quantity.MEMORY_USED_BYTES,
        Quantity.MEMORY_TOTAL_BYTES,
        Quantity.POWER_WATTS,
        Quantity.ENERGY_JOULES,
        Quantity.TEMPERATURE_CELSIUS,
        Quantity.CLOCK_MEGAHERTZ,
    }
)


def readings_json(readings: Mapping[str, Mapping[Quantity, Measured]]) -> dict[str, Any]:
    """{uuid: {quantity: {"value", "unit", "at_s", "quality"} or {"unavailable": reason}}}"""
    return {
        uuid: {
            quantity.value: _measured_json(measured)
            for quantity, measured in fields.items()
            if isinstance(measured, Reading) or not measured.lasting or quantity in ALWAYS_TOLD
        }
        for uuid, fields in readings.items()
    }


def _measured_json(measured: Measured) -> dict[str, Any]:
    match measured:
        case Reading():
            return {
                "value": measured.value,
                "unit": measured.unit,
                "at_s": measured.at_s,
                "quality": measured.quality.value,
            }
        case Unavailable():
            return {"unavailable": measured.reason}
