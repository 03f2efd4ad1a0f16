"""What happens to one request for a service? Read it, wait for a turn, send it to a replica, pass the answer back.

A request may be sent again, once, when its connection broke before a byte of the answer: always if nothing of it had
been sent, else only if its method is idempotent (RFC 9110, 9.2.2), it has an Idempotency-Key, or the replica has said
`X-Suanli-Resend: safe` (a model server does). Every refusal is explicit and says when to come back.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from scheduler.errors import BadInput, Overloaded, SuanliError, Unavailable
from scheduler.gateway.asgi import BodyTooLarge, CallerGone, Message, Receive, Send, read_body, send_error
from scheduler.gateway.routing import NoReplicas, QueueFull, ReplicaState, Service
from scheduler.gateway.upstream import Connection, Headers, ResponseHead, UpstreamFailed, end_to_end

BODY_LIMIT_BYTES = 8 << 20
BODIES_LIMIT_BYTES = 256 << 20  # of all requests together
DISCARD_LIMITS = 8  # a body of up to so many times the limit is read to its end, and dropped
DEFAULT_TIMEOUT_S = 30.0
LONGEST_TIMEOUT_S = 3600.0
STALL_S = 60.0  # a streamed answer that makes no progress for so long is given up

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))
# The caller's token is the gateway's business and never a tenant's; the rest is set anew for each replica.
NOT_FORWARDED = frozenset(
    name.encode()
    for name in [
        "authorization",
        "host",
        "content-length",
        "expect",
        "x-suanli-replica-secret",
        "x-suanli-timeout-ms",
        "x-suanli-priority",
    ]
)
NOT_PASSED_BACK = frozenset((b"date", b"server", b"x-suanli-resend", b"x-suanli-replica", b"x-suanli-simulated"))


class Refusal(Exception):
    """The gateway answers by itself. `reason` is the word under which metrics count it."""

    def __init__(self, reason: str, error: SuanliError, status: int | None = None, *, close: bool = False) -> None:
        super().__init__(error.message)
        self.reason = reason
        self.error = error
        self.status = status or error.http_status
        self.close = close


class BrokenOff(Exception):
    """The answer had begun and could not be finished: the caller's connection is closed in the middle of it."""


class BodyBudget:
    """How many bytes of request bodies may be held at once, each and all together."""

    def __init__(self, each_bytes: int = BODY_LIMIT_BYTES, all_bytes: int = BODIES_LIMIT_BYTES) -> None:
        self.each_bytes = each_bytes
        self._free_bytes = all_bytes

    def take(self, length: int | None) -> int:
        """What was taken, for `give_back`. A body of unknown length counts as the largest."""
        wanted = self.each_bytes if length is None else length
        if wanted > self.each_bytes:
            # A caller that sends all before it reads would never see the answer if its connection were cut: what is
            # not too much is let through to nowhere (the server drops what comes after the answer).
            raise self.too_large(close=wanted > DISCARD_LIMITS * self.each_bytes)
        if wanted > self._free_bytes:
            raise Refusal("memory", Overloaded("too many large requests wait at the gateway; try again"))
        self._free_bytes -= wanted
        return wanted

    def give_back(self, taken_bytes: int) -> None:
        self._free_bytes += taken_bytes

    def too_large(self, *, close: bool) -> Refusal:
        error = BadInput(f"the body is over the limit of {self.each_bytes} bytes")
        return Refusal("too large", error, 413, close=close)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's headers, understood. `deadline_s` is on the event loop's clock; `length` None: not told."""

    deadline_s: float
    priority: int
    length: int | None
    resend_safe: bool
    forwarded: Headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it goes to a replica, without the headers that depend on which."""

    method: str
    line_and_headers: bytes
    body: bytes
    deadline_s: float

    def head_for(self, replica: ReplicaState, now_s: float) -> bytes:
        left_ms = max(1, int((self.deadline_s - now_s) * 1e3))
        return b"%bhost: %b\r\nx-suanli-replica-secret: %b\r\nx-suanli-timeout-ms: %d\r\n\r\n" % (
            self.line_and_headers,
            replica.pool.address.encode(),
            replica.secret.encode(),
            left_ms,
        )


def understand(scope: Message, service: Service, now_s: float) -> Asked:
    """Raises Refusal for headers that cannot be honoured."""
    timeout_s, priority, length = DEFAULT_TIMEOUT_S, service.priority, None
    resend_safe = scope["method"] in IDEMPOTENT
    headers: Headers = scope["headers"]
    chunked = False
    for name, value in headers:
        if name == b"content-length":
            length = _whole_number(name, value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"idempotency-key":
            resend_safe = True
        elif name == b"x-suanli-timeout-ms":
            timeout_s = _whole_number(name, value) / 1e3
            if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
                limit = int(LONGEST_TIMEOUT_S * 1e3)
                raise _bad_header(name, f"must be from 1 to {limit}")
        elif name == b"x-suanli-priority":
            priority = min(service.priority, _whole_number(name, value))
    if not chunked and length is None:
        length = 0
    return Asked(now_s + timeout_s, priority, length, resend_safe, end_to_end(headers, NOT_FORWARDED))


def _whole_number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 12:
        raise _bad_header(name, "must be a whole number")
    return int(value)


def _bad_header(name: bytes, what: str) -> Refusal:
    return Refusal("bad header", BadInput(f"header {name.decode()} {what}", field=name.decode()), 400, close=True)


class Dispatcher:
    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget

    async def dispatch(self, service: Service, target: bytes, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request for `service` at `target` (path and query), and count it."""
        counts = service.counts
        counts.requests += 1
        began_s = time.perf_counter()  # not the loop's clock: uvloop's ticks in milliseconds
        try:
            asked = understand(scope, service, asyncio.get_running_loop().time())
            taken_bytes = self._budget.take(asked.length)
            try:
                status = await self._forward(service, target, asked, scope, receive, send)
            finally:
                self._budget.give_back(taken_bytes)
            counts.latency.add(time.perf_counter() - began_s)
        except Refusal as refusal:
            status = refusal.status
            counts.refused[refusal.reason] = counts.refused.get(refusal.reason, 0) + 1
            await send_error(send, refusal.error, status, close=refusal.close)
        except (CallerGone, BrokenOff) as ended:
            reason = "caller gone" if isinstance(ended, CallerGone) else "broken off"
            counts.refused[reason] = counts.refused.get(reason, 0) + 1
            return
        counts.answers[status] = counts.answers.get(status, 0) + 1

    async def _forward(
        self, service: Service, target: bytes, asked: Asked, scope: Message, receive: Receive, send: Send
    ) -> int:
        """The status that the caller was given. Raises Refusal (nothing was answered yet), CallerGone or BrokenOff."""
        stage = "body"
        try:
            async with asyncio.timeout_at(asked.deadline_s) as timer:
                body = await read_body(receive, self._budget.each_bytes)
                outgoing = _outgoing(scope["method"], target, asked, body)
                stage = "queue"
                waits_since_s = time.perf_counter()
                replica = await service.acquire(priority=asked.priority, deadline_s=asked.deadline_s)
                service.counts.queued.add(time.perf_counter() - waits_since_s)
                stage = "replica"
                replica, connection, head = await self._ask(service, replica, outgoing, asked.resend_safe)
                try:
                    stage = "answer"
                    await _pass_back(replica, connection, head, receive, send, timer)
                finally:
                    replica.pool.give_back(connection)
                    service.release(replica)
        except TimeoutError:
            raise _too_late(stage) from None
        except BodyTooLarge:
            raise self._budget.too_large(close=True) from None
        except NoReplicas:
            message = f"service {service.name} has no replica that answers now; try again"
            raise Refusal("no replicas", Unavailable(message)) from None
        except QueueFull:
            message = f"too many requests wait for service {service.name}; try again"
            raise Refusal("queue full", Overloaded(message)) from None
        except UpstreamFailed as failure:
            if stage == "answer":
                raise BrokenOff from None
            status = 502 if failure.sent else 503
            raise Refusal("replica failed", Unavailable(f"{failure.message}; try again"), status) from None
        return head.status

    async def _ask(
        self, service: Service, replica: ReplicaState, outgoing: Outgoing, resend_safe: bool
    ) -> tuple[ReplicaState, Connection, ResponseHead]:
        """Send to `replica`, whose slot is held, or once more to another; the slot of the one that answered is held."""
        try:
            return replica, *await self._try(service, replica, outgoing)
        except UpstreamFailed as failure:
            if failure.unreachable:
                service.avoid(replica)
            if failure.sent and not resend_safe and not replica.resend_safe:
                raise
        other = service.acquire_other(replica)
        service.counts.retries += 1
        try:
            return other, *await self._try(service, other, outgoing)
        except UpstreamFailed as failure:
            if failure.unreachable:
                service.avoid(other)
            raise

    async def _try(
        self, service: Service, replica: ReplicaState, outgoing: Outgoing
    ) -> tuple[Connection, ResponseHead]:
        """Gives the replica's slot back unless it answered."""
        try:
            connection = await replica.pool.checkout()
            try:
                now_s = asyncio.get_running_loop().time()
                head = await connection.exchange(
                    outgoing.head_for(replica, now_s), outgoing.body, without_body=outgoing.method == "HEAD"
                )
            except BaseException:
                connection.close()
                raise
        except BaseException:
            service.release(replica)
            raise
        return connection, head


def _outgoing(method: str, target: bytes, asked: Asked, body: bytes) -> Outgoing:
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode(), target)]
    lines.extend(b"%b: %b\r\n" % header for header in asked.forwarded)
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d\r\n" % len(body))
    return Outgoing(method, b"".join(lines), body, asked.deadline_s)


async def _pass_back(
    replica: ReplicaState,
    connection: Connection,
    head: ResponseHead,
    receive: Receive,
    send: Send,
    timer: asyncio.Timeout,
) -> None:
    """Head and body of the answer, as they come. Raises CallerGone, or UpstreamFailed when the body breaks off."""
    if not replica.resend_safe:
        replica.resend_safe = (b"x-suanli-resend", b"safe") in head.headers
    headers = end_to_end(head.headers, NOT_PASSED_BACK)
    headers.append((b"x-suanli-replica", b"%b/%d" % (replica.replica.job_id.encode(), replica.replica.worker)))
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
            timer.reschedule(asyncio.get_running_loop().time() + STALL_S)
            if gone is None:
                gone = asyncio.ensure_future(receive())
            elif gone.done():
                raise CallerGone
    finally:
        if gone is not None:
            gone.cancel()


def _too_late(stage: str) -> Exception:
    match stage:
        case "body":
            return Refusal("slow body", BadInput("the body did not arrive before the deadline"), 408, close=True)
        case "queue":
            message = "no replica was free before the request's deadline; try again"
            return Refusal("queued too long", Unavailable(message))
        case "replica":
            return Refusal("timeout", Unavailable("the replica did not answer before the request's deadline"), 504)
        case _:
            return BrokenOff()  # the answer has begun and cannot become an error any more
