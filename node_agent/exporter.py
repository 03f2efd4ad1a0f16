"""Devices' readings as Prometheus text (exposition format 0.0.4).

A reading that is not available gives no sample: never a 0. Every sample says whether it is simulated; where it is known
which jobs hold a device, `job_id` and `tenant` say so (several of them joined by commas: a shared device has several).

Who has dashboards for NVIDIA's dcgm-exporter can have its names and labels beside ours. They are given for real devices
only, in its units (MiB, mJ, shares of 1), under the names that Suanli has for models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from node_agent.devices.quantities import MEANINGS, Quantity
from node_agent.devices.source import Device

PREFIX = "suanli_device_"
COUNTERS = frozenset(quantity.value for quantity, meaning in MEANINGS.items() if meaning.counter)
HELP = {quantity.value: meaning.text for quantity, meaning in MEANINGS.items()}

Json = Mapping[str, Any]
Labels = Mapping[str, str]


class Family(NamedTuple):
    """Samples of one name; `kind` is "gauge" or "counter"."""

    kind: str
    text: str
    samples: list[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Holders:
    """Who holds a device."""

    jobs: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node's devices as a whole. `sampling` is the collector's phase, `stuck_s` for how long a driver call hangs.

    `expected` None: not known.
    """

    node: str
    found: int
    expected: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    sampling: str = ""
    stuck_s: float = 0.0
    restarts: int = 0


def render(
    readings: Mapping[str, Any],
    models: Mapping[str, str] | None = None,
    holders: Mapping[str, Holders] | None = None,
) -> str:
    """`readings` as AgentHost.readings() gives them, `models` by device uuid (else the label is empty)."""
    models = models or {}
    families: dict[str, Family] = {}
    for node, devices in sorted(readings.items()):
        for uuid, fields in sorted(devices.items()):
            for quantity, reading in sorted(fields.items()):
                if "value" not in reading:
                    continue
                labels = {
                    "node": node,
                    "device": uuid,
                    "model": models.get(uuid, ""),
                    "simulated": "false" if reading["quality"] == "measured" else "true",
                    **_held(holders, uuid),
                }
                counts = quantity in COUNTERS
                family = families.setdefault(
                    PREFIX + quantity + ("_total" if counts else ""),
                    Family("counter" if counts else "gauge", HELP.get(quantity, quantity), []),
                )
                family.samples.append((labels, float(reading["value"])))
    return _text(families)


def render_node(nodes: Iterable[NodeFacts]) -> str:
    """What is to be known of nodes' devices beside their readings."""
    families: dict[str, Family] = {}

    def add(name: str, text: str, labels: Labels, value: float, kind: str = "gauge") -> None:
        families.setdefault(name, Family(kind, text, [])).samples.append((labels, value))

    for facts in nodes:
        node = {"node": facts.node}
        add("suanli_node_devices_found", "Devices that answer.", node, float(facts.found))
        if facts.expected is not None:
            expected = "Devices that the driver holds, or that were seen once."
            add("suanli_node_devices_expected", expected, node, float(facts.expected))
        if facts.sampling:
            doing = "1 for what the sampling of devices is doing."
            add("suanli_node_sampling", doing, {**node, "phase": facts.sampling}, 1.0)
            stuck = "For how long a call of the driver has not come back; 0: none hangs."
            add("suanli_node_driver_call_stuck_seconds", stuck, node, facts.stuck_s)
            again = "Times that the sampling process was started again."
            add("suanli_node_sampling_restarts_total", again, node, float(facts.restarts), "counter")
        if facts.versions:
            add("suanli_node_driver_info", "Versions of driver and library.", {**node, **facts.versions}, 1.0)
    return _text(families)


# ---- dcgm-exporter's names -------------------------------------------------------------------------------------------


class _Dcgm(NamedTuple):
    """Its name, what our value is multiplied by, and its own help in our words."""

    name: str
    scale: float
    text: str
    kind: str = "gauge"


MIB = 1.0 / (1 << 20)
DCGM: Mapping[Quantity, _Dcgm] = {
    Quantity.UTILISATION_PERCENT: _Dcgm("DCGM_FI_DEV_GPU_UTIL", 1, "GPU utilization (in %)."),
    Quantity.SM_ACTIVITY_PERCENT: _Dcgm("DCGM_FI_PROF_SM_ACTIVE", 0.01, "Share of SMs that worked."),
    Quantity.TENSOR_ACTIVITY_PERCENT: _Dcgm("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 0.01, "Share of tensor activity."),
    Quantity.MEMORY_ACTIVITY_PERCENT: _Dcgm("DCGM_FI_PROF_DRAM_ACTIVE", 0.01, "Share of memory bandwidth."),
    Quantity.MEMORY_USED_BYTES: _Dcgm("DCGM_FI_DEV_FB_USED", MIB, "Memory in use (in MiB)."),
    Quantity.MEMORY_RESERVED_BYTES: _Dcgm("DCGM_FI_DEV_FB_RESERVED", MIB, "Memory that the driver keeps (in MiB)."),
    Quantity.MEMORY_TOTAL_BYTES: _Dcgm("DCGM_FI_DEV_FB_TOTAL", MIB, "Memory in all (in MiB)."),
    Quantity.POWER_WATTS: _Dcgm("DCGM_FI_DEV_POWER_USAGE", 1, "Power draw (in W)."),
    Quantity.POWER_LIMIT_WATTS: _Dcgm("DCGM_FI_DEV_POWER_MGMT_LIMIT", 1, "Power cap (in W)."),
    Quantity.ENERGY_JOULES: _Dcgm(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1000, "Energy since the driver was loaded (in mJ).", "counter"
    ),
    Quantity.TEMPERATURE_CELSIUS: _Dcgm("DCGM_FI_DEV_GPU_TEMP", 1, "GPU temperature (in C)."),
    Quantity.MEMORY_TEMPERATURE_CELSIUS: _Dcgm("DCGM_FI_DEV_MEMORY_TEMP", 1, "Memory temperature (in C)."),
    Quantity.CLOCK_MEGAHERTZ: _Dcgm("DCGM_FI_DEV_SM_CLOCK", 1, "SM clock (in MHz)."),
    Quantity.MEMORY_CLOCK_MEGAHERTZ: _Dcgm("DCGM_FI_DEV_MEM_CLOCK", 1, "Memory clock (in MHz)."),
    Quantity.LAST_FAULT: _Dcgm("DCGM_FI_DEV_XID_ERRORS", 1, "The last XID (0: none was heard of)."),
    Quantity.PCIE_REPLAYS: _Dcgm("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 1, "PCIe retries.", "counter"),
    Quantity.ECC_CORRECTED_VOLATILE: _Dcgm("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 1, "Single-bit errors.", "counter"),
    Quantity.ECC_UNCORRECTED_VOLATILE: _Dcgm("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 1, "Double-bit errors.", "counter"),
    Quantity.ECC_CORRECTED_AGGREGATE: _Dcgm("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", 1, "Single-bit errors ever.", "counter"),
    Quantity.ECC_UNCORRECTED_AGGREGATE: _Dcgm("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", 1, "Double-bit errors ever.", "counter"),
    Quantity.ROWS_REMAPPED_CORRECTED: _Dcgm("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", 1, "Rows remapped.", "counter"),
    Quantity.ROWS_REMAPPED_UNCORRECTED: _Dcgm(
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", 1, "Rows remapped for uncorrectable errors.", "counter"
    ),
    Quantity.ROW_REMAP_FAILED: _Dcgm("DCGM_FI_DEV_ROW_REMAP_FAILURE", 1, "Whether a row could not be remapped."),
}
FREE = _Dcgm("DCGM_FI_DEV_FB_FREE", MIB, "Memory that is free (in MiB).")


def render_dcgm(
    devices: Iterable[tuple[str, str, Device]],
    readings: Mapping[str, Json],
    *,
    holders: Mapping[str, Holders] | None = None,
) -> str:
    """Real accelerators under dcgm-exporter's names (dashboards would count CPU devices as cards). `devices` come with
    their node and its driver's version, `readings` are by uuid, as readings_json gives them.

    A device that was never heard to have a fault has an XID of 0, as there: it is the name's value for "none".
    """
    families: dict[str, Family] = {}
    for hostname, driver, device in devices:
        if device.simulated or device.vendor == "cpu":
            continue
        labels = _dcgm_labels(device, hostname, driver) | _held(holders, device.uuid)
        fields = readings.get(device.uuid, {})
        values = {name: fields[name]["value"] for name in fields if "value" in fields[name]}
        if Quantity.FAULTS in values:
            values.setdefault(Quantity.LAST_FAULT, 0.0)
        for quantity, told in DCGM.items():
            if quantity in values:
                _add(families, told, labels, float(values[quantity]))
        parts = [values.get(q) for q in (Quantity.MEMORY_TOTAL_BYTES, Quantity.MEMORY_USED_BYTES)]
        if all(part is not None for part in parts):
            reserved = float(values.get(Quantity.MEMORY_RESERVED_BYTES, 0.0))
            _add(families, FREE, labels, float(parts[0] or 0) - float(parts[1] or 0) - reserved)
    return _text(families)


def _dcgm_labels(device: Device, hostname: str, driver: str) -> dict[str, str]:
    bus = (device.bus_id or "").upper()
    labels = {
        "gpu": str(device.index),
        "UUID": device.card or device.uuid,
        "pci_bus_id": f"0000{bus}" if len(bus) == len("0000:3B:00.0") else bus,
        "device": f"{device.vendor}{device.index}",
        "modelName": device.model,
        "Hostname": hostname,
        "DCGM_FI_DRIVER_VERSION": driver,
    }
    if device.mig_profile is not None:
        labels |= {"GPU_I_PROFILE": device.mig_profile, "GPU_I_ID": device.uuid}
    return labels


def _add(families: dict[str, Family], told: _Dcgm, labels: Labels, value: float) -> None:
    family = families.setdefault(told.name, Family(told.kind, told.text, []))
    family.samples.append((labels, value * told.scale))


# ---- text ------------------------------------------------------------------------------------------------------------


def _held(holders: Mapping[str, Holders] | None, uuid: str) -> dict[str, str]:
    if holders is None:
        return {}
    by = holders.get(uuid, Holders())
    return {"job_id": ",".join(by.jobs), "tenant": ",".join(by.tenants)}


def _text(families: Mapping[str, Family]) -> str:
    lines: list[str] = []
    for name, family in sorted(families.items()):
        lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {family.kind}"]
        lines += [f"{name}{{{label_text(labels)}}} {value!r}" for labels, value in family.samples]
    return "\n".join(lines) + "\n" if lines else ""


def label_text(labels: Labels) -> str:
    """As it stands between braces, in Prometheus' text format."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
