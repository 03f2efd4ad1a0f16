"""`suanli nodes`: which nodes there are, what stands in them, what is free, and why one takes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client
from scheduler.cli.drain_progress import left_text
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, show_json, show_pairs, show_table
from scheduler.errors import NotFound

Node = Mapping[str, Any]

SHARES = {
    "mps": "held by NVIDIA's MPS: a job gets no more of a card than its share",
    "advisory": "advisory: nothing holds a job to its share of a card",
}
COLUMNS = (
    Column("NODE"),
    Column("SITE", shed=2),
    Column("RACK", shed=1),
    Column("STATE", styled=True),
    Column("DEVICES", folds=True, least=20),
    Column("USED", right=True),
    Column("CPUS-FREE", right=True, shed=4),
    Column("MEMORY-FREE", right=True, shed=3),
    Column("JOBS", folds=True, least=8),
    Column("REASON", folds=True, below=True),
)


@click.command()
@click.argument("name", metavar="[NODE]", required=False)
@click.option("--reasons", is_flag=True, help="Only nodes that take nothing or have a note, with who said so and when.")
@output_option
def nodes(name: str | None, reasons: bool, output: str) -> None:
    """List the nodes; with NODE, its devices and their last readings."""
    answer = Client.from_env().get("/v1/nodes")
    if name is not None:
        answer["nodes"] = [node for node in answer["nodes"] if node["name"] == name]
        if not answer["nodes"]:
            raise NotFound(f"there is no node {name}; `suanli nodes` lists them", field="node")
    if output == "json":
        show_json("nodes", answer)
    elif reasons:
        show_table(reasons_table(answer["nodes"], now_s=time.time()))
    elif name is not None:
        _show_one(answer["nodes"][0])
    else:
        show_table(nodes_table(answer["nodes"]))
        if not answer["nodes"]:
            hint("no node answers yet; `suanli status` shows the agents")


def nodes_table(found: Sequence[Node]) -> Table:
    """RACK is shown where any node is in one."""
    racks = any(node["rack"] for node in found)
    table = Table([column for column in COLUMNS if racks or column.title != "RACK"])
    for node in found:
        used = sum(device["used_milli"] for device in node["devices"])
        table.add(
            node["name"],
            node["site"],
            *([node["rack"]] if racks else []),
            node["state"],
            devices_text(node),
            f"{words.milli(used)}/{len(node['devices'])}",
            f"{words.milli(node['cpus_free_milli'])}/{words.milli(node['cpus_milli'])}",
            f"{words.size(node['memory_free_bytes'])}",
            " ".join(jobs_on(node)),
            "; ".join(_why_not_ready(node)),
        )
    return table


def devices_text(node: Node) -> str:
    """`8 x H100 SXM (simulated)`: what is installed, and never a word that could pass for a real card."""
    counts = Counter(device_text(device) for device in node["devices"])
    parts = [f"{count} x {text}" for text, count in counts.items()]
    if not parts and node["simulated"]:
        return "none (simulated)"
    return ", ".join(parts) or "none"


def device_text(device: Node) -> str:
    """`H100 SXM (simulated)`, `MIG 1g.10gb of H100 SXM`."""
    part = f"MIG {device['mig_profile']} of " if device["mig_profile"] else ""
    return f"{part}{device['model']}{' (simulated)' if device['simulated'] else ''}"


def jobs_on(node: Node) -> list[str]:
    """Ids of the jobs on its devices, each once, in the order of devices."""
    return list(dict.fromkeys(job for device in node["devices"] for job in device["jobs"]))


def reasons_table(found: Sequence[Node], *, now_s: float) -> Table:
    table = Table(
        [
            "NODE",
            Column("STATE", styled=True),
            Column("REASON", folds=True, least=30),
            Column("BY", shed=2),
            Column("SINCE", right=True, shed=1),
        ]
    )
    for node in found:
        drain = node["drain"]
        if drain is not None:
            since = words.duration(now_s - drain["at_s"])
            table.add(node["name"], node["state"], drained_text(node, now_s=now_s), drain["by"], since)
        for finding in node["health"]:
            since = words.duration(now_s - finding["since_s"])
            table.add(node["name"], found_word(finding), found_text(finding), "health", since)
        for reservation in node["reservations"]:
            table.add(node["name"], "reserved", reserved_text(reservation), "", "")
        if node["state"] == "down":
            table.add(node["name"], node["state"], "; ".join(node["notes"]) or "its agent does not answer", "", "")
    noted: dict[str, list[str]] = {}
    for node in found:
        for note in node["notes"] if node["state"] != "down" else ():
            noted.setdefault(note, []).append(node["name"])
    for note, names in noted.items():  # what no one need act on comes last, once
        table.add(names[0] if len(names) == 1 else f"{len(names)} nodes", "note", note, "", "")
    return table


def drained_text(node: Node, *, now_s: float) -> str:
    """The reason, and what is still there: `fan noise (2 jobs are left: ...; deadline in 12m)`."""
    drain = node["drain"]
    return f"{drain['reason']} ({left_text(drain, now_s=now_s)})" if drain["left"] else str(drain["reason"])


def _why_not_ready(node: Node) -> list[str]:
    """The drain, reservations, and for a node that is down what is known of it; standing notes are in --reasons."""
    return node_notes(node) if node["state"] == "down" else node_notes({**node, "notes": []})


def node_notes(node: Node) -> list[str]:
    drained = [f"drained: {node['drain']['reason']}"] if node["drain"] is not None else []
    found = [found_text(each) for each in node["health"]]
    return drained + found + [reserved_text(each) for each in node["reservations"]] + list(node["notes"])


def found_word(finding: Mapping[str, Any]) -> str:
    """`cordoned`, `no new work`; `found` where nothing is done about it."""
    done = finding["use"] != "schedulable" and not finding["undone"]
    return str(finding["use"]).replace("_", " ") if done else "found"


def found_text(finding: Mapping[str, Any]) -> str:
    """`device 3: XID 79; restart the node (fallen-off-bus; nothing is done: ...)`"""
    what = "the node"
    if finding["uuid"] is not None:
        what = f"device {finding['uuid'] if finding['device'] is None else finding['device']}"
    undone = f"; nothing is done: {finding['undone']}" if finding["undone"] else ""
    return f"{what}: {finding['reason']}; {finding['advice']} ({finding['rule']}{undone})"


def reserved_text(reservation: Mapping[str, Any]) -> str:
    until = f"{words.moment(reservation['start_s'])} to {words.moment(reservation['end_s'])}"
    return f"reserved for {reservation['name']}, {until}: {reservation['reason']}"


def labels_text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items())


def _show_one(node: Node) -> None:
    show_pairs(
        [
            ("node", node["name"] + (" (simulated)" if node["simulated"] else "")),
            ("site", node["site"]),
            ("rack", node["rack"]),
            ("labels", labels_text(node["labels"])),
            ("state", node["state"]),
            ("address", node["address"]),
            ("CPUs", f"{words.milli(node['cpus_free_milli'])} of {words.milli(node['cpus_milli'])} free"),
            ("memory", f"{words.size(node['memory_free_bytes'])} of {words.size(node['memory_bytes'])} free"),
            ("shares", SHARES[node["shares"]]),
            ("notes", "\n".join(node_notes(node))),
        ]
    )
    click.echo()
    labels = any(device["labels"] for device in node["devices"])
    table = Table(
        [
            Column("DEVICE", right=True),
            Column("MODEL", folds=True),
            Column("MEMORY", right=True, shed=1),
            Column("USED", right=True),
            Column("JOBS", folds=True, least=6),
            *([Column("LABELS", folds=True, least=8, shed=2)] if labels else []),
            Column("READINGS", folds=True, below=True),
        ]
    )
    for device in node["devices"]:
        table.add(
            device["index"],
            device_text(device),
            words.size(device["memory_bytes"]),
            words.milli(device["used_milli"]),
            " ".join(device["jobs"]),
            *([labels_text(device["labels"])] if labels else []),
            _readings(node["readings"].get(device["uuid"], {})),
        )
    show_table(table)


# Of the many readings of a card (docs/telemetry.md): what a look at a node is for, and of the others what is amiss.
ALWAYS = frozenset(
    {
        "utilisation_percent",
        "memory_used_bytes",
        "memory_total_bytes",
        "power_watts",
        "energy_joules",
        "temperature_celsius",
        "clock_megahertz",
    }
)
WHEN_NOT_ZERO = frozenset(
    {
        "ecc_uncorrected_volatile",
        "faults",
        "held_by_hardware",
        "held_by_hardware_heat",
        "held_by_heat",
        "held_by_power_brake",
        "last_fault",
        "recovery_action",
        "row_remap_failed",
        "row_remap_pending",
        "vendor_health",
    }
)


def _is_shown(quantity: str, reading: Mapping[str, Any]) -> bool:
    return quantity in ALWAYS or (quantity in WHEN_NOT_ZERO and bool(reading.get("value")))


def _readings(readings: Mapping[str, Mapping[str, Any]]) -> str:
    """`power 412 watts, temperature 61 celsius`; what cannot be read is named with its reason, never as a number."""
    told: list[str] = []
    missing: dict[str, list[str]] = {}
    for quantity, reading in readings.items():
        if not _is_shown(quantity, reading):
            continue
        if quantity in WHEN_NOT_ZERO:
            told.append(f"{quantity.replace('_', ' ')}: {reading['value']:g}")
            continue
        if "unavailable" in reading:
            missing.setdefault(str(reading["unavailable"]), []).append(quantity.rsplit("_", 1)[0].replace("_", " "))
            continue
        value, unit = reading["value"], str(reading["unit"])
        number = f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"  # an energy counter has many digits
        shown = words.size(value) if unit == "bytes" else f"{number}{'%' if unit == 'percent' else ' ' + unit}"
        quality = reading.get("quality", "measured")
        mark = "" if quality == "measured" else f" ({quality})"
        told.append(f"{quantity.rsplit('_', 1)[0].replace('_', ' ')} {shown}{mark}")
    told += [f"no {', '.join(names)}: {why}" for why, names in missing.items()]
    return "; ".join(told)
