"""The few words of ASGI and HTTP that the gateway's parts share: bearer tokens, bounded bodies, answers in JSON."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from scheduler.errors import SuanliError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BodyTooLarge(Exception):
    """More bytes came than the limit allows."""


class CallerGone(Exception):
    """The connection to the caller is closed: nobody hears an answer."""


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body of a request. Raises BodyTooLarge or CallerGone; the time that it may take is the caller's."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def bearer(scope: Message) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = bytes(value).partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else None
    return None


def header(scope: Message, name: str) -> str | None:
    """The first of that name."""
    wanted = name.lower().encode()
    return next((bytes(value).decode("latin-1") for found, value in scope["headers"] if found == wanted), None)


async def send_json(send: Send, status: int, answer: object, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    body = json.dumps(answer).encode()
    standard = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*standard, *headers]})
    await send({"type": "http.response.body", "body": body})


def error_body(error: SuanliError) -> dict[str, object]:
    return {"error": {"message": error.message, "field": error.field, "type": type(error).__name__}}


async def send_error(
    send: Send, error: SuanliError, status: int | None = None, *, close: bool = False, retry_after_s: int = 1
) -> None:
    """`error` as JSON. `close`: the request's body was not read to its end, so the connection cannot be used again."""
    status = status or error.http_status
    headers = []
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (429, 503):
        headers.append((b"retry-after", b"%d" % retry_after_s))
    if close:
        headers.append((b"connection", b"close"))
    await send_json(send, status, error_body(error), headers)


async def send_text(send: Send, status: int, text: str, content_type: str) -> None:
    body = text.encode()
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
