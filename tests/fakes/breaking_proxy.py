"""Between the store and its PostgreSQL server: a connection that breaks exactly where it hurts, around a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Literal

from tests.fakes.postgres import PORT, PostgresServer


class BreakingProxy:
    """Listens on a socket in `directory`. `break_at`: the next COMMIT breaks its connection, before it has reached the
    server or after the server has answered it, and with `then_closed` nobody gets through any more until `open`."""

    def __init__(self, server: PostgresServer, directory: Path) -> None:
        self._to = str(server.directory / f".s.PGSQL.{PORT}")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / f".s.PGSQL.{PORT}"))
        self._listening.listen(16)
        self.break_at: Literal["before", "after"] | None = None
        self.then_closed = False
        self.broken = threading.Event()
        self._open = True
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def open(self) -> None:
        self._open = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if not self._open:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._to)
            thread = threading.Thread(target=self._carry, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        """To the server here, and back in a thread of its own, until either side ends."""
        swallow = threading.Event()
        answered = threading.Event()

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(65536):
                    if swallow.is_set():
                        answered.set()
                        continue
                    client.sendall(data)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

        returning = threading.Thread(target=back, daemon=True)
        returning.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT\0" in data and self.break_at is not None:
                    where, self.break_at = self.break_at, None
                    self._open = not self.then_closed
                    if where == "after":
                        swallow.set()
                        server.sendall(data)
                        assert answered.wait(10)
                    self.broken.set()
                    break
                server.sendall(data)
        for end in (server, client):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        returning.join(timeout=10)
        server.close()
        client.close()
