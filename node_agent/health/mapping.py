"""How readings become facts: the one place that knows what adapters call what health looks at.

Quantities are looked up by their names (`temperature_celsius`), so that one which an adapter or an earlier version of
the schema does not have is simply not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from node_agent.devices.source import Measured, Reading, Unavailable
from node_agent.health.facts import DeviceFacts, Fault, Missing, Recovery, Round

# Values of `recovery_action`, in the order of nvmlDeviceGpuRecoveryAction_t.
_RECOVERIES: Mapping[int, Recovery] = {
    0: Recovery.NONE,
    1: Recovery.RESET,
    2: Recovery.REBOOT,
    3: Recovery.DRAIN_PEERS,
    4: Recovery.DRAIN_AND_RESET,
    5: Recovery.RECOVER_FABRIC,
    6: Recovery.RESET_BUS,
    7: Recovery.REBOOT,
}
# What the hardware itself holds clocks down for. A cap that software set (held_by_power_cap) is normal under load.
_HELD = ("held_by_hardware", "held_by_hardware_heat", "held_by_power_brake")
_SOURCES: Mapping[str, tuple[str, ...]] = {
    "temperature_celsius": ("temperature_celsius",),
    "memory_temperature_celsius": ("memory_temperature_celsius",),
    "throttled": _HELD,
    "row_remap_pending": ("row_remap_pending",),
    "row_remap_failed": ("row_remap_failed",),
    "recovery": ("recovery_action",),
    "vendor_health": ("vendor_health",),
    "pre_separate": ("pre_separate",),
}
"""By field of DeviceFacts, the quantities that it comes from."""
_LOST = "device lost"
_RESET = "reset required"


class Told(Protocol):
    """What a driver told of by itself (a DeviceEvent)."""

    @property
    def uuid(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def code(self) -> int | None: ...
    @property
    def text(self) -> str: ...
    @property
    def at_s(self) -> float: ...


def round_of(
    readings: Mapping[str, Mapping[str, Measured]],
    expected: Sequence[str],
    told: Sequence[Told] = (),
    *,
    expected_count: int | None = None,
    boot: str = "",
    marks: Mapping[str, str] | None = None,
) -> Round:
    """`readings` by uuid and quantity; `marks` says of each device what changes when it is reset."""
    faults: dict[str | None, list[Fault]] = {}
    lost: set[str] = set()
    for each in told:
        if each.kind == "xid" and each.code is not None:
            faults.setdefault(each.uuid, []).append(Fault(each.code, each.at_s, each.text))
        elif each.kind == "lost" and each.uuid is not None:
            lost.add(each.uuid)
    devices = {
        uuid: device_facts(fields, tuple(faults.get(uuid, ())), (marks or {}).get(uuid, ""), told_lost=uuid in lost)
        for uuid, fields in readings.items()
    }
    return Round(
        devices,
        tuple(expected),
        len(devices),
        Missing("not known") if expected_count is None else expected_count,
        boot,
        tuple(fault for uuid, some in faults.items() if uuid not in devices for fault in some),
    )


def device_facts(
    fields: Mapping[str, Measured], faults: tuple[Fault, ...] = (), mark: str = "", *, told_lost: bool = False
) -> DeviceFacts:
    read = [value for value in fields.values() if isinstance(value, Reading)]
    missed = [value for value in fields.values() if isinstance(value, Unavailable)]
    reasons = list(dict.fromkeys(value.reason for value in missed))
    lost = told_lost or any(reason.startswith(_LOST) for reason in reasons)
    return DeviceFacts(
        read_at_s=max((value.at_s for value in read), default=None),
        silent="" if read else "; ".join(reasons[:2]),
        never_read=not fields or (not read and all(getattr(value, "lasting", False) for value in missed)),
        lost=True if lost else False if read else Missing("nothing was read"),
        reset_required=any(_RESET in reason for reason in reasons) or (False if read else Missing("nothing was read")),
        temperature_celsius=_number(fields, "temperature_celsius"),
        memory_temperature_celsius=_number(fields, "memory_temperature_celsius"),
        throttled=_any(fields, _HELD),
        row_remap_pending=_any(fields, ("row_remap_pending",)),
        row_remap_failed=_any(fields, ("row_remap_failed",)),
        recovery=_recovery(fields),
        vendor_health=_number(fields, "vendor_health"),
        pre_separate=_any(fields, ("pre_separate",)),
        faults=faults,
        mark=mark,
        taken={
            name: max(value.at_s for value in values)
            for name, sources in _SOURCES.items()
            if (values := [value for each in sources if isinstance(value := fields.get(each), Reading)])
        },
    )


def _number(fields: Mapping[str, Measured], name: str) -> float | Missing:
    value = fields.get(name)
    if isinstance(value, Reading):
        return value.value if math.isfinite(value.value) else Missing("no number")
    return Missing("not offered" if value is None else value.reason)


def _any(fields: Mapping[str, Measured], names: Sequence[str]) -> bool | Missing:
    """Whether one of these flags is up; not known where none is."""
    values = [_number(fields, name) for name in names]
    known = [value for value in values if not isinstance(value, Missing)]
    if known:
        return any(value > 0 for value in known)
    return next((value for value in values if isinstance(value, Missing)), Missing("not offered"))


def _recovery(fields: Mapping[str, Measured]) -> Recovery | Missing:
    value = _number(fields, "recovery_action")
    return value if isinstance(value, Missing) else _RECOVERIES.get(int(value), Missing(f"not known: {value:g}"))
