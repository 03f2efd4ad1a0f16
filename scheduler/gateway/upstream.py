"""How does a request reach a replica? An HTTP/1.1 client of one exchange at a time over kept-open TCP connections.

Small on purpose: an asyncio protocol around httptools' parser. What belongs to a whole client library (redirects,
cookies, compression) would have to be switched off here and costs several times the latency of a whole request.
Bodies of answers are streamed with back-pressure, so that an answer of any length takes a bounded buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools

CONNECT_TIMEOUT_S = 2.0
# uvicorn and others close a connection that has been idle for 5 s: leave those alone a little earlier.
IDLE_LIMIT_S = 4.0
BUFFER_BYTES = 256 << 10
HEADER_LIMIT_BYTES = 64 << 10

Headers = list[tuple[bytes, bytes]]


class UpstreamFailed(Exception):
    """The replica did not answer as HTTP asks. `message` is for the caller.

    `sent`: some of the request may have reached the replica. `unreachable`: no connection could be made.
    """

    def __init__(self, message: str, *, sent: bool, unreachable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.sent = sent
        self.unreachable = unreachable


@dataclass(slots=True)
class ResponseHead:
    status: int = 0
    headers: Headers = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time: `exchange()` gives the head, then `read()` until it gives b""."""

    def __init__(self) -> None:
        self.idle_since_s = 0.0
        self.finished = True  # the answer to the last request is complete
        self._keep_alive = True
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head = ResponseHead()
        self._head_bytes = 0
        self._head_waiter: asyncio.Future[ResponseHead] | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_waiter: asyncio.Future[None] | None = None
        self._failure: UpstreamFailed | None = None
        self._without_body = False
        self._until_end = False
        self._length_known = False
        self._paused = False

    # ---- what the gateway does -----------------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether a next request may be sent: nothing is left to come and nothing is left to go."""
        transport = self._transport
        return (
            self.finished
            and self._keep_alive
            and self._failure is None
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    async def exchange(self, head: bytes, body: bytes, *, without_body: bool) -> ResponseHead:
        """Send a request and wait for the head of its answer. `without_body`: it is a HEAD request.

        Raises UpstreamFailed.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise UpstreamFailed("the replica closed the connection", sent=False)
        self.finished = self._until_end = self._length_known = False
        self._without_body = without_body
        self._head, self._head_bytes = ResponseHead(), 0
        self._head_waiter = asyncio.get_running_loop().create_future()
        transport.write(head + body if len(body) <= BUFFER_BYTES else head)
        if len(body) > BUFFER_BYTES:
            transport.write(body)
        try:
            return await self._head_waiter
        finally:
            self._head_waiter = None

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end. Raises UpstreamFailed when it broke off."""
        while not self._body:
            if self.finished:
                return b""
            if self._failure is not None:
                raise self._failure
            self._body_waiter = asyncio.get_running_loop().create_future()
            try:
                await self._body_waiter
            finally:
                self._body_waiter = None
        piece = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._body_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ---- what the loop calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if self.finished:  # nobody asked: an answer too many would be taken for the next request's
            self._fail("the replica sent more than its answer")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the replica tried to switch protocols")
        except httptools.HttpParserError as error:
            self._fail(f"the replica's answer is not HTTP ({error})")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._until_end and exc is None and not self.finished:
            self._finish()
        self._fail("the replica closed the connection")

    # ---- what the parser calls -----------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEADER_LIMIT_BYTES:
            self._fail("the replica's headers are too large")
            return
        name = name.lower()
        if name == b"content-length" or (name == b"transfer-encoding" and b"chunked" in value.lower()):
            self._length_known = True
        self._head.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and the like come before the answer proper
            return
        self._head.status = status
        self._keep_alive = self._parser.should_keep_alive()
        bodiless = self._without_body or status in (204, 304)
        self._until_end = not self._length_known and not bodiless
        if self._without_body:
            # The parser cannot be told that this body will not come, so it cannot be used again.
            self._keep_alive = False
            self._finish()
        self._wake_head()

    def on_body(self, body: bytes) -> None:
        if self.finished:
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > BUFFER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake_body()

    def on_message_complete(self) -> None:
        if self._head.status == 0:  # the end of a 1xx; the answer proper follows
            self._head, self._head_bytes, self._length_known = ResponseHead(), 0, False
            return
        self._finish()

    # ---- ends ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.finished = True
        self._wake_body()

    def _fail(self, message: str) -> None:
        if self._failure is None:
            self._failure = UpstreamFailed(message, sent=True)
        if self._transport is not None:
            self._transport.abort()
        if self._head_waiter is not None and not self._head_waiter.done():
            self._head_waiter.set_exception(self._failure)
        self._wake_body()

    def _wake_head(self) -> None:
        if self._head_waiter is not None and not self._head_waiter.done():
            self._head_waiter.set_result(self._head)

    def _wake_body(self) -> None:
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)


class ConnectionPool:
    """The open connections to one replica at `host:port` (or `[v6]:port`)."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._host, self._port = host.strip("[]"), int(port)
        self._idle: list[Connection] = []
        self._closed = False

    async def checkout(self) -> Connection:
        """An idle connection, the warmest first, or a new one. Raises UpstreamFailed."""
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and loop.time() - connection.idle_since_s < IDLE_LIMIT_S:
                return connection
            connection.close()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(Connection, self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise UpstreamFailed("the replica cannot be reached", sent=False, unreachable=True) from error
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next request if it can be used again, else close it."""
        if self._closed or not connection.reusable:
            connection.close()
            return
        connection.idle_since_s = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def close(self) -> None:
        """Idle connections go now, those in use when they are given back."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()


# Headers that belong to one connection (RFC 9110, 7.6.1), and those that the gateway sets itself.
HOP_BY_HOP = frozenset(
    name.encode()
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


def end_to_end(headers: Sequence[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> Headers:
    """`headers` (names in lower case) without the hop-by-hop ones, those that Connection names, and `dropped`."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            named.update(part.strip().lower() for part in value.split(b","))
    return [
        (name, value) for name, value in headers if name not in HOP_BY_HOP and name not in dropped and name not in named
    ]
