"""What is known of a node's devices in one round of readings. What is not known is `Missing`, and never unhealthy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Missing:
    """Why it is not known."""

    reason: str


NOT_READ = Missing("not read")


class Recovery(StrEnum):
    """What the vendor's driver itself asks for (NVML field 230, nvmlDeviceGpuRecoveryAction_t)."""

    NONE = "none"
    RESET = "reset"
    REBOOT = "reboot"
    DRAIN_PEERS = "drain_peers"
    DRAIN_AND_RESET = "drain_and_reset"
    RECOVER_FABRIC = "recover_fabric"
    RESET_BUS = "reset_bus"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the driver told of by itself, with its number (an XID)."""

    code: int
    at_s: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device. `read_at_s` is when its newest reading was taken (None: none in this round, and `silent` says why);
    `never_read`: it has no readings to give, ever.

    `lost`: the driver says that it is there no more, `reset_required`: that it must be reset. `throttled`: the hardware
    itself holds its clocks down (heat, power brake), not a power cap that software set. `vendor_health`: 0 good,
    1 warning, 2 alarm, 3 critical. `pre_separate`: Ascend's word for "let the job end, give it nothing new".
    `mark` changes when the device is reset or its driver loaded anew. `faults` are those heard since the last round.
    `taken` says, by the name of a field above, when its reading was taken, where that is not now: what is read rarely
    is seen in many rounds, and counts once.
    """

    read_at_s: float | None = None
    silent: str = ""
    never_read: bool = False
    lost: bool | Missing = NOT_READ
    reset_required: bool | Missing = NOT_READ
    temperature_celsius: float | Missing = NOT_READ
    memory_temperature_celsius: float | Missing = NOT_READ
    throttled: bool | Missing = NOT_READ
    row_remap_pending: bool | Missing = NOT_READ
    row_remap_failed: bool | Missing = NOT_READ
    recovery: Recovery | Missing = NOT_READ
    vendor_health: float | Missing = NOT_READ
    pre_separate: bool | Missing = NOT_READ
    faults: tuple[Fault, ...] = ()
    mark: str = ""
    taken: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found. `expected`: uuids that the node had, each to be in `devices` unless it is missing.

    `found` and `expected_count`: how many devices the driver and how many the bus (or the past) knows. `boot`: changes
    when the machine starts anew. `faults` are those of which it is not known on which device they happened.
    """

    devices: Mapping[str, DeviceFacts] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    found: int | Missing = NOT_READ
    expected_count: int | Missing = NOT_READ
    boot: str = ""
    faults: tuple[Fault, ...] = ()
