"""What may the API ask of a running service, and for whom?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from node_agent.messages import LogChunk
from scheduler.core.jobs import JobSpec
from scheduler.core.usage_book import By, ModelRate
from scheduler.ports.edge import Json

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
