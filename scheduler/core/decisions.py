"""What goes into the planner and what comes out of it: `plan(cluster, queue, policy, now_s=...) -> Plan`.

Everything here is a value. The cluster's own columns are in `cluster.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.core.demand import Demand, Placement
from scheduler.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A waiting job as the planner sees it. Jobs that wait for other jobs or back off are not in the queue."""

    job_id: str
    seq: int
    tenant: str
    priority: int
    submitted_s: float
    workers_min: int
    workers_max: int
    alternatives: tuple[Demand, ...]
    time_limit_s: float | None
    may_preempt: bool = True


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds devices. `ends_by_s` comes from its time limit (None: no limit, a service).

    `stopping_for` names the preemptor that its devices are promised to, if any. `saved_s` is the time of its last
    checkpoint (or of its start): what would be lost counts from there.
    """

    job_id: str
    tenant: str
    priority: int
    started_s: float
    ends_by_s: float | None
    saved_s: float
    placements: tuple[Placement, ...]
    stopping: bool = False
    stopping_for: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """`pending` in any order: ordering is the planner's. `running` is everything that holds devices."""

    pending: tuple[PendingJob, ...]
    running: tuple[RunningJob, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of the planner. `tie_seed` draws the one recorded node order that breaks every tie.

    `non_preempting` holds the priorities of the classes whose jobs never preempt, whatever runs below them.
    """

    tie_seed: int = 0
    packing: str = "best-fit"
    preemption: bool = True
    backfill: bool = True
    min_run_before_preemption_s: float = 0.0
    non_preempting: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Start:
    """Give these devices to the whole gang now. One placement a worker, in worker order."""

    job_id: str
    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Preempt:
    """Ask `victims` to checkpoint and go, so that the whole of `for_job` fits. Their devices are promised to it."""

    for_job: str
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The pass's answer. `reasons` has an entry for every pending job that did not start.

    `expected_start_s` estimates, from time limits, when a waiting job could start; absent where nothing bounds it.
    """

    starts: tuple[Start, ...] = field(default=())
    preemptions: tuple[Preempt, ...] = field(default=())
    reasons: dict[str, Reason] = field(default_factory=dict)
    expected_start_s: dict[str, float] = field(default_factory=dict)
