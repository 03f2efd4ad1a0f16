"""How closed months, their books and the requests that services answered lie in their tables. Runs inside a transaction
of its caller's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, and_, delete, insert, or_, select

from scheduler.core.usage_book import Correction, Entry, ModelRate, Month, canonical, entry_from_json, entry_json, order
from scheduler.errors import Conflict
from scheduler.plain_text import plain_text
from scheduler.ports import ClosedMonth, ServedDay
from scheduler.store.tables import usage_book, usage_months, usage_served

_AT_ONCE = 200


def write_served(connection: Connection, days: Sequence[ServedDay]) -> None:
    table = usage_served
    for first in range(0, len(days), _AT_ONCE):
        some = days[first : first + _AT_ONCE]
        same = [
            and_(
                table.c.day == d.day,
                table.c.tenant == d.tenant,
                table.c.service == d.service,
                table.c.simulated.is_(d.simulated),
            )
            for d in some
        ]
        connection.execute(delete(table).where(or_(*same)))
        connection.execute(insert(table), [asdict(day) for day in some])


def read_served(connection: Connection, from_day: str, to_day: str) -> list[ServedDay]:
    table = usage_served
    query = select(table).where(table.c.day >= from_day, table.c.day < to_day)
    query = query.order_by(table.c.day, table.c.tenant, table.c.service, table.c.simulated)
    return [
        ServedDay(
            row.day,
            row.tenant,
            row.service,
            bool(row.simulated),
            row.requests,
            row.answered,
            row.within_slo,
            row.errors,
        )
        for row in connection.execute(query)
    ]


def closed(connection: Connection) -> list[ClosedMonth]:
    return [
        ClosedMonth(
            Month(row.month, row.from_ms, row.to_ms),
            row.zone,
            row.closed_s,
            row.by,
            row.write_number,
            row.entries,
            row.sha256,
            tuple(ModelRate(**rate) for rate in json.loads(row.rates_json)),
        )
        for row in connection.execute(select(usage_months).order_by(usage_months.c.month))
    ]


def close(connection: Connection, month: ClosedMonth, rows: Sequence[Mapping[str, str]]) -> None:
    name = month.month.name
    if connection.execute(select(usage_months.c.month).where(usage_months.c.month == name)).one_or_none() is not None:
        raise Conflict(f"{name} is closed already, and a closed month never changes")
    connection.execute(
        insert(usage_months),
        [
            {
                "month": name,
                "zone": month.zone,
                "from_ms": month.month.from_ms,
                "to_ms": month.month.to_ms,
                "closed_s": month.closed_s,
                "by": plain_text(month.by),
                "write_number": month.write_number,
                "entries": month.entries,
                "sha256": month.sha256,
                "rates_json": json.dumps([asdict(rate) for rate in month.rates], ensure_ascii=False),
            }
        ],
    )
    if rows:
        connection.execute(insert(usage_book), list(rows))


def rows_of(month: str, entries: Iterable[Entry | Correction]) -> list[dict[str, str]]:
    """Made before the transaction, which others wait for."""
    return [
        {
            "in_month": month,
            "of_month": entry.of_month if isinstance(entry, Correction) else month,
            "key": entry.key,
            "tenant": entry.tenant,
            "entry_json": canonical(entry_json(entry)),
        }
        for entry in entries
    ]


def book(connection: Connection, month: str, tenant: str | None) -> list[Entry | Correction]:
    query = select(usage_book.c.entry_json).where(usage_book.c.in_month == month)
    if tenant is not None:
        query = query.where(usage_book.c.tenant == tenant)
    entries = [entry_from_json(json.loads(text)) for text in connection.execute(query).scalars()]
    return sorted(entries, key=lambda entry: (isinstance(entry, Correction), order(entry)))


def booked(connection: Connection, keys: Sequence[str]) -> dict[tuple[str, str], Entry | None]:
    table, found = usage_book, dict[tuple[str, str], Entry | None]()
    for first in range(0, len(keys), _AT_ONCE):
        some = list(keys[first : first + _AT_ONCE])
        query = select(table).where(table.c.key.in_(some)).order_by(table.c.in_month)
        for row in connection.execute(query):
            entry = entry_from_json(json.loads(row.entry_json))
            found[row.of_month, row.key] = entry.after if isinstance(entry, Correction) else entry
    return found
