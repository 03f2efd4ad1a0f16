"""What do the ids of a request stand for? A job (7), a task of an array (7.3), or an array's number: all its tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scheduler.core.jobs import Job
from scheduler.errors import BadInput, NotFound, SuanliError
from scheduler.ports import Store
from scheduler.service.loop import ServiceLoop

_JOB_ID = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Meant:
    """What one id stands for. `first`: the job, or a task of the array; `tasks`: all that an array has; `live`: the ids
    of those that have not ended. `error`: why it stands for nothing."""

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


def live_ids(wanted: Sequence[Meant]) -> tuple[str, ...]:
    """Each job once."""
    return tuple(dict.fromkeys(job_id for each in wanted for job_id in each.live))


def _first_task(job_id: str) -> str:
    return f"{job_id}.0"
