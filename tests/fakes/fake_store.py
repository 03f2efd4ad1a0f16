"""A store in memory that keeps the promises of scheduler.ports.Store (the same contract tests), and can be full.

"Reopening" it is handing the same object to another service: what a service did not commit is not in it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from scheduler.core.jobs import LIVE_STATES, Job, JobSpec, Pending, shown
from scheduler.core.reasons import NotConsidered
from scheduler.errors import Unavailable
from scheduler.ports import Change, Drain, StoredEvent


class FakeStore:
    def __init__(self) -> None:
        self.full = False
        """While True every write raises Unavailable and keeps nothing."""
        self.commits = 0
        self._lock = threading.Lock()
        self._epoch = 0
        self._numbers = 0
        self._jobs: dict[str, Job] = {}
        self._events: list[StoredEvent] = []
        self._results: dict[str, dict[tuple[int, int], str]] = {}
        self._drains: dict[str, Drain] = {}

    def _check(self) -> None:
        if self.full:
            raise Unavailable("the store cannot take this now: disk is full. Nothing of it was kept. Free some space.")

    def next_epoch(self) -> int:
        with self._lock:
            self._check()
            self._epoch += 1
            return self._epoch

    def submit(self, specs: Sequence[JobSpec], *, at_s: float, by: str) -> Sequence[Job]:
        with self._lock:
            self._check()
            jobs: list[Job] = []
            for spec in specs:
                self._numbers += 1
                tasks: Sequence[int | None] = range(spec.array_size) if spec.array_size else (None,)
                for index in tasks:
                    name = str(self._numbers) if index is None else f"{self._numbers}.{index}"
                    pending = Pending(NotConsidered(), at_s)
                    job = Job(name, len(self._jobs) + 1, spec, at_s, pending, array_index=index)
                    self._jobs[name] = job
                    self._append(Change(job, "submitted", at_s, {"by": by}))
                    jobs.append(job)
            return jobs

    def commit(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._check()
            self.commits += 1
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
                dict(change.detail),
            )
        )

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

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

    def set_result(self, job_id: str, attempt: int, worker: int, result: str) -> None:
        with self._lock:
            self._check()
            self._results.setdefault(job_id, {})[attempt, worker] = result

    def results(self, job_id: str) -> Mapping[tuple[int, int], str]:
        return dict(sorted(self._results.get(job_id, {}).items()))

    def drains(self) -> Sequence[Drain]:
        return [self._drains[node] for node in sorted(self._drains)]

    def set_drain(self, drain: Drain) -> None:
        with self._lock:
            self._check()
            self._drains[drain.node] = drain

    def clear_drain(self, node: str) -> None:
        with self._lock:
            self._check()
            self._drains.pop(node, None)

    def close(self) -> None:
        pass
