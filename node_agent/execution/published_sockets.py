"""By what path does a gateway reach a replica's Unix socket? One that the tenant cannot turn elsewhere.

The replica makes its socket in its run's directory, which is the tenant's own: whatever is at that path may be another
thing by the time somebody connects, such as a link to the socket of a service that trusts the gateway's user. So the
socket itself is looked at (open(2) with O_PATH, which follows no link), and a second name for that very file is put
into a directory that only this user may enter. A hard link leads to the file that was looked at, for ever. Connecting
by it takes the file's own permission too: as the user of the run, or as root.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

SOCKET_PATH_BYTES = 107  # unix(7)
NAME_DIGITS = 16


class CannotPublish(Exception):
    """A sentence: the replica is reached by its port."""


class PublishedSockets:
    """Names of replicas' sockets, side by side in one directory of ours."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def publish(self, run: str, socket: Path) -> Path:
        """`run` names the run. The path to connect to; raises CannotPublish."""
        target = self._path(run)
        if len(os.fsencode(target)) > SOCKET_PATH_BYTES:
            raise CannotPublish(f"{target} is longer than a Unix address may be; the port alone is used")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = os.stat(socket.parent).st_uid
            found = os.open(socket, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                facts = os.fstat(found)
                if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != owner:
                    raise CannotPublish(f"{socket} is not a socket of the run's own user; the port alone is used")
                with contextlib.suppress(FileNotFoundError):
                    target.unlink()
                descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.link(str(found), target, src_dir_fd=descriptors, follow_symlinks=True)
                finally:
                    os.close(descriptors)
            finally:
                os.close(found)
        except OSError as error:
            raise CannotPublish(f"{socket} could not be published: {error}; the port alone is used") from error
        return target

    def withdraw(self, run: str) -> None:
        with contextlib.suppress(OSError):
            self._path(run).unlink()

    def _path(self, run: str) -> Path:
        return self._directory / hashlib.sha256(run.encode()).hexdigest()[:NAME_DIGITS]
