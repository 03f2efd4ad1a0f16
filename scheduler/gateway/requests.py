"""What does a request ask for? Its headers, understood, and what is answered where that cannot be had.

`X-Suanli-Timeout-Ms` is the deadline, counted from when the request's head is here. `X-Suanli-Priority` lets a caller
step back behind others of the same service, never ahead of the service's own priority.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.errors import BadInput, Overloaded, SuanliError, Unavailable
from scheduler.gateway.answer_heads import end_to_end, joined
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull
from scheduler.gateway.upstream import UpstreamFailed
from scheduler.gateway.versions import Service

BODY_LIMIT_BYTES = 8 << 20
BODIES_LIMIT_BYTES = 256 << 20  # of all requests together
DISCARD_LIMITS = 8  # a body of up to so many times the limit is read to its end, and dropped
DEFAULT_TIMEOUT_S = 30.0
LONGEST_TIMEOUT_S = 3600.0
LONGEST_RETRY_S = 60

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


class Refusal(Exception):
    """The gateway answers by itself. `reason` is the word under which metrics count it."""

    def __init__(
        self,
        reason: str,
        error: SuanliError,
        status: int | None = None,
        *,
        close: bool = False,
        retry_after_s: float = 1.0,
    ) -> None:
        super().__init__(error.message)
        self.reason = reason
        self.error = error
        self.status = status or error.http_status
        self.close = close
        self.retry_after_s = min(LONGEST_RETRY_S, max(1, math.ceil(retry_after_s)))


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
    """`timeout_s` None: not said. `length` None: not told. `priority` None: the service's own. `forwarded`: request
    line and headers as they go to the replica, without those that depend on the body or on which replica it is."""

    method: str
    timeout_s: float | None
    priority: int | None
    length: int | None
    resend_safe: bool
    forwarded: bytes

    def head_for(self, priority: int) -> bytes:
        """`forwarded`, and the priority that counts: a replica with more than one batch of requests may go by it."""
        return b"%bx-suanli-priority: %d\r\n" % (self.forwarded, priority)

    def priority_at(self, service: Service) -> int:
        return service.priority if self.priority is None else min(service.priority, self.priority)


def understand(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Asked:
    """Names in lower case. Raises Refusal for headers that cannot be honoured."""
    timeout_s: float | None = None
    priority: int | None = None
    length: int | None = None
    resend_safe = method in IDEMPOTENT
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
            priority = _whole_number(name, value)
    if not chunked and length is None:
        length = 0
    forwarded = b"%b %b HTTP/1.1\r\n" % (method.encode(), target) + joined(end_to_end(headers, NOT_FORWARDED))
    return Asked(method, timeout_s, priority, length, resend_safe, forwarded)


def has_length(method: str, length: int) -> bool:
    """Whether a request to a replica says how long its body is."""
    return length > 0 or method in ("POST", "PUT", "PATCH")


def _whole_number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 12:
        raise _bad_header(name, "must be a whole number")
    return int(value)


def _bad_header(name: bytes, what: str) -> Refusal:
    return Refusal("bad header", BadInput(f"header {name.decode()} {what}", field=name.decode()), 400, close=True)


def too_fast(service: Service, again_in_s: float) -> Refusal:
    error = Overloaded(
        f"tenant {service.tenant} sends more than its {service.tenant_rate_per_s:g} requests a second; try again"
    )
    return Refusal("rate limit", error, retry_after_s=again_in_s)


def refusal_of(why: Exception, service: Service) -> Refusal:
    """What the caller is told where its request cannot be served."""
    match why:
        case NoReplicas():
            message = f"service {service.name} has no replica that answers now; try again"
            return Refusal("no replicas", Unavailable(message))
        case QueueFull():
            message = f"too many requests wait for service {service.name}; try again"
            return Refusal("queue full", Overloaded(message))
        case Hopeless():
            message = f"service {service.name} is too busy to answer in time; try again"
            return Refusal("hopeless", Unavailable(message), retry_after_s=why.again_in_s)
        case UpstreamFailed():
            status = 502 if why.sent else 503
            return Refusal("replica failed", Unavailable(f"{why.message}; try again"), status)
        case _:
            raise why


def too_late(stage: str) -> Refusal:
    """The deadline came: `stage` is "body", "queue" or "replica"."""
    match stage:
        case "body":
            return Refusal("slow body", BadInput("the body did not arrive before the deadline"), 408, close=True)
        case "queue":
            message = "no replica was free before the request's deadline; try again"
            return Refusal("queued too long", Unavailable(message))
        case _:
            return Refusal("timeout", Unavailable("the replica did not answer before the request's deadline"), 504)
