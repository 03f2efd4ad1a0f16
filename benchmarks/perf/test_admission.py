"""What does the gateway's decision on one request cost: let it in, or turn it away? No sockets; virtual time, so that
what is decided does not depend on the machine. Run: `make bench`."""

from __future__ import annotations

import random
from itertools import count

from pytest_benchmark.fixture import BenchmarkFixture

from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.routing import Hopeless, Site, Ticket
from scheduler.gateway.versions import Service
from scheduler.ports import Replica, Route

REPLICAS, REQUESTS, WAITING = 16, 100, 500
TOP, LOWER, SLO_S = 90, 40, 0.5
STEP_S, SERVICE_S = 1e-4, 0.01


class Asking(Ticket):
    __slots__ = ("replica",)

    def __init__(self, now_s: float, priority: int = TOP, slo_s: float = SLO_S) -> None:
        super().__init__(priority, now_s + slo_s, now_s, deadline_named=True)
        self.replica: ReplicaState | None = None

    def granted(self, replica: ReplicaState, now_s: float) -> None:
        self.replica = replica

    def turned_away(self, why: Exception) -> None:
        self.replica = None


def a_service() -> Service:
    replicas = tuple(Replica("1", worker, 1, f"10.0.0.1:{worker + 1}", False) for worker in range(REPLICAS))
    service = Service("film", "chat", Site(random.Random(5)))
    service.update([Route("chat", "film", TOP, SLO_S * 1e3, replicas, "")], 0.0)
    return service


def ask(service: Service, ticket: Asking, now_s: float) -> bool:
    """Whether it was not turned away."""
    service.arrived(ticket, now_s)
    try:
        service.ask(ticket, now_s)
    except Hopeless:
        return False
    return True


def test_100_requests_that_get_a_slot_at_once(benchmark: BenchmarkFixture) -> None:
    service, ticks = a_service(), count(1)

    def served() -> int:
        done = 0
        for _ in range(REQUESTS):
            now_s = next(ticks) * STEP_S
            ticket = Asking(now_s)
            ask(service, ticket, now_s)
            if ticket.replica is not None:
                ticket.version.done(ticket, ticket.replica, now_s + SERVICE_S, answered=True)
                done += 1
        return done

    assert benchmark(served) == REQUESTS


def test_100_requests_turned_away_from_a_long_queue(benchmark: BenchmarkFixture) -> None:
    service, ticks = a_service(), count(1)
    for _ in range(REPLICAS):  # so that the service's pace is known
        now_s = next(ticks) * STEP_S
        first = Asking(now_s)
        assert ask(service, first, now_s)
        assert first.replica is not None
        first.version.done(first, first.replica, now_s + SERVICE_S, answered=True)
    while len(service.versions[0].queue) < WAITING:
        now_s = next(ticks) * STEP_S
        assert ask(service, Asking(now_s, slo_s=3600.0), now_s)

    def turned_away() -> int:
        away = 0
        for _ in range(REQUESTS):
            now_s = next(ticks) * STEP_S
            away += not ask(service, Asking(now_s, LOWER, slo_s=SERVICE_S), now_s)
        return away

    assert benchmark(turned_away) == REQUESTS
