"""What comes to a simulated site: jobs with the time at which they come and the time they really take, and services
with the requests that they will get. Values; readers of files are in `workloads/`.

Times are seconds from the start of the simulation; durations in seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.core.jobs import JobSpec
from scheduler.core.quick import quick

# A time limit that nobody gave: the next of these above the job's real duration, as people pick round numbers.
USUAL_LIMITS_S = (3_600.0, 4 * 3_600.0, 12 * 3_600.0, 86_400.0, 3 * 86_400.0, 7 * 86_400.0)
LONGEST_S = 366 * 86_400.0
DEFAULT_GRACE_S = 30.0  # as in job files
COMMAND = ("simulated",)


@quick
@dataclass(frozen=True, slots=True)
class SimJob:
    """`spec` is what the planner is told, its time limit among it; `duration_s` is what really happens, with all of
    `spec.workers_max` workers (with fewer it takes longer in proportion).

    `checkpoint_every_s`: how often it saves by itself; None: only when asked to go. `save_s`: how long saving takes. A
    job without `spec.checkpoint` never saves. `fails_after_s`: its first attempt fails when it has run that long.
    """

    spec: JobSpec
    submit_s: float
    duration_s: float
    checkpoint_every_s: float | None = None
    save_s: float = 0.0
    fails_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """Requests a second, piecewise constant: `per_s[i]` from `t_s[i]` until `t_s[i + 1]`; the last until `end_s`."""

    t_s: tuple[float, ...]
    per_s: tuple[float, ...]
    end_s: float

    def __post_init__(self) -> None:
        assert self.t_s, "a trace has at least one step"
        assert len(self.t_s) == len(self.per_s), (len(self.t_s), len(self.per_s))
        assert list(self.t_s) == sorted(set(self.t_s)), "times of a trace increase"
        assert self.end_s > self.t_s[-1], (self.end_s, self.t_s[-1])

    def until(self, end_s: float) -> RequestTrace | None:
        """The part before that; None where there is none."""
        kept = [(t, rate) for t, rate in zip(self.t_s, self.per_s, strict=True) if t < end_s]
        if not kept:
            return None
        return RequestTrace(tuple(t for t, _ in kept), tuple(rate for _, rate in kept), min(end_s, self.end_s))


@dataclass(frozen=True, slots=True)
class SimService:
    """`spec` bounds its replicas. A request occupies a replica for `service_time_s`; replicas are added and taken away
    such that each is busy `busy_target` of the time. It is submitted when its trace begins and leaves when that ends.
    """

    spec: JobSpec
    requests: RequestTrace
    service_time_s: float
    busy_target: float = 0.7


@dataclass(frozen=True, slots=True)
class Workload:
    """`span_s`: over which work arrives. `notes`: what a reader of figures about it must know."""

    name: str
    jobs: tuple[SimJob, ...]
    services: tuple[SimService, ...]
    span_s: float
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        submitted = [job.submit_s for job in self.jobs]
        assert submitted == sorted(submitted), "jobs come in the order of their submission"


def usual_limit_s(duration_s: float, limits: Sequence[float] = USUAL_LIMITS_S) -> float:
    """The first usual limit above the duration; beyond the last one, one and a half times the duration. `limits`
    increase."""
    above = bisect_right(limits, duration_s)
    return limits[above] if above < len(limits) else min(1.5 * duration_s, LONGEST_S)
