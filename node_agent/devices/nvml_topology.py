"""Which cards does NVLink join, how far apart are the others, and who uses each?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from node_agent.devices.nvml_reading import Drivers, Gone
from node_agent.devices.source import DeviceProcess, Link, Unavailable

# nvmlGpuTopologyLevel_t.
LEVELS: Mapping[int, str] = {
    0: "one board",
    10: "PCIe switch",
    20: "PCIe switches",
    30: "host bridge",
    40: "NUMA node",
    50: "system",
}
NVLINK = "NVLink"
DRIVERS_LIST = Path("/proc/driver/nvidia/gpus")


def bound_cards(directory: Path = DRIVERS_LIST) -> int:
    """How many cards the kernel's driver holds, by its own list: also those that NVML does not show. 0: no list.

    A container is shown the part of the list that it was given cards of.
    """
    try:
        return sum(1 for _ in directory.iterdir())
    except OSError:
        return 0


def links(drivers: Drivers, cards: Mapping[str, Any]) -> tuple[Link, ...]:
    """Every pair of cards, and what joins them; pairs of which the driver does not tell are left out."""
    found = []
    uuids = list(cards)
    for place, one in enumerate(uuids):
        for other in uuids[place + 1 :]:
            by = _joined(drivers, cards[one], cards[other])
            if by is not None:
                found.append(Link(one, other, by))
    return tuple(found)


def _joined(drivers: Drivers, one: Any, other: Any) -> str | None:
    nvml = drivers.nvml
    try:
        index = nvml.NVML_P2P_CAPS_INDEX_NVLINK
        if nvml.nvmlDeviceGetP2PStatus(one, other, index) == nvml.NVML_P2P_STATUS_OK:
            return NVLINK
    except drivers.errors:
        pass  # an older driver, or a card that is gone: the level below says what is known
    try:
        level = int(nvml.nvmlDeviceGetTopologyCommonAncestor(one, other))
    except drivers.errors:
        return None
    return LEVELS.get(level, f"level {level}")


def islands(uuids: Sequence[str], pairs: Sequence[Link]) -> dict[str, str]:
    """By card: the name of those that NVLink joins it with, directly or over others. A card alone has none."""
    group = {uuid: uuid for uuid in uuids}
    for link in pairs:
        if link.by == NVLINK and link.one in group and link.other in group:
            one, other = group[link.one], group[link.other]
            for uuid in uuids:
                if group[uuid] == other:
                    group[uuid] = one
    sizes: dict[str, int] = {}
    for leader in group.values():
        sizes[leader] = sizes.get(leader, 0) + 1
    return {uuid: f"nvlink-{leader}" for uuid, leader in group.items() if sizes[leader] > 1}


def processes(drivers: Drivers, handle: Any) -> tuple[DeviceProcess, ...] | Unavailable:
    try:
        there = drivers.nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except drivers.errors as error:
        try:
            return drivers.reason(error)
        except Gone as gone:
            return Unavailable(str(gone))
    return tuple(
        DeviceProcess(int(each.pid), None if each.usedGpuMemory is None else int(each.usedGpuMemory)) for each in there
    )
