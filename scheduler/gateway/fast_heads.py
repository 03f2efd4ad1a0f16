"""Which requests may take the short way (fast.py), and what do they ask for? A request's head, understood once.

Requests of one connection have nearly always the same head: what was understood of one is kept under its bytes, with
whom its token stands for, for `FRESH_S` (a token that was revoked is refused that much later at most). Whatever is
unusual, and every head that is to be refused, is not for the short way.
"""

from __future__ import annotations

from typing import Protocol

import httptools

from scheduler.errors import SuanliError
from scheduler.gateway.answer_heads import Headers
from scheduler.gateway.requests import DEFAULT_TIMEOUT_S, Asked, Refusal, has_length, understand
from scheduler.gateway.versions import Service

FRESH_S = 0.05
REMEMBERED = 4096
REMEMBERED_BYTES = 4 << 10
SMALL_BODY_BYTES = 256 << 10


class Directory(Protocol):
    """Who may call what, and where it is."""

    def service_of(self, token: bytes | None, host: bytes, path: bytes) -> tuple[Service, bytes]:
        """The service and the path there. Raises SuanliError."""
        ...


class FastHead:
    """A head that may take the short way. `service` and `bucket` are right until `fresh_until_s`."""

    __slots__ = (
        "asked",
        "forwarded",
        "fresh_until_s",
        "host",
        "length",
        "path",
        "priority",
        "service",
        "timeout_s",
        "token",
    )

    def __init__(self, asked: Asked, length: int, token: bytes, host: bytes, path: bytes) -> None:
        self.asked = asked
        self.length = length
        self.token = token
        self.host = host
        self.path = path
        self.timeout_s = asked.timeout_s or DEFAULT_TIMEOUT_S
        self.forwarded = b""
        self.fresh_until_s = 0.0
        self.priority = 0
        self.service: Service

    def turn_to(self, priority: int) -> None:
        if priority != self.priority or not self.forwarded:
            self.priority = priority
            self.forwarded = self.asked.head_for(priority)
            if has_length(self.asked.method, self.length):
                self.forwarded += b"content-length: %d\r\n" % self.length


class _Reader:
    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


class FastHeads:
    """What was understood of heads, for all connections of a gateway."""

    def __init__(self, directory: Directory, body_limit_bytes: int) -> None:
        self._directory = directory
        self._body_limit_bytes = min(SMALL_BODY_BYTES, body_limit_bytes)
        self._known: dict[bytes, FastHead] = {}

    def get(self, text: bytes, now_s: float) -> FastHead | None:
        """None: not for the short way. `text` is a head with its empty line."""
        head = self._known.get(text)
        if head is None:
            head = self._read(text)
            if head is None:
                return None
        elif now_s < head.fresh_until_s:
            return head
        try:
            head.service, _ = self._directory.service_of(head.token, head.host, head.path)
        except SuanliError:
            self._known.pop(text, None)
            return None
        head.turn_to(head.asked.priority_at(head.service))
        head.fresh_until_s = now_s + FRESH_S
        if len(text) <= REMEMBERED_BYTES:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[text] = head
        return head

    def forget(self) -> None:
        """The routing table changed."""
        self._known.clear()

    def _read(self, text: bytes) -> FastHead | None:
        reader = _Reader()
        parser = httptools.HttpRequestParser(reader)
        try:
            parser.feed_data(text)
            if (
                not reader.complete
                or parser.get_http_version() != "1.1"
                or not parser.should_keep_alive()
                or parser.should_upgrade()
            ):
                return None
            path = httptools.parse_url(reader.url)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, httptools.HttpParserInvalidURLError):
            return None
        method = parser.get_method().decode("ascii")
        if method in ("HEAD", "CONNECT") or path.path is None:
            return None
        token = host = b""
        for name, value in reader.headers:
            if name in (b"transfer-encoding", b"expect", b"upgrade"):
                return None
            if name == b"authorization":
                scheme, _, given = value.partition(b" ")
                if token or scheme.lower() != b"bearer":
                    return None
                token = given.strip()
            elif name == b"host":
                if host:
                    return None
                host = value
        try:
            _, target = self._directory.service_of(token, host, path.path)
            if path.query:
                target += b"?" + path.query
            asked = understand(method, target, reader.headers)
        except (SuanliError, Refusal):
            return None
        if asked.length is None or asked.length > self._body_limit_bytes:
            return None
        return FastHead(asked, asked.length, token, host, path.path)
