"""What goes into the planner and what comes out of it: `plan(cluster, queue, policy, now_s=...) -> Plan`.

Everything here is a value. The cluster's own columns are in `cluster.py`; what waits and runs is kept in `queue.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scheduler.core.demand import UNCONSTRAINED, Constraints, Demand, Placement
from scheduler.core.quick import quick
from scheduler.core.reasons import Reason

Backfill = Literal["easy", "conservative", "none"]


@quick
@dataclass(frozen=True, slots=True)
class PendingJob:
    """A waiting job as the planner sees it. Jobs that wait for other jobs or back off are not in the queue.

    `name` is what `apart_from` of others refers to. `reservation` names the advance reservation on whose nodes, and in
    whose time alone, it may run. `holds_slo`: a replica that its service needs to hold its SLO; it may preempt lower
    classes whatever its own class may. `beside` are the nodes of its siblings that run already (replicas of the same
    service `service`), for constraints that count them.
    """

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
    name: str = ""
    deadline_s: float | None = None
    constraints: Constraints = UNCONSTRAINED
    reservation: str | None = None
    holds_slo: bool = False
    beside: tuple[str, ...] = ()
    service: str | None = None


@quick
@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that holds devices. `ends_by_s` comes from its time limit (None: no limit, a service).

    `stopping_for` names the preemptor that its devices are promised to, if any. `saved_s` is the time of its last
    checkpoint (or of its start): what would be lost counts from there. `preemptions` counts how often it was preempted.
    `simulated`: its demand allowed simulated devices, and it counts in the tenant's ledger of those. `workers_max` is
    None for a job that cannot grow; otherwise what an elastic job could use, under `alternatives`, with its
    `constraints`. `workers_wanted`: fewer than it has gives the rest back (a service scaled down); None: all of them.
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
    name: str = ""
    apart_from: tuple[str, ...] = ()
    preemptions: int = 0
    simulated: bool = False
    workers_max: int | None = None
    alternatives: tuple[Demand, ...] = ()
    constraints: Constraints = UNCONSTRAINED
    workers_wanted: int | None = None

    @property
    def milli(self) -> int:
        """Thousandths of devices that it holds."""
        return sum((p.share_milli or 1000 * len(p.devices)) for p in self.placements)


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """What a tenant is due. `weight`: of its fair share. Thousandths of devices: `guaranteed_milli` it gets back from
    borrowers whenever it asks; up to `maximum_milli` (None: no bound) it may borrow what lies idle. Jobs that allow
    simulated devices count apart from the others, against the same numbers. `max_running_jobs`: at a time. More than
    `max_queued_jobs` waiting jobs, or `max_queued_milli` that they ask for, are refused when they are submitted."""

    weight: float = 1.0
    guaranteed_milli: int = 0
    maximum_milli: int | None = None
    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None
    max_queued_milli: int | None = None

    def __post_init__(self) -> None:
        assert 0 < self.weight < math.inf, self
        assert self.guaranteed_milli >= 0, self


ORDINARY_TENANT = TenantPolicy()


@dataclass(frozen=True, slots=True)
class AdvanceReservation:
    """Nodes kept free from `start_s` to `end_s` (maintenance, the nightly benchmark): only jobs that name it run there
    then, and nothing starts there before that would still run at `start_s`."""

    name: str
    nodes: tuple[str, ...]
    start_s: float
    end_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of the planner. `tie_seed` draws the one recorded node order that breaks every tie.

    `packing` names a policy of `core.packing`. `backfill`: "easy" promises a start to the first blocked job of each
    pool, "conservative" to the first `reservation_depth` blocked ones, "none" lets nothing pass a blocked job.
    `non_preempting` holds the priorities of the classes whose jobs never preempt, whatever runs below them; but for
    what gives way to everybody, which has a priority below 0. A job that
    was preempted before may be again only after `min_run_before_preemption_s`. A job that waits longer than
    `starve_after_s` goes before the fair share within its class. `min_run_before_growth_s`: an elastic job that ran so
    long may be restarted larger on devices that nobody waits for.
    """

    tie_seed: int = 0
    packing: str = "default"
    preemption: bool = True
    backfill: Backfill = "easy"
    min_run_before_preemption_s: float = 0.0
    non_preempting: frozenset[int] = frozenset()
    tenants: Mapping[str, TenantPolicy] = field(default_factory=dict)
    starve_after_s: float = 86_400.0
    reservations: tuple[AdvanceReservation, ...] = ()
    reservation_depth: int = 64
    min_run_before_growth_s: float = 600.0

    def tenant(self, name: str) -> TenantPolicy:
        return self.tenants.get(name, ORDINARY_TENANT)


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
class Resize:
    """Ask an elastic job to checkpoint and go, so that it starts again with `workers` of them."""

    job_id: str
    workers: int


@dataclass(frozen=True, slots=True)
class Release:
    """Stop these workers of a service that wants fewer; the others go on."""

    job_id: str
    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The pass's answer. `reasons` has an entry for every pending job that did not start; of a `partial` one, which was
    broken off when it started enough, for those that were considered.

    `expected_start_s` estimates, from time limits, when a waiting job could start; absent where nothing bounds it.
    """

    starts: tuple[Start, ...] = field(default=())
    preemptions: tuple[Preempt, ...] = field(default=())
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    expected_start_s: Mapping[str, float] = field(default_factory=dict)
    resizes: tuple[Resize, ...] = field(default=())
    releases: tuple[Release, ...] = field(default=())
    partial: bool = False
