"""CPU cores as devices: one device a core that this process may use, for nodes without an accelerator.

The model is the node's CPU model name, so no CPU can be taken for an accelerator of the catalogue. Memory readings are
the node's (cores share it); utilisation is each core's own, between one reading and the next. Kernel fields: proc(5).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from node_agent.devices.quantities import asked_for
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceSourceError,
    Group,
    Measured,
    Quantity,
    Topology,
    Unavailable,
    reading,
)
from node_agent.devices.visibility import hidden

KIB = 1024
NOT_OFFERED = Unavailable("not offered for a CPU core", lasting=True)


def cpu_model(cpuinfo: str) -> str:
    """The node's CPU model name from the text of /proc/cpuinfo, without trademark signs and doubled blanks."""
    for field in ("model name", "Model", "cpu model", "Hardware"):
        match = re.search(rf"^{field}\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
        if match:
            plain = re.sub(r"\((?:R|TM|r|tm)\)", "", match.group(1))
            return " ".join(plain.split())
    return "CPU"


def memory_bytes(meminfo: str) -> dict[str, int]:
    """MemTotal, MemAvailable and the other kB rows of /proc/meminfo, in bytes."""
    rows = re.findall(r"^(\w+):\s+(\d{1,18}) kB$", meminfo, re.MULTILINE | re.ASCII)
    return {name: int(kib) * KIB for name, kib in rows}


def core_ticks(stat: str) -> dict[int, tuple[int, int]]:
    """By core: (busy ticks, all ticks) since boot, from /proc/stat. Waiting for a disk counts as idle."""
    ticks = {}
    for core, rest in re.findall(r"^cpu(\d{1,6})((?: \d{1,18}){4,})$", stat, re.MULTILINE | re.ASCII):
        values = [int(value) for value in rest.split()][:8]  # guest time is already inside user time
        idle = values[3] + (values[4] if len(values) > 4 else 0)
        ticks[int(core)] = (sum(values) - idle, sum(values))
    return ticks


class CpuDevices:
    """A device source over /proc. `cores` defaults to those that this process may run on."""

    def __init__(self, *, proc: Path = Path("/proc"), cores: Sequence[int] | None = None) -> None:
        self._proc = proc
        self._cores = sorted(os.sched_getaffinity(0) if cores is None else cores)
        self._host = socket.gethostname()
        self._last = self._ticks()
        if not self._cores:
            raise DeviceSourceError("no CPU core may be used by this process; check its affinity mask")

    @property
    def vendor(self) -> str:
        return "cpu"

    def enumerate(self) -> Sequence[Device]:
        try:
            model = cpu_model((self._proc / "cpuinfo").read_text())
            total = memory_bytes((self._proc / "meminfo").read_text()).get("MemTotal", 0)
        except OSError as error:
            raise DeviceSourceError(f"the kernel's tables cannot be read: {error}; is /proc mounted?") from error
        part = total // len(self._cores)
        return [
            Device(index, self._uuid(core), model, "cpu", part, False, str(core))
            for index, core in enumerate(self._cores)
        ]

    def _uuid(self, core: int) -> str:
        return f"cpu-{self._host}-{core}"

    def _ticks(self) -> dict[int, tuple[int, int]]:
        try:
            return core_ticks((self._proc / "stat").read_text())
        except OSError:
            return {}  # read() then says Unavailable for each core

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        quantities = asked_for(groups)
        if Quantity.UTILISATION_PERCENT not in quantities:  # the kernel's tables have none of the others
            return {self._uuid(core): dict.fromkeys(quantities, NOT_OFFERED) for core in self._cores}
        before, self._last = self._last, self._ticks()
        used, total = self._memory(now_s)
        found: dict[str, Mapping[Quantity, Measured]] = {}
        for core in self._cores:
            fields: dict[Quantity, Measured] = dict.fromkeys(quantities, NOT_OFFERED)
            fields[Quantity.UTILISATION_PERCENT] = self._utilisation(before.get(core), self._last.get(core), now_s)
            fields[Quantity.MEMORY_USED_BYTES], fields[Quantity.MEMORY_TOTAL_BYTES] = used, total
            found[self._uuid(core)] = fields
        return found

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        return ()

    def topology(self) -> Topology:
        return Topology(found=len(self._cores), expected=len(self._cores))

    @staticmethod
    def _utilisation(before: tuple[int, int] | None, after: tuple[int, int] | None, now_s: float) -> Measured:
        if after is None:
            return Unavailable("/proc/stat has no row for this core")
        if before is None or after[1] <= before[1]:
            return Unavailable("no time has passed since the last reading")
        busy = 100.0 * (after[0] - before[0]) / (after[1] - before[1])
        return reading(Quantity.UTILISATION_PERCENT, min(100.0, max(0.0, busy)), now_s)

    def _memory(self, now_s: float) -> tuple[Measured, Measured]:
        try:
            rows = memory_bytes((self._proc / "meminfo").read_text())
            total, available = rows["MemTotal"], rows["MemAvailable"]
        except (OSError, KeyError) as error:
            missing = Unavailable(f"/proc/meminfo: {error}")
            return missing, missing
        return (
            reading(Quantity.MEMORY_USED_BYTES, float(total - available), now_s),
            reading(Quantity.MEMORY_TOTAL_BYTES, float(total), now_s),
        )

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        """A run on CPU cores must not touch a card that happens to be in the machine."""
        return hidden()

    def close(self) -> None:
        """Nothing is held open."""
