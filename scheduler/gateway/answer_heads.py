"""What does the head of a replica's answer say, and how does it go on to the caller? Each is parsed once.

The heads of a service's answers are nearly always the same bytes, so that a look-up replaces the parser: what was
parsed is kept under the bytes it came from. Only answers of a known length are `plain`; everything else (chunks, until
the end of the connection, 1xx) is for the parser (upstream.py).
"""

from __future__ import annotations

import http
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools

HEADER_LIMIT_BYTES = 64 << 10
REMEMBERED = 2048
REMEMBERED_BYTES = 4 << 10

Headers = list[tuple[bytes, bytes]]

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
NOT_PASSED_BACK = frozenset((b"date", b"server", b"x-suanli-resend", b"x-suanli-replica", b"x-suanli-simulated"))


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 1000)}


def end_to_end(headers: Sequence[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> Headers:
    """`headers` (names in lower case) without the hop-by-hop ones, those that Connection names, and `dropped`."""
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            named.update(part.strip().lower() for part in value.split(b","))
    return [
        (name, value) for name, value in headers if name not in HOP_BY_HOP and name not in dropped and name not in named
    ]


def joined(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


@dataclass(slots=True)
class AnswerHead:
    """`passed_on`: the headers that the caller is to see. `length` is that of a plain answer's body."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    plain: bool = False
    length: int = 0
    keep_alive: bool = True
    resend_safe: bool = False
    passed_on: Headers = field(default_factory=list)
    relayed: bytes = b""  # status line and headers as they go to the caller, to be followed by more headers

    @property
    def unsized(self) -> bool:
        """Whether nobody knows yet how long the body is."""
        return self.status not in (204, 304) and not any(name == b"content-length" for name, _ in self.headers)

    def complete(self) -> None:
        """The headers are all here."""
        self.passed_on = end_to_end(self.headers, NOT_PASSED_BACK)
        self.resend_safe = (b"x-suanli-resend", b"safe") in self.headers
        self.relayed = STATUS_LINES[self.status] + joined(self.passed_on)


class _Reader:
    """What httptools calls."""

    def __init__(self) -> None:
        self.headers: Headers = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


_remembered: dict[bytes, AnswerHead] = {}


def plain_head(text: bytes) -> AnswerHead | None:
    """The head (with its empty line) of an answer whose body has a length; None for every other one."""
    known = _remembered.get(text)
    if known is not None:
        return known
    reader = _Reader()
    parser = httptools.HttpResponseParser(reader)
    try:
        parser.feed_data(text)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    status = parser.get_status_code() if reader.complete else 0
    lengths = [value for name, value in reader.headers if name == b"content-length"]
    if status < 200 or status == 304 or any(name == b"transfer-encoding" for name, _ in reader.headers):
        return None
    if status == 204:
        length = 0
    elif len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < 16:
        length = int(lengths[0])
    else:
        return None
    head = AnswerHead(status, reader.headers, True, length, parser.should_keep_alive())
    head.complete()
    if len(text) <= REMEMBERED_BYTES:
        if len(_remembered) >= REMEMBERED:
            _remembered.clear()
        _remembered[text] = head
    return head
