"""How a store is opened: file and permissions, connection settings, and bringing its schema up to date.

A store that an older Suanli wrote is changed in place, in the transaction that opens it: all steps, or none.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select, text, update
from sqlalchemy.exc import NoSuchModuleError

from scheduler.errors import BadInput, Conflict, Unavailable
from scheduler.store import postgres, tables
from scheduler.store.straight import sqlite_cursor

BUSY_TIMEOUT_S = 5.0


def connect(url: URL) -> Engine:
    """An engine for `url`, nothing sent yet. For SQLite the file exists afterwards, readable by its owner alone."""
    try:
        if url.get_backend_name() == "sqlite":
            if not url.database or url.database == ":memory:":
                raise BadInput("a store in memory would keep nothing; write sqlite:////absolute/path.db", field="store")
            _create_private(Path(url.database))
            engine = create_engine(url, connect_args={"check_same_thread": False})
            event.listen(engine, "connect", _configure)
            event.listen(engine, "begin", _begin)
            return engine
        if url.get_backend_name() == "postgresql":
            return postgres.connect(url)
        return create_engine(url, pool_pre_ping=True)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        wanted = f"no driver for {url.drivername} is installed: {error}"
        if url.get_backend_name() == "postgresql":
            wanted += "; install Suanli with its extra: pip install 'suanli[postgres]'"
        raise BadInput(wanted, field="store") from None


def _create_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise Unavailable(
            f"the store's file {path} cannot be opened: {error.strerror}. Check the directory and its permissions."
        ) from None


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see _begin
    for pragma in (
        f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Writers take the lock at once: a reader that turns writer half-way would fail as soon as another wrote."""
    write = connection.get_execution_options().get("suanli_write", False)
    said = "BEGIN IMMEDIATE" if write else "BEGIN"
    with sqlite_cursor(connection, said, ()) as cursor:
        cursor.execute(said)


def prepare_schema(connection: Connection, shown_url: str) -> None:
    """Create the tables in an empty database, bring older ones up to date; refuse one that a newer Suanli wrote
    (Conflict)."""
    if connection.dialect.name == "postgresql":
        postgres.one_at_a_time(connection)  # SQLite's writers take turns anyway
    present: Any = inspect(connection).get_table_names()
    if "meta" not in present:
        if present:
            raise Conflict(
                f"{shown_url} holds tables that are not Suanli's ({', '.join(sorted(present)[:5])}); point the"
                " site's store at a database of its own"
            )
        tables.metadata.create_all(connection)
        connection.execute(
            insert(tables.meta),
            [{"id": 1, "schema_version": tables.SCHEMA_VERSION, "epoch": 0, "next_number": 1, "next_seq": 1}],
        )
        return
    # Held until the commit, so that of two that open an old store one brings it up to date and the other finds it so.
    found = connection.execute(select(tables.meta.c.schema_version).with_for_update()).scalar_one()
    if found > tables.SCHEMA_VERSION:
        raise Conflict(
            f"the store {shown_url} has schema version {found}, and this Suanli knows versions up to"
            f" {tables.SCHEMA_VERSION}: it was written by a newer one. Install that newer Suanli again, or point"
            " the site's store elsewhere. Nothing was changed."
        )
    for version in range(found, tables.SCHEMA_VERSION):
        _STEPS[version](connection)
    if found < tables.SCHEMA_VERSION:
        connection.execute(update(tables.meta).values(schema_version=tables.SCHEMA_VERSION))


def _from_1(connection: Connection) -> None:
    """Jobs count their preemptions and remember what they were scaled to; reservations and usage are kept."""
    connection.execute(text("ALTER TABLE jobs ADD COLUMN preemptions INTEGER DEFAULT 0 NOT NULL"))
    connection.execute(text("ALTER TABLE jobs ADD COLUMN workers_wanted INTEGER"))
    tables.metadata.create_all(connection, tables=[tables.reservations, tables.usage])


def _from_2(connection: Connection) -> None:
    """What ran where for how long is kept. Of runs that ended before nothing is known that a bill could be made of."""
    tables.metadata.create_all(connection, tables=[tables.usage_records])


def _from_3(connection: Connection) -> None:
    """Writes are counted, a service says where it is found, drains may have a deadline."""
    growing = "INTEGER" if connection.dialect.name == "sqlite" else "BIGINT"
    connection.execute(text(f"ALTER TABLE meta ADD COLUMN writes {growing} DEFAULT 0 NOT NULL"))
    connection.execute(text("ALTER TABLE meta ADD COLUMN leader TEXT"))
    connection.execute(text("ALTER TABLE drains ADD COLUMN deadline_s FLOAT"))


def _from_4(connection: Connection) -> None:
    """Jobs can be held."""
    connection.execute(text("ALTER TABLE jobs ADD COLUMN held_json TEXT"))


def _from_5(connection: Connection) -> None:
    """Jobs can be submitted again and again."""
    tables.metadata.create_all(connection, tables=[tables.schedules])


def _from_6(connection: Connection) -> None:
    """Services have versions; how many replicas one has can be a person's decision."""
    connection.execute(text("ALTER TABLE jobs ADD COLUMN pinned BOOLEAN DEFAULT false NOT NULL"))
    tables.metadata.create_all(connection, tables=[tables.services])


def _from_7(connection: Connection) -> None:
    """Usage records say what the job was called, where it ran and what it made its devices do; requests are counted;
    months can be closed. Of runs that ended before, the name alone is known."""
    growing = "INTEGER" if connection.dialect.name == "sqlite" else "BIGINT"
    known = {column["name"] for column in inspect(connection).get_columns("usage_records")}
    for column in (
        "name TEXT DEFAULT '' NOT NULL",
        "site TEXT",
        "models_json TEXT",
        "use_json TEXT",
        "achieved_json TEXT",
        f"write_number {growing} DEFAULT 0 NOT NULL",
    ):
        if column.partition(" ")[0] not in known:  # a step of an older store has just made the table as it is now
            connection.execute(text(f"ALTER TABLE usage_records ADD COLUMN {column}"))
    if "write_number" not in known:
        connection.execute(text("CREATE INDEX usage_records_write ON usage_records (write_number)"))
    connection.execute(
        text("UPDATE usage_records SET name = (SELECT jobs.name FROM jobs WHERE jobs.id = usage_records.job_id)")
    )
    tables.metadata.create_all(connection, tables=[tables.usage_served, tables.usage_months, tables.usage_book])


def _from_8(connection: Connection) -> None:
    """What nights and checks hold against nodes is kept here too. Of what was held before, the agents know."""
    tables.metadata.create_all(connection, tables=[tables.health_notes])


# By the version that a step starts from. A step says what was new then: later ones may change it again.
_STEPS = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4, 5: _from_5, 6: _from_6, 7: _from_7, 8: _from_8}
