"""Which field of NVML answers which quantity, and what does one answer of nvmlDeviceGetFieldValues mean?

Fields are asked for together, one call a card and group. That call succeeds when any one field did, so each answer is
looked at by itself: its own return code, the type that its value really has, and NVML's sign for "none" (all bits set).
Field numbers are those of nvml.h, by their names in pynvml; an older pynvml that lacks a name lacks the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from node_agent.devices.quantities import Group, Quantity

MILLI = 1e-3
KIB = 1024.0
ALL_LINKS = 0xFFFFFFFF  # as a scope: of all NVLinks together
NONE_VALUES = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})  # NVML_VALUE_NOT_AVAILABLE

# Members of the union nvmlValue_t by nvmlValueType_t.
VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Field(NamedTuple):
    """`name` is the constant in pynvml; a value times `scale` is in the schema's unit. `each_link`: it is of one NVLink
    at a time, which its scope names; the card's value is the sum of those that answer.
    """

    quantity: Quantity
    name: str
    scale: float = 1.0
    scope: int = 0
    each_link: bool = False


# Where a quantity has several fields, the first that answers is taken: NVLink errors are counted by link on Hopper, in
# all on Ampere, and Blackwell has of them only how often a link was recovered.
FIELDS: Mapping[Group, tuple[Field, ...]] = {
    Group.FAST: (
        Field(Quantity.POWER_WATTS, "NVML_FI_DEV_POWER_AVERAGE", MILLI),
        Field(Quantity.ENERGY_JOULES, "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION", MILLI),
        Field(Quantity.MEMORY_TEMPERATURE_CELSIUS, "NVML_FI_DEV_MEMORY_TEMP"),
    ),
    Group.LINKS: (
        Field(Quantity.PCIE_SENT_BYTES, "NVML_FI_DEV_PCIE_COUNT_TX_BYTES"),
        Field(Quantity.PCIE_RECEIVED_BYTES, "NVML_FI_DEV_PCIE_COUNT_RX_BYTES"),
        Field(Quantity.PCIE_REPLAYS, "NVML_FI_DEV_PCIE_REPLAY_COUNTER"),
        Field(Quantity.LINK_SENT_BYTES, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX", KIB, ALL_LINKS),
        Field(Quantity.LINK_RECEIVED_BYTES, "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX", KIB, ALL_LINKS),
        Field(Quantity.LINK_CRC_ERRORS, "NVML_FI_DEV_NVLINK_ERROR_DL_CRC", each_link=True),
        Field(Quantity.LINK_CRC_ERRORS, "NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"),
        Field(Quantity.LINK_REPLAYS, "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY", each_link=True),
        Field(Quantity.LINK_REPLAYS, "NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL"),
        Field(Quantity.LINK_RECOVERIES, "NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY", each_link=True),
        Field(Quantity.LINK_RECOVERIES, "NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL"),
        Field(Quantity.LINK_RECOVERIES, "NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS", each_link=True),
    ),
    Group.CONDITION: (
        Field(Quantity.POWER_LIMIT_WATTS, "NVML_FI_DEV_POWER_CURRENT_LIMIT", MILLI),
        Field(Quantity.ECC_CORRECTED_VOLATILE, "NVML_FI_DEV_ECC_SBE_VOL_TOTAL"),
        Field(Quantity.ECC_UNCORRECTED_VOLATILE, "NVML_FI_DEV_ECC_DBE_VOL_TOTAL"),
        Field(Quantity.ECC_CORRECTED_AGGREGATE, "NVML_FI_DEV_ECC_SBE_AGG_TOTAL"),
        Field(Quantity.ECC_UNCORRECTED_AGGREGATE, "NVML_FI_DEV_ECC_DBE_AGG_TOTAL"),
        Field(Quantity.ROWS_REMAPPED_CORRECTED, "NVML_FI_DEV_REMAPPED_COR"),
        Field(Quantity.ROWS_REMAPPED_UNCORRECTED, "NVML_FI_DEV_REMAPPED_UNC"),
        Field(Quantity.ROW_REMAP_PENDING, "NVML_FI_DEV_REMAPPED_PENDING"),
        Field(Quantity.ROW_REMAP_FAILED, "NVML_FI_DEV_REMAPPED_FAILURE"),
        Field(Quantity.RECOVERY_ACTION, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"),
    ),
}

# Bits of nvmlDeviceGetCurrentClocksEventReasons. Idle and sync boost hold nothing down that anybody wants.
HELD_BITS: Mapping[Quantity, int] = {
    Quantity.HELD_BY_SETTING: 0x2 | 0x100,
    Quantity.HELD_BY_POWER_CAP: 0x4,
    Quantity.HELD_BY_HARDWARE: 0x8,
    Quantity.HELD_BY_HEAT: 0x20,
    Quantity.HELD_BY_HARDWARE_HEAT: 0x40,
    Quantity.HELD_BY_POWER_BRAKE: 0x80,
}


class Batch(NamedTuple):
    """The fields of a group that this pynvml knows, and how they are asked for, in the same order."""

    fields: tuple[Field, ...]
    ids: list[tuple[int, int]]


def batches(nvml: Any, links: int = 0) -> Mapping[Group, Batch]:
    """For a card of so many NVLinks."""
    found = {}
    for group, fields in FIELDS.items():
        asked: list[tuple[Field, tuple[int, int]]] = []
        for field in fields:
            number = getattr(nvml, field.name, None)
            if number is not None:
                scopes = range(links) if field.each_link else (field.scope,)
                asked += [(field, (int(number), scope)) for scope in scopes]
        found[group] = Batch(tuple(field for field, _ in asked), [ids for _, ids in asked])
    return found


def no_value(value: float) -> bool:
    """NVML's own sign for "none", which is no reading."""
    return value in NONE_VALUES


def decoded(field: Field, answer: Any) -> float | int | str:
    """One nvmlFieldValue_t: the value in the schema's unit, the return code of one that failed, or what is wrong."""
    code = int(answer.nvmlReturn)
    if code != 0:
        return code
    kind = int(answer.valueType)
    if not 0 <= kind < len(VALUE_MEMBERS):
        return f"the driver answered with a value of type {kind}, which this version does not know"
    value = getattr(answer.value, VALUE_MEMBERS[kind])
    if no_value(value):
        return "the driver has no value"
    return float(value) * field.scale


def first_of_each(fields: Sequence[Field], answers: Sequence[Any]) -> dict[Quantity, float | int | str]:
    """By quantity: the first field that answered (of each link: their sum), else what the first of them said."""
    by_field: dict[Field, float | int | str] = {}
    for field, answer in zip(fields, answers, strict=True):
        value, before = decoded(field, answer), by_field.get(field)
        if isinstance(value, float) and isinstance(before, float):
            by_field[field] = before + value
        elif before is None or (isinstance(value, float) and not isinstance(before, float)):
            by_field[field] = value
    found: dict[Quantity, float | int | str] = {}
    for field, value in by_field.items():
        before = found.get(field.quantity)
        if before is None or (isinstance(value, float) and not isinstance(before, float)):
            found[field.quantity] = value
    return found
