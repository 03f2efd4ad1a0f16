"""The short way of a request: whole, small and plain ones go from one connection to another without a task.

uvicorn's own protocol does everything; this one, in its place (`http=` of its configuration), looks at what has arrived
first. A request that is here as a whole, of HTTP/1.1 and to a service, is sent on in the same call, and its answer goes
back in the call in which it came. Whatever is not like that (a body that is still coming, chunks, HEAD, an upgrade, the
gateway's own doors, every error of the caller) is left to uvicorn and the ASGI application, byte for byte.

Depends on what uvicorn 0.54's HttpToolsProtocol keeps: `flow`, `cycle`, `server_state`, `_unset_keepalive_if_required`.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scheduler.errors import BadInput
from scheduler.gateway.answer_heads import STATUS_LINES, AnswerHead, joined
from scheduler.gateway.asgi import error_body
from scheduler.gateway.fast_request import FastPath, FastRequest
from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.requests import Refusal

HEAD_TIMEOUT_S = 10.0
BACKLOG_BYTES = 64 << 10  # of requests that came before the answer to the one before them


class Relay:
    """Writes an answer whose end is not known yet to the caller, as it comes; waits while the caller is slow."""

    def __init__(self, protocol: GatewayProtocol, head: AnswerHead, replica: ReplicaState) -> None:
        self._protocol = protocol
        self.begun = False
        self._chunked = head.unsized
        tail = replica.answer_tail + (b"transfer-encoding: chunked\r\n" if self._chunked else b"")
        self._head: bytes | None = protocol.head_of(head.relayed, tail)

    async def write(self, piece: bytes, *, last: bool) -> None:
        parts = []
        if self._head is not None:
            parts.append(self._head)
            self._head = None
        if not self._chunked:
            parts.append(piece)
        else:
            if piece:
                parts += (b"%x\r\n" % len(piece), piece, b"\r\n")
            if last:
                parts.append(b"0\r\n\r\n")
        self.begun = True
        if self._protocol.flow.write_paused:
            await self._protocol.flow.drain()
        if not self._protocol.transport.is_closing():
            self._protocol.transport.write(b"".join(parts))


class GatewayProtocol(HttpToolsProtocol):
    """One caller's connection. `path` is set on the class that `protocol_for` makes."""

    path: FastPath

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._request: FastRequest | None = None
        self._backlog = b""
        self._paused = False
        self._ends = False
        self._in_message = False  # uvicorn's parser is in the middle of one
        self._used_s = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None

    # ---- what the loop calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._used_s = time.monotonic()
        self._watch_idle(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        if self._request is not None or self._backlog:
            self._backlog += data
            if len(self._backlog) > BACKLOG_BYTES and not self._paused:
                self._paused = True
                self.transport.pause_reading()
            return
        cycle = self.cycle
        if self._in_message or (cycle is not None and not cycle.response_complete) or self.flow.write_paused:
            super().data_received(data)
            return
        body_at = data.find(b"\r\n\r\n") + 4
        if body_at >= 4:
            now_s = time.monotonic()
            head = self.path.heads.get(data[:body_at], now_s)
            if head is not None:
                end = body_at + head.length
                if len(data) >= end:
                    if len(data) > end:
                        self._backlog = data[end:]
                    self._unset_keepalive_if_required()
                    self._used_s = now_s
                    request = self._request = FastRequest(self.path, self, head, data[body_at:end], now_s)
                    request.begin(now_s)
                    return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        request, self._request = self._request, None
        self._backlog = b""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._forget_head_timer()
        super().connection_lost(exc)
        if request is not None:
            request.caller_gone()

    def shutdown(self) -> None:
        if self._request is not None:
            self._ends = True
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        self._in_message = True
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._end_half_sent)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._forget_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._used_s = time.monotonic()
        super().on_response_complete()

    # ---- what a request calls ------------------------------------------------------------------------------------

    def head_of(self, relayed: bytes, more: bytes) -> bytes:
        """A head, to its end."""
        closing = b"connection: close\r\n" if self._ends else b""
        return b"%b%b%b%b\r\n" % (relayed, self._date(), more, closing)

    def write_answer(self, relayed: bytes, more: bytes, body: bytes) -> None:
        if self._ends:
            self.transport.write(self.head_of(relayed, more) + body)
        else:
            self.transport.write(b"%b%b%b\r\n%b" % (relayed, self._date(), more, body))

    def _date(self) -> bytes:
        """uvicorn makes its headers anew every second."""
        headers = self.server_state.default_headers
        path = self.path
        if headers is not path.default_headers:
            path.default_headers = headers
            path.default_lines = joined(headers)
        return path.default_lines

    def write_refusal(self, refusal: Refusal) -> None:
        body = json.dumps(error_body(refusal.error)).encode()
        more = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        if refusal.status in (429, 503):
            more += b"retry-after: %d\r\n" % refusal.retry_after_s
        if refusal.close:
            self._ends = True
        self.write_answer(STATUS_LINES[refusal.status], more, body)

    def relay(self, head: AnswerHead, replica: ReplicaState) -> Relay:
        return Relay(self, head, replica)

    def next_one(self) -> None:
        """The answer has been written: what came meanwhile is looked at."""
        self._request = None
        self._used_s = time.monotonic()
        if self._ends:
            self.transport.close()
        elif self._backlog:
            self.loop.call_soon(self._go_on)

    def break_off(self) -> None:
        """The answer cannot be finished: the caller learns it from the end of the connection."""
        self._request = None
        self.transport.close()

    def _go_on(self) -> None:
        if self._request is not None or self.transport.is_closing():
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        waiting, self._backlog = self._backlog, b""
        if waiting:
            self.data_received(waiting)

    def _forget_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_half_sent(self) -> None:
        """A head that does not come to its end would hold the connection for ever."""
        self._head_timer = None
        if not self.transport.is_closing():
            error = BadInput(f"the request's head did not arrive within {HEAD_TIMEOUT_S:.0f} s")
            self.write_refusal(Refusal("slow head", error, 408, close=True))
            self.transport.close()

    def _watch_idle(self, in_s: float) -> None:
        self._idle_timer = self.loop.call_later(in_s, self._end_if_idle)

    def _end_if_idle(self) -> None:
        """One timer for a connection instead of one for every request."""
        left_s = self._used_s + self.timeout_keep_alive - time.monotonic()
        busy = self._request is not None or (self.cycle is not None and not self.cycle.response_complete)
        if busy or self._in_message:
            self._watch_idle(self.timeout_keep_alive)
        elif left_s > 0.01:
            self._watch_idle(left_s)
        elif not self.transport.is_closing():
            self.transport.close()


def protocol_for(path: FastPath) -> type[GatewayProtocol]:
    return type("GatewayProtocol", (GatewayProtocol,), {"path": path})
