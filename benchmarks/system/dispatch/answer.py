"""What is demanded of dispatch, and the benchmark's answer, in the one shape of all benchmarks.

Every figure says what it measures: `durable` (until the answer that says it is on the disk) or `end to end` (until a
process runs, or until its end is shown); `suanli bench planner` has the decisions alone. They
are true of the machine that ran it, and of what else it did; no accelerator is used, and nothing here says anything
about one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.planner.answer import Bound, cases_of, code_of
from benchmarks.record import BENCH_SCHEMA

Measures = Literal["durable", "end to end", "reference"]


@dataclass(frozen=True, slots=True)
class Demand:
    bound: Bound
    measures: Measures
    about: str


DEMANDS: Mapping[str, Demand] = {
    "acknowledged_p50_ms": Demand(Bound("ms"), "durable", "one submission, from before it is sent to its answer"),
    "start_p50_ms": Demand(Bound("ms", 10, 4), "end to end", "from before a submission to its process's start"),
    "start_p99_ms": Demand(Bound("ms", 40), "end to end", "from before a submission to its process's start"),
    "exit_visible_p50_ms": Demand(Bound("ms", 20), "end to end", "from a process's end to the answer that tells it"),
    "next_start_p50_ms": Demand(
        Bound("ms", 20), "end to end", "from a process's end to the next one's start on the same devices"
    ),
    "array_per_s": Demand(
        Bound("tasks/s", 450, 800, "higher"), "end to end", "one array of no-op commands, until the last end is shown"
    ),
    "array_not_once": Demand(Bound("tasks", 0), "end to end", "tasks of it that ran never, or more than once"),
    "bulk_per_s": Demand(
        Bound("jobs/s", 300, None, "higher"), "end to end", "separate jobs in one request, until the last end is shown"
    ),
    "array_stamped_per_s": Demand(
        Bound("tasks/s", None, None, "higher"), "end to end", "one array of `date`, until the last stamp: as of peers"
    ),
    "bare_per_s": Demand(
        Bound("processes/s", None, None, "higher"), "reference", "posix_spawn and wait, one after the other, alone"
    ),
    "start_against_ray_job_submit": Demand(
        Bound("times as fast", 50, None, "higher"), "end to end", "its p50 start over ours, in this run"
    ),
    "array_against_hyperqueue": Demand(
        Bound("times as many", 1, None, "higher"), "end to end", "our stamped array over its, in this run"
    ),
}
"""Every case, in the order in which they are told. Names are stable."""
BOUNDS = {case: demand.bound for case, demand in DEMANDS.items()}


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """What a peer reached in the same run. `start_ms`: each; `array_per_s`: by the stamps of its tasks. `skipped`: why
    there are none."""

    name: str
    version: str = ""
    start_ms: tuple[float, ...] = ()
    array_per_s: float | None = None
    notes: str = ""
    skipped: str = ""

    @property
    def start_p50_ms(self) -> float | None:
        return percentile(self.start_ms, 50) if self.start_ms else None

    def to_json(self) -> dict[str, Any]:
        if self.skipped:
            return {"skipped": self.skipped}
        return {
            "version": self.version,
            "start_p50_ms": self.start_p50_ms,
            "starts": len(self.start_ms),
            "array_per_s": self.array_per_s,
            "measures": "end to end",
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class DispatchAnswer:
    """`partial`: it was interrupted, and cases are missing."""

    provenance: Mapping[str, Any]
    values: Mapping[str, float]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    peers: tuple[PeerFigures, ...] = ()
    partial: bool = False

    def ok(self, case: str) -> bool | None:
        return BOUNDS[case].met(self.values[case], BOUNDS[case].must)

    @property
    def exit_code(self) -> int:
        return code_of(BOUNDS, self.values, partial=self.partial)

    def to_json(self) -> dict[str, Any]:
        measures = {case: DEMANDS[case].measures for case in self.values}
        document: dict[str, Any] = {
            "schema": BENCH_SCHEMA,
            "provenance": {**self.provenance, "measures": measures, "details": dict(self.details)},
            "cases": cases_of(BOUNDS, self.values),
            "peers": {peer.name: peer.to_json() for peer in self.peers},
        }
        return document | {"partial": True} if self.partial else document


def with_ratios(values: Mapping[str, float], peers: tuple[PeerFigures, ...]) -> dict[str, float]:
    """The cases, and those that set them against a peer of the same run."""
    found = dict(values)
    by_name = {peer.name: peer for peer in peers}
    ray_jobs, hyperqueue = by_name.get("ray-job-submit"), by_name.get("hyperqueue")
    if ray_jobs is not None and ray_jobs.start_p50_ms is not None and "start_p50_ms" in found:
        found["start_against_ray_job_submit"] = round(ray_jobs.start_p50_ms / found["start_p50_ms"], 2)
    if hyperqueue is not None and hyperqueue.array_per_s and "array_stamped_per_s" in found:
        found["array_against_hyperqueue"] = round(found["array_stamped_per_s"] / hyperqueue.array_per_s, 3)
    return found


def percentile(values: tuple[float, ...] | list[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not exceed (nearest rank)."""
    ranked = sorted(values)
    place = max(0, -(-len(ranked) * percent // 100) - 1)
    return ranked[int(place)]
