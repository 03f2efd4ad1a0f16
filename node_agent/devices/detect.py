"""Which device source does this machine offer? The first of the named ones that works and has a device.

Everything but the CPU is asked in a process of its own (`collector.py`), where a driver that hangs stops nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from node_agent.devices.collector import CollectedDevices, Patience
from node_agent.devices.cpu import CpuDevices
from node_agent.devices.openers import DEFAULT_NAMES, REPLAY, SourceAbsent, adapters
from node_agent.devices.quantities import INTERVALS_S
from node_agent.devices.source import DeviceSource, DeviceSourceError

# Longer than a command may take by its file, so that it is the command that is given up, and told of by its name.
OF_COMMANDS = Patience(open_s=40, deadline_s=70, ask_after_s=90, kill_after_s=150)


@dataclass(frozen=True, slots=True)
class Detected:
    """The source in use, and why the ones named before it were passed over (sentences for operators)."""

    source: DeviceSource
    passed_over: tuple[str, ...]


def openers() -> dict[str, Callable[[], DeviceSource]]:
    """By name. Each raises SourceAbsent where what it needs is not installed, else what opening raises."""
    known: dict[str, Callable[[], DeviceSource]] = {name: _opener(name) for name in adapters()}
    return {**known, "cpu": CpuDevices}


def _opener(name: str) -> Callable[[], DeviceSource]:
    def opened() -> DeviceSource:
        adapter = adapters()[name]
        adapter.require()
        if adapter.interval_s is None:
            return CollectedDevices(name, adapter.vendor)
        # A command has a deadline of its own, and is run no oftener than its file says.
        intervals_s = {group: max(seconds, adapter.interval_s) for group, seconds in INTERVALS_S.items()}
        return CollectedDevices(name, adapter.vendor, intervals_s=intervals_s, patience=OF_COMMANDS)

    return opened


def _player(name: str) -> Callable[[], DeviceSource]:
    def opened() -> DeviceSource:
        from node_agent.devices.replay import ReplayDevices

        return ReplayDevices(name.removeprefix(REPLAY), loop=True)

    return opened


def probe(
    names: Sequence[str] = DEFAULT_NAMES, known: Mapping[str, Callable[[], DeviceSource]] | None = None
) -> Detected:
    """Try `names` in order. Raises DeviceSourceError when a name is unknown or none can be used."""
    known = openers() if known is None else known
    known = {**known, **{name: _player(name) for name in names if name.startswith(REPLAY)}}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DeviceSourceError(f"unknown device source {unknown[0]!r}; known are {', '.join(sorted(known))}")
    passed_over = []
    for name in names:
        try:
            source = known[name]()
        except SourceAbsent as error:
            if tuple(names) != DEFAULT_NAMES:
                passed_over.append(f"{name}: {error}")
            continue
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
