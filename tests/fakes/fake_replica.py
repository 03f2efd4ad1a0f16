"""A replica on loopback that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes


class Request(BaseHTTPRequestHandler):
    """What a test's `behave` is given: answer it, or break off."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body, written apart, are 40 ms apart
    replica: FakeReplica

    def answer(self, status: int = 200, body: bytes = b"{}", headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def raw(self, data: bytes, *, close: bool = False) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = close

    def break_off(self) -> None:
        """Close the connection as it is."""
        self.close_connection = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the other side has gone, as some tests want it to
            self.close_connection = True

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Seen(self.command, self.path, headers, body)
        self.replica.note(self.seen)
        self.replica.behave(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `seen`."""


def echo(request: Request) -> None:
    """Says what it was asked."""
    seen = request.seen
    told = {"method": seen.method, "target": seen.target, "headers": seen.headers, "body": seen.body.decode()}
    request.answer(body=json.dumps(told).encode(), headers=(("Content-Type", "application/json"),))


class FakeReplica:
    """`behave` may be changed at any time. A `hold()` keeps all requests unanswered until it ends."""

    def __init__(self, behave: Callable[[Request], None] = echo) -> None:
        self._behave = behave
        self._open = threading.Event()
        self._open.set()
        self._arrived = threading.Condition()
        self.seen: list[Seen] = []
        handler = type("Handler", (Request,), {"replica": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def behave(self, request: Request) -> None:
        assert self._open.wait(30), "a held request was never let go"
        self._behave(request)

    def then(self, behave: Callable[[Request], None]) -> None:
        self._behave = behave

    def note(self, seen: Seen) -> None:
        with self._arrived:
            self.seen.append(seen)
            self._arrived.notify_all()

    def wait_seen(self, count: int, timeout_s: float = 10.0) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.seen) >= count, timeout_s), f"{len(self.seen)} of {count}"

    @contextmanager
    def hold(self) -> Iterator[None]:
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def close(self) -> None:
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
