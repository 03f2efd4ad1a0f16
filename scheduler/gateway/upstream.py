"""How does a request reach a replica? An HTTP/1.1 client of one exchange at a time over kept-open connections.

Small on purpose: an asyncio protocol that tells a listener, by plain calls, what came. What belongs to a whole client
library (redirects, cookies, compression) would have to be switched off here and costs several times the latency of a
whole request. An answer of a known length that is here with its head goes on as it is; any other goes through
httptools' parser and is streamed with back-pressure, so that an answer of any length takes a bounded buffer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from scheduler.gateway.answer_heads import HEADER_LIMIT_BYTES, AnswerHead, plain_head
from scheduler.gateway.sockets import connect

# uvicorn and others close a connection that has been idle for 5 s: leave those alone a little earlier.
IDLE_LIMIT_S = 4.0
BUFFER_BYTES = 256 << 10


class UpstreamFailed(Exception):
    """The replica did not answer as HTTP asks. `message` is for the caller.

    `sent`: some of the request may have reached the replica. `unreachable`: no connection could be made.
    """

    def __init__(self, message: str, *, sent: bool, unreachable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.sent = sent
        self.unreachable = unreachable


class Listener(Protocol):
    """Told one of three things, once, of the request that it sent."""

    def answered(self, head: AnswerHead, body: bytes) -> None:
        """That is the whole answer. The connection may be used again."""
        ...

    def began(self, head: AnswerHead) -> None:
        """The body follows: `Connection.read()` it."""
        ...

    def failed(self, failure: UpstreamFailed) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time. `on_lost` is called when it is gone while nobody used it."""

    def __init__(self, on_lost: Callable[[Connection], None] | None = None) -> None:
        self.idle_since_s = 0.0
        self.finished = True  # the answer to the last request is complete
        self._on_lost = on_lost
        self._keep_alive = True
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._text = b""  # of a head that has not come to its end
        self._parser: httptools.HttpResponseParser | None = None
        self._head = AnswerHead()
        self._head_bytes = 0
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
    def sound(self) -> bool:
        return self._failure is None

    @property
    def reusable(self) -> bool:
        """Whether a next request may be sent: nothing is left to come, to be read or to go."""
        transport = self._transport
        return (
            self.finished
            and not self._body
            and self._keep_alive
            and self._failure is None
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def send(self, head: bytes, body: bytes, listener: Listener, *, without_body: bool = False) -> None:
        """Send a request; the listener hears of the answer. `without_body`: it is a HEAD request."""
        transport = self._transport
        if transport is None or transport.is_closing():
            listener.failed(UpstreamFailed("the replica closed the connection", sent=False))
            return
        self.finished = False
        self._without_body = without_body
        self._listener = listener
        if len(body) <= BUFFER_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    async def exchange(self, head: bytes, body: bytes, *, without_body: bool) -> AnswerHead:
        """As `send`, for who can wait: the head, and then `read()` until it gives b"". Raises UpstreamFailed."""
        waits = _Waits(self, asyncio.get_running_loop().create_future())
        self.send(head, body, waits, without_body=without_body)
        return await waits.head

    def keep(self, body: bytes) -> None:
        """For a later `read()`."""
        self._body.append(body)

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

    def abandon(self) -> None:
        """Nobody waits for its answer any more."""
        self._listener = None
        self.close()

    def close(self) -> None:
        self._on_lost = None
        if self._transport is not None:
            self._transport.abort()

    # ---- what the loop calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        listener = self._listener
        if self._parser is not None:
            self._parse(data)
            return
        if listener is None:  # nobody asked: an answer too many would be taken for the next request's
            self._fail("the replica sent more than its answer")
            return
        if self._text:
            data = self._text + data
            self._text = b""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > HEADER_LIMIT_BYTES:
                self._fail("the replica's headers are too large")
            elif data[:5] != b"HTTP/"[: len(data)]:
                self._fail("the replica's answer is not HTTP")
            else:
                self._text = data
            return
        head = None if self._without_body or end > HEADER_LIMIT_BYTES else plain_head(data[:end])
        if head is None or end + head.length > len(data):
            self._begin(data)
            return
        if end + head.length < len(data):
            self._fail("the replica sent more than its answer")
            return
        self.finished = True
        self._listener = None
        self._keep_alive = head.keep_alive
        listener.answered(head, data[end:])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._until_end and exc is None and not self.finished:
            self._finish()
        self._fail("the replica closed the connection")
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self)

    # ---- answers of several pieces -------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> None:
        self._until_end = self._length_known = False
        self._head, self._head_bytes = AnswerHead(), 0
        self._parser = httptools.HttpResponseParser(self)
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self.finished:
            self._fail("the replica sent more than its answer")
            return
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the replica tried to switch protocols")
        except httptools.HttpParserError as error:
            self._fail(f"the replica's answer is not HTTP ({error})")

    def on_message_begin(self) -> None:
        if self.finished:
            self._fail("the replica sent more than its answer")

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
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200 or self._failure is not None:  # 100 Continue and the like come before the answer proper
            return
        self._head.status = status
        self._head.complete()
        self._keep_alive = self._parser.should_keep_alive()
        bodiless = self._without_body or status in (204, 304)
        self._until_end = not self._length_known and not bodiless
        if self._without_body:
            # The parser cannot be told that this body will not come, so it cannot be used again.
            self._keep_alive = False
            self._finish()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.began(self._head)

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
            self._head, self._head_bytes, self._length_known = AnswerHead(), 0, False
            return
        self._finish()

    # ---- ends ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.finished = True
        self._wake_body()

    def reset(self) -> None:
        """Before it is used again: the next answer is looked at anew."""
        self._parser = None

    def _fail(self, message: str) -> None:
        if self._failure is None:
            self._failure = UpstreamFailed(message, sent=True)
        if self._transport is not None:
            self._transport.abort()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.failed(self._failure)
        self._wake_body()

    def _wake_body(self) -> None:
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)


class _Waits:
    """A listener whose news are awaited."""

    def __init__(self, connection: Connection, head: asyncio.Future[AnswerHead]) -> None:
        self._connection = connection
        self.head = head

    def answered(self, head: AnswerHead, body: bytes) -> None:
        if body:
            self._connection.keep(body)
        self.began(head)

    def began(self, head: AnswerHead) -> None:
        if not self.head.done():
            self.head.set_result(head)

    def failed(self, failure: UpstreamFailed) -> None:
        if not self.head.done():
            self.head.set_exception(failure)


class ConnectionPool:
    """The open connections to one replica at `host:port` (or `[v6]:port`), or at a Unix socket of this machine where
    `unix_path` names one that can be used."""

    def __init__(self, address: str, unix_path: str | None = None) -> None:
        self.address = address
        self._unix_path = unix_path
        self._idle: list[Connection] = []
        self._on_lost: Callable[[], None] = lambda: None
        self.closed = False

    def when_lost(self, on_lost: Callable[[], None]) -> None:
        """To be called when an open connection broke while nobody used it."""
        self._on_lost = on_lost

    def take(self) -> Connection | None:
        """An idle connection, the warmest first, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            # It was fit for use when it was given back: only a failure can have come since.
            if connection.sound and time.monotonic() - connection.idle_since_s < IDLE_LIMIT_S:
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """A new one. Raises UpstreamFailed."""
        try:
            return await connect(lambda: Connection(self._lost), self.address, self._unix_path)
        except (OSError, TimeoutError) as error:
            raise UpstreamFailed("the replica cannot be reached", sent=False, unreachable=True) from error

    async def checkout(self) -> Connection:
        """An idle connection or a new one. Raises UpstreamFailed."""
        return self.take() or await self.connect()

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next request if it can be used again, else close it."""
        if self.closed or not connection.reusable:
            connection.close()
            return
        connection.reset()
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def close(self) -> None:
        """Idle connections go now, those in use when they are given back."""
        self.closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
            self._on_lost()
