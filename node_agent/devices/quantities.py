"""Which quantities does a device have readings of? One schema for all vendors: name, unit, group, and what it means.

A name ends with its unit (`power_watts`); what counts without one is named for what is counted; yes or no is 1 or 0.
Counters only grow, until the driver is loaded anew or the card is reset: take differences with `counters.gained`. A
group is what is sampled at one interval; what is expensive to ask or slow to change is asked for rarely. The quantities
of the group `events` are counted by who listens, never asked of the device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Group(StrEnum):
    """What is read together, at one interval."""

    FAST = "fast"  # how it works: utilisation, memory, power, clocks
    LINKS = "links"  # what went over its links, and who uses it
    CONDITION = "condition"  # whether it is sound
    EVENTS = "events"  # what was heard of it


# How often each group is read, in seconds. EVENTS is listened for with every fast round.
INTERVALS_S: Mapping[Group, float] = {Group.FAST: 1.0, Group.LINKS: 10.0, Group.CONDITION: 30.0}


class Quantity(StrEnum):
    """Fields of one schema for all vendors; adapters answer what they can and say Unavailable for the rest."""

    UTILISATION_PERCENT = "utilisation_percent"
    SM_ACTIVITY_PERCENT = "sm_activity_percent"
    TENSOR_ACTIVITY_PERCENT = "tensor_activity_percent"
    MEMORY_ACTIVITY_PERCENT = "memory_activity_percent"
    MEMORY_USED_BYTES = "memory_used_bytes"
    MEMORY_TOTAL_BYTES = "memory_total_bytes"
    MEMORY_RESERVED_BYTES = "memory_reserved_bytes"
    POWER_WATTS = "power_watts"
    ENERGY_JOULES = "energy_joules"
    TEMPERATURE_CELSIUS = "temperature_celsius"
    MEMORY_TEMPERATURE_CELSIUS = "memory_temperature_celsius"
    CLOCK_MEGAHERTZ = "clock_megahertz"
    MEMORY_CLOCK_MEGAHERTZ = "memory_clock_megahertz"
    HELD_BY_POWER_CAP = "held_by_power_cap"
    HELD_BY_HEAT = "held_by_heat"
    HELD_BY_HARDWARE = "held_by_hardware"
    HELD_BY_HARDWARE_HEAT = "held_by_hardware_heat"
    HELD_BY_POWER_BRAKE = "held_by_power_brake"
    HELD_BY_SETTING = "held_by_setting"

    PROCESSES = "processes"
    PCIE_SENT_BYTES = "pcie_sent_bytes"
    PCIE_RECEIVED_BYTES = "pcie_received_bytes"
    PCIE_REPLAYS = "pcie_replays"
    LINK_SENT_BYTES = "link_sent_bytes"
    LINK_RECEIVED_BYTES = "link_received_bytes"
    LINK_CRC_ERRORS = "link_crc_errors"
    LINK_REPLAYS = "link_replays"
    LINK_RECOVERIES = "link_recoveries"

    POWER_LIMIT_WATTS = "power_limit_watts"
    ECC_CORRECTED_VOLATILE = "ecc_corrected_volatile"
    ECC_UNCORRECTED_VOLATILE = "ecc_uncorrected_volatile"
    ECC_CORRECTED_AGGREGATE = "ecc_corrected_aggregate"
    ECC_UNCORRECTED_AGGREGATE = "ecc_uncorrected_aggregate"
    ROWS_REMAPPED_CORRECTED = "rows_remapped_corrected"
    ROWS_REMAPPED_UNCORRECTED = "rows_remapped_uncorrected"
    ROW_REMAP_PENDING = "row_remap_pending"
    ROW_REMAP_FAILED = "row_remap_failed"
    RECOVERY_ACTION = "recovery_action"
    LINKS_UP = "links_up"
    VENDOR_HEALTH = "vendor_health"

    FAULTS = "faults"
    LAST_FAULT = "last_fault"


class RecoveryAction(IntEnum):
    """What the driver asks for (values of `recovery_action`): those of nvmlDeviceGpuRecoveryAction_t, NVML 13.615."""

    NONE = 0
    RESET_DEVICE = 1
    REBOOT_NODE = 2
    DRAIN_PEERS = 3
    DRAIN_AND_RESET = 4
    RECOVER_FABRIC = 5
    RESET_BUS = 6
    REBOOT_SYSTEM = 7


class VendorHealth(IntEnum):
    """What the vendor's own tool says of a card in one word (values of `vendor_health`)."""

    GOOD = 0
    WARNING = 1
    ALARM = 2
    CRITICAL = 3


class Meaning(NamedTuple):
    """`text` is the help of the metric; `counter`: it only grows."""

    unit: str
    group: Group
    text: str
    counter: bool = False


_F, _L, _C, _E = Group.FAST, Group.LINKS, Group.CONDITION, Group.EVENTS

MEANINGS: Mapping[Quantity, Meaning] = {
    Quantity.UTILISATION_PERCENT: Meaning("percent", _F, "Share of a short window in which any work ran."),
    Quantity.SM_ACTIVITY_PERCENT: Meaning("percent", _F, "Share of the multiprocessors that worked (GPM)."),
    Quantity.TENSOR_ACTIVITY_PERCENT: Meaning("percent", _F, "Share of time in which tensor units worked (GPM)."),
    Quantity.MEMORY_ACTIVITY_PERCENT: Meaning("percent", _F, "Share of the memory bandwidth in use (GPM)."),
    Quantity.MEMORY_USED_BYTES: Meaning("bytes", _F, "Memory in use, without what the driver keeps."),
    Quantity.MEMORY_TOTAL_BYTES: Meaning("bytes", _F, "Memory in all."),
    Quantity.MEMORY_RESERVED_BYTES: Meaning("bytes", _F, "Memory that the driver keeps for itself."),
    Quantity.POWER_WATTS: Meaning("watts", _F, "Power drawn, as averaged by the device (NVML: over 1 s)."),
    Quantity.ENERGY_JOULES: Meaning("joules", _F, "Energy since the driver was loaded.", counter=True),
    Quantity.TEMPERATURE_CELSIUS: Meaning("celsius", _F, "Temperature of the processor."),
    Quantity.MEMORY_TEMPERATURE_CELSIUS: Meaning("celsius", _F, "Temperature of the memory."),
    Quantity.CLOCK_MEGAHERTZ: Meaning("megahertz", _F, "Clock of the processors."),
    Quantity.MEMORY_CLOCK_MEGAHERTZ: Meaning("megahertz", _F, "Clock of the memory."),
    Quantity.HELD_BY_POWER_CAP: Meaning("flag", _F, "Clocks are held down by the power cap; normal under load."),
    Quantity.HELD_BY_HEAT: Meaning("flag", _F, "Clocks are held down by the driver, for heat."),
    Quantity.HELD_BY_HARDWARE: Meaning("flag", _F, "Clocks are held down by the hardware, whatever for."),
    Quantity.HELD_BY_HARDWARE_HEAT: Meaning("flag", _F, "Clocks are held down by the hardware, for heat."),
    Quantity.HELD_BY_POWER_BRAKE: Meaning("flag", _F, "Clocks are held down by the power supply's brake."),
    Quantity.HELD_BY_SETTING: Meaning("flag", _F, "Clocks are held down by somebody's setting."),
    Quantity.PROCESSES: Meaning("count", _L, "Processes that use the device."),
    Quantity.PCIE_SENT_BYTES: Meaning("bytes", _L, "Sent over PCIe.", counter=True),
    Quantity.PCIE_RECEIVED_BYTES: Meaning("bytes", _L, "Received over PCIe.", counter=True),
    Quantity.PCIE_REPLAYS: Meaning("count", _L, "Packets that PCIe had to send again.", counter=True),
    Quantity.LINK_SENT_BYTES: Meaning("bytes", _L, "Sent to other devices over NVLink or the like.", counter=True),
    Quantity.LINK_RECEIVED_BYTES: Meaning("bytes", _L, "Received over NVLink or the like.", counter=True),
    Quantity.LINK_CRC_ERRORS: Meaning("count", _L, "Checksums that did not match on NVLink.", counter=True),
    Quantity.LINK_REPLAYS: Meaning("count", _L, "Packets that NVLink had to send again.", counter=True),
    Quantity.LINK_RECOVERIES: Meaning("count", _L, "Times that an NVLink had to be brought up again.", counter=True),
    Quantity.POWER_LIMIT_WATTS: Meaning("watts", _C, "Power cap in force."),
    Quantity.ECC_CORRECTED_VOLATILE: Meaning("count", _C, "Memory errors mended since the driver was loaded.", True),
    Quantity.ECC_UNCORRECTED_VOLATILE: Meaning("count", _C, "Memory errors not mended since then.", True),
    Quantity.ECC_CORRECTED_AGGREGATE: Meaning("count", _C, "Memory errors mended in the card's life.", True),
    Quantity.ECC_UNCORRECTED_AGGREGATE: Meaning("count", _C, "Memory errors not mended in the card's life.", True),
    Quantity.ROWS_REMAPPED_CORRECTED: Meaning("count", _C, "Rows of memory replaced for errors that were mended."),
    Quantity.ROWS_REMAPPED_UNCORRECTED: Meaning("count", _C, "Rows of memory replaced for errors that were not."),
    Quantity.ROW_REMAP_PENDING: Meaning("flag", _C, "A row waits to be replaced at the next reset."),
    Quantity.ROW_REMAP_FAILED: Meaning("flag", _C, "A row could not be replaced."),
    Quantity.RECOVERY_ACTION: Meaning("code", _C, "What the driver asks for (RecoveryAction; 0: nothing)."),
    Quantity.LINKS_UP: Meaning("count", _C, "NVLinks or the like that are up."),
    Quantity.VENDOR_HEALTH: Meaning("code", _C, "What the vendor's tool says of it (VendorHealth; 0: good)."),
    Quantity.FAULTS: Meaning("count", _E, "Faults (XIDs) heard of since the agent began to listen.", counter=True),
    Quantity.LAST_FAULT: Meaning("code", _E, "The last of these faults, by the vendor's number."),
}

QUANTITIES: Mapping[Group, tuple[Quantity, ...]] = {
    group: tuple(quantity for quantity, meaning in MEANINGS.items() if meaning.group is group) for group in Group
}


def asked_for(groups: Collection[Group] | None) -> tuple[Quantity, ...]:
    """The quantities of these groups, in the schema's order; None: of all."""
    if groups is None:
        return tuple(MEANINGS)
    return tuple(quantity for quantity, meaning in MEANINGS.items() if meaning.group in groups)
