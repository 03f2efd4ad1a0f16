"""What the service knows while it runs: jobs that have not ended, the cluster's books, nodes, timers.

One thread owns a ServiceState; `machine.step` changes it in place. Everything that must survive is in the jobs and
drains, and goes to the store as Changes by way of `put`, the only door for a job's new state: so memory and store can
differ by what is not committed yet and by nothing else. The rest (phases within a start, strays, back-offs of single
replicas) is found out again from the nodes after a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from node_agent.messages import RunKey
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import PendingJob, Policy
from scheduler.core.demand import Placement
from scheduler.core.fair_share import DecayedUsage
from scheduler.core.jobs import (
    ON_NODES,
    Cancelled,
    EndCause,
    Failed,
    Job,
    Pending,
    Running,
    Starting,
    Stopping,
    Succeeded,
    WorkerRun,
)
from scheduler.core.packing.shapes import ShapeHistory
from scheduler.core.queue import Queue
from scheduler.core.reasons import Reason, WaitingForJobs, WaitingForLease
from scheduler.core.rollout import Deployed
from scheduler.core.usage_records import UsageRecord
from scheduler.ports import Change, Drain, NextTime, Reservation, Route, Schedule, no_time
from scheduler.service.array_windows import ArrayWindows
from scheduler.service.check_book import CheckBook
from scheduler.service.dispatch import RunSettings, is_service
from scheduler.service.health_book import HealthBook
from scheduler.service.job_facts import time_limit_due_s, workers_of
from scheduler.service.loads import LoadBook
from scheduler.service.node_status import NodeStatus
from scheduler.service.outcome import Outcome
from scheduler.service.planner_words import WORK_HALF_LIFE_S, pending_job, running_job
from scheduler.service.served_days import ServedDays
from scheduler.service.timers import Timer, Timers

# How many jobs that ended are remembered by whether they succeeded, for those that are submitted to wait for them.
ENDED_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Released:
    """Where worker 0 of a gang's attempt awaits the others. Every worker of the attempt must be told the same."""

    attempt: int
    master_addr: str
    master_port: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """`doubtful`: runs that may still live on a silent node. `before`: the job as it ran, if it can simply go on.
    `blind`: a wait that is not over before its time, whatever becomes of these runs: it began under an earlier service,
    and which runs it is for is not known any more."""

    before: Job | None
    doubtful: set[RunKey]
    blind: WaitingForLease | None = None


@dataclass(frozen=True, slots=True)
class UnseenEnds:
    """Attempts that ended one after the other and nobody saw how (a launcher that refused, died or was stopped);
    `unstarted`: the last so many of them had never started."""

    in_a_row: int = 0
    unstarted: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A single replica that the planner is asked a place for, under its own `planner_words.replica_name`."""

    pending: PendingJob
    job_id: str
    worker: int
    replaces: int | None = None
    """The replica whose place it is to take."""


@dataclass(slots=True)
class ServiceState:
    epoch: int
    lease_s: float
    secret: bytes
    policy: Policy
    started_s: float
    cluster: ClusterState
    jobs: dict[str, Job] = field(default_factory=dict)
    nodes: dict[str, NodeStatus] = field(default_factory=dict)
    drains: dict[str, Drain] = field(default_factory=dict)
    health: HealthBook = field(default_factory=HealthBook)
    checks: CheckBook = field(default_factory=CheckBook)
    timers: Timers = field(default_factory=Timers)
    lease_due_s: float = 0.0
    run_settings: RunSettings = field(default_factory=RunSettings)
    most_live_jobs: int = 100_000
    schedules: dict[tuple[str, str], Schedule] = field(default_factory=dict)
    """By tenant and name."""
    next_time: NextTime = no_time

    # What the planner is asked about, kept as the jobs change.
    queue: Queue = field(default_factory=Queue)
    parked: dict[str, set[str]] = field(default_factory=dict)
    """By tenant: jobs that wait and are not in the queue (for other jobs, a back-off, a lease, to be released, or for
    other tasks of their array)."""
    arrays: ArrayWindows = field(default_factory=ArrayWindows)
    services: set[str] = field(default_factory=set)
    scaled: set[str] = field(default_factory=set)
    """Of these, the ones that were told how many replicas to have."""
    needs_plan: bool = False
    plan_goes_on: bool = False
    """The last pass was broken off."""
    planned_s: float = 0.0
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    """The last pass's. It may be made as it is looked into: not to be copied."""
    expected_start_s: Mapping[str, float] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    policy_at_s: float = 0.0
    """When the policy was last told what is reserved."""

    # Whose turn it is.
    usage: DecayedUsage = field(default_factory=lambda: DecayedUsage(7 * 86_400.0))
    held_shares: Mapping[str, float] = field(default_factory=dict)
    """By fair-share account: what is held since `usage` was last advanced."""
    usage_kept_s: float = 0.0
    served: ServedDays = field(default_factory=ServedDays)

    work: ShapeHistory = field(default_factory=lambda: ShapeHistory(WORK_HALF_LIFE_S))
    """What kinds of work were submitted of late."""
    work_told_s: float = 0.0

    # Within an attempt.
    prepared: dict[RunKey, tuple[str, int]] = field(default_factory=dict)
    released: dict[str, Released] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    """By job: when the last of its workers began of which a node has said for how long it has run."""
    limits: dict[str, float] = field(default_factory=dict)
    """When each running job's time limit is over."""
    own_ends: dict[RunKey, tuple[EndCause, str]] = field(default_factory=dict)
    """Runs that ended by themselves, before they heard that they should stop: how, and the sentence for it."""
    restarts: dict[tuple[str, int], float] = field(default_factory=dict)
    """(job, worker) of replicas that ended, and when each may start again."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """Single replicas in the queue: those whose own place cannot be used, and those that a service is to have more."""
    leaving: set[tuple[str, int]] = field(default_factory=set)
    """(job, worker) of replicas that were told to go for good."""
    fenced: dict[str, Fenced] = field(default_factory=dict)
    """Jobs that wait for a lease."""
    unseen_ends: dict[str, UnseenEnds] = field(default_factory=dict)
    """By job, or by `replica_name` for a service."""
    unheard: dict[RunKey, UsageRecord] = field(default_factory=dict)
    """Runs that were given up with their node before anything was heard of their start: what to write if one is."""

    strays: dict[str, set[RunKey]] = field(default_factory=dict)
    """By node: runs that are nobody's any more and were told to stop. Nothing starts beside them."""
    dependents: dict[str, set[str]] = field(default_factory=dict)
    ended: OrderedDict[str, bool] = field(default_factory=OrderedDict)
    just_ended: list[str] = field(default_factory=list)
    """Jobs whose end those that wait for them have not heard of yet."""
    published: tuple[Route, ...] | None = None
    routes: dict[str, Route] = field(default_factory=dict)
    """By job, as they were when they last changed."""
    routes_changed: set[str] = field(default_factory=set)
    """Jobs whose routes are to be made anew."""
    request_rates: Mapping[str, float] = field(default_factory=dict)
    """By tenant: how many requests a second its callers may send."""

    # Services with versions, and services that are scaled by their load.
    deployed: dict[tuple[str, str], Deployed] = field(default_factory=dict)
    """By tenant and name."""
    rollouts: set[tuple[str, str]] = field(default_factory=set)
    """Of these, the ones of which a version is taking over, and those that are being deleted."""
    version_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By job: the service that it is a version of."""
    stopped_versions: set[str] = field(default_factory=set)
    """Jobs that are versions which serve nothing now."""
    floors: dict[str, int] = field(default_factory=dict)
    """By job: replicas that a rollout asks it to have at least."""
    loads: LoadBook = field(default_factory=LoadBook)
    making_room: dict[str, float] = field(default_factory=dict)
    """By the name of a replica: since when idle services leave to make room for it."""
    scaled_by_load: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """By tenant and name: decisions since the start, down and up."""
    evictions: int = 0
    rollbacks: int = 0

    closing_down: bool = False
    """The site is being taken down: nothing starts any more in this start of the service."""
    superseded_by: int | None = None
    """The epoch of another service that took over; this one must not act any more."""

    # -- jobs ------------------------------------------------------------------------------------------------------

    def put(self, out: Outcome, job: Job, event: str, now_s: float, detail: Mapping[str, Any] | None = None) -> None:
        """The job's new state, with its row in the event table."""
        self.keep(job, now_s)
        out.changes.append(Change(job, event, now_s, detail or {}))

    def keep(self, job: Job, now_s: float) -> None:
        """Take over a state that needs no row: a phase that the nodes can tell again."""
        if isinstance(job.state, Succeeded | Failed | Cancelled):
            self.jobs.pop(job.id, None)
            self.services.discard(job.id)
            self.scaled.discard(job.id)
            self.routes_changed.add(job.id)
            self.floors.pop(job.id, None)
            self.loads.forget(job.id)
            self.unseen_ends.pop(job.id, None)
            self.just_ended.append(job.id)
            self.ended[job.id] = isinstance(job.state, Succeeded)
            while len(self.ended) > ENDED_REMEMBERED:
                self.ended.popitem(last=False)
        else:
            self.jobs[job.id] = job
            if is_service(job):
                self.services.add(job.id)
                self.routes_changed.add(job.id)
                # One that has nothing and is to have nothing is passed over: there may be a thousand of them.
                if job.workers_wanted or (job.workers_wanted is not None and workers_of(job)):
                    self.scaled.add(job.id)
                else:
                    self.scaled.discard(job.id)
        if not (isinstance(job.state, Pending) and isinstance(job.state.reason, WaitingForLease)):
            self.fenced.pop(job.id, None)
        self._index(job, now_s)
        self.rebook(job)

    def _index(self, job: Job, now_s: float) -> None:
        """Where the planner sees it: in the queue, among the running, or nowhere."""
        state = job.state
        if not (isinstance(state, Pending) and state.not_before_s > now_s):
            self.timers.drop("not_before", job.id)
        could_start, may_run = False, isinstance(state, ON_NODES)
        match state:
            case Pending(reason=WaitingForJobs()):
                pass
            case Pending(not_before_s=not_before_s) if not_before_s > now_s:
                self.timers.add(Timer(not_before_s, "not_before", job.id))
                may_run = isinstance(state.reason, WaitingForLease)
            case Pending():
                could_start = job.held is None
            case _:
                pass
        may, changed = self.arrays.settle(job, could_start=could_start, may_run=may_run)
        self._wait(job, queued=may)
        for other in changed:  # tasks of its array, which could start and have got a place to do so, or given it up
            task = self.jobs[other]
            self._wait(task, queued=self.arrays.reason(task) is None)
        if isinstance(state, ON_NODES):
            self._index_running(job, state)
            return
        self.queue.end(job.id)
        self.released.pop(job.id, None)
        self.began.pop(job.id, None)
        if self.limits.pop(job.id, None) is not None:
            self.timers.drop("time_limit", job.id)

    def _index_running(self, job: Job, state: Starting | Running | Stopping) -> None:
        due_s = time_limit_due_s(job)
        if due_s is not None and self.limits.get(job.id) != due_s:
            self.limits[job.id] = due_s
            self.timers.add(Timer(due_s, "time_limit", job.id))
        if state.workers:
            leaving = any(of == job.id for of, _ in self.leaving) or any(
                run.replaces is not None for run in state.workers
            )
            running = running_job(job, is_leaving=leaving)
            if self.queue.running_job(job.id) != running:  # most news of a worker changes nothing that is planned with
                self.queue.run(running)
        else:
            self.queue.end(job.id)  # a service that was scaled to nothing holds nothing

    def _wait(self, job: Job, *, queued: bool) -> None:
        """In the queue or, where it waits all the same, parked."""
        self._park(job, isinstance(job.state, Pending) and not queued)
        if queued:
            asked = pending_job(job)
            if self.queue.pending_job(job.id) != asked:
                self.queue.submit(asked)
                self.needs_plan = True
        elif self.queue.pending_job(job.id) is not None:
            self.queue.withdraw(job.id)

    def _park(self, job: Job, parked: bool) -> None:
        there = self.parked.get(job.spec.tenant)
        if parked:
            self.parked.setdefault(job.spec.tenant, set()).add(job.id)
        elif there is not None:
            there.discard(job.id)
            if not there:
                del self.parked[job.spec.tenant]

    def find_run(self, key: RunKey) -> tuple[Job, WorkerRun] | None:
        """The worker that the key names, if it is the current attempt's."""
        job = self.jobs.get(key.job_id)
        if job is None or not isinstance(job.state, ON_NODES):
            return None
        for run in job.state.workers:
            if run.placement.worker == key.worker:
                same = run.attempt == key.attempt and run.placement.node == key.node
                return (job, run) if same else None
        return None

    # -- the cluster's books ---------------------------------------------------------------------------------------

    def rebook(self, job: Job) -> None:
        """Make the books say what the job's state says. A job holds all its places until its last worker is gone."""
        wanted: tuple[Placement, ...] = ()
        if isinstance(job.state, ON_NODES):
            wanted = tuple(run.placement for run in job.state.workers)
        if wanted == self.cluster.held(job.id):
            return
        if self.cluster.held(job.id):
            self.cluster.give_back(job.id)
            self.needs_plan = True
        if wanted:
            self.cluster.take(job.id, wanted)

    def set_schedulable(self, node: str) -> None:
        """Nothing new goes to a node that is silent, drained or unhealthy, or where nobody's runs still end."""
        if node not in self.cluster:
            return
        reason = None
        drain = self.drains.get(node)
        if not self.nodes[node].up:
            reason = "down"
        elif drain is not None:
            reason = f"draining: {drain.reason}"
        elif (unhealthy := self.health.on(node).whole) is not None:
            reason = f"unhealthy: {unhealthy.reason}"
        elif self.strays.get(node):
            reason = "stopping an earlier attempt's processes"
        self.cluster.set_schedulable(node, reason)
        self.needs_plan = True

    def silent_since_s(self, node: str) -> float | None:
        """None: it answers, or its processes are known to be gone."""
        status = self.nodes.get(node)
        return None if status is None else status.silent_since_s

    def is_up(self, node: str) -> bool:
        status = self.nodes.get(node)
        return status is not None and status.up

    def simulated(self, job: Job, placement: Placement) -> bool:
        """Where the node is not known (yet), a demand that allows simulated devices counts as simulated."""
        status = self.nodes.get(placement.node)
        if status is not None and status.facts is not None:
            return status.facts.simulated
        return job.spec.alternatives[placement.alternative].simulated


def superseded_text(state: ServiceState) -> str:
    return (
        f"another service (epoch {state.superseded_by}) has taken over from this one"
        f" (epoch {state.epoch}); ask that one, and stop this one"
    )
