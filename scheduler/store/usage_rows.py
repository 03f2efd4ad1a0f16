"""How usage records lie in their table, and what a commit makes of those that are there. Runs inside a transaction of
its caller's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, insert, select
from sqlalchemy.sql.compiler import SQLCompiler

from scheduler.core.usage_records import Achieved, MeteredUse, UsageEntry, UsageRecord, accounted
from scheduler.plain_text import plain_text
from scheduler.store.straight import Straight, sqlite_cursor
from scheduler.store.tables import meta
from scheduler.store.tables import usage_records as table

_IDS_AT_ONCE = 500  # databases limit how many values one statement may carry
_DELETE = Straight(
    delete(table).where(
        table.c.job_id == bindparam("of_job"),
        table.c.attempt == bindparam("of_attempt"),
        table.c.worker == bindparam("of_worker"),
    )
)
_INSERT = Straight(
    insert(table).values(write_number=select(meta.c.writes).scalar_subquery()),
    tuple(column.name for column in table.columns if column.name != "write_number"),
)
# In the order of UsageRecord's fields: a month has a hundred thousand rows, and each is taken apart by place.
_COLUMNS: tuple[ColumnElement[Any], ...] = (
    *(table.c.job_id, table.c.attempt, table.c.worker, table.c.tenant, table.c.priority_class, table.c.kind),
    *(table.c.node, table.c.devices_json, table.c.share_milli, table.c.cpus_milli, table.c.memory_bytes),
    *(table.c.simulated, table.c.from_s, table.c.to_s, table.c.seen, table.c.cause, table.c.name, table.c.site),
    *(table.c.models_json, table.c.use_json, table.c.achieved_json),
)
_USE = msgspec.json.Decoder(MeteredUse)
_OF_JOBS = select(*_COLUMNS).where(table.c.job_id.in_(bindparam("jobs", expanding=True)))
_OF_ATTEMPTS = _OF_JOBS.where(table.c.attempt.in_(bindparam("attempts", expanding=True)))


def write(connection: Connection, entries: Sequence[UsageEntry]) -> None:
    """Each record is replaced by the better account of the same run, see `accounted`."""
    known = _known(connection, entries)
    after = dict(known)
    for entry in entries:
        kept = accounted(after.get(entry.key), entry)
        if kept is not None:
            after[entry.key] = kept
    changed = [key for key, record in after.items() if known.get(key) != record]
    replaced = [
        {"of_job": job_id, "of_attempt": attempt, "of_worker": worker}
        for job_id, attempt, worker in changed
        if (job_id, attempt, worker) in known
    ]
    if replaced:
        _DELETE.many(connection, replaced)
    if changed:
        _INSERT.many(connection, [_row(after[key]) for key in changed])


def _known(connection: Connection, entries: Sequence[UsageEntry]) -> dict[tuple[str, int, int], UsageRecord]:
    """What is there of these runs (and, by the way, of other workers of the same attempts)."""
    job_ids = sorted({entry.job_id for entry in entries})
    attempts = sorted({entry.attempt for entry in entries})
    found: dict[tuple[str, int, int], UsageRecord] = {}
    for first in range(0, len(job_ids), _IDS_AT_ONCE):
        asked: dict[str, Any] = {"jobs": job_ids[first : first + _IDS_AT_ONCE]}
        query = _OF_JOBS
        if len(attempts) <= _IDS_AT_ONCE:
            query, asked["attempts"] = _OF_ATTEMPTS, attempts
        for row in connection.execute(query, asked):
            record = _record(row)
            found[record.key] = record
    return found


def of_job(connection: Connection, job_id: str) -> list[UsageRecord]:
    query = select(*_COLUMNS).where(table.c.job_id == job_id).order_by(table.c.attempt, table.c.worker)
    return [_record(row) for row in _rows(connection, query)]


def between(connection: Connection, from_s: float, to_s: float, tenant: str | None) -> list[UsageRecord]:
    query = select(*_COLUMNS).where(table.c.from_s < to_s, table.c.to_s >= from_s)
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    query = query.order_by(table.c.from_s, table.c.job_id, table.c.attempt, table.c.worker)
    return [_record(row) for row in _rows(connection, query)]


def changed_after(connection: Connection, write_number: int, before_s: float) -> list[UsageRecord]:
    """Those that were written since, of runs that began before."""
    query = select(*_COLUMNS).where(table.c.write_number > write_number, table.c.from_s < before_s)
    query = query.order_by(table.c.from_s, table.c.job_id, table.c.attempt, table.c.worker)
    return [_record(row) for row in _rows(connection, query)]


def _row(record: UsageRecord) -> dict[str, Any]:
    return {
        "job_id": record.job_id,
        "attempt": record.attempt,
        "worker": record.worker,
        "tenant": plain_text(record.tenant),
        "priority_class": plain_text(record.priority_class),
        "kind": record.kind,
        "node": record.node,
        "devices_json": json.dumps(record.devices),
        "share_milli": record.share_milli,
        "cpus_milli": record.cpus_milli,
        "memory_bytes": record.memory_bytes,
        "simulated": record.simulated,
        "from_s": record.from_s,
        "to_s": record.to_s,
        "seen": record.end == "seen",
        "cause": plain_text(record.cause),
        "name": plain_text(record.name),
        "site": None if record.site is None else plain_text(record.site),
        "models_json": json.dumps([plain_text(model) for model in record.models]) if record.models else None,
        "use_json": None if record.use is None else json.dumps(asdict(record.use), allow_nan=False),
        "achieved_json": json.dumps([asdict(each) for each in record.achieved], allow_nan=False)
        if record.achieved
        else None,
    }


@lru_cache(maxsize=4_096)  # a month has a hundred thousand runs, on few kinds of places
def _devices(text: str) -> tuple[int, ...]:
    return tuple(json.loads(text))


@lru_cache(maxsize=4_096)
def _models(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _rows(connection: Connection, query: Select[Any]) -> Iterable[Sequence[Any]]:
    """On SQLite straight from the driver: making SQLAlchemy's rows takes longer than reading them."""
    if connection.dialect.name != "sqlite":
        return connection.execute(query)
    compiled = query.compile(dialect=connection.dialect)
    assert isinstance(compiled, SQLCompiler)
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    with sqlite_cursor(connection, str(compiled), values) as cursor:
        return cursor.execute(str(compiled), values).fetchall()


def _record(row: Sequence[Any]) -> UsageRecord:
    job_id, attempt, worker, tenant, priority_class, kind, node, devices, share, cpus, memory = row[:11]
    simulated, from_s, to_s, seen, cause, name, site, models, use, achieved = row[11:]
    return UsageRecord(
        job_id,
        attempt,
        worker,
        tenant,
        priority_class,
        kind,
        node,
        _devices(devices),
        share,
        cpus,
        memory,
        bool(simulated),
        from_s,
        to_s,
        "seen" if seen else "unseen",
        cause,
        name,
        site,
        () if models is None else _models(models),
        None if use is None else _USE.decode(use),
        () if achieved is None else tuple(Achieved(**each) for each in json.loads(achieved)),
    )
