"""Which of several services on one store may be the active one? One holds a lock; the others stand by and try for it.

The lock only says who should try to lead. What makes it safe is the epoch that a leader takes when it starts: whoever
was replaced is refused by the store, the nodes and the gateway, also where it does not know yet that it was.

On PostgreSQL it is an advisory lock, which goes with the session that holds it: when the leader dies, and also when it
is stopped, swaps or is cut off, for the server ends a session that has been silent for SILENT_S. On SQLite it is a lock
on a file beside the store's, which goes with the process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from scheduler.errors import Unavailable
from scheduler.store import postgres
from scheduler.store.failures import first_line
from scheduler.store.sql import SqlStore

log = logging.getLogger(__name__)

# A leader says so often that it is there, and after so long a silence the server takes its lock away. A standby asks
# for it so often. Together with the start of a service this stays within the ten seconds that a takeover may last.
SAYS_EVERY_S = 1.0
SILENT_S = 4.0
ASKS_EVERY_S = 0.5


class Lock(Protocol):
    """One try, one look. Not thread-safe: who leads uses it from one thread at a time."""

    def try_get(self) -> bool:
        """Raises Unavailable where nobody can be asked."""
        ...

    def still_held(self) -> bool:
        """Raises Unavailable where nobody can be asked: then it may be lost."""
        ...

    def release(self) -> None: ...


class PostgresLock:
    def __init__(self, url: str, *, silent_s: float = SILENT_S) -> None:
        self._engine: Engine = create_engine(
            postgres.complete(make_url(url)), poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        self._shown = self._engine.url.render_as_string(hide_password=True)
        self._silent_s = silent_s
        self._connection: Connection | None = None
        event.listen(self._engine, "connect", postgres.configure)

    def try_get(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._connection.execute(
                    text("SELECT set_config('idle_session_timeout', :said, false)"),
                    {"said": f"{int(self._silent_s * 1000)}ms"},
                )
            asked = text("SELECT pg_try_advisory_lock(:key)")
            key = postgres.lock_key(self._connection, "leader")
            return bool(self._connection.execute(asked, {"key": key}).scalar_one())
        except DBAPIError as error:
            raise self._lost(error) from error

    def still_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise self._lost(error) from error
        return True

    def _lost(self, error: DBAPIError) -> Unavailable:
        self.release()
        return Unavailable(f"the store {self._shown} cannot be asked who leads: {first_line(error)}")

    def release(self) -> None:
        """The session's end is the lock's."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


class FileLock:
    """A record lock: it belongs to the process, not to children that it forks, and goes with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def try_get(self) -> bool:
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be locked: {error.strerror}") from error
        return True

    def still_held(self) -> bool:
        return self._handle is not None

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def lock_of(store: SqlStore) -> Lock:
    """The lock of this store: all services that open it try for the same."""
    url = store.engine.url
    if url.get_backend_name() == "postgresql":
        return PostgresLock(url.render_as_string(hide_password=False))
    assert url.database is not None
    return FileLock(Path(url.database + ".leader"))


class Leadership:
    """`wait` until this service may lead, then `keep` it while it does."""

    def __init__(self, lock: Lock, store: SqlStore) -> None:
        self._lock = lock
        self._store = store
        self._known: tuple[int, str] = (0, "")
        self._closing = threading.Event()
        self._keeping: threading.Thread | None = None

    def try_now(self) -> bool:
        """Whether this service may lead. Raises Unavailable where the store cannot be asked."""
        return self._lock.try_get()

    def wait(self, stop: threading.Event) -> bool:
        """Stand by until it may lead (True) or `stop` is set (False). A store that is away is waited for."""
        problem = ""
        while not stop.is_set():
            try:
                if self._lock.try_get():
                    return True
                self._known = self._store.leader()
                problem = ""
            except Unavailable as error:
                if error.message != problem:
                    log.warning("%s; trying again", error.message)
                    problem = error.message
            stop.wait(ASKS_EVERY_S)
        return False

    def leader(self) -> tuple[int, str]:
        """Epoch and address of the newest leader that a waiting service has heard of."""
        return self._known

    def keep(self, epoch: Callable[[], int | None], lost: Callable[[str], None]) -> None:
        """From now on `lost` is called, once, with the reason, if another service may lead. A lock that went with a
        restarted server, or with a lost connection, is got again if nobody has led since. `epoch` is this service's;
        None: it is still starting, and has none yet."""
        self._keeping = threading.Thread(target=self._keep, args=(epoch, lost), name="leadership", daemon=True)
        self._keeping.start()

    def _keep(self, epoch: Callable[[], int | None], lost: Callable[[str], None]) -> None:
        away = False
        while not self._closing.wait(SAYS_EVERY_S):
            try:
                if not away and self._lock.still_held():
                    continue
                away = True
                if not self._lock.try_get():
                    lost("another service holds the lock of the store")
                    return
                newest, leader = self._store.leader()
                own = epoch()
                if own is not None and newest > own:
                    self._lock.release()
                    lost(f"a service of epoch {newest}{f' at {leader}' if leader else ''} has led since")
                    return
                log.warning("this service leads again: the lock was lost, and nobody has led meanwhile")
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("the lock of the store may be lost: %s", error.message)
                away = True

    def close(self) -> None:
        """Give the lock back: a standby may take over at once."""
        self._closing.set()
        if self._keeping is not None:
            self._keeping.join(timeout=10)
        self._lock.release()
