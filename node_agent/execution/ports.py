"""Which TCP port is free on this node right now, and is this one?"""

from __future__ import annotations

import errno
import socket


def free_port(address: str, taken: frozenset[int] = frozenset()) -> int:
    """A port free on `address` at this moment and not in `taken` (ports promised to runs that have not bound them yet).

    Another process may take it before the run does; then the run fails to bind and its exit says so. Raises OSError
    when `address` is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held: list[socket.socket] = []
    try:
        while True:
            probe = socket.socket(family, socket.SOCK_STREAM)
            held.append(probe)  # held open meanwhile, so that the kernel offers another one
            probe.bind((address, 0))
            port = int(probe.getsockname()[1])
            if port not in taken:
                return port
    finally:
        for probe in held:
            probe.close()


def port_is_free(address: str, port: int) -> bool:
    """Whether a run could listen on it at this moment. Raises OSError when `address` is not this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port that was just left is free
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True
