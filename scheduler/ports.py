"""What the service needs of the world, as protocols: a store, an engine, a gateway to steer, a clock.

`scheduler.service` knows these and nothing behind them; `store`, `engine` and `gateway` implement them; the simulator
gives simulated ones. What the API and the CLI may ask of a running service is `ServiceControl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

from node_agent.health.verdicts import Finding
from node_agent.messages import Command, Event, LogChunk, NodeReport, RunReport
from scheduler.core.demand import NodeFacts
from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.core.rollout import Deployed
from scheduler.core.usage_book import By, Correction, Entry, ModelRate, Month
from scheduler.core.usage_records import UsageEntry, UsageRecord

Json = dict[str, Any]  # only at the very edge: what is about to be JSON

# ---- store -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One state change of one job, to be committed with its row in the event table.

    `event` is the short name of what happened (submitted, started, preempted, ...), `detail` its JSON-able facts.
    """

    job: Job
    event: str
    at_s: float
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submission:
    """What one caller submits at once: all of it, or none."""

    specs: tuple[JobSpec, ...]
    by: str
    held: Hold | None = None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    seq: int
    job_id: str
    at_s: float
    event: str
    state: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drain:
    """A node that is to be emptied. At `deadline_s` (epoch seconds; None: never) what is left there has to go."""

    node: str
    reason: str
    by: str
    at_s: float
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Nodes kept free from `start_s` to `end_s` for jobs that name it; with `every_s` again and again, so often, until
    it is cancelled. `by` made it, at `made_s`. Jobs of `tenants` may name it, and those that operators submit."""

    name: str
    nodes: tuple[str, ...]
    start_s: float
    end_s: float
    reason: str
    by: str
    made_s: float
    every_s: float | None = None
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Each fair-share account's decayed average of its dominant share, as it was at `at_s`."""

    averages: Mapping[str, float]
    at_s: float


@dataclass(frozen=True, slots=True)
class ServedDay:
    """What gateways said that a service did on one day (YYYY-MM-DD in the site's time zone), in all. `requests` are all
    that came, `answered` those that a replica answered, `within_slo` of these; `errors` as in ServiceLoad."""

    day: str
    tenant: str
    service: str
    simulated: bool
    requests: int = 0
    answered: int = 0
    within_slo: int = 0
    errors: int = 0

    @property
    def key(self) -> tuple[str, str, str, bool]:
        return self.day, self.tenant, self.service, self.simulated


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """A month whose book is closed. All usage records up to the store's write `write_number` are in it; `sha256` is
    usage_book.book_sha256 of its `entries` entries and of `rates`."""

    month: Month
    zone: str
    closed_s: float
    by: str
    write_number: int
    entries: int
    sha256: str
    rates: tuple[ModelRate, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job that is submitted again and again: `spec`, whose `schedule` says when. Named by its tenant and its name.

    `next_s`: the next time (epoch seconds); None while it is paused, or where none comes. `runs` counts submissions:
    the last was job (or array) `last_job`, for the time `last_s`. `skips` counts times that were left out; the last was
    `skipped_s`, because of `skipped_why`.
    """

    tenant: str
    name: str
    spec: JobSpec
    by: str
    by_operator: bool
    made_s: float
    next_s: float | None
    paused: Hold | None = None
    runs: int = 0
    last_job: str | None = None
    last_s: float | None = None
    skips: int = 0
    skipped_s: float | None = None
    skipped_why: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.tenant, self.name

    def job_spec(self) -> JobSpec:
        """What is submitted each time."""
        return replace(self.spec, schedule=None)


NextTime = Callable[[str, str, float], float | None]
"""The first time after a moment (epoch seconds) that a cron expression names in a time zone; None where none comes."""


def no_time(_cron: str, _zone: str, _after_s: float) -> float | None:
    """A NextTime for a service without recurring jobs."""
    return None


def task_ids(number: str, spec: JobSpec) -> list[str]:
    """The ids of what is submitted under one number: the job's own, or those of the array's tasks."""
    return [f"{number}.{index}" for index in range(spec.array_size)] if spec.array_size else [number]


@dataclass(frozen=True, slots=True)
class WriteFigures:
    """Transactions since the store was opened, and how long they took: from the wish to write to durability."""

    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


class Store(Protocol):
    """Durable when a call returns. Raises scheduler.errors.Unavailable when it cannot be (disk full, locked, gone):
    then nothing of that call was kept, or it counts as if nothing was: a commit that was kept although its answer was
    lost may be repeated and is not written twice, and such a submission is taken back.

    A store that gave an epoch writes for that epoch alone: once another one has given a higher, every write raises
    scheduler.errors.Superseded (a Conflict) and keeps nothing. What a database cannot take in a text (NUL, half of a
    surrogate pair) is spelled out as an escape.
    """

    def next_epoch(self, leader: str = "") -> int:
        """A number higher than any given before: the epoch of this start of the service. `leader` says where it is
        found, to services that it replaces."""
        ...

    def submit(self, specs: Sequence[JobSpec], *, at_s: float, by: str, held: Hold | None = None) -> Sequence[Job]:
        """Give ids and insert as Pending(NotConsidered), held where `held` is given, in one transaction.

        An array of n makes n jobs `N.0`..`N.n-1`.
        """
        ...

    def submit_together(self, submissions: Sequence[Submission], *, at_s: float) -> Sequence[Sequence[Job] | Exception]:
        """`submit` for several callers, numbered in this order, made durable together. One that cannot be kept at all
        gets its failure as its answer, and costs the others nothing."""
        ...

    def commit(self, changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
        """All changes, with their event rows, and what `usage_records.accounted` makes of the entries, in one
        transaction."""
        ...

    def job(self, job_id: str) -> Job | None: ...

    def jobs_named(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        """Those of these ids that there are."""
        ...

    def live_jobs(self) -> Sequence[Job]:
        """Every job that has not ended, in submission order."""
        ...

    def recent_jobs(
        self, *, tenant: str | None, states: Sequence[str] | None, limit: int, before_seq: int | None = None
    ) -> Sequence[Job]:
        """Newest first. `states` are the words of core.jobs.shown()."""
        ...

    def job_events(self, job_id: str) -> Sequence[StoredEvent]: ...

    def events_named(self, job_ids: Sequence[str], names: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
        """Of each of these jobs the events of these names, oldest first; jobs without any are left out."""
        ...

    def set_result(self, job_id: str, attempt: int, worker: int, result: str) -> None:
        """Keep the JSON text that a worker left as its result (last writer wins for one (attempt, worker))."""
        ...

    def results(self, job_id: str) -> Mapping[tuple[int, int], str]: ...

    def usage_records(self, job_id: str) -> Sequence[UsageRecord]:
        """By attempt and worker."""
        ...

    def usage_records_between(self, from_s: float, to_s: float, tenant: str | None = None) -> Sequence[UsageRecord]:
        """Those that began before `to_s` and did not end before `from_s`, by start, job, attempt and worker."""
        ...

    def usage_write_number(self) -> int:
        """Of the last write. Asked before the records are read: they then hold all that was written up to it."""
        ...

    def usage_records_changed(self, write_number: int, before_s: float) -> Sequence[UsageRecord]:
        """Those that were written later than that, of runs that began before `before_s`."""
        ...

    def served_days(self, from_day: str, to_day: str) -> Sequence[ServedDay]:
        """From the first day on, before the second, by day, tenant, service, and real before simulated."""
        ...

    def set_served(self, days: Sequence[ServedDay]) -> None:
        """Each in place of what was kept under its key."""
        ...

    def closed_months(self) -> Sequence[ClosedMonth]:
        """By month."""
        ...

    def close_month(self, closed: ClosedMonth, entries: Sequence[Entry | Correction]) -> None:
        """Keep the month and its book, both or neither. Raises Conflict where it is closed already."""
        ...

    def usage_book(self, month: str, tenant: str | None = None) -> Sequence[Entry | Correction]:
        """The entries that a closed month holds, in the order of a book (usage_book.order), corrections last."""
        ...

    def usage_booked(self, keys: Sequence[str]) -> Mapping[tuple[str, str], Entry | None]:
        """By (month, key), for entries of these keys: what closed months say of it, the last correction included."""
        ...

    def drains(self) -> Sequence[Drain]: ...

    def set_drain(self, drain: Drain) -> None: ...

    def clear_drain(self, node: str) -> None: ...

    def reservations(self) -> Sequence[Reservation]:
        """By name."""
        ...

    def set_reservation(self, reservation: Reservation) -> None: ...

    def clear_reservation(self, name: str) -> None: ...

    def schedules(self) -> Sequence[Schedule]:
        """By tenant and name."""
        ...

    def set_schedule(self, schedule: Schedule) -> None:
        """A new one, or the present one's `next_s`, `paused` and what it has skipped; the rest stays as it was."""
        ...

    def clear_schedule(self, tenant: str, name: str) -> None: ...

    def submit_scheduled(self, due: Schedule, next_s: float | None, *, at_s: float) -> Sequence[Job]:
        """Submit `due.job_spec()` for the time `due.next_s`, and let the schedule go on to `next_s`: in one
        transaction.

        Once for each time: asked again for the same, it answers with the jobs of the first time. Where the schedule is
        gone, or its next time is another by now, nothing is submitted.
        """
        ...

    def deployed(self) -> Sequence[Deployed]:
        """Services, by tenant and name."""
        ...

    def set_deployed(self, service: Deployed) -> None:
        """In place of what was kept of it before."""
        ...

    def clear_deployed(self, tenant: str, name: str) -> None: ...

    def usage(self) -> Usage | None:
        """None: nothing was kept, or nobody had used anything."""
        ...

    def set_usage(self, usage: Usage) -> None:
        """In place of what was kept before."""
        ...

    def writes(self) -> Mapping[str, WriteFigures]:
        """Of the service's own writes ("commits"), and of submissions ("submissions"). A simulated one has none."""
        ...

    def close(self) -> None: ...


# ---- engine ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeUp:
    """A node's agent answers. `runs` is what the node knows of runs, for reconciliation; `notes` are for operators.
    `heard_s`: as in NodeDown, before this answer. `shares`, `findings`: as in messages.NodeReport."""

    facts: NodeFacts
    runs: tuple[RunReport, ...]
    notes: tuple[str, ...]
    agent_pid: int
    heard_s: float | None = None
    shares: Literal["mps", "advisory"] = "advisory"
    findings: tuple[Finding, ...] = ()
    kind: Literal["node_up"] = "node_up"


@dataclass(frozen=True, slots=True)
class NodeDown:
    """A node's agent does not answer, or its Ray node is dead. `proof_of_death`: its processes are known to be gone.

    `heard_s`: when it last answered anything, by the clock that the service is given; None: not known."""

    node: str
    detail: str
    proof_of_death: bool
    heard_s: float | None = None
    kind: Literal["node_down"] = "node_down"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event of an agent. Acknowledged by `ack()` once what followed from it is committed."""

    event: Event
    agent: str
    seq: int
    kind: Literal["run_event"] = "run_event"


EngineEvent = NodeUp | NodeDown | RunEvent


class ReadingRow(NamedTuple):
    """One device's last readings of the fields that were asked for. `values` in their order; where one is None,
    `unavailable` has the reason. `quality` is that of the least real of them (measured, simulated, replayed),
    `read_at_s` the time of the newest; None: there is no value.
    """

    values: list[float | None]
    unavailable: Mapping[str, str]
    quality: str | None
    read_at_s: float | None


class Readings(Protocol):
    """The last readings of all devices that are heard of. From any thread; an answer is of one moment for each node."""

    def node(self, node: str, fields: Sequence[str] | None = None) -> Json:
        """By device uuid and quantity: {"value", "unit", "at_s", "quality"} or {"unavailable": reason}; {} for a node
        that was not heard. What a device never has is left out, unless it is among what is told of every device.
        `fields` None: all."""
        ...

    def rows(self, nodes: Sequence[str], fields: Sequence[str]) -> Mapping[str, Mapping[str, ReadingRow]]:
        """By node and device uuid; nodes that were not heard are left out. `fields` are quantities of the schema."""
        ...


class NoReadings:
    """Readings where nobody reads."""

    def node(self, node: str, fields: Sequence[str] | None = None) -> Json:
        return {}

    def rows(self, nodes: Sequence[str], fields: Sequence[str]) -> Mapping[str, Mapping[str, ReadingRow]]:
        return {}


class Engine(Protocol):
    """Carries commands to nodes and events back. No call blocks on a node."""

    def start(self, epoch: int, on_event: Callable[[EngineEvent], None]) -> None:
        """Connect, find or start agents, and from now on report through `on_event` (called from any thread)."""
        ...

    def send(self, node: str, commands: Sequence[Command]) -> None:
        """Hand over; failures come back as NodeDown. Commands to one node arrive in order."""
        ...

    def ack(self, agent: str, seq: int) -> None:
        """Everything up to `seq` of that agent is committed."""
        ...

    def read_log(
        self, node: str, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int
    ) -> LogChunk:
        """Blocks up to some seconds. NotFound where there is no such log, Unavailable where the node is silent."""
        ...

    def readings(self) -> Readings:
        """The last readings of devices, as they are whenever it is asked."""
        ...

    def agents(self) -> Sequence[Json]:
        """[{"node", "pid", "launcher_pid", "nodes"}] for `suanli status`."""
        ...

    def close(self) -> None:
        """Disconnect; agents, launchers and jobs live on."""
        ...


def node_facts(report: NodeReport) -> NodeFacts:
    """An agent's report in the core's words."""
    from scheduler.core.demand import DeviceFacts

    return NodeFacts(
        name=report.name,
        site=report.site,
        address=report.address,
        devices=tuple(
            DeviceFacts(
                d.index, d.uuid, d.model, d.vendor, d.memory_bytes, d.simulated, d.island, d.mig_profile, d.labels
            )
            for d in report.devices
        ),
        cpus_milli=report.cpus_milli,
        memory_bytes=report.memory_bytes,
        simulated=report.simulated,
        labels=tuple(sorted(report.labels)),
        rack=report.rack,
    )


# ---- gateway -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replica:
    """`node` and `site` say where it runs. `unix_path` is a socket on that node on which it answers too: for a gateway
    on the same node, and no other."""

    job_id: str
    worker: int
    attempt: int
    address: str  # host:port
    simulated: bool
    node: str = ""
    site: str = ""
    unix_path: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One version of a service as the gateway sees it: one job. `secret` is what the gateway shows to the replicas.

    Versions of one service are routes with the same tenant and name. `weight` is this one's part of the requests, out
    of the sum of all weights. `tenant_rate_per_s` bounds what the tenant's callers may send to all its services
    together; None: nothing does. `wakes`: without a replica, a request waits for one that it causes to be started.
    `job_id` names the version in ServiceLoad; "": the gateway takes it from the replicas.
    """

    service: str
    tenant: str
    priority: int
    slo_p99_ms: float | None
    replicas: tuple[Replica, ...]
    secret: str
    version: int = 1
    weight: int = 1000
    hosts: tuple[str, ...] = ()
    tenant_rate_per_s: float | None = None
    wakes: bool = False
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """What one gateway saw of one version of a service in the `window_s` that end at `at_s` (the gateway's epoch
    seconds). Counts are of requests; times are of those answered in the window, None where there were none.

    `arrivals` are all that came, refused ones too. `errors`: answers of 5xx that came from a replica, and replicas that
    died under a request. `within_slo`: of `answered`, those within the version's SLO. `hopeless`: refused or dropped
    because they could not have been answered in time. `service_s` is the mean time that a replica had a request.
    `cold_start_s`: the longest that a request of the window waited for a first replica.
    """

    tenant: str
    service: str
    job_id: str
    at_s: float
    window_s: float
    arrivals: int
    answered: int
    errors: int
    within_slo: int
    refused: int
    hopeless: int
    in_flight: int
    waiting: int
    service_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    idle_s: float  # since the last request came, or since the gateway knows the version
    cold_start_s: float | None = None


class GatewayControl(Protocol):
    def publish(self, routes: Sequence[Route], *, epoch: int) -> None:
        """Replace the whole table. Never blocks the caller for long; a gateway that is away gets it when it is back.
        One that has heard a service of a higher epoch takes nothing from this one any more."""
        ...


# ---- clock -------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    def now_s(self) -> float:
        """Epoch seconds."""
        ...


# ---- what a running service offers -------------------------------------------------------------------------------


Role = Literal["operator", "tenant", "viewer"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a token stands for. `max_priority_class` is the highest class it may submit at; viewers may not submit."""

    name: str
    tenant: str
    role: Role
    max_priority_class: str


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """`nodes` by name, or (none named) `count` nodes that carry `device`, chosen by the service. Epoch seconds.

    `tenants`: whose jobs may name it; those that operators submit always may."""

    name: str
    nodes: tuple[str, ...]
    count: int
    device: str | None
    start_s: float
    end_s: float
    reason: str
    every_s: float | None = None
    tenants: tuple[str, ...] = ()


class ServiceControl(Protocol):
    """What the API asks of the service. Thread-safe; each answer is ready to be JSON, documented in scheduler/api.

    All raise scheduler.errors.SuanliError. `job_id` may be `last`: the newest job that the principal may see.
    Tenants see and touch only their own jobs (others' are NotFound); operators and viewers see all.
    """

    def submit(self, specs: Sequence[JobSpec], by: Principal) -> Json:
        """{"jobs": [job view, ...]}; returns only after commit. A job with a schedule comes alone, and makes no job
        yet: {"jobs": [], "schedules": [...]}."""
        ...

    def dry_run(self, spec: JobSpec, by: Principal) -> Json:
        """{"would_start": bool, "placements": [...], "reason": {...}|None, "preempts": [...]}"""
        ...

    def jobs(self, by: Principal, *, tenant: str | None, states: Sequence[str] | None, limit: int) -> Json:
        """{"jobs": [job view, ...], "total": ...}; live ones in queue order first, then ended ones, newest first.
        Checks of idle devices are among them where their tenant (`suanli`) is named.

        `total`: how many there are, of which `jobs` has `limit` at most; None where ended ones go on beyond the limit.
        """
        ...

    def job(self, job_id: str, by: Principal) -> Json:
        """Job view with "spec", "events", "results", "usage"."""
        ...

    def why(self, job_id: str, by: Principal) -> Json: ...

    def wait(self, job_id: str, by: Principal, *, timeout_s: float) -> Json:
        """The job view, when it has ended or after `timeout_s`, whichever is first."""
        ...

    def cancel(self, job_id: str, by: Principal, *, reason: str) -> Json: ...

    def cancel_jobs(self, ids: Sequence[str], by: Principal, *, reason: str) -> Json:
        """api.models.CancelJobsAnswer: all of them in one step, before anything that waits can start.

        Each id is a job's, or the number of an array, for all its tasks that live. What cannot be cancelled is said of
        its id, and stops none of the others.
        """
        ...

    def hold_jobs(self, ids: Sequence[str], by: Principal, *, reason: str) -> Json:
        """api.models.ChangeJobsAnswer: what waits is not to start until it is released. Ids as in `cancel_jobs`; what
        does not wait is left as it is, and said of its id."""
        ...

    def release_jobs(self, ids: Sequence[str], by: Principal) -> Json:
        """As `hold_jobs`. Tenants do not release what an operator holds."""
        ...

    def requeue_jobs(self, ids: Sequence[str], by: Principal, *, reason: str, hold: bool) -> Json:
        """As `hold_jobs`: what runs saves its work, goes and waits again, held where `hold` is given. A job that has
        ended (of an array: all its tasks) is submitted anew, with the same spec and under a new id."""
        ...

    def scale(self, job_id: str, by: Principal, *, replicas: int | None) -> Json:
        """The job view. BadInput beyond the bounds of the job file, Conflict for what is no service. It stays at so
        many, whatever its load; None: as its load says again."""
        ...

    def deploy_service(self, spec: JobSpec, by: Principal) -> Json:
        """A new version of the service of that tenant and name, which takes over as `spec.canary` says: its view, as
        `service`. Conflict while another one takes over."""
        ...

    def services(self, by: Principal) -> Json:
        """{"services": [...]}, by tenant and name, also those of plain jobs; a tenant sees its own."""
        ...

    def service(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        """One of them with its versions and last decisions. `tenant` where several have one of that name (Conflict)."""
        ...

    def rollback_service(self, name: str, by: Principal, *, tenant: str | None, to: int | None) -> Json:
        """Back to version `to`; None: to the one before. A rollout that is under way is given up."""
        ...

    def delete_service(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        """The service as it was. All its versions are stopped for good."""
        ...

    def scale_service(self, name: str, by: Principal, *, tenant: str | None, replicas: int | None) -> Json:
        """`scale` of its live version."""
        ...

    def nodes(self, by: Principal, *, readings: bool = True) -> Json:
        """{"nodes": [node view, ...], "fragmentation"}; without `readings` these are left empty."""
        ...

    def node(self, node: str, by: Principal) -> Json:
        """One of them. NotFound where there is none of that name."""
        ...

    def devices(
        self,
        by: Principal,
        *,
        site: str | None = None,
        node: str | None = None,
        model: str | None = None,
        fields: Sequence[str] | None = None,
    ) -> Json:
        """{"at_s", "fields", "devices": [...], "truncated"}: every device, with the last readings of `fields`. A tenant
        sees of the jobs its own alone. NotFound for an unknown node, BadInput for an unknown field."""
        ...

    def tenants(self, by: Principal) -> Json:
        """{"tenants": [...]}, the one whose turn is next first; a tenant sees itself alone."""
        ...

    def usage(self, by: Principal, *, month: str | None, tenant: str | None, of: By) -> Json:
        """api.usage_models.UsageAnswer: what a month (YYYY-MM; None: this one) came to, by `of`. A tenant sees its own
        alone. Closed months are answered as they were closed."""
        ...

    def usage_entries(self, by: Principal, *, month: str | None, tenant: str | None, offset: int, limit: int) -> Json:
        """api.usage_models.UsageEntriesAnswer: the entries of a month's book themselves, from `offset` on."""
        ...

    def close_usage(self, by: Principal, *, month: str, rates: Sequence[ModelRate]) -> Json:
        """The month as `usage` shows it. Operators close months one after the other, each once it is over: Conflict
        otherwise. `rates` are kept with it."""
        ...

    def drain(self, node: str, by: Principal, *, reason: str, deadline_in_s: float | None = None) -> Json:
        """The node's view. Jobs there run to their end, or save their work and go at the deadline."""
        ...

    def resume(self, node: str, by: Principal) -> Json: ...

    def flag_devices(self, run: str, flags: Sequence[Json], by: Principal) -> Json:
        """{"run", "taken": how many are held against devices now, "ignored": devices that no node has}.

        Each flag: {"device": uuid, "rule": slow-than-like or slow-than-before, "text", "since_s"}. They are in place of
        all that was flagged before."""
        ...

    def reservations(self, by: Principal) -> Json:
        """{"reservations": [...]}, the next one first."""
        ...

    def reserve(self, wanted: ReservationRequest, by: Principal) -> Json:
        """The reservation as it was made. Conflict where its nodes or its name are taken."""
        ...

    def cancel_reservation(self, name: str, by: Principal) -> Json:
        """The reservation as it was."""
        ...

    def schedules(self, by: Principal) -> Json:
        """{"schedules": [...]}, the next one first; a tenant sees its own."""
        ...

    def schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        """One of them with its spec and next times. `tenant` where several have one of that name (Conflict)."""
        ...

    def pause_schedule(self, name: str, by: Principal, *, tenant: str | None, reason: str) -> Json:
        """Its times pass and nothing is submitted. What an operator pauses tenants do not resume."""
        ...

    def resume_schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json: ...

    def delete_schedule(self, name: str, by: Principal, *, tenant: str | None) -> Json:
        """The schedule as it was. Its jobs stay as they are."""
        ...

    def close_down(self, by: Principal) -> Json:
        """Start nothing more, and ask everything that runs to save its work and go; it is requeued, not ended.

        {"running": jobs that still hold devices}. Only a new start of the service ends this state. May be repeated.
        """
        ...

    def read_log(
        self, job_id: str, by: Principal, *, worker: int, attempt: int | None, stream: str, offset: int, limit: int
    ) -> LogChunk: ...

    def status(self, by: Principal) -> Json: ...
