"""The store on SQLite or PostgreSQL: what it promises is in scheduler.ports.Store, this file keeps the promise.

SQLite runs in WAL mode with synchronous=FULL: a call that returned has reached the disk. Writers in this process take
turns by a lock, so `busy_timeout` is for other processes (a backup, an operator's shell) alone. Thread-safe.

Epochs protect the store as they protect the nodes: each write looks, within its own transaction, whether a service
that started later has taken over, and is refused if one has.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.core.jobs import Hold, Job, JobSpec
from scheduler.core.usage_records import UsageEntry, UsageRecord
from scheduler.errors import BadInput, Superseded, Unavailable
from scheduler.plain_text import plain_text
from scheduler.ports import Change, Drain, Reservation, Schedule, StoredEvent, Usage, task_ids
from scheduler.store import job_rows, schedule_rows, tables, usage_rows
from scheduler.store.opening import connect, prepare_schema

_WRITE = {"suanli_write": True}
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
            field="store_url",
        ) from None
    shown_url = parsed.render_as_string(hide_password=True)
    engine = connect(parsed)
    try:
        with translated(shown_url), engine.execution_options(**_WRITE).begin() as connection:
            prepare_schema(connection, shown_url)
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(engine, shown_url)


@contextmanager
def translated(shown_url: str) -> Iterator[None]:
    """What a database says when it cannot go on, as Unavailable with what to do. Bugs (bad SQL, broken keys) pass."""
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise
    except (DatabaseError, PoolTimeout) as error:
        said = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise Unavailable(
            f"the store {shown_url} cannot take this now: {said}. Nothing of it was kept. {_what_to_do(said)}"
        ) from error


def _what_to_do(said: str) -> str:
    if "full" in said:
        return "Free some disk space where the store lies; no restart is needed."
    if "locked" in said or "busy" in said:
        return "Another process holds the store; end it (or wait for its backup to finish) and try again."
    if "not a database" in said or "malformed" in said:
        return "The file is damaged or is no Suanli store; put a backup in its place, or point store_url elsewhere."
    if "I/O" in said or "unable to open" in said or "readonly" in said:
        return "Check the disk, its mount and the permissions of the store's directory, then try again."
    return "Check that the database runs and can be reached, then try again."


class SqlStore:
    """Implements scheduler.ports.Store. Made by `open_store`."""

    def __init__(self, engine: Engine, shown_url: str) -> None:
        self.engine = engine
        self.shown_url = shown_url
        """Without the password: fit for `suanli status`."""
        self._write_lock = threading.Lock()
        self._writing = engine.execution_options(**_WRITE)
        self._epoch: int | None = None  # the one that `next_epoch` gave; without one nothing is checked

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._write_lock, translated(self.shown_url), self._writing.begin() as connection:
            yield connection

    @contextmanager
    def _write_of_epoch(self) -> Iterator[Connection]:
        """A write that only the newest service may make."""
        with self._write() as connection:
            if self._epoch is not None:
                # The row is held until the commit (SQLite: the whole file is), so nobody can take over in between.
                newest = connection.execute(select(tables.meta.c.epoch).with_for_update(read=True)).scalar_one()
                if newest > self._epoch:
                    raise Superseded(newest)
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(self.shown_url), self.engine.begin() as connection:
            yield connection

    # -- writing ---------------------------------------------------------------------------------------------------

    def next_epoch(self) -> int:
        meta = tables.meta
        with self._write() as connection:
            connection.execute(update(meta).values(epoch=meta.c.epoch + 1))
            epoch = connection.execute(select(meta.c.epoch)).scalar_one()
        assert isinstance(epoch, int)
        self._epoch = epoch
        return epoch

    def submit(self, specs: Sequence[JobSpec], *, at_s: float, by: str, held: Hold | None = None) -> Sequence[Job]:
        if not specs:
            return ()
        with self._write_of_epoch() as connection:
            return job_rows.insert_jobs(connection, specs, at_s=at_s, by=by, held=held, detail={"by": by})

    def commit(self, changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
        if not changes and not usage_records:
            return
        newest = {change.job.id: change for change in changes}  # a job that changed twice is written once
        with self._write_of_epoch() as connection:
            if changes:
                done = connection.execute(
                    job_rows.UPDATE_JOB, [job_rows.changed_row(change) for change in newest.values()]
                )
                known = done.rowcount in (len(newest), -1)
                assert known, f"a change names a job that was never submitted: {list(newest)}"
                connection.execute(insert(tables.events), [job_rows.event_row(change) for change in changes])
            if usage_records:
                usage_rows.write(connection, usage_records)

    def set_result(self, job_id: str, attempt: int, worker: int, result: str) -> None:
        row = {"job_id": job_id, "attempt": attempt, "worker": worker}
        table = tables.results
        with self._write_of_epoch() as connection:
            connection.execute(
                delete(table).where(table.c.job_id == job_id, table.c.attempt == attempt, table.c.worker == worker)
            )
            connection.execute(insert(table), [{**row, "result_json": plain_text(result)}])

    def set_drain(self, drain: Drain) -> None:
        reason, by = plain_text(drain.reason), plain_text(drain.by)
        with self._write_of_epoch() as connection:
            connection.execute(delete(tables.drains).where(tables.drains.c.node == drain.node))
            connection.execute(
                insert(tables.drains), [{"node": drain.node, "reason": reason, "by": by, "at_s": drain.at_s}]
            )

    def clear_drain(self, node: str) -> None:
        with self._write_of_epoch() as connection:
            connection.execute(delete(tables.drains).where(tables.drains.c.node == node))

    def set_reservation(self, reservation: Reservation) -> None:
        table = tables.reservations
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
        with self._write_of_epoch() as connection:
            connection.execute(delete(table).where(table.c.name == reservation.name))
            connection.execute(insert(table), [row])

    def clear_reservation(self, name: str) -> None:
        with self._write_of_epoch() as connection:
            connection.execute(delete(tables.reservations).where(tables.reservations.c.name == name))

    def set_schedule(self, schedule: Schedule) -> None:
        with self._write_of_epoch() as connection:
            schedule_rows.write(connection, schedule)

    def clear_schedule(self, tenant: str, name: str) -> None:
        with self._write_of_epoch() as connection:
            schedule_rows.delete_one(connection, tenant, name)

    def submit_scheduled(self, due: Schedule, next_s: float | None, *, at_s: float) -> Sequence[Job]:
        assert due.next_s is not None, due
        spec, by = due.job_spec(), f"schedule {due.name}"
        with self._write_of_epoch() as connection:
            now = schedule_rows.locked(connection, due.tenant, due.name)
            if now is not None and now.last_s == due.next_s and now.last_job is not None:
                ids = task_ids(now.last_job, spec)
            elif now is None or now.next_s != due.next_s:
                return ()
            else:
                detail = {"by": by, "due_s": due.next_s}
                jobs = job_rows.insert_jobs(connection, [spec], at_s=at_s, by=by, held=None, detail=detail)
                schedule_rows.submitted(connection, due, next_s, jobs[0].id.partition(".")[0])
                return jobs
        found = self.jobs_named(ids)
        return [found[job_id] for job_id in ids]

    def set_usage(self, usage: Usage) -> None:
        rows = [{"account": name, "average": value, "at_s": usage.at_s} for name, value in usage.averages.items()]
        with self._write_of_epoch() as connection:
            connection.execute(delete(tables.usage))
            if rows:
                connection.execute(insert(tables.usage), rows)

    # -- reading ---------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        with self._read() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.id == job_id)).one_or_none()
        return None if row is None else job_rows.job_of(row)

    def jobs_named(self, job_ids: Sequence[str]) -> Mapping[str, Job]:
        table = tables.jobs
        found: dict[str, Job] = {}
        with self._read() as connection:
            for first in range(0, len(job_ids), _IDS_AT_ONCE):
                some = list(job_ids[first : first + _IDS_AT_ONCE])
                for row in connection.execute(select(table).where(table.c.id.in_(some))):
                    found[row.id] = job_rows.job_of(row)
        return found

    def live_jobs(self) -> Sequence[Job]:
        table = tables.jobs
        with self._read() as connection:
            rows = connection.execute(select(table).where(table.c.live.is_(True)).order_by(table.c.seq)).all()
        return [job_rows.job_of(row) for row in rows]

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
        return [job_rows.job_of(row) for row in rows]

    def job_events(self, job_id: str) -> Sequence[StoredEvent]:
        table = tables.events
        with self._read() as connection:
            rows = connection.execute(select(table).where(table.c.job_id == job_id).order_by(table.c.seq)).all()
        return [job_rows.event_of(row) for row in rows]

    def events_named(self, job_ids: Sequence[str], names: Sequence[str]) -> Mapping[str, Sequence[StoredEvent]]:
        table = tables.events
        found: dict[str, list[StoredEvent]] = {}
        with self._read() as connection:
            for first in range(0, len(job_ids), _IDS_AT_ONCE):
                some = list(job_ids[first : first + _IDS_AT_ONCE])
                query = select(table).where(table.c.job_id.in_(some), table.c.event.in_(list(names)))
                for row in connection.execute(query.order_by(table.c.seq)):
                    found.setdefault(row.job_id, []).append(job_rows.event_of(row))
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

    def drains(self) -> Sequence[Drain]:
        with self._read() as connection:
            rows = connection.execute(select(tables.drains).order_by(tables.drains.c.node)).all()
        return [Drain(row.node, row.reason, row.by, row.at_s) for row in rows]

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

    def usage(self) -> Usage | None:
        with self._read() as connection:
            rows = connection.execute(select(tables.usage)).all()
        return Usage({row.account: row.average for row in rows}, rows[0].at_s) if rows else None

    def event_count(self) -> int:
        """How many state changes are kept, for measurements of the store itself."""
        with self._read() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.events)).scalar_one())

    def close(self) -> None:
        self.engine.dispose()
