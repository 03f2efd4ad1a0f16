"""Jobs held, released or requeued at one request: what is said of each id afterwards.

An array's number means its tasks; of these, the ones that cannot be changed are left as they are and counted. A job
that has ended is requeued by submitting it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.core.jobs import Job, JobSpec, Pending, Succeeded
from scheduler.errors import Conflict, SuanliError, type_word
from scheduler.ports import Json, Store
from scheduler.service import views
from scheduler.service.named_jobs import Meant


@dataclass(frozen=True, slots=True)
class Done:
    """What became of the jobs of one request. `verb` is hold, release or requeue; `new`: by the id that was asked for,
    the first of the jobs that were submitted anew for it; `failed`: ids for which that was refused."""

    verb: str
    became: Mapping[str, Job]
    refused: Mapping[str, SuanliError]
    new: Mapping[str, Job]
    failed: Mapping[str, SuanliError]


def answer(wanted: Sequence[Meant], done: Done) -> Json:
    """`changed` counts each job once, `failed` the ids with an error."""
    rows = [_row(each, done) for each in wanted]
    return {
        "changed": len(done.became) + len(done.new),
        "failed": sum(row["error"] is not None for row in rows),
        "jobs": rows,
    }


def _row(meant: Meant, done: Done) -> Json:
    jobs = [done.became[job_id] for job_id in meant.live if job_id in done.became]
    left = [done.refused[job_id] for job_id in meant.live if job_id in done.refused]
    new = done.new.get(meant.id)
    error = meant.error or done.failed.get(meant.id)
    if error is None and not jobs and new is None:
        error = left[0] if left else _nothing(meant, done.verb)
    there = meant.first is not None and meant.error is None
    alone = jobs[0] if jobs and meant.tasks is None else None
    return {
        "id": meant.id,
        "name": meant.first.spec.name if meant.first is not None else None,
        "tasks": meant.tasks,
        "changed": len(jobs),
        "left": len(left),
        "ended": (meant.tasks or 1) - len(meant.live) if there else 0,
        "state": None if alone is None else views.word(alone),
        "new": None if new is None else _number(new),
        "detail": None if error is not None else _detail(meant, done, jobs, left, new),
        "error": None if error is None else {"message": error.message, "field": error.field, "type": type_word(error)},
    }


def _detail(meant: Meant, done: Done, jobs: Sequence[Job], left: Sequence[SuanliError], new: Job | None) -> str:
    """What was done, as a sentence's end: `held`, `988 tasks held; 12 are left as they are`."""
    if new is not None:
        held = ", held" if new.held is not None else ""
        what = "the whole array is" if meant.tasks is not None else "it is"
        return f"has ended; {what} submitted anew as job {_number(new)}{held}"
    word = _done_word(done.verb, jobs)
    if meant.tasks is None:
        return word
    rest = f"; {len(left):,} {'is' if len(left) == 1 else 'are'} left as {'it is' if len(left) == 1 else 'they are'}"
    return f"{len(jobs):,} {'task' if len(jobs) == 1 else 'tasks'} {word}" + (rest if left else "")


def _done_word(verb: str, jobs: Sequence[Job]) -> str:
    if verb != "requeue":
        return {"hold": "held", "release": "released"}[verb]
    if all(isinstance(job.state, Pending) for job in jobs):
        said = "taken back to the queue"
    else:
        said = "asked to save and go, and to wait again"
    return said + (" (held)" if any(job.held is not None for job in jobs) else "")


def _nothing(meant: Meant, verb: str) -> Conflict:
    done = {"hold": "held", "release": "released", "requeue": "requeued"}[verb]
    if meant.tasks is not None:
        return Conflict(f"every task of array {meant.id} has ended; there is nothing that could be {done}")
    how = f" ({views.word(meant.first)})" if meant.first is not None and not meant.live else ""
    return Conflict(f"job {meant.id} has ended already{how}; there is nothing that could be {done}")


# ---- submitting anew ---------------------------------------------------------------------------------------------


def ended_ids(wanted: Sequence[Meant]) -> list[Meant]:
    """Those that stand for jobs of which none lives: they can be submitted anew."""
    return [each for each in wanted if each.error is None and each.first is not None and not each.live]


def spec_again(meant: Meant, store: Store) -> JobSpec:
    """The same once more: a job, an array as a whole, or a single task, which keeps its number. Raises Conflict where
    it would fail at once because of a job that it runs after."""
    first = meant.first
    assert first is not None, meant
    spec = first.spec
    failed = [before for before, job in store.jobs_named(spec.after).items() if not _may_still_succeed(job)]
    if failed:
        raise Conflict(
            f"job {first.id} was to run after job {failed[0]}, which did not succeed: requeue that one first, or submit"
            " the job file again with another `after`"
        )
    if first.array_index is None or meant.tasks is not None:
        return spec
    number = ("SUANLI_ARRAY_INDEX", str(first.array_index))
    return replace(spec, array_size=0, env=(*spec.env, number))


def resubmitted(
    wanted: Sequence[Meant], submit: Callable[[Meant], Sequence[Job]]
) -> tuple[dict[str, Job], dict[str, SuanliError]]:
    """By id what `submit` made of those that have ended, and why it could not."""
    new: dict[str, Job] = {}
    failed: dict[str, SuanliError] = {}
    for meant in ended_ids(wanted):
        try:
            new[meant.id] = submit(meant)[0]
        except SuanliError as error:
            failed[meant.id] = error
    return new, failed


def _may_still_succeed(job: Job) -> bool:
    return isinstance(job.state, Succeeded) or views.end_of(job)[2] is None


def _number(job: Job) -> str:
    return job.id.partition(".")[0]
