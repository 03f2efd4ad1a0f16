"""Reading files at paths where a tenant may have put anything: a FIFO, a device, a link, something without end.

Opening a FIFO waits for its other end, so whoever reads for everybody must not open one the plain way. Needs the
standard library alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: the open of a FIFO returns, and fstat tells


class NotRegular(OSError):
    """There is something at the path, but no regular file."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"{path} is not a regular file")


class NotOwn(OSError):
    """A file in another user's directory that is not that user's: a hard link to what only we may read, perhaps."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"{path} does not belong to the owner of its directory")


def open_regular(path: Path, *, follow: bool = False, own: bool = False) -> BinaryIO:
    """The file, open for reading. Raises NotRegular, or OSError as open(2) does; ELOOP for a link unless `follow`.

    `own`: in a directory of another user's, nothing but files of that user's. Raises NotOwn.
    """
    descriptor = os.open(path, READ_FLAGS | (0 if follow else os.O_NOFOLLOW))
    try:
        require_regular(descriptor, path)
        if own:
            require_own(descriptor, path)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(descriptor: int, path: Path | str) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise NotRegular(path)


def require_own(descriptor: int, path: Path) -> None:
    owner = os.stat(path.parent).st_uid
    if owner != os.geteuid() and os.fstat(descriptor).st_uid != owner:
        raise NotOwn(path)


def read_bounded(path: Path, limit: int, *, follow: bool = False, own: bool = False) -> bytes:
    """At most `limit` bytes from the file's beginning. Raises as `open_regular`."""
    with open_regular(path, follow=follow, own=own) as file:
        return file.read(limit)


def is_regular(path: Path) -> bool:
    """Whether there is a regular file; a link is none, so nothing but the path's own directory is looked at."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
