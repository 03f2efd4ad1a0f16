"""How schedules lie in their table. Runs inside a transaction of its caller's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from scheduler.plain_text import plain_text
from scheduler.ports import Schedule
from scheduler.store import encoding
from scheduler.store.tables import schedules as table


def read(connection: Connection) -> list[Schedule]:
    return [_schedule(row) for row in connection.execute(select(table).order_by(table.c.tenant, table.c.name))]


def locked(connection: Connection, tenant: str, name: str) -> Schedule | None:
    """As it is now, and as it stays until the commit but for what this transaction changes."""
    query = select(table).where(table.c.tenant == tenant, table.c.name == name).with_for_update()
    row = connection.execute(query).one_or_none()
    return None if row is None else _schedule(row)


def write(connection: Connection, schedule: Schedule) -> None:
    """A new one whole; of one that is there what may change without a submission."""
    changing = {
        "next_s": schedule.next_s,
        "paused_json": encoding.hold_to_text(schedule.paused),
        "skips": schedule.skips,
        "skipped_s": schedule.skipped_s,
        "skipped_why": plain_text(schedule.skipped_why),
    }
    done = connection.execute(
        update(table).where(table.c.tenant == schedule.tenant, table.c.name == schedule.name).values(changing)
    )
    if done.rowcount == 0:
        fixed = {
            "tenant": schedule.tenant,
            "name": schedule.name,
            "spec_json": encoding.spec_to_text(schedule.spec),
            "by": plain_text(schedule.by),
            "by_operator": schedule.by_operator,
            "made_s": schedule.made_s,
            "runs": schedule.runs,
            "last_job": schedule.last_job,
            "last_s": schedule.last_s,
        }
        connection.execute(insert(table), [{**fixed, **changing}])


def submitted(connection: Connection, due: Schedule, next_s: float | None, number: str) -> None:
    """For its time `due.next_s` this job was submitted."""
    connection.execute(
        update(table)
        .where(table.c.tenant == due.tenant, table.c.name == due.name)
        .values(next_s=next_s, runs=table.c.runs + 1, last_job=number, last_s=due.next_s)
    )


def _schedule(row: Row[Any]) -> Schedule:
    return Schedule(
        tenant=row.tenant,
        name=row.name,
        spec=encoding.spec_from_text(row.spec_json),
        by=row.by,
        by_operator=row.by_operator,
        made_s=row.made_s,
        next_s=row.next_s,
        paused=encoding.hold_from_text(row.paused_json),
        runs=row.runs,
        last_job=row.last_job,
        last_s=row.last_s,
        skips=row.skips,
        skipped_s=row.skipped_s,
        skipped_why=row.skipped_why,
    )
