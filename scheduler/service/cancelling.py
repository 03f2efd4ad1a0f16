"""Many jobs cancelled at one request: what is said of each id afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scheduler.core.jobs import Job, Stopping
from scheduler.errors import Conflict, type_word
from scheduler.ports import Json
from scheduler.service import views
from scheduler.service.named_jobs import Meant


def answer(wanted: Sequence[Meant], became: Mapping[str, Job]) -> Json:
    """What is said of it: counts over all jobs, each once, and a row an id. `became`: of CancelJobsRequested."""
    rows = [_row(each, became) for each in wanted]
    stopping = sum(_goes(job) for job in became.values())
    return {
        "cancelled": len(became) - stopping,
        "stopping": stopping,
        "failed": sum(row["error"] is not None for row in rows),
        "jobs": rows,
    }


def _row(meant: Meant, became: Mapping[str, Job]) -> Json:
    jobs = [became[job_id] for job_id in meant.live if job_id in became]
    stopping = sum(map(_goes, jobs))
    error = meant.error
    if error is None and not jobs:
        error = _over(meant)
    there = meant.first is not None and meant.error is None
    alone = jobs[0] if jobs and meant.tasks is None else None
    cause, detail, _ = views.end_of(alone) if alone is not None else (None, None, None)
    return {
        "id": meant.id,
        "name": meant.first.spec.name if meant.first is not None else None,
        "tasks": meant.tasks,
        "cancelled": len(jobs) - stopping,
        "stopping": stopping,
        "ended": (meant.tasks or 1) - len(jobs) if there else 0,
        "state": views.word(alone) if alone is not None else None,
        "cause": cause,
        "detail": detail,
        "error": None if error is None else {"message": error.message, "field": error.field, "type": type_word(error)},
    }


def _over(meant: Meant) -> Conflict:
    if meant.tasks is not None:
        return Conflict(f"every task of array {meant.id} has ended already; there is nothing to cancel")
    # One that ended between the look and the step is not known by its state.
    how = f" ({views.word(meant.first)})" if meant.first is not None and not meant.live else ""
    return Conflict(f"job {meant.id} has ended already{how}; there is nothing to cancel")


def _goes(job: Job) -> bool:
    return isinstance(job.state, Stopping)
