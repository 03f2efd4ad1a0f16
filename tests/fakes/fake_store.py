"""A store in memory that keeps the promises of scheduler.ports.Store (the same contract tests), and can be full.

`reopened` gives what another service gets that opens it: the same contents, another epoch. What a service did not
commit is not in it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scheduler.core.jobs import LIVE_STATES, Job, JobSpec, Pending, shown
from scheduler.core.reasons import NotConsidered
from scheduler.errors import Superseded, Unavailable
from scheduler.ports import Change, Drain, Reservation, StoredEvent, Usage
from scheduler.store.encoding import plain_text


@dataclass
class Kept:
    """What lies on the disk."""

    full: bool = False
    poison: set[str] = field(default_factory=set)
    commits: int = 0
    epoch: int = 0
    numbers: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: dict[str, Job] = field(default_factory=dict)
    events: list[StoredEvent] = field(default_factory=list)
    results: dict[str, dict[tuple[int, int], str]] = field(default_factory=dict)
    drains: dict[str, Drain] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    usage: Usage | None = None


class FakeStore:
    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self._epoch: int | None = None
        self._lock = self.kept.lock
        self._jobs = self.kept.jobs
        self._events = self.kept.events
        self._results = self.kept.results
        self._drains = self.kept.drains

    def reopened(self) -> FakeStore:
        return FakeStore(self.kept)

    @property
    def full(self) -> bool:
        """While True every write raises Unavailable and keeps nothing."""
        return self.kept.full

    @full.setter
    def full(self, full: bool) -> None:
        self.kept.full = full

    @property
    def poison(self) -> set[str]:
        """Jobs whose changes cannot be stored, for a reason that is no fault of the store's."""
        return self.kept.poison

    @property
    def commits(self) -> int:
        return self.kept.commits

    def _check(self) -> None:
        if self.full:
            raise Unavailable("the store cannot take this now: disk is full. Nothing of it was kept. Free some space.")
        if self._epoch is not None and self.kept.epoch > self._epoch:
            raise Superseded(self.kept.epoch)

    def next_epoch(self) -> int:
        with self._lock:
            self._epoch = None
            self._check()
            self.kept.epoch += 1
            self._epoch = self.kept.epoch
            return self._epoch

    def submit(self, specs: Sequence[JobSpec], *, at_s: float, by: str) -> Sequence[Job]:
        with self._lock:
            self._check()
            jobs: list[Job] = []
            for spec in specs:
                self.kept.numbers += 1
                tasks: Sequence[int | None] = range(spec.array_size) if spec.array_size else (None,)
                for index in tasks:
                    name = str(self.kept.numbers) if index is None else f"{self.kept.numbers}.{index}"
                    pending = Pending(NotConsidered(), at_s)
                    job = Job(name, len(self._jobs) + 1, spec, at_s, pending, array_index=index)
                    self._jobs[name] = job
                    self._append(Change(job, "submitted", at_s, {"by": by}))
                    jobs.append(job)
            return jobs

    def commit(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        with self._lock:
            self._check()
            bad = [change.job.id for change in changes if change.job.id in self.poison]
            if bad:
                raise ValueError(f"what is said of job {bad[0]} cannot be encoded")
            self.kept.commits += 1
            assert all(change.job.id in self._jobs for change in changes), "a change names a job never submitted"
            for change in changes:
                self._jobs[change.job.id] = change.job
                self._append(change)

    def _append(self, change: Change) -> None:
        self._events.append(
            StoredEvent(
                len(self._events) + 1,
                change.job.id,
                change.at_s,
                change.event,
                shown(change.job.state),
                {key: plain_text(said) if isinstance(said, str) else said for key, said in change.detail.items()},
            )
        )

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def jobs_named(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        return {job_id: self._jobs[job_id] for job_id in job_ids if job_id in self._jobs}

    def live_jobs(self) -> Sequence[Job]:
        return [job for job in self._jobs.values() if isinstance(job.state, LIVE_STATES)]

    def recent_jobs(
        self, *, tenant: str | None, states: Sequence[str] | None, limit: int, before_seq: int | None = None
    ) -> Sequence[Job]:
        rows = [
            job
            for job in reversed(self._jobs.values())
            if (tenant is None or job.spec.tenant == tenant)
            and (states is None or shown(job.state) in states)
            and (before_seq is None or job.seq < before_seq)
        ]
        return rows[:limit]

    def job_events(self, job_id: str) -> Sequence[StoredEvent]:
        return [event for event in self._events if event.job_id == job_id]

    def events_named(self, job_ids: Sequence[str], names: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
        wanted = set(job_ids)
        found: dict[str, list[StoredEvent]] = {}
        for event in self._events:
            if event.job_id in wanted and event.event in names:
                found.setdefault(event.job_id, []).append(event)
        return found

    def set_result(self, job_id: str, attempt: int, worker: int, result: str) -> None:
        with self._lock:
            self._check()
            self._results.setdefault(job_id, {})[attempt, worker] = plain_text(result)

    def results(self, job_id: str) -> Mapping[tuple[int, int], str]:
        return dict(sorted(self._results.get(job_id, {}).items()))

    def drains(self) -> Sequence[Drain]:
        return [self._drains[node] for node in sorted(self._drains)]

    def set_drain(self, drain: Drain) -> None:
        with self._lock:
            self._check()
            self._drains[drain.node] = replace(drain, reason=plain_text(drain.reason), by=plain_text(drain.by))

    def clear_drain(self, node: str) -> None:
        with self._lock:
            self._check()
            self._drains.pop(node, None)

    def reservations(self) -> Sequence[Reservation]:
        return [self.kept.reservations[name] for name in sorted(self.kept.reservations)]

    def set_reservation(self, reservation: Reservation) -> None:
        with self._lock:
            self._check()
            told = replace(reservation, reason=plain_text(reservation.reason), by=plain_text(reservation.by))
            self.kept.reservations[reservation.name] = told

    def clear_reservation(self, name: str) -> None:
        with self._lock:
            self._check()
            self.kept.reservations.pop(name, None)

    def usage(self) -> Usage | None:
        return self.kept.usage

    def set_usage(self, usage: Usage) -> None:
        with self._lock:
            self._check()
            self.kept.usage = replace(usage, averages=dict(usage.averages)) if usage.averages else None

    def close(self) -> None:
        pass
