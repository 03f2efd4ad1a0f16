"""The store on SQLite or PostgreSQL: what it promises is in scheduler.ports.Store, this file keeps the promise.

SQLite runs in WAL mode with synchronous=FULL, PostgreSQL with synchronous_commit: a call that returned has reached the
disk. Writers in this process take turns (`writing`), so waiting for locks is for other processes (a backup, an
operator's shell, another service) alone. Thread-safe.

Epochs protect the store as they protect the nodes: each write looks, within its own transaction, whether a service
that started later has taken over, and is refused if one has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Delete, Engine, Table, delete, func, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.core.rollout import Deployed
from scheduler.core.usage_book import Correction, Entry
from scheduler.core.usage_records import UsageEntry, UsageRecord
from scheduler.errors import BadInput
from scheduler.plain_text import plain_text
from scheduler.ports import (
    Change,
    ClosedMonth,
    Drain,
    HealthNotes,
    Reservation,
    Schedule,
    ServedDay,
    StoredEvent,
    Submission,
    Usage,
    WriteFigures,
)
from scheduler.store import book_rows, encoding, health_rows, job_rows, schedule_rows, submitting, tables, usage_rows
from scheduler.store.failures import translated
from scheduler.store.opening import connect, prepare_schema
from scheduler.store.writing import WRITE, Writer

_IDS_AT_ONCE = 500  # databases limit how many values one statement may carry


def open_store(url: str) -> SqlStore:
    """Open, creating what is missing (SQLite's file as 0600 in a 0700 directory).

    Raises BadInput for a URL that is none, Conflict for a store of a newer version, Unavailable when it cannot be read.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadInput(
            "the store's URL is not one that SQLAlchemy understands; write sqlite:////absolute/path.db"
            " or postgresql://user@host/database",
            field="store",
        ) from None
    shown_url = parsed.render_as_string(hide_password=True)
    engine = connect(parsed)
    try:
        with translated(shown_url), engine.execution_options(**WRITE).begin() as connection:
            prepare_schema(connection, shown_url)
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(engine, shown_url)


class SqlStore:
    """Implements scheduler.ports.Store. Made by `open_store`."""

    def __init__(self, engine: Engine, shown_url: str) -> None:
        self.engine = engine
        self.shown_url = shown_url
        """Without the password: fit for `suanli status`."""
        self._writer = Writer(engine, shown_url)

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(self.shown_url), self.engine.begin() as connection:
            yield connection

    # -- writing ---------------------------------------------------------------------------------------------------

    def next_epoch(self, leader: str = "") -> int:
        return self._writer.next_epoch(plain_text(leader))

    def leader(self) -> tuple[int, str]:
        with self._read() as connection:
            epoch, leader = connection.execute(select(tables.meta.c.epoch, tables.meta.c.leader)).one()
        return epoch, leader or ""

    def submit(self, specs: Sequence[JobSpec], *, at_s: float, by: str, held: Hold | None = None) -> Sequence[Job]:
        (jobs,) = self.submit_together([Submission(tuple(specs), by, held)], at_s=at_s)
        if isinstance(jobs, Exception):
            raise jobs
        return jobs

    def submit_together(self, submissions: Sequence[Submission], *, at_s: float) -> Sequence[Sequence[Job] | Exception]:
        return submitting.submit_together(self._writer, submissions, at_s=at_s)

    def commit(self, changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
        if not changes and not usage_records:
            return
        newest = {change.job.id: change for change in changes}  # a job that changed twice is written once
        # Before the transaction, which others wait for.
        changed = [job_rows.changed_row(change) for change in newest.values()]
        events = [job_rows.event_row(change) for change in changes]

        def write(connection: Connection) -> None:
            if changes:
                known = job_rows.UPDATE_JOB.many(connection, changed) in (len(newest), -1)
                assert known, f"a change names a job that was never submitted: {list(newest)}"
                job_rows.INSERT_EVENTS.many(connection, events)
            if usage_records:
                usage_rows.write(connection, usage_records)

        self._writer.write(write, same_as=(tuple(changes), tuple(usage_records)))

    def set_result(self, job_id: str, attempt: int, worker: int, result: str) -> None:
        row = {"job_id": job_id, "attempt": attempt, "worker": worker}
        table = tables.results
        self._replace(
            delete(table).where(table.c.job_id == job_id, table.c.attempt == attempt, table.c.worker == worker),
            table,
            {**row, "result_json": plain_text(result)},
        )

    def set_drain(self, drain: Drain) -> None:
        row = {
            "node": drain.node,
            "reason": plain_text(drain.reason),
            "by": plain_text(drain.by),
            "at_s": drain.at_s,
            "deadline_s": drain.deadline_s,
        }
        self._replace(delete(tables.drains).where(tables.drains.c.node == drain.node), tables.drains, row)

    def clear_drain(self, node: str) -> None:
        self._replace(delete(tables.drains).where(tables.drains.c.node == node), tables.drains)

    def set_health_notes(self, notes: Sequence[HealthNotes]) -> None:
        if notes:
            rows = health_rows.rows_of(notes)
            self._writer.write(lambda connection: health_rows.write(connection, rows))

    def set_reservation(self, reservation: Reservation) -> None:
        row = {
            "name": reservation.name,
            "nodes_json": json.dumps(reservation.nodes),
            "start_s": reservation.start_s,
            "end_s": reservation.end_s,
            "every_s": reservation.every_s,
            "reason": plain_text(reservation.reason),
            "by": plain_text(reservation.by),
            "made_s": reservation.made_s,
            "tenants_json": json.dumps(reservation.tenants),
        }
        table = tables.reservations
        self._replace(delete(table).where(table.c.name == reservation.name), table, row)

    def clear_reservation(self, name: str) -> None:
        table = tables.reservations
        self._replace(delete(table).where(table.c.name == name), table)

    def set_schedule(self, schedule: Schedule) -> None:
        self._writer.write(lambda connection: schedule_rows.write(connection, schedule))

    def clear_schedule(self, tenant: str, name: str) -> None:
        table = tables.schedules
        self._replace(delete(table).where(table.c.tenant == tenant, table.c.name == name), table)

    def set_deployed(self, service: Deployed) -> None:
        table = tables.services
        row = {"tenant": service.tenant, "name": service.name, "service_json": encoding.deployed_to_text(service)}
        same = (table.c.tenant == service.tenant, table.c.name == service.name)
        self._replace(delete(table).where(*same), table, row)

    def clear_deployed(self, tenant: str, name: str) -> None:
        table = tables.services
        self._replace(delete(table).where(table.c.tenant == tenant, table.c.name == name), table)

    def submit_scheduled(self, due: Schedule, next_s: float | None, *, at_s: float) -> Sequence[Job]:
        return submitting.submit_scheduled(self._writer, due, next_s, at_s=at_s)

    def set_usage(self, usage: Usage) -> None:
        rows = [{"account": name, "average": value, "at_s": usage.at_s} for name, value in usage.averages.items()]
        self._replace(delete(tables.usage), tables.usage, *rows)

    def set_served(self, days: Sequence[ServedDay]) -> None:
        self._writer.write(lambda connection: book_rows.write_served(connection, days))

    def close_month(self, closed: ClosedMonth, entries: Sequence[Entry | Correction]) -> None:
        rows = book_rows.rows_of(closed.month.name, entries)
        self._writer.write(lambda connection: book_rows.close(connection, closed, rows))

    def _replace(self, old: Delete, table: Table, *new: Mapping[str, Any]) -> None:
        """In one transaction. Written twice it is as written once."""

        def write(connection: Connection) -> None:
            connection.execute(old)
            if new:
                connection.execute(insert(table), list(new))

        self._writer.write(write)

    # -- reading ---------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        with self._read() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.id == job_id)).one_or_none()
        return None if row is None else job_rows.job(row)

    def jobs_named(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        table = tables.jobs
        found: dict[str, Job] = {}
        with self._read() as connection:
            for first in range(0, len(job_ids), _IDS_AT_ONCE):
                some = list(job_ids[first : first + _IDS_AT_ONCE])
                for row in connection.execute(select(table).where(table.c.id.in_(some))):
                    found[row.id] = job_rows.job(row)
        return found

    def live_jobs(self) -> Sequence[Job]:
        table = tables.jobs
        with self._read() as connection:
            rows = connection.execute(select(table).where(table.c.live.is_(True)).order_by(table.c.seq)).all()
        return [job_rows.job(row) for row in rows]

    def recent_jobs(
        self, *, tenant: str | None, states: Sequence[str] | None, limit: int, before_seq: int | None = None
    ) -> Sequence[Job]:
        table = tables.jobs
        query = select(table).order_by(table.c.seq.desc()).limit(limit)
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        if states is not None:
            query = query.where(table.c.state.in_(list(states)))
        if before_seq is not None:
            query = query.where(table.c.seq < before_seq)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [job_rows.job(row) for row in rows]

    def job_events(self, job_id: str) -> Sequence[StoredEvent]:
        table = tables.events
        with self._read() as connection:
            rows = connection.execute(select(table).where(table.c.job_id == job_id).order_by(table.c.seq)).all()
        return [job_rows.event(row) for row in rows]

    def events_named(self, job_ids: Sequence[str], names: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
        table = tables.events
        found: dict[str, list[StoredEvent]] = {}
        with self._read() as connection:
            for first in range(0, len(job_ids), _IDS_AT_ONCE):
                some = list(job_ids[first : first + _IDS_AT_ONCE])
                query = select(table).where(table.c.job_id.in_(some), table.c.event.in_(list(names)))
                for row in connection.execute(query.order_by(table.c.seq)):
                    found.setdefault(row.job_id, []).append(job_rows.event(row))
        return found

    def results(self, job_id: str) -> Mapping[tuple[int, int], str]:
        table = tables.results
        query = select(table).where(table.c.job_id == job_id).order_by(table.c.attempt, table.c.worker)
        with self._read() as connection:
            return {(row.attempt, row.worker): row.result_json for row in connection.execute(query)}

    def usage_records(self, job_id: str) -> Sequence[UsageRecord]:
        with self._read() as connection:
            return usage_rows.of_job(connection, job_id)

    def usage_records_between(self, from_s: float, to_s: float, tenant: str | None = None) -> Sequence[UsageRecord]:
        with self._read() as connection:
            return usage_rows.between(connection, from_s, to_s, tenant)

    def usage_write_number(self) -> int:
        with self._read() as connection:
            return int(connection.execute(select(tables.meta.c.writes)).scalar_one())

    def usage_records_changed(self, write_number: int, before_s: float) -> Sequence[UsageRecord]:
        with self._read() as connection:
            return usage_rows.changed_after(connection, write_number, before_s)

    def served_days(self, from_day: str, to_day: str) -> Sequence[ServedDay]:
        with self._read() as connection:
            return book_rows.read_served(connection, from_day, to_day)

    def closed_months(self) -> Sequence[ClosedMonth]:
        with self._read() as connection:
            return book_rows.closed(connection)

    def usage_book(self, month: str, tenant: str | None = None) -> Sequence[Entry | Correction]:
        with self._read() as connection:
            return book_rows.book(connection, month, tenant)

    def usage_booked(self, keys: Sequence[str]) -> Mapping[tuple[str, str], Entry | None]:
        with self._read() as connection:
            return book_rows.booked(connection, keys)

    def drains(self) -> Sequence[Drain]:
        with self._read() as connection:
            rows = connection.execute(select(tables.drains).order_by(tables.drains.c.node)).all()
        return [Drain(row.node, row.reason, row.by, row.at_s, row.deadline_s) for row in rows]

    def health_notes(self) -> Sequence[HealthNotes]:
        with self._read() as connection:
            return health_rows.read(connection)

    def reservations(self) -> Sequence[Reservation]:
        with self._read() as connection:
            rows = connection.execute(select(tables.reservations).order_by(tables.reservations.c.name)).all()
        return [
            Reservation(
                name=row.name,
                nodes=tuple(json.loads(row.nodes_json)),
                start_s=row.start_s,
                end_s=row.end_s,
                reason=row.reason,
                by=row.by,
                made_s=row.made_s,
                every_s=row.every_s,
                tenants=tuple(json.loads(row.tenants_json)),
            )
            for row in rows
        ]

    def schedules(self) -> Sequence[Schedule]:
        with self._read() as connection:
            return schedule_rows.read(connection)

    def deployed(self) -> Sequence[Deployed]:
        table = tables.services
        with self._read() as connection:
            rows = connection.execute(select(table).order_by(table.c.tenant, table.c.name)).all()
        return [encoding.deployed_from_text(row.service_json) for row in rows]

    def usage(self) -> Usage | None:
        with self._read() as connection:
            rows = connection.execute(select(tables.usage)).all()
        return Usage({row.account: row.average for row in rows}, rows[0].at_s) if rows else None

    def event_count(self) -> int:
        """How many state changes are kept, for measurements of the store itself."""
        with self._read() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.events)).scalar_one())

    def writes(self) -> Mapping[str, WriteFigures]:
        return self._writer.figures()

    def close(self) -> None:
        self.engine.dispose()
