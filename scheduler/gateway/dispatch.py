"""What happens to one request for a service? Read it, wait for a turn, send it to a replica, pass the answer back.

This is the way of every request as an ASGI application sees it; short whole ones may take the short way of fast.py. A
request may be sent again, once, when its connection broke before a byte of the answer: always if nothing of it had been
sent, else only if its method is idempotent (RFC 9110, 9.2.2), it has an Idempotency-Key, or the replica has said
`X-Suanli-Resend: safe` (a model server does). Every refusal is explicit and says when to come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from scheduler.gateway.answer_heads import AnswerHead
from scheduler.gateway.asgi import BodyTooLarge, CallerGone, Message, Receive, Send, read_body, send_error
from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.requests import (
    DEFAULT_TIMEOUT_S,
    Asked,
    BodyBudget,
    Refusal,
    has_length,
    refusal_of,
    too_fast,
    too_late,
    understand,
)
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull, Ticket, Version
from scheduler.gateway.upstream import Connection, UpstreamFailed
from scheduler.gateway.versions import Service

STALL_S = 60.0  # a streamed answer that makes no progress for so long is given up


class BrokenOff(Exception):
    """The answer had begun and could not be finished: the caller's connection is closed in the middle of it."""


class Turn(Ticket):
    """A ticket that is awaited."""

    __slots__ = ("_turn",)

    def __init__(self, priority: int, until_s: float, arrived_s: float, *, deadline_named: bool) -> None:
        super().__init__(priority, until_s, arrived_s, deadline_named=deadline_named)
        self._turn: asyncio.Future[ReplicaState] = asyncio.get_running_loop().create_future()

    def granted(self, replica: ReplicaState, now_s: float) -> None:
        if self._turn.done():  # it gave up in this very moment
            self.version.done(self, replica, now_s, answered=False)
        else:
            self._turn.set_result(replica)

    def turned_away(self, why: Exception) -> None:
        if not self._turn.done():
            self._turn.set_exception(why)

    async def wait(self) -> ReplicaState:
        try:
            return await self._turn
        except asyncio.CancelledError:
            if self._turn.cancelled():
                self.version.withdraw(self)
            elif self._turn.exception() is None:
                # The slot came in the moment in which the request gave up.
                self.version.done(self, self._turn.result(), time.monotonic(), answered=False)
            raise


class Dispatcher:
    """`failed` is told of a replica that broke a request: it is looked at, and avoided if it is dead."""

    def __init__(self, budget: BodyBudget, failed: Callable[[Version, ReplicaState], None]) -> None:
        self.budget = budget
        self.failed = failed

    async def dispatch(self, service: Service, target: bytes, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request for `service` at `target` (path and query), and count it."""
        arrived_s = time.monotonic()
        turn = Turn(service.priority, arrived_s + DEFAULT_TIMEOUT_S, arrived_s, deadline_named=False)
        try:
            try:
                asked = understand(scope["method"], target, scope["headers"])
                turn.priority = asked.priority_at(service)
                if asked.timeout_s is not None:
                    turn.deadline_named = True
                    turn.until_s = turn.due_s = arrived_s + asked.timeout_s
            finally:
                service.arrived(turn, arrived_s)
            if service.bucket is not None and (again_in_s := service.bucket.take(arrived_s)):
                raise too_fast(service, again_in_s)
            taken_bytes = self.budget.take(asked.length)
            try:
                await self._forward(service, turn, asked, scope, receive, send)
            finally:
                self.budget.give_back(taken_bytes)
        except Refusal as refusal:
            turn.version.tally.refused(turn.counts, refusal.reason, refusal.status)
            await send_error(
                send, refusal.error, refusal.status, close=refusal.close, retry_after_s=refusal.retry_after_s
            )
        except (CallerGone, BrokenOff) as ended:
            reason = "caller gone" if isinstance(ended, CallerGone) else "broken off"
            turn.version.tally.refused(turn.counts, reason, None)

    async def _forward(
        self, service: Service, turn: Turn, asked: Asked, scope: Message, receive: Receive, send: Send
    ) -> None:
        """Raises Refusal (nothing was answered yet), CallerGone or BrokenOff."""
        stage = "body"
        try:
            async with asyncio.timeout_at(turn.until_s) as timer:
                body = await read_body(receive, self.budget.each_bytes)
                head = asked.head_for(turn.priority)
                if has_length(asked.method, len(body)):
                    head += b"content-length: %d\r\n" % len(body)
                stage = "queue"
                service.ask(turn, time.monotonic())
                replica = await turn.wait()
                stage = "replica"
                replica, connection, answer = await self._ask(turn, replica, asked, head, body)
                whole = False
                try:
                    stage = "answer"
                    await _pass_back(replica, connection, answer, receive, send, timer)
                    whole = True
                finally:
                    now_s = time.monotonic()
                    replica.pool.give_back(connection)
                    turn.version.done(turn, replica, now_s, answered=whole)
                turn.version.tally.answered(
                    turn.counts,
                    answer.status,
                    now_s - turn.arrived_s,
                    turn.queued_s,
                    now_s - turn.sent_s,
                    turn.version.slo_s,
                )
        except TimeoutError:
            if stage == "answer":
                raise BrokenOff from None  # it has begun and cannot become an error any more
            raise too_late(stage) from None
        except BodyTooLarge:
            raise self.budget.too_large(close=True) from None
        except UpstreamFailed as failure:
            if stage == "answer":
                raise BrokenOff from None
            raise refusal_of(failure, service) from None
        except (NoReplicas, QueueFull, Hopeless) as why:
            raise refusal_of(why, service) from None

    async def _ask(
        self, turn: Turn, replica: ReplicaState, asked: Asked, head: bytes, body: bytes
    ) -> tuple[ReplicaState, Connection, AnswerHead]:
        """Send to `replica`, whose slot is held, or once more to another; the slot of the one that answered is held."""
        try:
            return replica, *await self._try(turn, replica, asked, head, body)
        except UpstreamFailed as failure:
            self.failed(turn.version, replica)
            if failure.sent and not asked.resend_safe and not replica.resend_safe:
                raise
        other = turn.version.another(turn, replica, time.monotonic())
        turn.version.tally.retries += 1
        try:
            return other, *await self._try(turn, other, asked, head, body)
        except UpstreamFailed:
            self.failed(turn.version, other)
            raise

    async def _try(
        self, turn: Turn, replica: ReplicaState, asked: Asked, head: bytes, body: bytes
    ) -> tuple[Connection, AnswerHead]:
        """Gives the replica's slot back unless it answered."""
        try:
            connection = await replica.pool.checkout()
            try:
                left_ms = max(1, int((turn.until_s - time.monotonic()) * 1e3))
                answer = await connection.exchange(
                    b"%b%b%d\r\n\r\n" % (head, replica.request_tail, left_ms), body, without_body=asked.method == "HEAD"
                )
            except BaseException:
                connection.close()
                raise
        except BaseException:
            turn.version.done(turn, replica, time.monotonic(), answered=False)
            raise
        return connection, answer


async def _pass_back(
    replica: ReplicaState,
    connection: Connection,
    head: AnswerHead,
    receive: Receive,
    send: Send,
    timer: asyncio.Timeout,
) -> None:
    """Head and body of the answer, as they come. Raises CallerGone, or UpstreamFailed when the body breaks off."""
    if not replica.resend_safe:
        replica.resend_safe = head.resend_safe
    headers = [
        *head.passed_on,
        (b"x-suanli-replica", b"%b/%d" % (replica.replica.job_id.encode(), replica.replica.worker)),
    ]
    if replica.replica.simulated:
        headers.append((b"x-suanli-simulated", b"1"))
    await send({"type": "http.response.start", "status": head.status, "headers": headers})
    gone: asyncio.Task[Message] | None = None
    try:
        while True:
            piece = await connection.read()
            more = not connection.finished
            await send({"type": "http.response.body", "body": piece, "more_body": more})
            if not more:
                return
            # A stream: from now on it is progress that counts, and whether anybody still listens.
            timer.reschedule(time.monotonic() + STALL_S)
            if gone is None:
                gone = asyncio.ensure_future(receive())
            elif gone.done():
                raise CallerGone
    finally:
        if gone is not None:
            gone.cancel()
