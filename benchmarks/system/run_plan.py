"""What is asked of a cluster, and what job does that make of a node?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.inventory import Node
from benchmarks.protocol import NIGHTLY_WINDOW_S
from benchmarks.suite import Measurement, measurements
from benchmarks.workloads.simulated import CardFigures

# From submit to the shared start, where it is named at once; and how long arming may take where it is not.
SMOKE_LEAD_S = 12.0
NIGHTLY_LEAD_S = 120.0
SMOKE_ARMING_S = 60.0
NIGHTLY_ARMING_S = 600.0
# Beyond the end of the window, for the last check and the result's way back.
TAIL_S = 60.0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is asked for. `nodes` empty: all, or those of the reservation. No precision: each device's own.

    `lead_s` None: by the window; the longest time that arming may take, or the time to the start where nobody meets.
    """

    window_s: float
    precision: str | None = None
    nodes: tuple[str, ...] = ()
    lead_s: float | None = None
    command: tuple[str, ...] = (sys.executable, "-m", "benchmarks", "run", "--worker")
    working_dir: str = str(Path(benchmarks.__path__[0]).resolve().parent)
    workloads: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    reservation: str | None = None
    best_shape: bool = False

    @property
    def lead(self) -> float:
        if self.lead_s is not None:
            return self.lead_s
        return SMOKE_LEAD_S if self.window_s < NIGHTLY_WINDOW_S else NIGHTLY_LEAD_S

    @property
    def arming_limit_s(self) -> float:
        if self.lead_s is not None:
            return self.lead_s
        return SMOKE_ARMING_S if self.window_s < NIGHTLY_WINDOW_S else NIGHTLY_ARMING_S

    @property
    def asked_precisions(self) -> tuple[str, ...]:
        return self.precisions or ((self.precision,) if self.precision else ())

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return measurements(self.workloads, self.asked_precisions)

    @property
    def made_up(self) -> Measurement | None:
        """What simulated cards are asked for: GEMM in one precision, as of nothing else it is published what such a
        card reaches. None where no GEMM is."""
        return next((m for m in self.measurements if m.workload == "gemm"), None)

    @property
    def warmup_s(self) -> float:
        """Of load before the shared start, after the last rack's beginning."""
        return max(1.0, min(120.0, 0.15 * self.window_s))


def job_of(
    node: Node, plan: RunPlan, cards: Mapping[str, CardFigures], start_at_s: float | None, run: str, nodes: int
) -> dict[str, Any]:
    """The job file of one node's worker, pinned to the node and to its free whole devices."""
    command = [*plan.command, "--window", f"{plan.window_s:g}", "--run", run]
    if start_at_s is not None:
        command += ["--start-at", f"{start_at_s:.3f}"]
    made_up = plan.made_up.precision if plan.made_up else None
    precisions = ((made_up,) if made_up else ()) if node.simulated else plan.asked_precisions
    if precisions:
        command += ["--precision", ",".join(precisions)]
    if plan.workloads and not node.simulated:
        command += ["--workloads", ",".join(plan.workloads)]
    if plan.best_shape and not node.simulated:
        command += ["--best-shape"]
    if node.simulated:
        card = cards.get(node.free[0].model, CardFigures(None, None))
        if card.peak_tflops is not None:
            command += ["--card-peak-tflops", f"{card.peak_tflops:g}"]
        if card.achieved_tflops is not None:
            command += ["--card-achieved-tflops", f"{card.achieved_tflops:g}"]
    cpus = max(1, min(len(node.free), node.cpus_free_milli // 1000))
    each_s = plan.window_s + plan.warmup_s + TAIL_S + nodes
    job: dict[str, Any] = {
        "name": f"bench-{run}",
        "kind": "benchmark",
        "command": command,
        "working_dir": plan.working_dir,
        "resources": {
            "device": "any",
            "count": len(node.free),
            "cpus": cpus,
            "node": node.name,
            "simulated": node.simulated,
        },
        "time_limit": max(plan.lead, plan.arming_limit_s) + TAIL_S + len(plan.measurements) * each_s,
    }
    if plan.reservation is not None:
        job["reservation"] = plan.reservation
    return job
