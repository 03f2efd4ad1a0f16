"""How does a log stay within its cap while the run goes on writing? By losing its middle.

The beginning says what was started and with which settings, the end what went wrong; what lies between is given back
to the file system as a hole, fallocate(2). The run notices nothing: it appends to the same open file, and offsets stay
what they were. Where there are no holes the newest part is put beside the file and the file is cut to nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from node_agent.execution.log_files import beginning_note, begins_at, older_part
from node_agent.regular_files import READ_FLAGS, require_own, require_regular

FALLOC_FL_KEEP_SIZE = 1  # linux/falloc.h
FALLOC_FL_PUNCH_HOLE = 2
BLOCK_BYTES = 4096
STAT_BLOCK_BYTES = 512  # of st_blocks, stat(2)
MOST_HEAD_BYTES = 1 << 20
NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def cap_log(path: Path, cap_bytes: int) -> int:
    """Give back what is too much; how many bytes that was. Afterwards three quarters of the cap are left, so that it is
    not done all the time. A log that is not there, or no longer the run's own file, has nothing to give: 0.
    """
    try:
        descriptor = os.open(path, (READ_FLAGS & ~os.O_RDONLY) | os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        require_regular(descriptor, path)
        require_own(descriptor, path)
        found = os.fstat(descriptor)
        if found.st_nlink != 1 or _used_bytes(path, found) <= cap_bytes:
            return 0
        return _cut(descriptor, path, found.st_size, cap_bytes)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOSPC):
            return 0
        raise
    finally:
        os.close(descriptor)


def may_be_over(path: Path, cap_bytes: int) -> bool:
    """Whether `cap_log` has something to look at: a glance, for the many runs that write little."""
    try:
        used = os.lstat(path).st_blocks * STAT_BLOCK_BYTES
    except OSError:
        return False
    return used > cap_bytes or (used > 0 and os.path.lexists(older_part(path)))


def _used_bytes(path: Path, found: os.stat_result) -> int:
    """On the disk, with the older part."""
    used = found.st_blocks * STAT_BLOCK_BYTES
    try:
        return used + os.stat(older_part(path), follow_symlinks=False).st_blocks * STAT_BLOCK_BYTES
    except FileNotFoundError:
        return used


def _cut(descriptor: int, path: Path, size: int, cap_bytes: int) -> int:
    head = min(MOST_HEAD_BYTES, cap_bytes // 4) // BLOCK_BYTES * BLOCK_BYTES
    until = (size - cap_bytes // 2) // BLOCK_BYTES * BLOCK_BYTES
    if until <= head:
        return 0
    try:
        before = os.fstat(descriptor).st_blocks
        punch_hole(descriptor, head, until - head)
        return (before - os.fstat(descriptor).st_blocks) * STAT_BLOCK_BYTES
    except OSError as error:
        if error.errno not in NO_HOLES:
            raise
    return _put_beside(descriptor, path, cap_bytes // 2)


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Raises OSError with one of NO_HOLES where the file system knows none."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    arguments = (ctypes.c_int(descriptor), ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    if libc.fallocate(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _put_beside(descriptor: int, path: Path, keep_bytes: int) -> int:
    """What the run writes between the copy and the cut is lost, as with every rotation by copying."""
    begin, size = begins_at(path), os.fstat(descriptor).st_size
    _write_beside(older_part(path), os.pread(descriptor, keep_bytes, max(0, size - keep_bytes)))
    size = os.fstat(descriptor).st_size
    os.ftruncate(descriptor, 0)
    _write_beside(beginning_note(path), str(begin + size).encode())
    return max(0, size - keep_bytes)


def _write_beside(path: Path, data: bytes) -> None:
    """Whole or not at all, and the directory's owner's. Whatever a tenant has put there is replaced, not written to."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        owner = os.stat(path.parent)
        if owner.st_uid != os.geteuid():
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    os.replace(fresh, path)
