"""How what nights and checks hold against nodes lies in its table. Runs inside a transaction of its caller's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select

from scheduler.ports import HealthNotes
from scheduler.store import encoding
from scheduler.store.tables import health_notes as table


def rows_of(notes: Sequence[HealthNotes]) -> list[dict[str, str]]:
    """Made before the transaction, which others wait for. Of two under one key the later one counts."""
    newest = {each.key: each for each in notes}
    return [
        {"node": each.node, "source": each.source, "findings_json": encoding.findings_to_text(each.findings)}
        for each in newest.values()
    ]


def write(connection: Connection, rows: Sequence[Mapping[str, str]]) -> None:
    same = (table.c.node == bindparam("of_node"), table.c.source == bindparam("of_source"))
    connection.execute(delete(table).where(*same), [{"of_node": r["node"], "of_source": r["source"]} for r in rows])
    connection.execute(insert(table), list(rows))


def read(connection: Connection) -> list[HealthNotes]:
    return [
        HealthNotes(row.node, row.source, encoding.findings_from_text(row.findings_json))
        for row in connection.execute(select(table).order_by(table.c.node, table.c.source))
    ]
