"""What does a job's state say of its workers, its end and its time limit?"""

from __future__ import annotations

from scheduler.core.jobs import (
    ON_NODES,
    Cancelled,
    Failed,
    Job,
    Running,
    Starting,
    Succeeded,
    WorkerPhase,
    WorkerRun,
)
from scheduler.service.dispatch import is_service


def workers_of(job: Job) -> tuple[WorkerRun, ...]:
    return job.state.workers if isinstance(job.state, ON_NODES) else ()


def alive(job: Job) -> tuple[WorkerRun, ...]:
    """Workers whose end nobody has reported."""
    return tuple(run for run in workers_of(job) if run.phase is not WorkerPhase.EXITED)


def ended_well(job: Job) -> bool | None:
    """None: it has not ended."""
    return isinstance(job.state, Succeeded) if isinstance(job.state, Succeeded | Failed | Cancelled) else None


def serves(job: Job) -> bool:
    """A service whose replicas are wanted: those that end are started again."""
    return is_service(job) and isinstance(job.state, Starting | Running)


def time_limit_due_s(job: Job) -> float | None:
    if not isinstance(job.state, Running) or job.spec.time_limit_s is None:
        return None
    return job.state.since_s + job.spec.time_limit_s
