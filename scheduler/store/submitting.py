"""How submissions that wait together are kept together: one transaction and one sync for all of them.

What is wrong with one of them costs the others nothing. While it is not known whether they were kept (see `writing`)
nobody is answered; if it cannot be found out soon, all are refused and taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, bindparam, update

from scheduler.core.jobs import Job
from scheduler.errors import Superseded, Unavailable
from scheduler.ports import Change, Schedule, Submission, task_ids
from scheduler.store import job_rows, schedule_rows, tables
from scheduler.store.straight import Straight
from scheduler.store.writing import InDoubt, Writer

FOUND_OUT_WITHIN_S = 5.0
# Made once: to build a statement takes longer than to carry it out.
_COUNT = Straight(
    update(tables.meta)
    .values(
        next_number=tables.meta.c.next_number + bindparam("numbers", type_=Integer),
        next_seq=tables.meta.c.next_seq + bindparam("seqs", type_=Integer),
    )
    .returning(tables.meta.c.next_number, tables.meta.c.next_seq)
)


@dataclass(slots=True)
class _Ready:
    """Encoded already, as others wait while the transaction lasts. Its jobs are numbered in it."""

    place: int
    submission: Submission
    rows: list[dict[str, Any]]
    jobs: Sequence[Job]


def submit_together(
    writer: Writer, submissions: Sequence[Submission], *, at_s: float
) -> Sequence[Sequence[Job] | Exception]:
    """See scheduler.ports.Store."""
    answers: list[Sequence[Job] | Exception] = [[] for _ in submissions]
    ready: list[_Ready] = []
    for place, submission in enumerate(submissions):
        if not submission.specs:
            continue
        try:
            jobs = job_rows.number_jobs(submission.specs, 0, 0, at_s=at_s, held=submission.held)
            ready.append(_Ready(place, submission, job_rows.new_rows(jobs, submission.by), jobs))
        except Exception as error:
            answers[place] = error
    if not ready:
        return answers
    try:
        _keep(writer, ready, at_s)
    except (Unavailable, Superseded):
        raise
    except Exception as error:
        if len(ready) == 1:
            answers[ready[0].place] = error
            return answers
        for one in ready:
            try:
                _keep(writer, [one], at_s)
            except Exception as its_own:
                answers[one.place] = its_own
            else:
                answers[one.place] = one.jobs
        return answers
    for one in ready:
        answers[one.place] = one.jobs
    return answers


def _keep(writer: Writer, ready: Sequence[_Ready], at_s: float) -> None:
    try:
        writer.write(lambda connection: _insert(connection, ready, at_s), behind=True)
    except InDoubt as error:
        try:
            kept = writer.settle(error.doubt, within_s=FOUND_OUT_WITHIN_S)
        except Unavailable:
            writer.take_back([job.id for one in ready for job in one.jobs])
            raise error from None
        if not kept:
            raise


def submit_scheduled(writer: Writer, due: Schedule, next_s: float | None, *, at_s: float) -> Sequence[Job]:
    """See scheduler.ports.Store. Where it was in doubt whether this was kept, the schedule tells who asks again."""
    assert due.next_s is not None, due
    spec = due.job_spec()
    submission = Submission((spec,), f"schedule {due.name}")
    jobs = job_rows.number_jobs(submission.specs, 0, 0, at_s=at_s)
    ready = _Ready(0, submission, job_rows.new_rows(jobs, submission.by), jobs)

    def body(connection: Connection) -> Sequence[Job]:
        now = schedule_rows.locked(connection, due.tenant, due.name)
        if now is not None and now.last_s == due.next_s and now.last_job is not None:
            return job_rows.jobs_named(connection, task_ids(now.last_job, spec))
        if now is None or now.next_s != due.next_s:
            return ()
        _insert(connection, [ready], at_s, {"due_s": due.next_s})
        schedule_rows.submitted(connection, due, next_s, ready.jobs[0].id.partition(".")[0])
        return ready.jobs

    return writer.write(body) or ()


def _insert(
    connection: Connection, ready: Sequence[_Ready], at_s: float, more: Mapping[str, Any] | None = None
) -> None:
    """`more`: what the first event of each job says beside who submitted it."""
    numbers = sum(len(one.submission.specs) for one in ready)
    seqs = sum(len(one.rows) for one in ready)
    # Updated before it is read: the row is ours until the commit.
    next_number, next_seq = _COUNT.one(connection, {"numbers": numbers, "seqs": seqs})
    number, seq = next_number - numbers, next_seq - seqs
    events: list[dict[str, Any]] = []
    for one in ready:
        one.jobs = job_rows.number_jobs(one.submission.specs, number, seq, at_s=at_s, held=one.submission.held)
        number, seq = number + len(one.submission.specs), seq + len(one.jobs)
        for row, job in zip(one.rows, one.jobs, strict=True):
            row["id"], row["seq"] = job.id, job.seq
        said = {"by": one.submission.by, **(more or {})}
        events += [job_rows.event_row(Change(job, "submitted", at_s, said)) for job in one.jobs]
    job_rows.INSERT_JOBS.many(connection, [row for one in ready for row in one.rows])
    job_rows.INSERT_EVENTS.many(connection, events)
