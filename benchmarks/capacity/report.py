"""What stands in a capacity report, as values, before any language or layout.

Goals and context goals are separate lists and nothing sums over either. What nights tell (change points, outliers) and
the estimates of samples come in from benchmarks.history; here they are only sorted by their kinds of evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.capacity.arithmetic import CpuEntry, GoalCapacity, cpu_entries, goal_capacity
from benchmarks.capacity.audit import LogUsed
from benchmarks.capacity.cards import UnratedDevices, unrated_devices
from benchmarks.capacity.other_workloads import OtherWorkload, other_workloads
from benchmarks.catalogue import goal_precisions
from benchmarks.evidence import EvidenceKind
from benchmarks.history.findings import ChangePoint, Estimate, Outlier, Series
from benchmarks.history.store import History
from benchmarks.inventory import Node
from scheduler.schema.model import Card, Goal, Site


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """`inventory_from` says whose word the inventory is: `service`, or `kept` with the time at which it was kept.

    `log` None: the history did not come from a log file, so nothing can be recomputed from one.
    """

    generated_at_s: float
    goals: tuple[GoalCapacity, ...]
    context: tuple[Goal, ...]
    sites: Mapping[str, Site]
    cpu: tuple[CpuEntry, ...]
    cpu_devices: int
    others: tuple[OtherWorkload, ...]
    unrated: tuple[UnratedDevices, ...]
    changes: tuple[ChangePoint, ...]
    outliers: tuple[Outlier, ...]
    simulated_changes: tuple[ChangePoint, ...]
    simulated_outliers: tuple[Outlier, ...]
    inventory_from: str
    inventory_at_s: float
    unreadable_history_lines: int
    log: LogUsed | None
    nodes: tuple[Node, ...]
    catalogue: Mapping[str, Card]
    provenance: Mapping[str, Any]

    @property
    def label(self) -> str | None:
        """The weakest label of the windows behind the goals: one smoke window makes it a smoke report. Where no goal
        has a window, the CPUs' weakest."""
        labels = {g.window.label for g in self.goals if g.window} or {e.label for e in self.cpu if e.label}
        return next((label for label in ("smoke", "nightly", "acceptance") if label in labels), None)

    @property
    def simulated_only(self) -> bool:
        """Whether no real node stands behind it: then every page of it is marked, and not the boxes alone."""
        return bool(self.nodes) and all(node.simulated for node in self.nodes)

    @property
    def models(self) -> tuple[str, ...]:
        """Of installed real accelerators: those whose catalogue rows the figures rest on."""
        return tuple(sorted({d.model for n in self.nodes if not n.simulated for d in n.devices if not d.is_cpu}))


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
    log: LogUsed | None = None,
    changes: Sequence[ChangePoint] = (),
    outliers: Sequence[Outlier] = (),
    estimates: Mapping[str, Estimate] | None = None,
) -> CapacityReport:
    """All figures of one report. `history` holds the results that the report may use (its reader chose the period);
    `estimates` are by the goal's name."""
    results = history.results
    kept = {name: site for goal in goals for name in goal.sites if (site := sites.get(name)) is not None}
    precisions = {p for g in goals for p in goal_precisions(g.precision)}

    def concerns(series: Series) -> bool:
        return series.site in kept and (not series.precision or series.precision in precisions)

    told = tuple(sorted((c for c in changes if concerns(c.series)), key=lambda c: (-c.at_s, c.series)))
    slow = tuple(sorted((o for o in outliers if concerns(o.series)), key=lambda o: (o.score, o.series)))
    made_up = EvidenceKind.SIMULATED
    return CapacityReport(
        generated_at_s=generated_at_s,
        goals=tuple(
            goal_capacity(g, nodes, catalogue, results, estimate=(estimates or {}).get(g.name))
            for g in goals
            if not g.is_context
        ),
        context=tuple(g for g in goals if g.is_context),
        sites=sites,
        cpu=cpu_entries(nodes, results),
        cpu_devices=sum(d.is_cpu for n in nodes if not n.simulated for d in n.devices),
        others=other_workloads(nodes, results),
        unrated=unrated_devices(nodes, catalogue),
        changes=tuple(c for c in told if c.series.evidence is not made_up),
        outliers=tuple(o for o in slow if o.series.evidence is not made_up),
        simulated_changes=tuple(c for c in told if c.series.evidence is made_up),
        simulated_outliers=tuple(o for o in slow if o.series.evidence is made_up),
        inventory_from=inventory_from,
        inventory_at_s=generated_at_s if inventory_at_s is None else inventory_at_s,
        unreadable_history_lines=history.unreadable_lines,
        log=log,
        nodes=tuple(nodes),
        catalogue=catalogue,
        provenance=provenance,
    )
