"""One request on the short way (fast.py): its turn, its replica, its answer, and everything that can end it.

It is told of each by a call, from the queue (routing.Ticket), from its connection to the replica (upstream.Listener),
and from the caller's connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Protocol

from scheduler.gateway.answer_heads import AnswerHead
from scheduler.gateway.dispatch import STALL_S
from scheduler.gateway.fast_heads import FastHead, FastHeads
from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.requests import Refusal, refusal_of, too_fast, too_late
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull, Ticket, Version
from scheduler.gateway.upstream import Connection, UpstreamFailed


class Caller(Protocol):
    """The connection that the request came on."""

    def write_answer(self, relayed: bytes, more: bytes, body: bytes) -> None: ...
    def write_refusal(self, refusal: Refusal) -> None: ...
    def relay(self, head: AnswerHead, replica: ReplicaState) -> Writes:
        """For an answer in pieces."""
        ...

    def next_one(self) -> None:
        """The answer has been written."""
        ...

    def break_off(self) -> None:
        """The answer cannot be finished."""
        ...


class Writes(Protocol):
    begun: bool  # something went to the caller

    async def write(self, piece: bytes, *, last: bool) -> None:
        """Waits while the caller is slow."""
        ...


class FastPath:
    """What the connections of one gateway share. `failed` is told of a replica that broke a request."""

    def __init__(self, heads: FastHeads, failed: Callable[[Version, ReplicaState], None]) -> None:
        self.heads = heads
        self.failed = failed
        self.active: set[FastRequest] = set()
        self.default_headers: object = None  # the server's, and their lines
        self.default_lines = b""
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

    def __init__(self, path: FastPath, protocol: Caller, head: FastHead, body: bytes, now_s: float) -> None:
        Ticket.__init__(
            self, head.priority, now_s + head.timeout_s, now_s, deadline_named=head.asked.timeout_s is not None
        )
        self._path = path
        self._protocol: Caller | None = protocol  # None once the caller has gone
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
        refusal: Refusal | None = None
        relay: Writes | None = None
        try:
            if protocol is not None:
                # Until the deadline, and once something came, while there is progress.
                async with asyncio.timeout_at(self.until_s) as timer:
                    relay = protocol.relay(head, replica)
                    if head.unsized:  # of a stream the head is news as well
                        await relay.write(b"", last=False)
                    while self._protocol is not None:
                        piece = await connection.read()
                        await relay.write(piece, last=connection.finished)
                        if connection.finished:
                            whole = True
                            break
                        timer.reschedule(time.monotonic() + STALL_S)
        except (UpstreamFailed, TimeoutError) as why:
            if relay is None or not relay.begun:
                refusal = (
                    refusal_of(why, self._head.service) if isinstance(why, UpstreamFailed) else too_late("replica")
                )
        finally:
            now_s = time.monotonic()
            replica.pool.give_back(connection)
            caller_left = self._protocol is None
            if refusal is not None and not caller_left:
                self._refuse(refusal)
                protocol = None
            elif whole:
                self._count(head.status, now_s)
            else:
                self.version.tally.refused(self.counts, "caller gone" if caller_left else "broken off", None)
            self._end()
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

    def _end(self) -> Caller | None:
        """It is over; answers with who is to be told."""
        self._path.active.discard(self)
        protocol, self._protocol = self._protocol, None
        return protocol
