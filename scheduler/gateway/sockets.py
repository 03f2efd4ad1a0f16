"""How is a connection to a replica made? Over its Unix socket where it has one on this machine, else over TCP.

A Unix socket's place comes from a tenant's process, so it is looked at first: it must be a socket that nobody else may
use, of this process's own user (of any user where this process is root's, which is told apart from a service of the
machine by the mode: theirs let a group in), and who listens must be its owner. What fails that is not used: TCP is.

Over TCP a host that vanished without a word is noticed by the system: what was sent must be acknowledged within a
second (TCP_USER_TIMEOUT, RFC 5482), and an idle connection is asked every second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.gateway.upstream import Connection

CONNECT_TIMEOUT_S = 2.0
SILENCE_MS = 1000
_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS),
)
log = logging.getLogger(__name__)


async def connect(make: Callable[[], Connection], address: str, unix_path: str | None = None) -> Connection:
    """Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        if unix_path is not None:
            try:
                ours = open_unix(unix_path)
            except OSError as error:
                log.debug("%s is not used: %s", unix_path, error)
            else:
                _, connection = await loop.create_connection(make, sock=ours)
                return connection
        host, _, port = address.rpartition(":")
        transport, connection = await loop.create_connection(make, host.strip("[]"), int(port))
        opened = transport.get_extra_info("socket")
        if opened is not None:
            for level, option, value in _OPTIONS:
                opened.setsockopt(level, option, value)
        return connection


def open_unix(path: str) -> socket.socket:
    """A connected socket that does not block. Raises OSError where there is none that may be used.

    However long the way to it is: a Unix address holds 107 bytes, so it is named from its open directory, proc(5)."""
    directory, name = os.path.split(path)
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        facts = os.stat(name, dir_fd=at, follow_symlinks=False)
        if not stat.S_ISSOCK(facts.st_mode) or stat.S_IMODE(facts.st_mode) & 0o077:
            raise PermissionError("it is no socket of one user alone")
        if os.geteuid() not in (0, facts.st_uid):
            raise PermissionError("it belongs to another user")
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            made.connect(f"/proc/self/fd/{at}/{name}")
            size = struct.calcsize("3i")
            _, uid, _ = struct.unpack("3i", made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
            if uid != facts.st_uid:
                raise PermissionError("who listens there is not its owner")
        except BaseException:
            made.close()
            raise
        return made
    finally:
        os.close(at)
