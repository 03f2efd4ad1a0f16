"""A store in memory for the simulator and for tests: it keeps the promises of scheduler.ports.Store (the same contract
tests), can be full, and lets its owner step in around every write.

`before_write(what)` is called before a write becomes durable, `after_write(what)` once it is and before the call
returns; `what` is the method's name. What `before_write` raises reaches the caller and nothing is kept: Unavailable for
a disk that fails, a BaseException for a kill. What `after_write` raises finds the write kept: a kill after the disk had
it. Every write is kept whole or not at all.

`reopened` gives what another service gets that opens it: the same contents, another epoch. What a service did not
commit is not in it. For one thread; nothing in it depends on time or chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Self

from scheduler.core.jobs import LIVE_STATES, Hold, Job, JobSpec, Pending, shown
from scheduler.core.reasons import NotConsidered
from scheduler.core.rollout import Deployed
from scheduler.core.usage_book import Correction, Entry, order
from scheduler.core.usage_records import UsageEntry, UsageRecord, accounted
from scheduler.errors import Conflict, Superseded, Unavailable
from scheduler.plain_text import plain_text
from scheduler.ports import (
    Change,
    ClosedMonth,
    Drain,
    HealthNotes,
    Reservation,
    Schedule,
    ServedDay,
    StoredEvent,
    Submission,
    Usage,
    WriteFigures,
    task_ids,
)

Hook = Callable[[str], None]


@dataclass
class Kept:
    """What lies on the disk."""

    full: bool = False
    poison: set[str] = field(default_factory=set)
    commits: int = 0
    epoch: int = 0
    leader: str = ""
    numbers: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    events: list[StoredEvent] = field(default_factory=list)
    results: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)
    drains: dict[str, Drain] = field(default_factory=dict)
    notes: dict[tuple[str, str], HealthNotes] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    schedules: dict[tuple[str, str], Schedule] = field(default_factory=dict)
    deployed: dict[tuple[str, str], Deployed] = field(default_factory=dict)
    usage: Usage | None = None
    usage_records: dict[tuple[str, int, int], UsageRecord] = field(default_factory=dict)
    usage_writes: int = 0
    usage_written: dict[tuple[str, int, int], int] = field(default_factory=dict)
    served: dict[tuple[str, str, str, bool], ServedDay] = field(default_factory=dict)
    months: dict[str, ClosedMonth] = field(default_factory=dict)
    books: dict[str, tuple[Entry | Correction, ...]] = field(default_factory=dict)


def _plain_notes(notes: HealthNotes) -> HealthNotes:
    return replace(notes, findings=tuple(replace(each, reason=plain_text(each.reason)) for each in notes.findings))


class VirtualStore:
    def __init__(
        self, kept: Kept | None = None, *, before_write: Hook | None = None, after_write: Hook | None = None
    ) -> None:
        self.kept = Kept() if kept is None else kept
        self.before_write = before_write
        self.after_write = after_write
        self._epoch: int | None = None
        self._of_job: dict[str, list[StoredEvent]] = {}
        for event in self.kept.events:
            self._of_job.setdefault(event.job_id, []).append(event)
        self._indexed = len(self.kept.events)

    def reopened(self) -> Self:
        return type(self)(self.kept, before_write=self.before_write, after_write=self.after_write)

    @property
    def full(self) -> bool:
        """While True every write raises Unavailable and keeps nothing."""
        return self.kept.full

    @full.setter
    def full(self, full: bool) -> None:
        self.kept.full = full

    @property
    def poison(self) -> set[str]:
        """Jobs (by id, or by name when they are submitted) of which nothing can be stored, for a reason that is no
        fault of the store's."""
        return self.kept.poison

    @property
    def commits(self) -> int:
        return self.kept.commits

    # -- writing ---------------------------------------------------------------------------------------------------

    def _write(self, what: str) -> AbstractContextManager[None]:
        """Around a write: the block checks everything before it changes anything."""
        return self._hooked(what)

    @contextmanager
    def _hooked(self, what: str) -> Iterator[None]:
        if self.full:
            raise Unavailable("the store cannot take this now: disk is full. Nothing of it was kept. Free some space.")
        if self._epoch is not None and self.kept.epoch > self._epoch and what != "next_epoch":
            raise Superseded(self.kept.epoch, self.kept.leader)
        if self.before_write is not None:
            self.before_write(what)
        yield
        if self.after_write is not None:
            self.after_write(what)

    def next_epoch(self, leader: str = "") -> int:
        with self._write("next_epoch"):
            self.kept.epoch += 1
            self.kept.leader = leader
            self._epoch = self.kept.epoch
        return self._epoch

    def submit(self, specs: Sequence[JobSpec], *, at_s: float, by: str, held: Hold | None = None) -> Sequence[Job]:
        (jobs,) = self.submit_together([Submission(tuple(specs), by, held)], at_s=at_s)
        if isinstance(jobs, Exception):
            raise jobs
        return jobs

    def submit_together(self, submissions: Sequence[Submission], *, at_s: float) -> Sequence[Sequence[Job] | Exception]:
        if not any(submission.specs for submission in submissions):
            return [[] for _ in submissions]
        with self._write("submit"):
            return [self._submit(submission, at_s) for submission in submissions]

    def _submit(self, submission: Submission, at_s: float) -> Sequence[Job] | Exception:
        bad = [spec for spec in submission.specs if spec.name in self.poison]
        if bad:
            return ValueError(f"job {bad[0].name} cannot be encoded")
        said = {"by": submission.by}
        return [job for spec in submission.specs for job in self._add(spec, at_s, submission.held, said)]

    def _add(self, spec: JobSpec, at_s: float, held: Hold | None, detail: Mapping[str, Any]) -> list[Job]:
        self.kept.numbers += 1
        jobs: list[Job] = []
        for index, name in enumerate(task_ids(str(self.kept.numbers), spec)):
            pending = Pending(NotConsidered(), at_s)
            array_index = index if spec.array_size else None
            job = Job(name, len(self.kept.jobs) + 1, spec, at_s, pending, array_index=array_index, held=held)
            self.kept.jobs[name] = job
            self._append(Change(job, "submitted", at_s, detail))
            jobs.append(job)
        return jobs

    def commit(self, changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
        if not changes and not usage_records:
            return
        with self._write("commit"):
            named = [*(change.job.id for change in changes), *(entry.job_id for entry in usage_records)]
            bad = [job_id for job_id in named if job_id in self.poison]
            if bad:
                raise ValueError(f"what is said of job {bad[0]} cannot be encoded")
            assert all(change.job.id in self.kept.jobs for change in changes), "a change names a job never submitted"
            records = [entry for entry in usage_records if isinstance(entry, UsageRecord)]
            assert all(record.job_id in self.kept.jobs for record in records), "a record of a job never submitted"
            self.kept.commits += 1
            self.kept.usage_writes += 1
            for change in changes:
                self.kept.jobs[change.job.id] = change.job
                self._append(change)
            for entry in usage_records:
                known = self.kept.usage_records.get(entry.key)
                record = accounted(known, entry)
                if record is not None and record != known:
                    self.kept.usage_records[entry.key] = replace(record, cause=plain_text(record.cause))
                    self.kept.usage_written[entry.key] = self.kept.usage_writes

    def _append(self, change: Change) -> None:
        self.kept.events.append(
            StoredEvent(
                len(self.kept.events) + 1,
                change.job.id,
                change.at_s,
                change.event,
                shown(change.job.state),
                {key: plain_text(said) if isinstance(said, str) else said for key, said in change.detail.items()},
            )
        )

    def set_result(self, job_id: str, attempt: int, worker: int, result: str) -> None:
        with self._write("set_result"):
            self.kept.results.setdefault(job_id, {})[attempt, worker] = plain_text(result)

    def set_drain(self, drain: Drain) -> None:
        with self._write("set_drain"):
            self.kept.drains[drain.node] = replace(drain, reason=plain_text(drain.reason), by=plain_text(drain.by))

    def clear_drain(self, node: str) -> None:
        with self._write("clear_drain"):
            self.kept.drains.pop(node, None)

    def set_health_notes(self, notes: Sequence[HealthNotes]) -> None:
        if notes:
            with self._write("set_health_notes"):
                self.kept.notes |= {each.key: _plain_notes(each) for each in notes}

    def set_reservation(self, reservation: Reservation) -> None:
        with self._write("set_reservation"):
            told = replace(reservation, reason=plain_text(reservation.reason), by=plain_text(reservation.by))
            self.kept.reservations[reservation.name] = told

    def clear_reservation(self, name: str) -> None:
        with self._write("clear_reservation"):
            self.kept.reservations.pop(name, None)

    def set_schedule(self, schedule: Schedule) -> None:
        with self._write("set_schedule"):
            before = self.kept.schedules.get(schedule.key)
            kept = schedule if before is None else before
            self.kept.schedules[schedule.key] = replace(
                kept,
                by=plain_text(kept.by),
                next_s=schedule.next_s,
                paused=schedule.paused,
                skips=schedule.skips,
                skipped_s=schedule.skipped_s,
                skipped_why=plain_text(schedule.skipped_why),
            )

    def clear_schedule(self, tenant: str, name: str) -> None:
        with self._write("clear_schedule"):
            self.kept.schedules.pop((tenant, name), None)

    def set_deployed(self, service: Deployed) -> None:
        with self._write("set_deployed"):
            versions = tuple(
                replace(each, by=plain_text(each.by), why=plain_text(each.why)) for each in service.versions
            )
            self.kept.deployed[service.key] = replace(service, versions=versions)

    def clear_deployed(self, tenant: str, name: str) -> None:
        with self._write("clear_deployed"):
            self.kept.deployed.pop((tenant, name), None)

    def submit_scheduled(self, due: Schedule, next_s: float | None, *, at_s: float) -> Sequence[Job]:
        spec = due.job_spec()
        with self._write("submit_scheduled"):
            now = self.kept.schedules.get(due.key)
            if now is not None and now.last_s == due.next_s and now.last_job is not None:
                return [self.kept.jobs[job_id] for job_id in task_ids(now.last_job, spec)]
            if now is None or now.next_s != due.next_s:
                return ()
            jobs = self._add(spec, at_s, None, {"by": f"schedule {due.name}", "due_s": due.next_s})
            number = str(self.kept.numbers)
            self.kept.schedules[due.key] = replace(
                now, next_s=next_s, runs=now.runs + 1, last_job=number, last_s=due.next_s
            )
        return jobs

    def set_usage(self, usage: Usage) -> None:
        with self._write("set_usage"):
            self.kept.usage = replace(usage, averages=dict(usage.averages)) if usage.averages else None

    def set_served(self, days: Sequence[ServedDay]) -> None:
        with self._write("set_served"):
            self.kept.served |= {day.key: day for day in days}

    def close_month(self, closed: ClosedMonth, entries: Sequence[Entry | Correction]) -> None:
        name = closed.month.name
        with self._write("close_month"):
            if name in self.kept.months:
                raise Conflict(f"{name} is closed already, and a closed month never changes")
            self.kept.months[name] = closed
            self.kept.books[name] = tuple(entries)

    # -- reading ---------------------------------------------------------------------------------------------------

    def usage_write_number(self) -> int:
        return self.kept.usage_writes

    def usage_records_changed(self, write_number: int, before_s: float) -> Sequence[UsageRecord]:
        records = [
            record
            for key, record in self.kept.usage_records.items()
            if self.kept.usage_written[key] > write_number and record.from_s < before_s
        ]
        return sorted(records, key=lambda record: (record.from_s, *record.key))

    def served_days(self, from_day: str, to_day: str) -> Sequence[ServedDay]:
        return [self.kept.served[key] for key in sorted(self.kept.served) if from_day <= key[0] < to_day]

    def closed_months(self) -> Sequence[ClosedMonth]:
        return [self.kept.months[name] for name in sorted(self.kept.months)]

    def usage_book(self, month: str, tenant: str | None = None) -> Sequence[Entry | Correction]:
        entries = [entry for entry in self.kept.books.get(month, ()) if tenant in (None, entry.tenant)]
        return sorted(entries, key=lambda entry: (isinstance(entry, Correction), order(entry)))

    def usage_booked(self, keys: Sequence[str]) -> Mapping[tuple[str, str], Entry | None]:
        found: dict[tuple[str, str], Entry | None] = {}
        for month in sorted(self.kept.books):
            for entry in self.kept.books[month]:
                if entry.key in keys:
                    of_month = entry.of_month if isinstance(entry, Correction) else month
                    found[of_month, entry.key] = entry.after if isinstance(entry, Correction) else entry
        return found

    def job(self, job_id: str) -> Job | None:
        return self.kept.jobs.get(job_id)

    def jobs_named(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        return {job_id: self.kept.jobs[job_id] for job_id in job_ids if job_id in self.kept.jobs}

    def live_jobs(self) -> Sequence[Job]:
        return [job for job in self.kept.jobs.values() if isinstance(job.state, LIVE_STATES)]

    def recent_jobs(
        self, *, tenant: str | None, states: Sequence[str] | None, limit: int, before_seq: int | None = None
    ) -> Sequence[Job]:
        rows = (
            job
            for job in reversed(self.kept.jobs.values())
            if (tenant is None or job.spec.tenant == tenant)
            and (states is None or shown(job.state) in states)
            and (before_seq is None or job.seq < before_seq)
        )
        return list(islice(rows, limit))

    def job_events(self, job_id: str) -> Sequence[StoredEvent]:
        return list(self._events_by_job().get(job_id, ()))

    def events_named(self, job_ids: Sequence[str], names: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
        by_job = self._events_by_job()
        found = {
            job_id: [event for event in by_job.get(job_id, ()) if event.event in names]
            for job_id in dict.fromkeys(job_ids)
        }
        return {job_id: events for job_id, events in found.items() if events}

    def _events_by_job(self) -> Mapping[str, Sequence[StoredEvent]]:
        """Of all that lies on the disk, also what another service wrote."""
        for event in self.kept.events[self._indexed :]:
            self._of_job.setdefault(event.job_id, []).append(event)
        self._indexed = len(self.kept.events)
        return self._of_job

    def results(self, job_id: str) -> Mapping[tuple[int, int], str]:
        return dict(sorted(self.kept.results.get(job_id, {}).items()))

    def usage_records(self, job_id: str) -> Sequence[UsageRecord]:
        records = [record for record in self.kept.usage_records.values() if record.job_id == job_id]
        return sorted(records, key=lambda record: record.key)

    def usage_records_between(self, from_s: float, to_s: float, tenant: str | None = None) -> Sequence[UsageRecord]:
        records = [
            record
            for record in self.kept.usage_records.values()
            if record.from_s < to_s and record.to_s >= from_s and tenant in (None, record.tenant)
        ]
        return sorted(records, key=lambda record: (record.from_s, *record.key))

    def drains(self) -> Sequence[Drain]:
        return [self.kept.drains[node] for node in sorted(self.kept.drains)]

    def health_notes(self) -> Sequence[HealthNotes]:
        return [self.kept.notes[key] for key in sorted(self.kept.notes)]

    def reservations(self) -> Sequence[Reservation]:
        return [self.kept.reservations[name] for name in sorted(self.kept.reservations)]

    def schedules(self) -> Sequence[Schedule]:
        return [self.kept.schedules[key] for key in sorted(self.kept.schedules)]

    def deployed(self) -> Sequence[Deployed]:
        return [self.kept.deployed[key] for key in sorted(self.kept.deployed)]

    def usage(self) -> Usage | None:
        return self.kept.usage

    def writes(self) -> Mapping[str, WriteFigures]:
        return {"commits": WriteFigures(), "submissions": WriteFigures()}

    def close(self) -> None:
        pass
