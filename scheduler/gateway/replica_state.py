"""How is one replica doing, as the gateway sees it? What it holds, how fast it answers, whether it may be asked.

What sending one more request to it would cost is the peak-sensitive, exponentially weighted time of its answers, times
what it would then hold ("Peak EWMA", Finagle's load balancer, Twitter 2015: a slow answer counts at once, in full; what
is old fades with `DECAY_S`).
"""

from __future__ import annotations

from math import exp

from scheduler.gateway.limits import InFlightLimit
from scheduler.gateway.upstream import ConnectionPool
from scheduler.ports import Replica

DECAY_S = 2.0
ALIKE = 2.0  # costs that differ by less say nothing: then what they hold decides, and chance
UNKNOWN_S = 1e-3  # what is believed of a replica that has not answered yet


class ReplicaState:
    """Times are time.monotonic()'s. `out` says why it gets nothing where another could have it, None: it may be asked.

    `outstanding`: requests that it has; `lower` of them are below the version's priority. `resend_safe`: it has
    said that a request may be sent again elsewhere when it dies before answering. `progress_s`: when it last
    answered, or was first given something after it had nothing.
    """

    __slots__ = (
        "_answer_at_s",
        "_answer_s",
        "answer_tail",
        "identity",
        "limit",
        "lower",
        "out",
        "outstanding",
        "pool",
        "probe_after_s",
        "probing",
        "progress_s",
        "replica",
        "request_tail",
        "resend_safe",
        "secret",
    )

    def __init__(self, replica: Replica, secret: str, pool: ConnectionPool) -> None:
        self.replica = replica
        self.secret = secret
        self.pool = pool
        self.limit = InFlightLimit()
        self.outstanding = 0
        self.lower = 0
        self.out: str | None = None
        self.resend_safe = False
        self.probing = False
        self.probe_after_s = 0.0
        self.progress_s = 0.0
        self._answer_s = 0.0
        self._answer_at_s = 0.0
        self.identity = identity_of(replica, secret)
        # What every request to it, and every answer of it, carries.
        self.request_tail = b"host: %b\r\nx-suanli-replica-secret: %b\r\nx-suanli-timeout-ms: " % (
            replica.address.encode(),
            secret.encode(),
        )
        self.answer_tail = b"x-suanli-replica: %b/%d\r\n" % (replica.job_id.encode(), replica.worker)
        if replica.simulated:
            self.answer_tail += b"x-suanli-simulated: 1\r\n"

    def cost(self, now_s: float) -> float:
        """Of one more request, in seconds."""
        if not self._answer_s:
            return UNKNOWN_S * (self.outstanding + 1)
        return self._answer_s * exp((self._answer_at_s - now_s) / DECAY_S) * (self.outstanding + 1)

    def better_than(self, other: ReplicaState, now_s: float) -> bool:
        mine, others = self.cost(now_s), other.cost(now_s)
        if mine * ALIKE < others or others * ALIKE < mine:
            return mine < others
        return self.outstanding <= other.outstanding

    def took(self, taken_s: float, now_s: float) -> None:
        """An answer came `taken_s` after its request was sent."""
        part = exp((self._answer_at_s - now_s) / DECAY_S)
        faded_s = self._answer_s * part
        self._answer_s = taken_s if taken_s >= faded_s else faded_s + taken_s * (1.0 - part)
        self._answer_at_s = now_s
        self.progress_s = now_s


def identity_of(replica: Replica, secret: str) -> tuple[str, int, int, str, str]:
    return (replica.job_id, replica.worker, replica.attempt, replica.address, secret)
