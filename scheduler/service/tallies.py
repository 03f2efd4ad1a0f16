"""What the service has done since it was started, counted: starts, ends, commands, and how long starting took.

For the thread that owns the loop; `suanli status` and /metrics ask it. Durations are by the service's own clock: a wait
from submission to the first start, a start from the decision (committed) to the news that every worker runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scheduler.core.jobs import LIVE_STATES, Job, Starting, shown
from scheduler.ports import Change, Json

START_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
WAIT_BOUNDS_S = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 86_400.0, 604_800.0)


class Histogram:
    """Counts by upper bounds, as Prometheus adds them up over time and over services."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(self._bounds_s) + 1)
        self._total_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._total_s += seconds

    def figures(self) -> Json:
        """`buckets`: [upper bound, how many are no larger], the last without a bound (None)."""
        upto, buckets = 0, []
        for bound_s, count in zip((*self._bounds_s, None), self._counts, strict=True):
            upto += count
            buckets.append([bound_s, upto])
        return {"count": upto, "total_s": self._total_s, "buckets": buckets}


@dataclass(slots=True)
class Tallies:
    commands: int = 0
    """Sent to nodes, renewals of leases left out."""
    started: int = 0
    requeued: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """By the word for the state."""
    starting_s: Histogram = field(default_factory=lambda: Histogram(START_BOUNDS_S))
    waited_s: Histogram = field(default_factory=lambda: Histogram(WAIT_BOUNDS_S))
    _placed_s: dict[str, float] = field(default_factory=dict)

    def committed(self, changes: Iterable[Change]) -> None:
        """What has become durable, in its order."""
        for change in changes:
            job = change.job
            if change.event == "placed":
                self._placed_s[job.id] = change.at_s
            elif change.event == "started":
                self._saw_start(job, change.at_s)
            elif change.event == "requeued":
                self.requeued += 1
            if not isinstance(job.state, LIVE_STATES):
                self.ended[shown(job.state)] += 1
            if not isinstance(job.state, Starting):
                self._placed_s.pop(job.id, None)

    def _saw_start(self, job: Job, at_s: float) -> None:
        self.started += 1
        placed_s = self._placed_s.get(job.id)
        if placed_s is not None:
            self.starting_s.add(max(0.0, at_s - placed_s))
        if job.attempts == 1:
            self.waited_s.add(max(0.0, at_s - job.submitted_s))

    def figures(self) -> Json:
        return {
            "commands": self.commands,
            "started": self.started,
            "requeued": self.requeued,
            "ended": {word: self.ended[word] for word in ("succeeded", "failed", "cancelled")},
            "starting_s": self.starting_s.figures(),
            "waited_s": self.waited_s.figures(),
        }
