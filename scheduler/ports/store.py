"""What must survive, and what does its keeper promise?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from node_agent.health.verdicts import Finding
from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.core.rollout import Deployed
from scheduler.core.usage_book import Correction, Entry, ModelRate, Month
from scheduler.core.usage_records import UsageEntry, UsageRecord


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
class HealthNotes:
    """All that `source` (health.rules.SOURCES) holds against the node's devices. None at all is a word too: that
    nothing of what it once held is held any more."""

    node: str
    source: str
    findings: tuple[Finding, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.node, self.source


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

    def health_notes(self) -> Sequence[HealthNotes]:
        """By node and source."""
        ...

    def set_health_notes(self, notes: Sequence[HealthNotes]) -> None:
        """Each in place of what was kept under its key, all of them or none."""
        ...

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
