"""What is demanded of the planner, and the benchmark's answer: figures against those bounds, in the one shape of all
benchmarks (`benchmarks/record.py`).

The figures are true of the planner on the machine that ran it. The clusters are synthetic: no device is measured, none
is even looked at, and no figure here says anything about one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from benchmarks.provenance import of_our_own_code
from benchmarks.record import BENCH_SCHEMA, Case

EXIT_MISSED = 1
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Bound:
    """What is demanded of a case, if anything. `better`: which way the bounds are meant."""

    unit: str
    must: float | None = None
    aim: float | None = None
    better: Literal["lower", "higher"] = "lower"

    def met(self, value: float, bound: float | None) -> bool | None:
        if bound is None:
            return None
        return value <= bound if self.better == "lower" else value >= bound


BOUNDS: Mapping[str, Bound] = {
    "arrival_p99_ms": Bound("ms", 1, 0.2),
    "arrival_p50_ms": Bound("ms"),
    "arrival_started_p99_ms": Bound("ms"),
    "arrival_waits_p99_ms": Bound("ms"),
    "arrival_with_updates_p99_ms": Bound("ms"),
    "fill_openb_placements_per_s": Bound("placements/s", 10_000, 50_000, "higher"),
    "fill_openb_packing_per_s": Bound("placements/s", better="higher"),
    "pass_100k_pending_ms": Bound("ms", 50, 10),
    "pass_100k_unchanged_ms": Bound("ms"),
    "pass_100k_first_ms": Bound("ms"),
    "gang_1250x8_ms": Bound("ms", 10, 2),
    "preemption_10k_running_ms": Bound("ms", 20, 5),
    "preemption_gang_10k_running_ms": Bound("ms", 20, 5),
    "memory_mib": Bound("MiB", 500, 200),
    "explain_ms": Bound("ms", 100),
    "explain_head_ms": Bound("ms"),
    "explain_middle_ms": Bound("ms"),
    "explain_last_ms": Bound("ms"),
    "scaling_arrival_exponent": Bound("power of nodes", 1),
    "scaling_pass_exponent": Bound("power of nodes", 1),
    "scaling_gang_exponent": Bound("power of nodes", 1),
    "scaling_preemption_exponent": Bound("power of nodes", 1),
}
"""Every case, in the order in which they are told. Names are stable."""


def code_of(bounds: Mapping[str, Bound], values: Mapping[str, float], *, partial: bool) -> int:
    """What a benchmark ends with: 130 interrupted, 1 where a case is not what it must be, 0 otherwise."""
    if partial:
        return EXIT_INTERRUPTED
    return (
        EXIT_MISSED if any(bounds[case].met(value, bounds[case].must) is False for case, value in values.items()) else 0
    )


def cases_of(bounds: Mapping[str, Bound], values: Mapping[str, float]) -> list[dict[str, Any]]:
    """In the bounds' order, as JSON."""
    return [
        asdict(Case(case, values[case], bound.unit, bound.must, bound.aim, bound.met(values[case], bound.must)))
        for case, bound in bounds.items()
        if case in values
    ]


@dataclass(frozen=True, slots=True)
class Figure:
    """One case's value. `repeats`: how many timed calls (or builds) it is of. `details`: what else was seen."""

    case: str
    value: float
    repeats: int
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bound(self) -> Bound:
        return BOUNDS[self.case]

    @property
    def ok(self) -> bool | None:
        """Whether what must be is; None where nothing must."""
        return self.bound.met(self.value, self.bound.must)

    @property
    def reaches_aim(self) -> bool | None:
        return self.bound.met(self.value, self.bound.aim)

    def as_case(self) -> Case:
        return Case(self.case, self.value, self.bound.unit, self.bound.must, self.bound.aim, self.ok)


@dataclass(frozen=True, slots=True)
class PlannerAnswer:
    """`partial`: it was interrupted, and cases are missing."""

    provenance: Mapping[str, Any]
    figures: Sequence[Figure]
    partial: bool = False

    @property
    def exit_code(self) -> int:
        """130 interrupted, 1 where a case is not what it must be, 0 otherwise."""
        if self.partial:
            return EXIT_INTERRUPTED
        return EXIT_MISSED if any(figure.ok is False for figure in self.figures) else 0

    def to_json(self) -> dict[str, Any]:
        about = dict(self.provenance) | {
            "repeats": {figure.case: figure.repeats for figure in self.figures},
            "details": {figure.case: dict(figure.details) for figure in self.figures if figure.details},
        }
        document: dict[str, Any] = {
            "schema": BENCH_SCHEMA,
            "provenance": about,
            "cases": [asdict(figure.as_case()) for figure in self.figures],
            "peers": {},
        }
        return document | {"partial": True} if self.partial else document


def planner_provenance(*, seed: int, quick: bool, reference_step_s: float) -> dict[str, Any]:
    """Where, when and how."""
    of = "the planner itself; clusters, devices and jobs are synthetic, and no device was measured"
    return of_our_own_code(of) | {
        "library": f"numpy {np.__version__}",
        "torch": None,
        "label": "quick" if quick else "full",
        "seed": seed,
        "threads": 1,
        "clock": "wall (perf_counter_ns), one call at a time, after a warm-up; cpu_ in details is thread_time_ns",
        "collector": "run before each case, off while a call is timed, on between calls",
        "reference_step_us": round(reference_step_s * 1e6, 3),
    }
