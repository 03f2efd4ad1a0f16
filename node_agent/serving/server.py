"""What does a replica answer on its socket? An ASGI application around one model, and the server that runs it.

    POST /predict  {"inputs": [...]}  -> 200 {"outputs": [...]}, one output an input
    GET  /-/ready                     -> 200 {"ready": true}, 503 once it is stopping
    GET  /-/stats                     -> 200 counts, as JSON

Errors are {"error": {"message": ...}}: 400 not JSON or not of that form, 403 without the gateway's secret, 404, 405,
413 body over the limit, 500 the model failed (one line, never a stack trace), 503 too many waiting or stopping.
Every answer carries `X-Suanli-Resend: safe`: predict may be asked twice (batches are retried call by call), so the
gateway may send a request again to another replica when this one dies before it answers.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import uvicorn

from node_agent.serving.batching import Batcher, PredictFailed, Stopped, TooManyWaiting, one_line

BODY_LIMIT_BYTES = 8 << 20
PENDING_LIMIT_BYTES = 64 << 20  # of all bodies together, read or being read
BODY_TIMEOUT_S = 30.0
DISCARD_LIMITS = 8  # a body of up to so many times the limit is read to its end, and dropped
# How long a stopping replica still answers on open connections, telling each to close: what was already on its way
# from a gateway arrives in this time.
LINGER_S = 0.2

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """An answer other than 200. `message` is for the caller. `close`: what else comes on the connection is not read."""

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.close = close


def _plain(value: object) -> object:
    """Arrays and tensors as lists: what json cannot write by itself but says how to."""
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return to_list()
    raise TypeError(f"an output holds a {type(value).__name__}, which JSON cannot carry")


def _inputs(body: bytes) -> list[object]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {one_line(error)}") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("inputs"), list):
        raise Refused(400, 'the body must be {"inputs": [...]}')
    inputs: list[object] = parsed["inputs"]
    return inputs


class ReplicaApp:
    """The ASGI application. `secret` None: anybody who reaches the socket may ask (a developer's own machine)."""

    def __init__(self, batcher: Batcher, secret: str | None, *, body_limit_bytes: int = BODY_LIMIT_BYTES) -> None:
        self.stopping = False
        self._batcher = batcher
        self._secret = secret.encode() if secret is not None else None
        self._body_limit_bytes = body_limit_bytes
        self._pending_bytes = 0
        self._requests = 0
        self._answers: dict[int, int] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        self._requests += 1
        close = False
        try:
            status, body = 200, await self._answer(scope, receive)
        except Refused as refused:
            close = refused.close
            status, body = refused.status, json.dumps({"error": {"message": refused.message}}).encode()
        self._answers[status] = self._answers.get(status, 0) + 1
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-suanli-resend", b"safe"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        if close or self.stopping:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive) -> bytes:
        shown, length = b"", None
        for name, value in scope["headers"]:
            if name == b"x-suanli-replica-secret":
                shown = value
            elif name == b"content-length":
                length = int(value)  # the parser has checked that it is a number
        if self._secret is not None and not hmac.compare_digest(shown, self._secret):
            raise Refused(403, "X-Suanli-Replica-Secret is missing or wrong: ask through the gateway")
        path, method = scope["path"], scope["method"]
        if path == "/predict":
            if method != "POST":
                raise Refused(405, "use POST")
            return await self._predict(receive, length)
        if path not in ("/-/ready", "/-/stats"):
            raise Refused(404, f"no {path[:100]} here; a model answers POST /predict")
        if method not in ("GET", "HEAD"):
            raise Refused(405, "use GET")
        if path == "/-/stats":
            return json.dumps(self.stats()).encode()
        if self.stopping:
            raise Refused(503, "this replica is stopping")
        return b'{"ready": true}'

    def stats(self) -> dict[str, object]:
        """Counts since the start. `answers` by HTTP status."""
        return {
            "requests": self._requests,
            "answers": {str(status): count for status, count in sorted(self._answers.items())},
            "waiting": self._batcher.waiting,
            **asdict(self._batcher.counts),
        }

    async def _predict(self, receive: Receive, length: int | None) -> bytes:
        # A body of unknown length is counted at the limit, so that no number of slow senders fills the memory.
        held_bytes = self._body_limit_bytes if length is None else length
        if held_bytes > self._body_limit_bytes:
            # A caller that sends all before it reads would never see the answer if its connection were cut: what is
            # not too much is let through to nowhere.
            raise self._too_large(close=held_bytes > DISCARD_LIMITS * self._body_limit_bytes)
        if self._pending_bytes + held_bytes > PENDING_LIMIT_BYTES:
            raise Refused(503, "too many large requests wait for this replica")
        self._pending_bytes += held_bytes
        try:
            inputs = _inputs(await self._body(receive))
            if not inputs:
                return b'{"outputs": []}'
            outputs = await self._batcher.call(inputs)
        except PredictFailed as failed:
            raise Refused(500, f"the model failed: {failed}") from failed
        except TooManyWaiting as full:
            raise Refused(503, "too many requests wait for this replica") from full
        except Stopped as stopped:
            raise Refused(503, "this replica is stopping") from stopped
        finally:
            self._pending_bytes -= held_bytes
        try:
            return json.dumps({"outputs": outputs}, default=_plain, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise Refused(500, f"the model's outputs cannot be written as JSON: {one_line(error)}") from error

    async def _body(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the caller went away")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > self._body_limit_bytes:
                        raise self._too_large(close=True)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError as slow:
            raise Refused(408, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s", close=True) from slow

    def _too_large(self, *, close: bool) -> Refused:
        return Refused(413, f"the body is over the limit of {self._body_limit_bytes} bytes", close=close)


class ReplicaServer(uvicorn.Server):
    """uvicorn, which says when it listens and which a SIGTERM ends with exit code 0 after what is in flight."""

    def __init__(self, app: ReplicaApp, batcher: Batcher, on_listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_level="warning",
                server_header=False,
                # The gateway keeps connections open and is the one who closes them.
                timeout_keep_alive=3600,
            )
        )
        self._app = app
        self._batcher = batcher
        self._on_listening = on_listening

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """In place of uvicorn's, which ends the process by the signal again after a graceful stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self._app.stopping = True
        asyncio.get_running_loop().call_later(LINGER_S, setattr, self, "should_exit", True)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        await super().shutdown(sockets)
        await self._batcher.stop()
