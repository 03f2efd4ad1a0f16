"""Which device source does this machine offer? The first of the named ones that works and has a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from node_agent.devices.cpu import CpuDevices
from node_agent.devices.nvml import NvmlDevices
from node_agent.devices.source import DeviceSource, DeviceSourceError

OPENERS: Mapping[str, Callable[[], DeviceSource]] = {"nvml": NvmlDevices, "cpu": CpuDevices}
DEFAULT_NAMES = ("nvml", "cpu")


@dataclass(frozen=True, slots=True)
class Detected:
    """The source in use, and why the ones named before it were passed over (sentences for operators)."""

    source: DeviceSource
    passed_over: tuple[str, ...]


def probe(
    names: Sequence[str] = DEFAULT_NAMES, openers: Mapping[str, Callable[[], DeviceSource]] = OPENERS
) -> Detected:
    """Try `names` in order. Raises DeviceSourceError when a name is unknown or none can be used."""
    unknown = [name for name in names if name not in openers]
    if unknown:
        raise DeviceSourceError(f"unknown device source {unknown[0]!r}; known are {', '.join(sorted(openers))}")
    passed_over = []
    for name in names:
        try:
            source = openers[name]()
        except DeviceSourceError as error:
            passed_over.append(f"{name}: {error}")
            continue
        try:
            if source.enumerate():
                return Detected(source, tuple(passed_over))
            passed_over.append(f"{name}: no device found")
        except DeviceSourceError as error:
            passed_over.append(f"{name}: {error}")
        source.close()
    raise DeviceSourceError("no device source can be used: " + ("; ".join(passed_over) or "none was named"))


def detect(names: Sequence[str] = DEFAULT_NAMES) -> DeviceSource:
    """`probe(names)` for callers that need the source alone."""
    return probe(names).source
