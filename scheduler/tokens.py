"""Whom a bearer token stands for, and the file that remembers it.

The file holds the SHA-256 of each token, never a token: who reads it can impersonate nobody. It is 0600, replaced
atomically, and refused when others could read it. A token is `suanli_` and 43 url-safe characters (256 random bits), so
a plain digest is enough: there is nothing to guess that salt or stretching would slow down.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from scheduler.errors import BadInput, Conflict, NotFound, Unavailable
from scheduler.ports import Principal, Role
from scheduler.private_file import replace_private

PREFIX = "suanli_"
LONGEST_TOKEN = 256  # characters; longer ones are not hashed at all
LARGEST_FILE_BYTES = 16 * 1024 * 1024
ROLES: tuple[str, ...] = get_args(Role)
_FIELDS = ("sha256", "name", "tenant", "role", "max_priority_class")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


@dataclass(frozen=True, slots=True)
class _Entry:
    sha256: str
    principal: Principal


class TokenTable:
    """Answers `principal(token)` from the file, read again whenever it changes. Thread-safe.

    Raises Unavailable while the file is missing, malformed or readable by others: nobody is let in by an old copy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._by_digest: Mapping[str, _Entry] = {}

    def principal(self, token: str) -> Principal | None:
        """None for a token that nobody was given.

        The look-up is by digest, which a caller cannot steer, and the comparison takes the same time for every answer.
        """
        entries = self._current()
        if len(token) > LONGEST_TOKEN:
            return None
        digest = _digest(token)
        entry = entries.get(digest)
        if entry is None or not hmac.compare_digest(entry.sha256, digest):
            return None
        return entry.principal

    def _current(self) -> Mapping[str, _Entry]:
        with self._lock:
            try:
                now = os.stat(self._path)
            except OSError as error:
                raise _unreadable(self._path, error) from error
            # The mode belongs to the signature by way of ctime: a chmod alone must be noticed too.
            seen = (now.st_ctime_ns, now.st_size, now.st_ino)
            if seen != self._seen:
                self._by_digest = {entry.sha256: entry for entry in _read(self._path)}
                self._seen = seen
            return self._by_digest


def issue(path: Path, principal: Principal, *, replace: bool = False) -> str:
    """Make a token for `principal`, remember its digest in `path` (made if missing) and return it: it is shown once.

    A name is held by one token: a second one is a Conflict, or with `replace` takes the place of the first.
    """
    for field in ("name", "tenant", "max_priority_class"):
        if not _NAME.fullmatch(getattr(principal, field)):
            raise BadInput(
                f"token {field} {getattr(principal, field)!r}: letters, digits and . _ @ - are allowed, "
                "63 at most, the first a letter or digit",
                field=field,
            )
    if principal.role not in ROLES:
        raise BadInput(f"token role {principal.role!r}: one of {', '.join(ROLES)} is expected", field="role")
    token = PREFIX + secrets.token_urlsafe(32)
    with _exclusive(path):
        entries = list(_read(path)) if path.exists() else []
        others = [entry for entry in entries if entry.principal.name != principal.name]
        if len(others) != len(entries) and not replace:
            raise Conflict(
                f"a token named {principal.name} exists already; revoke it (`suanli token revoke {principal.name}`) "
                "or choose another name",
                field="name",
            )
        _write(path, [*others, _Entry(_digest(token), principal)])
    return token


def revoke(path: Path, name: str) -> None:
    """Forget the token named `name`; requests with it get 401 from the next one on."""
    with _exclusive(path):
        entries = _read(path)
        left = [entry for entry in entries if entry.principal.name != name]
        if len(left) == len(entries):
            raise NotFound(f"no token is named {name}; `suanli token list` shows the names", field="name")
        _write(path, left)


def principals(path: Path) -> tuple[Principal, ...]:
    """Everyone who holds a token, in the order of issue."""
    return tuple(entry.principal for entry in _read(path))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One writer at a time, over processes: read, change and replace must not interleave."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot write the token file {path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read(path: Path) -> Sequence[_Entry]:
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_IMODE(facts.st_mode) & 0o077:
                raise Unavailable(
                    f"the token file {path} can be read by others (mode {stat.S_IMODE(facts.st_mode):04o}); "
                    f"run: chmod 600 {path}"
                )
            if facts.st_uid not in (os.geteuid(), 0):
                raise Unavailable(f"the token file {path} belongs to another user (uid {facts.st_uid}); chown it")
            text = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(text) > LARGEST_FILE_BYTES:
        raise Unavailable(f"the token file {path} is larger than {LARGEST_FILE_BYTES} bytes; it is not ours")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unavailable(
            f"the token file {path} is not JSON ({error}); restore it or issue the tokens anew"
        ) from error
    if not isinstance(rows, list):
        raise Unavailable(f"the token file {path} must hold a list of tokens")
    return [_entry(path, index, row) for index, row in enumerate(rows)]


def _entry(path: Path, index: int, row: Any) -> _Entry:
    if not isinstance(row, dict) or set(row) != set(_FIELDS) or not all(isinstance(row[f], str) for f in _FIELDS):
        raise Unavailable(f"the token file {path}: entry {index + 1} must hold the texts {', '.join(_FIELDS)}")
    if row["role"] not in ROLES or not re.fullmatch(r"[0-9a-f]{64}", row["sha256"]):
        raise Unavailable(f"the token file {path}: entry {index + 1} has a bad role or digest")
    return _Entry(row["sha256"], Principal(row["name"], row["tenant"], row["role"], row["max_priority_class"]))


def _write(path: Path, entries: Sequence[_Entry]) -> None:
    rows = [{"sha256": entry.sha256, **asdict(entry.principal)} for entry in entries]
    try:
        replace_private(path, json.dumps(rows, ensure_ascii=False, indent=1).encode())
    except OSError as error:
        raise Unavailable(f"cannot write the token file {path}: {error.strerror}") from error


def _unreadable(path: Path, error: OSError) -> Unavailable:
    if isinstance(error, FileNotFoundError):
        return Unavailable(f"there is no token file {path}; `suanli up` or `suanli token create` makes it")
    return Unavailable(f"the token file {path} cannot be read: {error.strerror}")
