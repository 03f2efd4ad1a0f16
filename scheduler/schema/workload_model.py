"""A workload as its file describes it: streams of jobs to be drawn, services with their requests, files to be read.
Values; parsed in workload_file.py, drawn in scheduler/simulation/workloads/.

Durations in seconds, rates by day (jobs) or second (requests). Time 0 is a Monday, 00:00.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scheduler.core.demand import Constraints, Demand
from scheduler.core.jobs import JobKind


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a rate changes over days and weeks: by `1 + swing * cos(2 pi (hour - peak_hour) / 24)`, and on Saturdays and
    Sundays by `weekend` besides. The mean over a working day is the rate as given."""

    peak_hour: float = 15.0
    swing: float = 0.0
    weekend: float = 1.0


@dataclass(frozen=True, slots=True)
class Durations:
    """`lognormal`: median `scale_s`, the logarithm's standard deviation `spread`. `pareto`: least `scale_s`, exponent
    `spread` (the smaller, the heavier its tail). `fixed`: `scale_s`. None beyond `most_s`."""

    law: Literal["lognormal", "pareto", "fixed"]
    scale_s: float
    spread: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that jobs of a stream ask for; `weight`: how often, relatively."""

    weight: float
    demand: Demand
    workers_min: int
    workers_max: int
    constraints: Constraints


@dataclass(frozen=True, slots=True)
class Saving:
    """`part`: of the jobs, how many have a checkpoint. `every_s`: how often these save by themselves (None: only when
    asked to go); `save_s`: how long that takes; `grace_s`: how long it may take when asked to go."""

    part: float
    every_s: float | None
    save_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class Stream:
    """Jobs of one tenant and class that come at random (a Poisson process whose rate follows the rhythm)."""

    name: str
    tenant: str
    priority_class: str
    priority: int
    kind: JobKind
    per_day: float
    rhythm: Rhythm
    durations: Durations
    asks: tuple[Ask, ...]
    saving: Saving | None


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Requests of a service: from a trace file, or `mean_per_s` with a rhythm, in steps of `step_s`."""

    trace: Path | None
    mean_per_s: float
    rhythm: Rhythm
    step_s: float


@dataclass(frozen=True, slots=True)
class ServiceAsk:
    name: str
    tenant: str
    priority_class: str
    priority: int
    demand: Demand
    replicas_min: int
    replicas_max: int
    slo_p99_ms: float
    service_time_s: float
    busy_target: float
    requests: RequestRate


@dataclass(frozen=True, slots=True)
class WorkloadFile:
    """`files`: of jobs or pods, read beside what is drawn."""

    name: str
    path: Path
    span_s: float
    streams: tuple[Stream, ...]
    services: tuple[ServiceAsk, ...]
    files: tuple[Path, ...]
