"""A capacity report as JSON: `suanli/capacity/2`, which has every field of version 1 and more.

Undefined values are null with a reason beside them. `inputs` holds what a recomputation needs beside the log: the
inventory as it was, and which rows of the catalogue and which goals the figures rest on. `figures_sha256` is over
everything but itself and `provenance`: pages print it, so that a page and its JSON can be told to belong together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.capacity.arithmetic import CpuEntry, GoalCapacity, RateT, Ratio, Sum
from benchmarks.capacity.audit import catalogue_rows, log_json, sha256_of
from benchmarks.capacity.report import CapacityReport
from benchmarks.history.findings import ChangePoint, Outlier
from benchmarks.history.which_night import DAY_S
from benchmarks.inventory import Device, Node
from benchmarks.provenance import iso_utc
from scheduler.schema.model import Goal

CAPACITY_SCHEMA = "suanli/capacity/2"
NOT_FIGURES = ("provenance", "figures_sha256")


def to_json(report: CapacityReport) -> dict[str, Any]:
    document = {
        "schema": CAPACITY_SCHEMA,
        "generated_at": iso_utc(report.generated_at_s),
        "generated_at_s": report.generated_at_s,
        "label": report.label,
        "simulated_only": report.simulated_only,
        "goals": [_goal_json(g, report.generated_at_s) for g in report.goals],
        "context": [about_goal(g) for g in report.context],
        "cpu": {
            "counts_towards_goals": False,
            "devices": report.cpu_devices,
            "gflops": _cpu_sums(report.cpu),
            "entries": [
                asdict(e) | {"verdict": str(e.verdict), "recorded_at": iso_utc(e.recorded_at_s)} for e in report.cpu
            ],
        },
        "other_workloads": [
            asdict(e) | {"counts_towards_goal": False, "recorded_at": iso_utc(e.recorded_at_s)} for e in report.others
        ],
        "unrated_devices": [asdict(u) for u in report.unrated],
        "changes": [_change_json(c) for c in (*report.changes, *report.simulated_changes)],
        "outliers": [_outlier_json(o) for o in (*report.outliers, *report.simulated_outliers)],
        "inventory": {"from": report.inventory_from, "at": iso_utc(report.inventory_at_s)},
        "unreadable_history_lines": report.unreadable_history_lines,
        "log": log_json(report.log),
        "inputs": {
            "inventory_at_s": report.inventory_at_s,
            "nodes": [_node_json(n) for n in report.nodes],
            "catalogue": catalogue_rows(report.catalogue, report.models),
        },
        "provenance": dict(report.provenance),
    }
    return document | {"figures_sha256": figures_sha256(document)}


def json_text(document: Mapping[str, Any]) -> str:
    """The same in every language."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def figures_sha256(document: Mapping[str, Any]) -> str:
    return sha256_of({name: value for name, value in document.items() if name not in NOT_FIGURES})


def about_goal(goal: Goal) -> dict[str, Any]:
    return {
        "name": goal.name,
        "title_en": goal.title_en,
        "title_zh": goal.title_zh,
        "site": ", ".join(goal.sites),
        "sites": list(goal.sites),
        "goal_pflops": goal.goal_pflops,
        "precision": goal.precision,
        "due": goal.due,
        "source": goal.source,
    }


def nodes_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    """The inventory that a report carries, back as values. Raises KeyError, TypeError or ValueError."""
    return tuple(
        Node(
            name=str(row["name"]),
            site=str(row["site"]),
            state="",
            simulated=bool(row["simulated"]),
            devices=tuple(Device(str(u), str(m), str(v), True) for u, m, v in row["devices"]),
            rack=None if row.get("rack") is None else str(row["rack"]),
        )
        for row in rows
    )


def _node_json(node: Node) -> dict[str, Any]:
    devices = [[d.uuid, d.model, d.vendor] for d in node.devices]
    row = {"name": node.name, "site": node.site, "simulated": node.simulated, "devices": devices}
    return row | {"rack": node.rack} if node.rack else row


def _goal_json(g: GoalCapacity, at_s: float) -> dict[str, Any]:
    return about_goal(g.goal) | {
        "nominal": _sum(g.nominal),
        "measured": _sum(g.measured),
        "extrapolated": _sum(g.extrapolated),
        "simulated": _sum(g.simulated) | {"installed": g.simulated_installed, "counts_towards_goal": False},
        "interval": None if g.interval is None else asdict(g.interval),
        "estimate": None if g.estimate is None else asdict(g.estimate) | {"evidence": "extrapolated"},
        "missing_pflops": g.missing_pflops,
        "missing_cards": [asdict(m) for m in g.missing_cards],
        "cards_owned": g.cards_owned,
        "cards_run": g.cards_run,
        "cards_unrated": g.unrated_cards,
        "availability": _ratio(g.availability),
        "efficiency": _ratio(g.efficiency),
        "coverage": _ratio(g.coverage),
        "r_lock_pflops": _ratio(g.lock_pflops),
        "energy_joules": _ratio(g.energy_joules),
        "gflops_per_watt": _ratio(g.gflops_per_watt),
        "energy_cards": 0 if g.energy is None else g.energy.cards,
        "models": [asdict(m) for m in g.models],
        "cards": [asdict(c) for c in g.cards],
        "exclusions": [
            asdict(e) | {"why": str(e.why), "age_days": age_days(e.last_verified_at_s, at_s)} for e in g.exclusions
        ],
        "window": None if g.window is None else asdict(g.window),
        "nights": [asdict(n) for n in g.nights],
        "night_range": None if g.night_range is None else asdict(g.night_range),
        "trend": asdict(g.trend) | {"outlook": str(g.trend.outlook)},
    }


def age_days(then_s: float | None, at_s: float) -> float | None:
    return None if then_s is None else (at_s - then_s) / DAY_S


def _sum(held: Sum[RateT]) -> dict[str, Any]:
    """`pflops` null: there is no such figure, for this reason."""
    found = {"pflops": held.pflops, "devices": held.devices}
    return found if held.why_none is None else found | {"reason": str(held.why_none)}


def _ratio(ratio: Ratio) -> dict[str, Any]:
    return {"value": ratio.value, "reason": None if ratio.reason is None else str(ratio.reason)}


def _change_json(change: ChangePoint) -> dict[str, Any]:
    found = asdict(change)
    found["series"]["evidence"] = str(change.series.evidence)
    return found | {"relative": change.relative}


def _outlier_json(outlier: Outlier) -> dict[str, Any]:
    found = asdict(outlier)
    found["series"]["evidence"] = str(outlier.series.evidence)
    return found | {"kind": str(outlier.kind)}


def _cpu_sums(entries: Sequence[CpuEntry]) -> dict[str, float]:
    """GFLOP/s by precision over verified groups. Precisions are not summed."""
    sums: dict[str, float] = {}
    for entry in entries:
        if entry.verified:
            sums[entry.precision] = sums.get(entry.precision, 0.0) + entry.gflops
    return sums
