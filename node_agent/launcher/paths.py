"""Where a launcher's socket, pid file and lock are: side by side, found from the socket's path."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path is 108 bytes with its closing zero, unix(7)
SOCKET_NAME = "launcher.sock"


@dataclass(frozen=True, slots=True)
class LauncherPaths:
    """`pid` holds JSON {"pid", "start_ticks"} while the launcher lives; `lock` is held by it."""

    socket: Path
    pid: Path
    lock: Path


def launcher_paths(socket: Path) -> LauncherPaths:
    socket = socket.absolute()
    return LauncherPaths(socket, socket.with_suffix(".pid"), socket.with_suffix(".lock"))


def make_private(directory: Path) -> None:
    """Make the directory, or check that it is ours, and keep others out of it. Raises OSError with what to do."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        raise PermissionError(f"{directory} belongs to others too; name a directory of this user's own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
