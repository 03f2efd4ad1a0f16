"""What stands in a capacity report, as values and as JSON (`suanli/capacity/1`), before any language or layout.

Goals and context goals are separate lists and nothing sums over either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.capacity.arithmetic import (
    CpuEntry,
    GoalCapacity,
    Ratio,
    UnratedDevices,
    cpu_entries,
    goal_capacity,
    unrated_devices,
)
from benchmarks.evidence import Extrapolated, Measured, Nominal, Simulated
from benchmarks.history.store import History
from benchmarks.inventory import Node
from benchmarks.provenance import iso_utc
from scheduler.schema.model import Card, Goal, Site

CAPACITY_SCHEMA = "suanli/capacity/1"


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """`inventory_from` says whose word the inventory is: `service`, or `kept` with the time at which it was kept."""

    generated_at_s: float
    goals: tuple[GoalCapacity, ...]
    context: tuple[Goal, ...]
    sites: Mapping[str, Site]
    cpu: tuple[CpuEntry, ...]
    cpu_devices: int
    unrated: tuple[UnratedDevices, ...]
    inventory_from: str
    inventory_at_s: float
    unreadable_history_lines: int
    provenance: Mapping[str, Any]

    @property
    def label(self) -> str | None:
        """The weakest label of the windows behind the goals: one smoke window makes it a smoke report."""
        labels = {g.window.label for g in self.goals if g.window} | {e.label for e in self.cpu if e.label}
        return next((label for label in ("smoke", "nightly", "acceptance") if label in labels), None)


def build(
    *,
    goals: Sequence[Goal],
    sites: Mapping[str, Site],
    catalogue: Mapping[str, Card],
    nodes: Sequence[Node],
    history: History,
    generated_at_s: float,
    provenance: Mapping[str, Any],
    inventory_from: str = "service",
    inventory_at_s: float | None = None,
) -> CapacityReport:
    """All figures of one report. `history` holds the results that the report may use (its reader chose the period)."""
    results = history.results
    return CapacityReport(
        generated_at_s=generated_at_s,
        goals=tuple(goal_capacity(g, nodes, catalogue, results) for g in goals if not g.is_context),
        context=tuple(g for g in goals if g.is_context),
        sites=sites,
        cpu=cpu_entries(nodes, results),
        cpu_devices=sum(d.is_cpu for n in nodes if not n.simulated for d in n.devices),
        unrated=unrated_devices(nodes, catalogue),
        inventory_from=inventory_from,
        inventory_at_s=generated_at_s if inventory_at_s is None else inventory_at_s,
        unreadable_history_lines=history.unreadable_lines,
        provenance=provenance,
    )


def to_json(report: CapacityReport) -> dict[str, Any]:
    """`out/capacity.json`. Undefined values are null with a reason beside them."""
    return {
        "schema": CAPACITY_SCHEMA,
        "generated_at": iso_utc(report.generated_at_s),
        "label": report.label,
        "goals": [_goal_json(g) for g in report.goals],
        "context": [_about_goal(g) for g in report.context],
        "cpu": {
            "counts_towards_goals": False,
            "devices": report.cpu_devices,
            "gflops": _cpu_sums(report.cpu),
            "entries": [asdict(e) | {"recorded_at": iso_utc(e.recorded_at_s)} for e in report.cpu],
        },
        "unrated_devices": [asdict(u) for u in report.unrated],
        "inventory": {"from": report.inventory_from, "at": iso_utc(report.inventory_at_s)},
        "unreadable_history_lines": report.unreadable_history_lines,
        "provenance": dict(report.provenance),
    }


def _about_goal(goal: Goal) -> dict[str, Any]:
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


def _goal_json(g: GoalCapacity) -> dict[str, Any]:
    return _about_goal(g.goal) | {
        "nominal": _sum(g.nominal.rate, g.nominal.devices),
        "measured": _sum(g.measured.rate, g.measured.devices),
        "extrapolated": _sum(g.extrapolated.rate, g.extrapolated.devices),
        "simulated": _sum(g.simulated.rate, g.simulated.devices)
        | {"installed": g.simulated_installed, "counts_towards_goal": False},
        "missing_pflops": g.missing_pflops,
        "cards_owned": g.cards_owned,
        "cards_run": g.cards_run,
        "cards_unrated": g.unrated_cards,
        "availability": _ratio(g.availability),
        "efficiency": _ratio(g.efficiency),
        "coverage": _ratio(g.coverage),
        "r_lock_pflops": _ratio(g.lock_pflops),
        "energy_joules": _ratio(g.energy_joules),
        "models": [asdict(m) for m in g.models],
        "exclusions": [asdict(e) | {"why": str(e.why)} for e in g.exclusions],
        "window": None if g.window is None else asdict(g.window),
    }


def _sum(rate: Nominal | Measured | Extrapolated | Simulated, devices: int) -> dict[str, Any]:
    return {"pflops": rate.pflops, "devices": devices}


def _ratio(ratio: Ratio) -> dict[str, Any]:
    return {"value": ratio.value, "reason": None if ratio.reason is None else str(ratio.reason)}


def _cpu_sums(entries: Sequence[CpuEntry]) -> dict[str, float]:
    """GFLOP/s by precision over verified groups. Precisions are not summed."""
    sums: dict[str, float] = {}
    for entry in entries:
        if entry.verified:
            sums[entry.precision] = sums.get(entry.precision, 0.0) + entry.gflops
    return sums
