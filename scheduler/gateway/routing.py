"""Which replica takes a request, and who waits for one? One service: its replicas, their load, and the queue.

The queue stays here and not in the replicas: a replica holds few requests at a time, so that an urgent one that comes
late still overtakes. A request goes to the less loaded of two replicas drawn at random, which is nearly as even as
asking all (Mitzenmacher, "The power of two choices in randomized load balancing", 2001). Waiting requests are ordered
by priority, then by deadline (earliest deadline first, Jackson 1955).
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from scheduler.gateway.metrics import LogHistogram
from scheduler.gateway.upstream import ConnectionPool
from scheduler.ports import Replica, Route

IN_FLIGHT_PER_REPLICA = 8
MAX_WAITING = 1024
AVOID_AFTER_FAILURE_S = 1.0


class NoReplicas(Exception):
    """The service has no replica that could take the request."""


class QueueFull(Exception):
    """As many requests wait as may, none of them less urgent than this one."""


@dataclass(slots=True, eq=False)
class ReplicaState:
    """A replica as the gateway knows it. Times are the event loop's clock.

    `resend_safe`: it has said that a request may be sent again elsewhere when it dies before answering.
    """

    replica: Replica
    secret: str
    pool: ConnectionPool
    outstanding: int = 0
    avoid_until_s: float = 0.0
    resend_safe: bool = False

    @property
    def identity(self) -> tuple[str, int, int, str, str]:
        r = self.replica
        return (r.job_id, r.worker, r.attempt, r.address, self.secret)


@dataclass(order=True, slots=True)
class _Waiting:
    """In the order of the queue. `turn` resolves to the replica whose slot this request was given."""

    less_urgent: int  # priority, negated
    deadline_s: float
    number: int
    turn: asyncio.Future[ReplicaState] = field(compare=False)


@dataclass(slots=True)
class ServiceCounts:
    """Since the gateway knows the service. `refused` by reason, `answers` by HTTP status given to the caller."""

    requests: int = 0
    retries: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    latency: LogHistogram = field(default_factory=LogHistogram)
    queued: LogHistogram = field(default_factory=LogHistogram)


class Service:
    """One service of one tenant: `acquire()` a replica's slot, use it, `release()` it."""

    def __init__(self, tenant: str, name: str, rng: random.Random, *, max_waiting: int = MAX_WAITING) -> None:
        self.tenant = tenant
        self.name = name
        self.priority = 0
        self.slo_p99_ms: float | None = None
        self.replicas: list[ReplicaState] = []
        self.counts = ServiceCounts()
        self._rng = rng
        self._max_waiting = max_waiting
        self._heap: list[_Waiting] = []
        self._live = 0  # of those in the heap, how many still wait
        self._numbers = 0

    @property
    def waiting(self) -> int:
        return self._live

    @property
    def in_flight(self) -> int:
        return sum(replica.outstanding for replica in self.replicas)

    def update(self, routes: Sequence[Route]) -> None:
        """Take over the replicas of `routes` (one a job); those that stay keep their connections and their load.

        A replica that is gone finishes what it has and gets nothing more.
        """
        self.priority = max(route.priority for route in routes)
        self.slo_p99_ms = next((route.slo_p99_ms for route in routes if route.slo_p99_ms is not None), None)
        old = {state.identity: state for state in self.replicas}
        self.replicas = []
        for route in routes:
            for replica in route.replicas:
                identity = (replica.job_id, replica.worker, replica.attempt, replica.address, route.secret)
                state = old.pop(identity, None)
                self.replicas.append(state or ReplicaState(replica, route.secret, ConnectionPool(replica.address)))
        for gone in old.values():
            gone.pool.close()
        self._hand_out()

    def close(self) -> None:
        """The service is gone: whoever waits is told so."""
        for state in self.replicas:
            state.pool.close()
        self.replicas = []
        self._hand_out()

    async def acquire(self, *, priority: int, deadline_s: float) -> ReplicaState:
        """A replica with one more request outstanding; waits for one where all are busy, until cancelled.

        Raises NoReplicas or QueueFull.
        """
        if not self.replicas:
            raise NoReplicas
        loop = asyncio.get_running_loop()
        # Who comes now does not overtake those who wait, unless a replica has room for all of them.
        if not self._live and (free := self._pick(loop.time())) is not None:
            free.outstanding += 1
            return free
        if self._live >= self._max_waiting:
            self._make_room(priority)
        self._numbers += 1
        waiting = _Waiting(-priority, deadline_s, self._numbers, loop.create_future())
        heapq.heappush(self._heap, waiting)
        self._live += 1
        self._hand_out()
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.cancelled():
                self._live -= 1
                self._tidy()
            elif waiting.turn.exception() is None:
                self.release(waiting.turn.result())  # the slot came in the moment in which the request gave up
            raise

    def acquire_other(self, failed: ReplicaState) -> ReplicaState:
        """For a request that `failed` has lost: another replica at once, past the queue. Raises NoReplicas.

        Where there is no other it is `failed` again: it may only have closed a connection that was idle.
        """
        others = [state for state in self.replicas if state is not failed] or self.replicas
        if not others:
            raise NoReplicas
        now_s = asyncio.get_running_loop().time()
        chosen = min(others, key=lambda state: (state.avoid_until_s > now_s, state.outstanding))
        chosen.outstanding += 1
        return chosen

    def release(self, replica: ReplicaState) -> None:
        replica.outstanding -= 1
        assert replica.outstanding >= 0, f"replica {replica.identity} released more often than acquired"
        self._hand_out()

    def avoid(self, replica: ReplicaState) -> None:
        """It could not be reached: for a moment send to the others, if there are any."""
        replica.avoid_until_s = asyncio.get_running_loop().time() + AVOID_AFTER_FAILURE_S

    def _pick(self, now_s: float) -> ReplicaState | None:
        healthy = [state for state in self.replicas if state.avoid_until_s <= now_s] or self.replicas
        free = [state for state in healthy if state.outstanding < IN_FLIGHT_PER_REPLICA]
        if len(free) <= 1:
            return free[0] if free else None
        first, second = self._rng.sample(free, 2)
        return first if first.outstanding <= second.outstanding else second

    def _hand_out(self) -> None:
        while self._heap:
            head = self._heap[0]
            if head.turn.done():
                heapq.heappop(self._heap)
                continue
            if not self.replicas:
                head.turn.set_exception(NoReplicas())
            elif (free := self._pick(asyncio.get_running_loop().time())) is not None:
                free.outstanding += 1
                head.turn.set_result(free)
            else:
                return
            heapq.heappop(self._heap)
            self._live -= 1

    def _make_room(self, priority: int) -> None:
        """Refuse the last of the queue in favour of a request of higher priority, or raise QueueFull for this one."""
        last = max((waiting for waiting in self._heap if not waiting.turn.done()), default=None)
        if last is None or -last.less_urgent >= priority:
            raise QueueFull
        last.turn.set_exception(QueueFull())
        self._live -= 1
        self._tidy()

    def _tidy(self) -> None:
        """Requests that gave up stay in the heap until they come to its top, or until they are the most of it."""
        if len(self._heap) > 2 * self._live + 64:
            self._heap = [waiting for waiting in self._heap if not waiting.turn.done()]
            heapq.heapify(self._heap)
