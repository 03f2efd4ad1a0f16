"""What the store asks of PostgreSQL: how its sessions are set, and that only one of them makes or changes the tables.

A lost network is noticed after some seconds on both sides, never after the hours that TCP would take: by libpq's
keepalives here, and by what the server is told to do with a session whose client has gone silent in a transaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

CONNECT_WITHIN_S = 5
LOCK_TIMEOUT_S = 5.0
# A session that stands still in a transaction keeps everybody else from writing: a service that was stopped there, or
# whose network was cut, must not keep its successor waiting.
IDLE_IN_TRANSACTION_S = 4.0
# Creating and upgrading may take long on a large store, and who comes second waits for it.
SCHEMA_TIMEOUT_S = 120.0

# What libpq is told unless the URL says otherwise.
_LIBPQ: dict[str, str] = {
    "connect_timeout": str(CONNECT_WITHIN_S),
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "suanli",
}
_SETTINGS: dict[str, str] = {
    "lock_timeout": f"{LOCK_TIMEOUT_S:g}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S:g}s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


def complete(url: URL) -> URL:
    """The URL with psycopg as its driver, and with what libpq is to be told."""
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url.update_query_dict({name: said for name, said in _LIBPQ.items() if name not in url.query})


def connect(url: URL) -> Engine:
    """An engine, nothing sent yet. Its sessions are set when they are made."""
    # Read committed is enough: every change to a job comes from the one service of the current epoch.
    engine = create_engine(
        complete(url),
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        pool_timeout=10.0,
    )
    event.listen(engine, "connect", configure)
    return engine


def configure(connection: Any, _record: object) -> None:
    """A new session's settings. An acknowledged commit is on the disk, whatever the server's default is."""
    with connection.cursor() as cursor:
        for name, said in _SETTINGS.items():
            cursor.execute("SELECT set_config(%s, %s, false)", (name, said))
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def one_at_a_time(connection: Connection) -> None:
    """Until the transaction ends no other service looks at the tables of this schema to create or change them."""
    for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(
            text("SELECT set_config(:name, :said, true)"), {"name": name, "said": f"{SCHEMA_TIMEOUT_S:g}s"}
        )
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(connection, "schema")})


def lock_key(connection: Connection, what: str) -> int:
    """The number of an advisory lock: of its own for each schema of a database, as each may hold a store."""
    asked = text("SELECT hashtextextended('suanli ' || CAST(:what AS text) || ' ' || current_schema(), 0)")
    return int(connection.execute(asked, {"what": what}).scalar_one())
