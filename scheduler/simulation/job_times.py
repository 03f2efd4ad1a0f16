"""How long did the jobs of a run wait, take, and take more than they had to? As columns, since a month has a hundred
thousand jobs. What the words mean, and the sources, is in `measures.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scheduler.simulation.journal import Became, JobRecord
from scheduler.simulation.series import Floats

LEAST_SLOWDOWN_S = 10.0


@dataclass(frozen=True, slots=True)
class JobTimes:
    """One entry a job that was taken, in seconds; NaN where that has not happened. `lasted_s`: of those that succeeded.
    Then their classes and tenants."""

    submit_s: Floats
    first_start_s: Floats
    ended_s: Floats
    lasted_s: Floats
    classes: Sequence[str]
    tenants: Sequence[str]

    @staticmethod
    def of(taken: Sequence[JobRecord]) -> JobTimes:
        return JobTimes(
            np.array([record.job.submit_s for record in taken], np.float64),
            np.array([record.first_start_s for record in taken], np.float64),  # None becomes NaN
            np.array([record.ended_s for record in taken], np.float64),
            np.array([record.job.duration_s if record.became is Became.SUCCEEDED else math.nan for record in taken]),
            [record.job.spec.priority_class for record in taken],
            [record.job.spec.tenant for record in taken],
        )

    @property
    def wait_s(self) -> Floats:
        return self.first_start_s - self.submit_s

    @property
    def completion_s(self) -> Floats:
        return self.ended_s - self.submit_s

    @property
    def slowdown(self) -> Floats:
        return np.maximum(1.0, self.completion_s / np.maximum(LEAST_SLOWDOWN_S, self.lasted_s))


def by_name(value: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """The values of each name, in the order in which names come up."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    of = np.array([number[name] for name in names], np.int64)
    return {name: value[of == i] for name, i in number.items()}


def quantiles(values: Floats) -> dict[str, object]:
    """Of those that are not NaN; `never`: how many are."""
    known = values[~np.isnan(values)]
    never = len(values) - len(known)
    if not len(known):
        nothing: dict[str, object] = dict.fromkeys(("mean", "p50", "p95", "p99", "max"))
        return {"count": len(values), **nothing, "never": never}
    ordered: list[float] = np.sort(known).tolist()
    mean = math.fsum(ordered) / len(ordered)
    p50, p95, p99 = (_quantile(ordered, part) for part in (0.5, 0.95, 0.99))
    told = {"mean": mean, "p50": p50, "p95": p95, "p99": p99, "max": ordered[-1]}
    return {"count": len(values), **{name: round(each, 3) for name, each in told.items()}, "never": never}


def _quantile(ordered: list[float], part: float) -> float:
    """By linear interpolation between order statistics (type 7)."""
    at = part * (len(ordered) - 1)
    low = int(at)
    below, above = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    return below + (above - below) * (at - low)
