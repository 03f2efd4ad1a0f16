"""What a database says when it cannot go on, as Unavailable with what to do about it. Bugs pass as they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from scheduler.errors import Unavailable

# SQLSTATEs of what a bug cannot cause, although drivers file it under wrong statements.
_NOT_ALLOWED = "42501"


@contextmanager
def translated(shown_url: str) -> Iterator[None]:
    """Raises Unavailable where the database cannot take it now. What no database would ever take (bad SQL, broken keys,
    values that fit no column) passes: waiting would not mend it."""
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError) as error:
        if _state(error) != _NOT_ALLOWED:
            raise
        raise unavailable(shown_url, error) from error
    except InterfaceError as error:
        if isinstance(error.orig, sqlite3.InterfaceError):  # a value that cannot be bound; elsewhere: a lost connection
            raise
        raise unavailable(shown_url, error) from error
    except (DBAPIError, PoolTimeout) as error:
        raise unavailable(shown_url, error) from error


def unavailable(shown_url: str, error: Exception) -> Unavailable:
    said = first_line(error)
    return Unavailable(
        f"the store {shown_url} cannot take this now: {said}. Nothing of it was kept. {_what_to_do(said)}"
    )


def first_line(error: Exception) -> str:
    """What the database itself said, without the statement."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _what_to_do(said: str) -> str:
    if "full" in said or "No space left" in said:
        return "Free some disk space where the store lies; no restart is needed."
    if "locked" in said or "busy" in said or "lock timeout" in said:
        return "Another process holds the store; end it (or wait for its backup to finish) and try again."
    if "not a database" in said or "malformed" in said:
        return "The file is damaged or is no Suanli store; put a backup in its place, or point `store` elsewhere."
    if "permission denied" in said:
        return "Grant the store's user what it needs: the database should be its own (ALTER DATABASE ... OWNER TO ...)."
    if "read-only" in said:
        return "This is a copy that takes no writes: point the site's store at the primary."
    if "I/O" in said or "unable to open" in said or "readonly" in said:
        return "Check the disk, its mount and the permissions of the store's directory, then try again."
    return "Check that the database runs and can be reached, then try again."
