"""The few statements that every job's way through the store takes: on SQLite straight to the driver.

There SQLAlchemy's part of an execution costs several times what SQLite's does. The statements are still Core's: each is
compiled once, and its errors are SQLAlchemy's. On other databases the network costs more than either, and a connection
that broke is SQLAlchemy's to notice, so there it carries them out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Connection, Delete, Insert, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Text:
    """`order`: what its question marks stand for; `fixed`: those that the statement itself gives."""

    text: str
    order: tuple[str, ...]
    fixed: Mapping[str, Any]


class Straight:
    """`statement`, of which each run gives all of `names`."""

    def __init__(self, statement: Insert | Update | Delete, names: Sequence[str] = ()) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._sqlite: _Text | None = None

    def many(self, connection: Connection, rows: Sequence[Row]) -> int:
        """How many rows were touched; -1 where that is not known."""
        if connection.dialect.name != "sqlite":
            return int(connection.execute(self._statement, list(rows)).rowcount)
        text, values = self._bound(connection, rows)
        with sqlite_cursor(connection, text, values) as cursor:
            if len(values) == 1:
                cursor.execute(text, values[0])
            else:
                cursor.executemany(text, values)
            return cursor.rowcount

    def one(self, connection: Connection, row: Row) -> tuple[Any, ...]:
        """The one row that it returns."""
        if connection.dialect.name != "sqlite":
            return tuple(connection.execute(self._statement, dict(row)).one())
        text, (values,) = self._bound(connection, [row])
        with sqlite_cursor(connection, text, values) as cursor:
            (found,) = cursor.execute(text, values).fetchall()
            return tuple(found)

    def _bound(self, connection: Connection, rows: Sequence[Row]) -> tuple[str, list[tuple[Any, ...]]]:
        if self._sqlite is None:
            compiled = self._statement.compile(dialect=connection.dialect, column_keys=list(self._names) or None)
            assert isinstance(compiled, SQLCompiler)
            order = tuple(compiled.positiontup or ())
            self._sqlite = _Text(str(compiled), order, {name: compiled.params[name] for name in order})
        made = self._sqlite
        unknown = [name for name in rows[0] if name not in made.fixed]
        assert not unknown, f"{unknown} would not be written"
        return made.text, [tuple(row.get(name, made.fixed[name]) for name in made.order) for row in rows]


@contextmanager
def sqlite_cursor(connection: Connection, text: str, values: Sequence[Any]) -> Iterator[sqlite3.Cursor]:
    """Of the connection beneath; what it raises leaves as SQLAlchemy would have it."""
    beneath = connection.connection.dbapi_connection
    cursor = cast(sqlite3.Connection, beneath).cursor()
    try:
        yield cursor
    except sqlite3.Error as error:
        raise DBAPIError.instance(text, values, error, sqlite3.Error, dialect=connection.dialect) from error
    finally:
        cursor.close()
