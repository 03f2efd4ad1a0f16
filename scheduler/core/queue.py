"""What waits and what runs, kept as it changes, so that a planning pass need not look at every job.

A `Queue` belongs to whoever tells it what happens (the service, the simulator, a test); the planner only reads it. It
joins the waiting line (`waiting.py`), what running jobs hold in columns (`running_columns.py`) and by tenant
(`quotas.py`), and the tenants' decayed usage, which its owner keeps up to date.

Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.core.decisions import PendingJob, RunningJob
from scheduler.core.quotas import QuotaLedger
from scheduler.core.running_columns import RunningColumns
from scheduler.core.waiting import WaitingLine


class Queue:
    """`usage`: each fair-share account's decayed average (`fair_share.DecayedUsage`); one not in it has used nothing.

    `owed` are ids of waiting jobs for which others were preempted and have gone: what came free is theirs.
    `elastic` and `shrinking` are those of the running jobs that could use more workers than they have, and that want
    fewer than they have.
    """

    __slots__ = ("_avoiding", "_named", "elastic", "held", "holding", "owed", "shrinking", "usage", "waiting")

    def __init__(
        self,
        pending: Iterable[PendingJob] = (),
        running: Iterable[RunningJob] = (),
        *,
        usage: Mapping[str, float] | None = None,
    ) -> None:
        self.waiting = WaitingLine()
        self.holding = RunningColumns()
        self.held = QuotaLedger()
        self.usage: dict[str, float] = dict(usage or {})
        self.owed: dict[str, None] = {}
        self.elastic: dict[str, RunningJob] = {}
        self.shrinking: dict[str, RunningJob] = {}
        # Running jobs by (tenant, name), kept from when that is first asked for; and by each name that they want to be
        # apart from.
        self._named: dict[tuple[str, str], dict[str, None]] | None = None
        self._avoiding: dict[tuple[str, str], dict[str, None]] = {}
        for job in running:
            self.run(job)
        for waiter in pending:
            self.submit(waiter)

    def submit(self, job: PendingJob) -> None:
        """It waits; one of the same id is replaced."""
        self.waiting.add(job)

    def withdraw(self, job_id: str) -> None:
        """It waits no more. Nothing happens where it did not."""
        self.owed.pop(job_id, None)
        if job_id in self.waiting:
            self.waiting.remove(job_id)

    def run(self, job: RunningJob) -> None:
        """It holds devices; what was said of it before is replaced."""
        before = self.holding.get(job.job_id)
        if before is not None:
            if before == job:
                return  # that was said before
            self._forget(before)
        self.holding.add(job)  # which leaves alone what stands as it stood
        if before is None or not _charges_alike(before, job):
            if before is not None:
                self.held.remove(before)
            self.held.add(job)
        if self._named is not None and job.name:
            self._named.setdefault((job.tenant, job.name), {})[job.job_id] = None
        if job.apart_from:
            self.waiting.keep_apart(job.tenant, job.apart_from)
            for name in job.apart_from:
                self._avoiding.setdefault((job.tenant, name), {})[job.job_id] = None
        if job.workers_max is not None and len(job.placements) < job.workers_max:
            self.elastic[job.job_id] = job
        if job.workers_wanted is not None and job.workers_wanted < len(job.placements):
            self.shrinking[job.job_id] = job

    def end(self, job_id: str) -> None:
        """It holds nothing more. Nothing happens where it held nothing."""
        before = self.holding.remove(job_id)
        if before is None:
            return
        self.held.remove(before)
        self._forget(before)
        if before.stopping_for is not None and before.stopping_for in self.waiting:
            self.owed[before.stopping_for] = None

    def _forget(self, before: RunningJob) -> None:
        """All that was said of the running job, but for what it holds and what its tenant is charged."""
        if before.workers_max is not None:
            self.elastic.pop(before.job_id, None)
        if before.workers_wanted is not None:
            self.shrinking.pop(before.job_id, None)
        if self._named is not None and before.name:
            _drop(self._named, (before.tenant, before.name), before.job_id)
        if before.apart_from:
            self.waiting.forget_apart(before.tenant, before.apart_from)
            for name in before.apart_from:
                _drop(self._avoiding, (before.tenant, name), before.job_id)

    def pending_job(self, job_id: str) -> PendingJob | None:
        return self.waiting.get(job_id)

    def running_job(self, job_id: str) -> RunningJob | None:
        return self.holding.get(job_id)

    def kept_apart(self, tenant: str, name: str | None, apart_from: Iterable[str]) -> set[str]:
        """Nodes where the tenant runs a job that one of this name must not meet, which keeps off those."""
        ids = [job_id for other in apart_from for job_id in self._by_name().get((tenant, other), ())]
        if name is not None:
            ids += self._avoiding.get((tenant, name), ())
        jobs = [self.holding.get(job_id) for job_id in ids]
        return {placement.node for job in jobs if job is not None for placement in job.placements}

    def _by_name(self) -> dict[tuple[str, str], dict[str, None]]:
        """Where nobody wants to be apart from a name, nobody asks, and no job is looked up by its own."""
        if self._named is None:
            self._named = {}
            for job in self.holding.jobs():
                if job.name:
                    self._named.setdefault((job.tenant, job.name), {})[job.job_id] = None
        return self._named

    @property
    def pending(self) -> tuple[PendingJob, ...]:
        """All that wait, in no particular order: made on demand, not for a pass."""
        return tuple(self.waiting)

    @property
    def running(self) -> tuple[RunningJob, ...]:
        """All that hold devices: made on demand, not for a pass."""
        return tuple(self.holding.jobs())


def _charges_alike(job: RunningJob, other: RunningJob) -> bool:
    """Whether a tenant's ledger is the same with either: where a service is scaled, nothing of it moves yet."""
    if job.tenant != other.tenant or job.simulated != other.simulated or job.stopping != other.stopping:
        return False
    return job.placements == other.placements


def _drop(index: dict[tuple[str, str], dict[str, None]], key: tuple[str, str], job_id: str) -> None:
    ids = index[key]
    del ids[job_id]
    if not ids:
        del index[key]
