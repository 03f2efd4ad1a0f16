"""One connection of a replica: bytes in, whole requests waiting, bytes out. HTTP/1.1 by httptools, answers by hand.

Nothing here blocks, and nothing here decides what is answered. Bodies are bounded as they arrive: each by itself, and
all together by the `BodyBudget`, so that no number of slow senders fills the memory.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque

import httptools

BODY_LIMIT_BYTES = 8 << 20
PENDING_LIMIT_BYTES = 64 << 20  # of all bodies together, read or being read
BODY_TIMEOUT_S = 30.0
DISCARD_LIMITS = 8  # a body of up to so many times the limit is read to its end, and dropped
RECEIVE_BYTES = 1 << 16
HEADER_BYTES = 64 << 10  # of one request, all together
PIPELINED = 16  # so many requests of a connection may wait behind the one that is being answered
HIGH_WATER_BYTES = 64 << 10  # a stream pauses while so much of it has not been taken by the caller

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Payload Too Large",
    415: b"Unsupported Media Type",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
RESEND = b"x-suanli-resend: safe\r\n"
RETRY = b"retry-after: 1\r\n"
CLOSE = b"connection: close\r\n"


class Refused(Exception):
    """An answer other than 200. `message` is for the caller. `close`: what else comes on the connection is not read."""

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.close = close

    def body(self) -> bytes:
        return json.dumps({"error": {"message": self.message}}).encode()


class BodyBudget:
    """How much the bodies that were read, or are being read, may hold together."""

    def __init__(self, each_bytes: int = BODY_LIMIT_BYTES, all_bytes: int = PENDING_LIMIT_BYTES) -> None:
        self.each_bytes = each_bytes
        self.free_bytes = all_bytes

    def too_large(self, *, close: bool) -> Refused:
        return Refused(413, f"the body is over the limit of {self.each_bytes} bytes", close=close)


class HttpRequest:
    """As it comes in. `refused`: what it will be answered, whatever else comes of it."""

    __slots__ = (
        "accept",
        "body",
        "chunks",
        "content_type",
        "deadline_s",
        "expects",
        "held_bytes",
        "keep_alive",
        "length",
        "method",
        "path",
        "priority",
        "refused",
        "secret",
        "size",
        "url",
    )

    def __init__(self) -> None:
        self.method = b""
        self.url = b""
        self.path = ""
        self.secret = b""
        self.content_type = ""
        self.accept = b""
        self.length: int | None = None
        self.deadline_s: float | None = None
        self.priority = 0
        self.expects = False
        self.keep_alive = True
        self.chunks: list[bytes] = []
        self.body = b""
        self.size = 0
        self.held_bytes = 0
        self.refused: Refused | None = None


class Connection:
    """`current` is the request that is being answered; `requests` those that wait behind it. `resend_safe`: whoever
    asks may ask again elsewhere when it is not answered."""

    def __init__(self, sock: socket.socket, poll: select.epoll, budget: BodyBudget, resend_safe: bool) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        self.current: HttpRequest | None = None
        self.requests: deque[HttpRequest] = deque()
        self.closed = False
        self.streaming = False
        self.reading_since_s: float | None = None  # time.monotonic() of the first byte of a request that is not whole
        self._resend = RESEND if resend_safe else b""
        self._poll = poll
        self._budget = budget
        self._parser = httptools.HttpRequestParser(self)
        self._reading: HttpRequest | None = None
        self._header_bytes = 0
        self._out = bytearray()
        self._deaf = False  # nothing more is read from it
        self._closing = False  # to be closed once all is written
        self._events = select.EPOLLIN
        poll.register(self.descriptor, self._events)

    # ---- in --------------------------------------------------------------------------------------------------------

    def receive(self) -> bool:
        """Read what is there. False: the caller has gone, and the connection is closed."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        if self._deaf:
            return True  # to nowhere
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break_off(Refused(400, "this server speaks HTTP/1.1 alone", close=True))
        except httptools.HttpParserError:
            self._break_off(Refused(400, "this is no HTTP/1.1 request", close=True))
        self.reading_since_s = None if self._reading is None else (self.reading_since_s or time.monotonic())
        if len(self.requests) >= PIPELINED:
            self._watch(self._events & ~select.EPOLLIN)
        return True

    def next_request(self) -> HttpRequest | None:
        """The next one to be answered, once the one before has been."""
        if self.current is not None or not self.requests:
            return None
        self.current = self.requests.popleft()
        if not self._events & select.EPOLLIN:
            self._watch(self._events | select.EPOLLIN)
        return self.current

    @property
    def idle(self) -> bool:
        return self.current is None and not self.requests and self._reading is None and not self._out

    def give_up_reading(self, refused: Refused) -> None:
        """What has come of a request is answered with this, and nothing more is read."""
        if self._reading is not None:
            self._break_off(refused)

    def _break_off(self, refused: Refused) -> None:
        request = self._reading or HttpRequest()
        request.refused = refused
        request.chunks = []
        self._deaf = True
        self._reading = None
        self.reading_since_s = None
        self.requests.append(request)

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        self._reading = None if self._deaf else HttpRequest()
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self._reading is not None:
            self._reading.url += url
            self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._reading
        if request is None:
            return
        self._count_header(len(name) + len(value))
        match name.lower():
            case b"x-suanli-replica-secret":
                request.secret = value
            case b"content-length":
                request.length = int(value)  # the parser has checked that it is a number
            case b"content-type":
                request.content_type = value.decode("latin-1")
            case b"accept":
                request.accept = value
            case b"expect":
                request.expects = value.lower() == b"100-continue"
            case b"x-suanli-priority":
                if value.isdigit() and len(value) <= 12:
                    request.priority = int(value)
            case b"x-suanli-timeout-ms":
                if value.isdigit() and len(value) < 12:
                    request.deadline_s = time.monotonic() + int(value) / 1e3
            case _:
                pass

    def _count_header(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > HEADER_BYTES:
            raise ValueError("headers are too long")  # the parser stops, and says so by an error of its own

    def on_headers_complete(self) -> None:
        request, budget = self._reading, self._budget
        if request is None:
            return
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive()
        request.path = request.url.partition(b"?")[0].decode("latin-1")
        if request.length is None and request.method in (b"GET", b"HEAD"):
            return
        # A body of unknown length is counted at the limit.
        held_bytes = budget.each_bytes if request.length is None else request.length
        if held_bytes > budget.each_bytes:
            # A caller that sends all before it reads would never see the answer if its connection were cut: what is
            # not too much is let through to nowhere.
            request.refused = budget.too_large(close=held_bytes > DISCARD_LIMITS * budget.each_bytes)
        elif held_bytes > budget.free_bytes:
            request.refused = Refused(503, "too many large requests wait for this replica")
        else:
            budget.free_bytes -= held_bytes
            request.held_bytes = held_bytes
            if request.expects:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.refused is not None and request.refused.close:
            self._break_off(request.refused)

    def on_body(self, body: bytes) -> None:
        request = self._reading
        if request is None or request.refused is not None:
            return
        request.size += len(body)
        if request.size > self._budget.each_bytes:
            self._break_off(self._budget.too_large(close=True))
            return
        request.chunks.append(body)

    def on_message_complete(self) -> None:
        request = self._reading
        if request is None:
            return
        request.body = request.chunks[0] if len(request.chunks) == 1 else b"".join(request.chunks)
        request.chunks = []
        self._reading = None
        self.requests.append(request)

    # ---- out -------------------------------------------------------------------------------------------------------

    def answer(self, status: int, media_type: str, body: bytes, *, close: bool) -> None:
        """The whole answer to `current`, which it ends."""
        request = self.current
        assert request is not None
        close = close or not request.keep_alive or self._deaf
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
            status,
            REASONS.get(status, b"Answer"),
            media_type.encode("latin-1"),
            len(body),
            self._resend,
            RETRY if status == 503 else b"",
            CLOSE if close else b"",
        )
        self._closing = close
        self.done_with_current()
        self.send(head if request.method == b"HEAD" else head + body)

    def begin_stream(self, media_type: str, *, close: bool) -> None:
        """The head of an answer whose body comes piece by piece; `end_stream` ends it."""
        assert self.current is not None
        self._closing = False
        self.streaming = True
        if close:
            self.current.keep_alive = False
        self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\ncache-control: no-store\r\n%b\r\n"
            % (media_type.encode("latin-1"), b"" if self.current.keep_alive else CLOSE)
        )

    def send_piece(self, piece: bytes) -> None:
        if piece:  # an empty chunk would end the body
            self.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end_stream(self, *, whole: bool) -> None:
        """Not `whole`: broken off, which the caller sees by the missing last chunk."""
        request = self.current
        assert request is not None
        self.streaming = False
        self._closing = not whole or not request.keep_alive or self._deaf
        self.done_with_current()
        self.send(b"0\r\n\r\n" if whole else b"")

    def done_with_current(self) -> None:
        if self.current is not None:
            self._budget.free_bytes += self.current.held_bytes
            self.current.held_bytes = 0
            self.current = None

    @property
    def unsent_bytes(self) -> int:
        return len(self._out)

    def send(self, data: bytes) -> None:
        if self.closed:
            return
        if not self._out:
            try:
                sent = self.sock.send(data) if data else 0
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == len(data):
                if self._closing and self.current is None:
                    self.close()
                return
            data = data[sent:]
        self._out += data
        self._watch(self._events | select.EPOLLOUT)

    def flush(self) -> None:
        """The caller takes more."""
        if self._out and not self.closed:
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            del self._out[:sent]
        if not self._out and not self.closed:
            self._watch(self._events & ~select.EPOLLOUT)
            if self._closing and self.current is None:
                self.close()

    def _watch(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._poll.modify(self.descriptor, events)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for request in (self._reading, *self.requests):
            if request is not None:
                self._budget.free_bytes += request.held_bytes
                request.held_bytes = 0
        self.requests.clear()
        self._reading = None
        self.reading_since_s = None
        self.done_with_current()
        self._poll.unregister(self.descriptor)
        self.sock.close()
