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
from collections.abc import Callable, Coroutine
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scheduler.errors import BadInput
from scheduler.gateway.answer_heads import STATUS_LINES, AnswerHead
from scheduler.gateway.asgi import error_body
from scheduler.gateway.dispatch import STALL_S
from scheduler.gateway.fast_heads import FastHead, FastHeads
from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.requests import Refusal, refusal_of, too_fast, too_late
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull, Ticket, Version
from scheduler.gateway.upstream import Connection, UpstreamFailed

HEAD_TIMEOUT_S = 10.0
BACKLOG_BYTES = 64 << 10  # of requests that came before the answer to the one before them


class FastPath:
    """What the connections of one gateway share. `failed` is told of a replica that broke a request."""

    def __init__(self, heads: FastHeads, failed: Callable[[Version, ReplicaState], None]) -> None:
        self.heads = heads
        self.failed = failed
        self.active: set[FastRequest] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look(self, now_s: float) -> None:
        """Tell those whose deadline has come. To be called some fifty times a second."""
        for request in [one for one in self.active if one.until_s <= now_s]:
            request.overdue()


class FastRequest(Ticket):
    """A request on the short way; listens to the connection on which it was sent."""

    __slots__ = ("_body", "_connection", "_head", "_path", "_protocol", "_replica", "_retried", "_streams")

    def __init__(self, path: FastPath, protocol: GatewayProtocol, head: FastHead, body: bytes, now_s: float) -> None:
        Ticket.__init__(
            self, head.priority, now_s + head.timeout_s, now_s, deadline_named=head.asked.timeout_s is not None
        )
        self._path = path
        self._protocol: GatewayProtocol | None = protocol  # None once the caller has gone
        self._head = head
        self._body = body
        self._connection: Connection | None = None
        self._replica: ReplicaState | None = None
        self._retried = False
        self._streams = False

    # ---- its turn ------------------------------------------------------------------------------------------------

    def granted(self, replica: ReplicaState, now_s: float) -> None:
        self._replica = replica
        connection = replica.pool.take()
        if connection is not None:
            self._send(connection, now_s)
        else:
            self._path.start(self._connect(replica))

    def turned_away(self, why: Exception) -> None:
        self._refuse(refusal_of(why, self._head.service))

    async def _connect(self, replica: ReplicaState) -> None:
        try:
            connection = await replica.pool.connect()
        except UpstreamFailed as failure:
            if self._replica is replica:
                self.failed(failure)
            return
        if self._replica is replica and self._connection is None:
            self._send(connection, time.monotonic())
        else:  # its deadline has come meanwhile
            replica.pool.give_back(connection)

    def _send(self, connection: Connection, now_s: float) -> None:
        self._connection = connection
        replica = self._replica
        assert replica is not None
        left_ms = int((self.until_s - now_s) * 1e3)
        connection.send(
            b"%b%b%d\r\n\r\n" % (self._head.forwarded, replica.request_tail, left_ms if left_ms > 0 else 1),
            self._body,
            self,
        )

    # ---- what the replica's connection tells ---------------------------------------------------------------------

    def answered(self, head: AnswerHead, body: bytes) -> None:
        now_s = time.monotonic()
        replica, connection = self._replica, self._connection
        assert replica is not None
        assert connection is not None
        if head.resend_safe:
            replica.resend_safe = True
        replica.pool.give_back(connection)
        protocol = self._end()
        if protocol is not None:
            protocol.write_answer(head.relayed, replica.answer_tail, body)
            self._count(head.status, now_s)
        else:
            self.version.tally.refused(self.counts, "caller gone", None)
        self.version.done(self, replica, now_s, answered=True)
        if protocol is not None:
            protocol.next_one()

    def began(self, head: AnswerHead) -> None:
        self._streams = True
        assert self._replica is not None
        if head.resend_safe:
            self._replica.resend_safe = True
        self._path.start(self._relay(head))

    def failed(self, failure: UpstreamFailed) -> None:
        replica, connection = self._replica, self._connection
        assert replica is not None
        if connection is not None:
            connection.close()
        now_s = time.monotonic()
        self._connection = self._replica = None
        self._path.failed(self.version, replica)
        self.version.done(self, replica, now_s, answered=False)
        resend = not failure.sent or self._head.asked.resend_safe or replica.resend_safe
        if self._retried or not resend or self._protocol is None:
            self._refuse(refusal_of(failure, self._head.service))
            return
        self._retried = True
        try:
            other = self.version.another(self, replica, now_s)
        except NoReplicas as why:
            self._refuse(refusal_of(why, self._head.service))
            return
        self.version.tally.retries += 1
        self.granted(other, now_s)

    async def _relay(self, head: AnswerHead) -> None:
        """An answer in pieces, as they come."""
        replica, connection, protocol = self._replica, self._connection, self._protocol
        assert replica is not None
        assert connection is not None
        whole = False
        try:
            if protocol is not None:
                # Until the deadline, and once something came, while there is progress.
                async with asyncio.timeout_at(self.until_s) as timer:
                    relay = Relay(protocol, head, replica)
                    while self._protocol is not None:
                        piece = await connection.read()
                        await relay.write(piece, last=connection.finished)
                        if connection.finished:
                            whole = True
                            break
                        timer.reschedule(time.monotonic() + STALL_S)
        except (UpstreamFailed, TimeoutError):
            pass
        finally:
            now_s = time.monotonic()
            replica.pool.give_back(connection)
            caller_left = self._protocol is None
            self._end()
            if whole:
                self._count(head.status, now_s)
            else:
                self.version.tally.refused(self.counts, "caller gone" if caller_left else "broken off", None)
            self.version.done(self, replica, now_s, answered=whole)
            if protocol is not None and not caller_left:
                if whole:
                    protocol.next_one()
                else:
                    protocol.break_off()

    def begin(self, now_s: float) -> None:
        service = self._head.service
        service.arrived(self, now_s)
        self._path.active.add(self)
        bucket = service.bucket
        if bucket is not None and (again_in_s := bucket.take(now_s)):
            self._refuse(too_fast(service, again_in_s))
            return
        try:
            service.ask(self, now_s)
        except (NoReplicas, QueueFull, Hopeless) as why:
            self._refuse(refusal_of(why, service))

    # ---- ends ----------------------------------------------------------------------------------------------------

    def overdue(self) -> None:
        """The deadline has come. An answer that has begun has a timer of its own."""
        if self._streams:
            return
        now_s = time.monotonic()
        replica, connection = self._replica, self._connection
        if replica is None:
            self.version.withdraw(self)
            self._refuse(too_late("queue"))
            return
        self._replica = None
        if connection is not None:
            connection.abandon()
        self._refuse(too_late("replica"))
        self.version.done(self, replica, now_s, answered=False)

    def caller_gone(self) -> None:
        """Nobody hears the answer. What a replica has is left to it, so that its load is known rightly."""
        self._protocol = None
        if self._replica is None and self.version.withdraw(self):
            self._end()
            self.version.tally.refused(self.counts, "caller gone", None)

    def _refuse(self, refusal: Refusal) -> None:
        self.version.tally.refused(self.counts, refusal.reason, refusal.status)
        protocol = self._end()
        if protocol is not None:
            protocol.write_refusal(refusal)
            protocol.next_one()

    def _count(self, status: int, now_s: float) -> None:
        self.version.tally.answered(
            self.counts, status, now_s - self.arrived_s, self.queued_s, now_s - self.sent_s, self.version.slo_s
        )

    def _end(self) -> GatewayProtocol | None:
        """It is over; answers with who is to be told."""
        self._path.active.discard(self)
        protocol, self._protocol = self._protocol, None
        return protocol


class Relay:
    """Writes an answer whose end is not known yet to the caller, as it comes; waits while the caller is slow."""

    def __init__(self, protocol: GatewayProtocol, head: AnswerHead, replica: ReplicaState) -> None:
        self._protocol = protocol
        bodiless = head.status in (204, 304)
        sized = bodiless or any(name == b"content-length" for name, _ in head.passed_on)
        self._chunked = not sized
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
        date = b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])
        closing = b"connection: close\r\n" if self._ends else b""
        return b"%b%b%b%b\r\n" % (relayed, date, more, closing)

    def write_answer(self, relayed: bytes, more: bytes, body: bytes) -> None:
        self.transport.write(self.head_of(relayed, more) + body)

    def write_refusal(self, refusal: Refusal) -> None:
        body = json.dumps(error_body(refusal.error)).encode()
        more = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        if refusal.status in (429, 503):
            more += b"retry-after: %d\r\n" % refusal.retry_after_s
        if refusal.close:
            self._ends = True
        self.write_answer(STATUS_LINES[refusal.status], more, body)

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
