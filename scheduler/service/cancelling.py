"""Many jobs cancelled at one request: what the ids stand for, and what is said of each of them afterwards.

An id is a job's (7), a task's (7.3), or an array's number, which means those of its tasks that live.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.jobs import Job, Stopping
from scheduler.errors import BadInput, Conflict, NotFound, SuanliError, type_word
from scheduler.ports import Json, Store
from scheduler.service import views
from scheduler.service.loop import ServiceLoop

_JOB_ID = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Meant:
    """What one id stands for. `first`: the job, or a task of the array; `tasks`: all that an array has; `live`: the ids
    that are to be cancelled. `error`: why there is none."""

    id: str
    first: Job | None = None
    tasks: int | None = None
    live: tuple[str, ...] = ()
    error: SuanliError | None = None


def meant_by(loop: ServiceLoop, store: Store, ids: Sequence[str], may_see: Callable[[Job], bool]) -> list[Meant]:
    """Each id once, in the order given. What the caller may not see is not there."""
    ids = list(dict.fromkeys(ids))
    live = loop.call(lambda state: {job_id: state.jobs[job_id] for job_id in ids if job_id in state.jobs})
    rest = [job_id for job_id in ids if job_id not in live and _JOB_ID.fullmatch(job_id)]
    stored = store.jobs_named([*rest, *(_first_task(job_id) for job_id in rest if "." not in job_id)])
    arrays = {
        job_id: [f"{job_id}.{index}" for index in range(stored[_first_task(job_id)].spec.array_size)]
        for job_id in rest
        if job_id not in stored and _first_task(job_id) in stored
    }
    alive = loop.call(
        lambda state: {job_id: tuple(task for task in tasks if task in state.jobs) for job_id, tasks in arrays.items()}
    )

    def meant(job_id: str) -> Meant:
        array = job_id in arrays
        first = stored[_first_task(job_id)] if array else live.get(job_id) or stored.get(job_id)
        if not _JOB_ID.fullmatch(job_id):
            said = "is no job id: a number (7), an array's number or a task of an array (7.3)"
            return Meant(job_id, error=BadInput(f"{job_id[:80]!r} {said}", field="ids"))
        if first is None or not may_see(first):
            return Meant(job_id, error=NotFound(f"there is no job {job_id}"))
        if array:
            return Meant(job_id, first, len(arrays[job_id]), alive[job_id])
        return Meant(job_id, first, None, (job_id,) if job_id in live else ())

    return [meant(job_id) for job_id in ids]


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


def _first_task(job_id: str) -> str:
    return f"{job_id}.0"
