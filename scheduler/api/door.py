"""Who comes in, and with how much: tokens, the size of bodies, and what leaves when something breaks.

This stands before routing, so a path that nobody thought of needs a token too, and a body is read only for a caller
who showed one.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scheduler.api.answers import failure, failure_of
from scheduler.errors import Overloaded, SuanliError, Unauthenticated, Unavailable
from scheduler.ports import Principal

MAX_BODY_BYTES = 1024 * 1024
# As many jobs as may be submitted at once (models.SubmitRequest), of some 1,600 bytes each.
MAX_SUBMISSION_BYTES = 16 * 1024 * 1024
# Of bodies beyond MAX_BODY_BYTES so much may be held at one time.
MAX_LARGE_BODIES_BYTES = 4 * MAX_SUBMISSION_BYTES
# Beside submissions: flags of as many devices as may be flagged (health_routes.FlagsRequest).
LARGE = frozenset({("POST", "/v1/jobs"), ("POST", "/v1/health/flags")})
BODY_TIMEOUT_S = 30.0
OPEN_PATHS = frozenset({"/v1/health", "/docs", "/openapi.json"})
VERSION_HEADER = "X-Suanli-Version"  # so that a command of another version can say why it does not understand
PRINCIPAL = "suanli.principal"  # the key in the ASGI scope

log = logging.getLogger("suanli.api")


class Door:
    """ASGI middleware. `principal_of` is TokenTable.principal; `version` is told to who was let in."""

    def __init__(self, app: ASGIApp, *, principal_of: Callable[[str], Principal | None], version: str = "") -> None:
        self._app = app
        self._version = version
        self._principal_of = principal_of
        self._large_bytes = 0  # what the large bodies hold that are here now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Cache-Control"] = "no-store"
                if self._version and PRINCIPAL in scope:
                    headers[VERSION_HEADER] = self._version
            await send(message)

        try:
            await self._enter(scope, receive, guarded_send)
        except Exception as error:
            if started:  # the answer cannot be taken back; the server closes the connection
                raise
            if isinstance(error, SuanliError):
                await failure_of(error)(scope, receive, guarded_send)
                return
            incident = secrets.token_hex(4)
            log.exception("internal error, id %s: %s %s", incident, scope["method"], scope["path"])
            message = f"internal error, see the service log, id {incident}"
            await failure(500, message, word="internal")(scope, receive, guarded_send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope[PRINCIPAL] = self._authenticated(headers)
        limit = MAX_SUBMISSION_BYTES if (scope["method"], scope["path"]) in LARGE else MAX_BODY_BYTES
        with self._large_body() as may_be_large:
            body = await _whole_body(headers, receive, limit, may_be_large)
            if isinstance(body, bytes):
                await self._app(scope, _replay(body, receive), send)
            elif body == "gone":
                return
            elif body == "too_large":
                message = f"the request body is larger than {limit} bytes; send less at a time"
                await failure(413, message, word="too_large")(scope, receive, send)
            else:
                message = f"the request body did not arrive within {BODY_TIMEOUT_S:.0f} s"
                await failure(408, message, word="timeout")(scope, receive, send)

    @contextmanager
    def _large_body(self) -> Iterator[Callable[[], None]]:
        """What it gives is to be called, once, when a body turns out to be large; it raises Overloaded where too many
        are here already. The place is given back when the request has been answered."""
        held = 0

        def hold() -> None:
            nonlocal held
            if self._large_bytes + MAX_SUBMISSION_BYTES > MAX_LARGE_BODIES_BYTES:
                raise Overloaded("too many large submissions at this moment; try again in a second")
            held = MAX_SUBMISSION_BYTES
            self._large_bytes += held

        try:
            yield hold
        finally:
            self._large_bytes -= held

    def _authenticated(self, headers: Headers) -> Principal:
        shown = headers.getlist("authorization")
        if not shown:
            raise Unauthenticated("this needs a token: send `Authorization: Bearer TOKEN` (the CLI reads client.json)")
        scheme, _, token = shown[0].partition(" ")
        if len(shown) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("one header `Authorization: Bearer TOKEN` is expected")
        try:
            principal = self._principal_of(token.strip())
        except SuanliError as error:
            # Paths and modes are the operator's business, not that of a stranger at the door.
            log.error("tokens cannot be read: %s", error.message)
            raise Unavailable("the service cannot read its token file now; its log says why") from error
        if principal is None:
            raise Unauthenticated("the token is not known here: it may have been revoked, or belong to another site")
        return principal


async def _whole_body(headers: Headers, receive: Receive, limit: int, may_be_large: Callable[[], None]) -> bytes | str:
    """The body, or why there is none: too_large, late, gone. Counts what arrives, whatever the headers promised."""
    promised = headers.get("content-length", "0")
    if not promised.isdecimal() or int(promised) > limit:
        return "too_large"
    large = int(promised) > MAX_BODY_BYTES
    if large:
        may_be_large()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return "gone"
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    return "too_large"
                if size > MAX_BODY_BYTES and not large:
                    large = True
                    may_be_large()
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        return "late"


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out the body once, then what the connection says (that the client went away)."""
    pending = True

    async def replayed() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
