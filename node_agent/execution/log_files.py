"""One log as bytes with gaps: what is left of everything that a run has written, at the offsets where it was written.

A log that grew over its cap has lost a part of its middle. Mostly that is a hole in the file (capping.py). Where the
file system knows no holes there is an older part beside the file, and a note of where in the log the file now begins.
The run has the file open and appends to it, so it is never moved or replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from node_agent.regular_files import open_regular, read_bounded

NOTE_BYTES = 32
NO_SUCH_QUESTION = (errno.EINVAL, errno.EOPNOTSUPP)  # of a file system that knows no holes


def older_part(path: Path) -> Path:
    return path.with_name(f".{path.name}.older")


def beginning_note(path: Path) -> Path:
    return path.with_name(f".{path.name}.begins")


def begins_at(path: Path) -> int:
    """Where in the log the file's first byte is."""
    try:
        return max(0, int(read_bounded(beginning_note(path), NOTE_BYTES, own=True)))
    except (OSError, ValueError):  # mostly there is none; a tenant may have spoilt that of its own
        return 0


@dataclass(frozen=True, slots=True)
class Piece:
    """`data` stands at `start` in the log, which ends at `end`."""

    data: bytes
    start: int
    end: int


def read_log(path: Path, offset: int, limit: int) -> Piece:
    """At most `limit` bytes of what is left at `offset` or, where nothing is left there, after it.

    Raises as regular_files.open_regular does, also where the log belongs to another user than its directory.
    """
    with open_regular(path, own=True) as file:
        begin = begins_at(path)
        end = begin + os.fstat(file.fileno()).st_size
        if offset < begin:
            older = _read_older(path, offset, begin, limit)
            if older is not None:
                return Piece(older[0], older[1], end)
            offset = begin
        start = _next_data(file, offset - begin)
        data = os.pread(file.fileno(), min(limit, _next_hole(file, start) - start), start)
        return Piece(data, begin + start, end)


def read_end(path: Path, limit: int) -> Piece:
    """The last bytes of a log."""
    with open_regular(path, own=True) as file:
        size = os.fstat(file.fileno()).st_size
    return read_log(path, max(0, begins_at(path) + size - limit), limit)


def _read_older(path: Path, offset: int, begin: int, limit: int) -> tuple[bytes, int] | None:
    """From the part that was put beside the file. None: it does not reach so far."""
    with contextlib.suppress(OSError), open_regular(older_part(path), own=True) as file:
        size = os.fstat(file.fileno()).st_size
        start = max(offset, begin - size)
        data = os.pread(file.fileno(), min(limit, begin - start), start - (begin - size))
        if data:
            return data, start
    return None


def _next_data(file: BinaryIO, offset: int) -> int:
    """The first byte at or after `offset` that is not in a hole; the file's end when there is none."""
    size = os.fstat(file.fileno()).st_size
    if offset >= size:
        return offset
    try:
        return os.lseek(file.fileno(), offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno in NO_SUCH_QUESTION:
            return offset
        raise


def _next_hole(file: BinaryIO, offset: int) -> int:
    size = os.fstat(file.fileno()).st_size
    if offset >= size:
        return offset
    try:
        return os.lseek(file.fileno(), offset, os.SEEK_HOLE)
    except OSError as error:
        if error.errno in NO_SUCH_QUESTION:
            return size
        raise
