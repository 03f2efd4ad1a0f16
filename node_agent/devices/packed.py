"""How do devices, readings and events travel: from the sampler to the agent, and into a recording? As small JSON.

The readings of one device and group are a row in the order of `QUANTITIES[group]`: a number, or `[reason, 1 or 0]`
where there is none (1: it never has it). Unit and group are the schema's, the time is the row's. What does not fit
raises ValueError, with a sentence: whoever reads a recording shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from node_agent.devices.quantities import Quantity
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceProcess,
    Link,
    Measured,
    Quality,
    Reading,
    Topology,
    Unavailable,
    reading,
)

Json = dict[str, Any]
REASON_CHARACTERS = 500

_DEVICE = tuple(each.name for each in fields(Device))
_EVENT = tuple(each.name for each in fields(DeviceEvent))


def packed_row(found: Mapping[Quantity, Measured], quantities: Sequence[Quantity]) -> list[Any]:
    row: list[Any] = []
    for quantity in quantities:
        match found[quantity]:
            case Reading(value=value):
                row.append(int(value) if value.is_integer() else value)
            case Unavailable(reason=reason, lasting=lasting):
                row.append([reason[:REASON_CHARACTERS], int(lasting)])
    return row


def unpacked_row(
    row: object, quantities: Sequence[Quantity], at_s: float, quality: Quality
) -> dict[Quantity, Measured]:
    if not isinstance(row, list) or len(row) != len(quantities):
        raise ValueError(f"readings: {len(quantities)} values were expected, not {str(row)[:80]}")
    return {quantity: _measured(quantity, cell, at_s, quality) for quantity, cell in zip(quantities, row, strict=True)}


def _measured(quantity: Quantity, cell: object, at_s: float, quality: Quality) -> Measured:
    match cell:
        case bool():
            pass
        case int() | float():
            try:
                value = float(cell)
            except OverflowError:
                value = math.inf
            if math.isfinite(value):
                return reading(quantity, value, at_s, quality)
        case [str(reason), int(lasting)]:
            return Unavailable(reason[:REASON_CHARACTERS], bool(lasting))
    raise ValueError(f"{quantity}: neither a number nor a reason: {str(cell)[:80]}")


def packed_device(device: Device) -> Json:
    return {name: getattr(device, name) for name in _DEVICE if getattr(device, name) is not None}


def unpacked_device(found: object) -> Device:
    if not isinstance(found, dict) or not set(found) <= set(_DEVICE):
        raise ValueError(f"not a device: {str(found)[:80]}")
    kinds = {"index": int, "memory_bytes": int, "simulated": bool}
    for name, value in found.items():
        if type(value) is not kinds.get(name, str):
            raise ValueError(f"device: {name} cannot be {str(value)[:80]!r}")
    try:
        return Device(**found)
    except TypeError:
        raise ValueError(f"device: a field is missing in {str(found)[:80]}") from None


def packed_event(event: DeviceEvent) -> Json:
    return {name: getattr(event, name) for name in _EVENT if getattr(event, name) is not None}


def unpacked_event(found: object) -> DeviceEvent:
    if not isinstance(found, dict) or not set(found) <= set(_EVENT):
        raise ValueError(f"not an event: {str(found)[:80]}")
    told = {"uuid": None, "code": None, **found}
    allowed: dict[str, tuple[type, ...]] = {"code": (int, type(None)), "at_s": (int, float)}
    for name, value in told.items():
        kinds = allowed.get(name, (str, type(None)) if name in ("uuid", "bus_id") else (str,))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"event: {name} cannot be {str(value)[:80]!r}")
    try:
        return DeviceEvent(**told)
    except TypeError:
        raise ValueError(f"event: a field is missing in {str(found)[:80]}") from None


def packed_topology(found: Topology) -> Json:
    users: dict[str, Any] = {}
    for uuid, there in found.processes.items():
        if isinstance(there, Unavailable):
            users[uuid] = [there.reason[:REASON_CHARACTERS], int(there.lasting)]
        else:
            users[uuid] = [[each.pid, each.memory_bytes] for each in there]
    return {
        "found": found.found,
        "expected": found.expected,
        "missing": list(found.missing),
        "versions": dict(found.versions),
        "links": [[link.one, link.other, link.by] for link in found.links],
        "processes": users,
        "notes": list(found.notes),
    }


def unpacked_topology(found: object) -> Topology:
    try:
        assert isinstance(found, dict)
        users: dict[str, tuple[DeviceProcess, ...] | Unavailable] = {}
        for uuid, there in found["processes"].items():
            match there:
                case [str(reason), int(lasting)]:
                    users[uuid] = Unavailable(reason, bool(lasting))
                case _:
                    users[uuid] = tuple(DeviceProcess(int(pid), memory) for pid, memory in there)
        return Topology(
            found=int(found["found"]),
            expected=int(found["expected"]),
            missing=tuple(str(uuid) for uuid in found["missing"]),
            versions={str(name): str(version) for name, version in found["versions"].items()},
            links=tuple(Link(str(one), str(other), str(by)) for one, other, by in found["links"]),
            processes=users,
            notes=tuple(str(note) for note in found["notes"]),
        )
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"not a topology: {str(found)[:80]}") from None
