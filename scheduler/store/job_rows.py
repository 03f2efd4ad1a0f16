"""How jobs and their events lie in their tables, and what a submission's jobs are numbered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from scheduler.core.jobs import LIVE_STATES, Hold, Job, JobSpec, Pending, shown
from scheduler.core.reasons import NotConsidered
from scheduler.plain_text import plain_text
from scheduler.ports import Change, StoredEvent
from scheduler.store import encoding, tables
from scheduler.store.straight import Straight

_IDS_AT_ONCE = 500  # databases limit how many values one statement may carry


def number_jobs(
    specs: Sequence[JobSpec], first_number: int, first_seq: int, *, at_s: float, held: Hold | None = None
) -> list[Job]:
    """The jobs of one submission, numbered: `N`, or `N.0`..`N.n-1` for an array of n."""
    jobs: list[Job] = []
    pending = Pending(NotConsidered(), at_s)
    for number, spec in enumerate(specs, start=first_number):
        tasks: Sequence[int | None] = range(spec.array_size) if spec.array_size else (None,)
        for index in tasks:
            job_id = str(number) if index is None else f"{number}.{index}"
            jobs.append(Job(job_id, first_seq + len(jobs), spec, at_s, pending, array_index=index, held=held))
    return jobs


_CHANGING = (
    "state",
    "live",
    "state_json",
    "ended_s",
    "attempts",
    "failures",
    "resume_from",
    "first_started_s",
    "preemptions",
    "workers_wanted",
    "held_json",
    "pinned",
)
_NEW = (
    "id",
    "seq",
    "tenant",
    "name",
    "kind",
    "state",
    "live",
    "spec_json",
    "state_json",
    "submitted_by",
    "submitted_s",
    "attempts",
    "failures",
    "resume_from",
    "array_index",
    "first_started_s",
    "preemptions",
    "workers_wanted",
    "held_json",
    "pinned",
)
INSERT_JOBS = Straight(insert(tables.jobs), _NEW)
INSERT_EVENTS = Straight(insert(tables.events), ("job_id", "at_s", "event", "state", "detail_json"))
UPDATE_JOB = Straight(
    update(tables.jobs)
    .where(tables.jobs.c.id == bindparam("job_id"))
    .values({name: bindparam(name) for name in _CHANGING})
)


def changed_row(change: Change) -> dict[str, Any]:
    job = change.job
    live = isinstance(job.state, LIVE_STATES)
    return {
        "job_id": job.id,
        "state": shown(job.state),
        "live": live,
        "state_json": encoding.state_to_text(job.state),
        "ended_s": None if live else change.at_s,
        "attempts": job.attempts,
        "failures": job.failures,
        "resume_from": None if job.resume_from is None else plain_text(job.resume_from),
        "first_started_s": job.first_started_s,
        "preemptions": job.preemptions,
        "workers_wanted": job.workers_wanted,
        "held_json": encoding.hold_to_text(job.held),
        "pinned": job.pinned,
    }


def new_rows(jobs: Sequence[Job], by: str) -> list[dict[str, Any]]:
    texts: dict[int, str] = {}  # an array's tasks share one spec, and all a submission's jobs one state: encode it once
    rows: list[dict[str, Any]] = []
    for job in jobs:
        if id(job.spec) not in texts:
            texts[id(job.spec)] = encoding.spec_to_text(job.spec)
        if id(job.state) not in texts:
            texts[id(job.state)] = encoding.state_to_text(job.state)
        rows.append(
            {
                "id": job.id,
                "seq": job.seq,
                "tenant": plain_text(job.spec.tenant),
                "name": plain_text(job.spec.name),
                "kind": job.spec.kind.value,
                "state": shown(job.state),
                "live": True,
                "spec_json": texts[id(job.spec)],
                "state_json": texts[id(job.state)],
                "submitted_by": plain_text(by),
                "submitted_s": job.submitted_s,
                "attempts": job.attempts,
                "failures": job.failures,
                "resume_from": job.resume_from,
                "array_index": job.array_index,
                "first_started_s": job.first_started_s,
                "preemptions": job.preemptions,
                "workers_wanted": job.workers_wanted,
                "held_json": encoding.hold_to_text(job.held),
                "pinned": job.pinned,
            }
        )
    return rows


def event_row(change: Change) -> dict[str, Any]:
    return {
        "job_id": change.job.id,
        "at_s": change.at_s,
        "event": change.event,
        "state": shown(change.job.state),
        "detail_json": encoding.detail_to_text(change.detail),
    }


def event(row: Row[Any]) -> StoredEvent:
    detail = encoding.detail_from_text(row.detail_json)
    return StoredEvent(row.seq, row.job_id, row.at_s, row.event, row.state, detail)


def job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        seq=row.seq,
        spec=encoding.spec_from_text(row.spec_json),
        submitted_s=row.submitted_s,
        state=encoding.state_from_text(row.state_json),
        attempts=row.attempts,
        failures=row.failures,
        resume_from=row.resume_from,
        array_index=row.array_index,
        first_started_s=row.first_started_s,
        preemptions=row.preemptions,
        workers_wanted=row.workers_wanted,
        held=encoding.hold_from_text(row.held_json),
        pinned=row.pinned,
    )


def jobs_named(connection: Connection, ids: Sequence[str]) -> list[Job]:
    """In the order of the ids, all of which there are."""
    found: dict[str, Job] = {}
    for first in range(0, len(ids), _IDS_AT_ONCE):
        query = select(tables.jobs).where(tables.jobs.c.id.in_(ids[first : first + _IDS_AT_ONCE]))
        found |= {row.id: job(row) for row in connection.execute(query)}
    return [found[job_id] for job_id in ids]
