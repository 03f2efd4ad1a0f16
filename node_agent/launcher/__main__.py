"""`python -m node_agent.launcher --socket PATH --journal PATH --lease-s N [--detach]`: a node's launcher.

Only one runs for a socket, which it proves with a lock beside it. SIGTERM ends all runs and leaves only the journal.
Exit codes: 0 told to go; 2 bad arguments; 3 another launcher has the socket.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import socket
import sys
from pathlib import Path

from node_agent.launcher.paths import SOCKET_PATH_BYTES, launcher_paths, make_private
from node_agent.launcher.procfs import start_ticks
from node_agent.launcher.server import Server

EXIT_USAGE = 2
EXIT_TAKEN = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="node_agent.launcher", description="Forks and watches one node's jobs.")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--lease-s", type=float, required=True)
    parser.add_argument("--detach", action="store_true", help="go on in a session of its own, as nobody's child")
    options = parser.parse_args(argv)
    paths = launcher_paths(options.socket)
    if len(os.fsencode(paths.socket)) > SOCKET_PATH_BYTES:
        print(
            f"the socket's path has {len(os.fsencode(paths.socket))} bytes and Unix allows {SOCKET_PATH_BYTES}: "
            f"{paths.socket}; choose a shorter runtime directory",
            file=sys.stderr,
        )
        return EXIT_USAGE
    if options.lease_s <= 0:
        print(f"--lease-s must be positive, not {options.lease_s:g}", file=sys.stderr)
        return EXIT_USAGE
    try:
        make_private(paths.socket.parent)
    except OSError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if options.detach:
        # Twice: the first fork leaves the caller's children (Ray kills its workers' children with them), setsid its
        # group and terminal, and the second makes sure that no terminal is ever acquired.
        _fork_and_leave()
        os.setsid()
        _fork_and_leave()
    lock = _lock(paths.lock)
    if lock is None:
        print(f"another launcher serves {paths.socket}", file=sys.stderr)
        return EXIT_TAKEN
    options.journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir("/")
    # Signals wait until the server hears them; a run would inherit what is blocked, and none starts before.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    paths.socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        old = os.umask(0o177)
        listener.bind(str(paths.socket))
        os.umask(old)
        server = Server(listener, options.journal.absolute(), options.lease_s)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        try:
            _write_pid_file(paths.pid)
            listener.listen(16)
            server.run()
        finally:
            server.close()
            for path in (paths.socket, paths.pid, paths.lock):
                path.unlink(missing_ok=True)
            os.close(lock)
    return 0


def _fork_and_leave() -> None:
    if os.fork() != 0:
        os._exit(0)


def _lock(path: Path) -> int | None:
    """The lock's descriptor, or None when another process has it. It ends with the process, however that ends."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        try:
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # its holder removed the file while we waited for it: lock the new one


def _write_pid_file(path: Path) -> None:
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}, file)
    os.replace(fresh, path)


if __name__ == "__main__":
    sys.exit(main())
