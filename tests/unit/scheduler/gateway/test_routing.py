"""Who gets a replica's slot, in which order, and who is turned away. No sockets: a replica here is only counted, and
time is a number."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from scheduler.gateway.limits import START
from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull, Site, Ticket
from scheduler.gateway.versions import Service
from scheduler.ports import Replica, Route


class Asks(Ticket):
    """A request that remembers what became of it."""

    def __init__(self, name: str, priority: int, until_s: float, arrived_s: float, named: bool = True) -> None:
        super().__init__(priority, until_s, arrived_s, deadline_named=named)
        self.name = name
        self.replica: ReplicaState | None = None
        self.refused: Exception | None = None
        self.log: list[str] = []

    def granted(self, replica: ReplicaState, now_s: float) -> None:
        self.replica = replica
        self.log.append(self.name)

    def turned_away(self, why: Exception) -> None:
        self.refused = why


def replica(worker: int = 0, *, job: str = "1", site: str = "", attempt: int = 1) -> Replica:
    return Replica(job, worker, attempt, f"127.0.0.1:{1000 + worker}", False, node="n", site=site)


def route(replicas: int = 1, *, job: str = "1", priority: int = 5, sites: str = "", **more: Any) -> Route:
    told = tuple(replica(worker, job=job, site=sites[worker] if sites else "") for worker in range(replicas))
    return Route("chat", "film", priority, more.pop("slo", None), told, "secret", **more)


@dataclass
class Desk:
    """A service, and those who ask it."""

    service: Service
    attention: list[int]
    order: list[str] = field(default_factory=list)
    now_s: float = 100.0

    def ask(self, name: str = "x", *, priority: int = 5, in_s: float = 9.0, named: bool = True) -> Asks:
        ticket = Asks(name, priority, self.now_s + in_s, self.now_s, named)
        ticket.log = self.order
        self.service.arrived(ticket, self.now_s)
        self.service.ask(ticket, self.now_s)
        return ticket

    def done(self, ticket: Asks, took_s: float = 0.0) -> None:
        self.now_s += took_s
        assert ticket.replica is not None
        ticket.version.done(ticket, ticket.replica, self.now_s, answered=True)

    def fill(self) -> list[Asks]:
        version = self.service.versions[0]
        taken = [self.ask(priority=version.priority) for _ in range(START * len(version.replicas))]
        self.order.clear()
        return taken


def desk(*routes: Route, max_waiting: int = 100, site: str = "") -> Desk:
    attention: list[int] = []
    at = Site(random.Random(3), max_waiting=max_waiting, site=site, attention=lambda: attention.append(1))
    made = Desk(Service("film", "chat", at), attention)
    made.service.update(routes or [route()], made.now_s)
    return made


def test_a_replica_gets_no_more_than_its_limit() -> None:
    full = desk(route(2))
    full.fill()
    assert [state.outstanding for state in full.service.versions[0].replicas] == [START] * 2
    assert full.ask().replica is None


def test_waiting_is_ordered_by_priority_then_due_time_then_arrival() -> None:
    full = desk(route(priority=9))
    held = full.fill()
    asks = [("low", 1, 5.0), ("late", 5, 9.0), ("soon", 5, 2.0), ("also soon", 5, 2.0), ("urgent", 9, 99.0)]
    waiting = [full.ask(name, priority=priority, in_s=in_s) for name, priority, in_s in asks]
    assert len(full.service.versions[0].queue) == 5
    for ticket in [*held, *waiting]:
        full.done(ticket if ticket.replica is not None else next(one for one in waiting if one.replica))
        for one in waiting:
            if one.replica is not None and one not in held:
                held.append(one)
    assert full.order == ["urgent", "soon", "also soon", "late", "low"]


def test_a_full_queue_refuses_the_least_urgent() -> None:
    full = desk(max_waiting=2)
    full.fill()
    low = [full.ask(priority=1, in_s=in_s) for in_s in (1.0, 2.0)]
    with pytest.raises(QueueFull):
        full.ask(priority=1, in_s=3.0)
    urgent = full.ask(priority=2)
    with pytest.raises(QueueFull):
        full.ask(priority=1, in_s=0.5)
    assert isinstance(low[1].refused, QueueFull)
    assert (low[0].refused, urgent.refused) == (None, None)


def test_who_gives_up_leaves_the_queue() -> None:
    full = desk()
    held = full.fill()
    tickets = [full.ask() for _ in range(50)]
    assert all(ticket.version.withdraw(ticket) for ticket in tickets[:49])
    assert not tickets[0].version.withdraw(tickets[0])
    full.done(held[0])
    assert tickets[49].replica is not None


def test_new_replicas_take_those_who_wait_and_old_ones_keep_their_load() -> None:
    full = desk(route(1))
    full.fill()
    ticket = full.ask()
    (old,) = full.service.versions[0].replicas
    full.service.update([route(2)], full.now_s)
    assert full.service.versions[0].replicas[0] is old
    assert ticket.replica is full.service.versions[0].replicas[1]


def test_when_the_last_replica_goes_those_who_wait_are_told() -> None:
    full = desk()
    full.fill()
    ticket = full.ask()
    full.service.update([route(0, job_id="1")], full.now_s)
    assert isinstance(ticket.refused, NoReplicas)
    with pytest.raises(NoReplicas):
        full.ask()


def test_a_new_attempt_is_a_new_replica() -> None:
    one = desk()
    (first,) = one.service.versions[0].replicas
    one.service.update([Route("chat", "film", 5, None, (replica(attempt=2),), "secret")], one.now_s)
    assert one.service.versions[0].replicas[0] is not first


def test_a_replica_that_is_out_is_used_only_when_there_is_no_other() -> None:
    two = desk(route(2))
    version = two.service.versions[0]
    bad, good = version.replicas
    bad.out = "dead"
    version.sort_out(two.now_s)
    assert {two.ask().replica for _ in range(START)} == {good}
    assert two.ask().replica is None
    good.out = "dead too"
    version.sort_out(two.now_s)
    assert bad.outstanding == 1


def test_two_choices_are_more_even_than_one() -> None:
    """400 requests that never end, on 200 replicas: one random choice each would leave some with six and more."""
    many = desk(route(200))
    for _ in range(400):
        many.ask()
    assert max(state.outstanding for state in many.service.versions[0].replicas) <= START


def test_a_slow_replica_gets_less() -> None:
    two = desk(route(2))
    slow, fast = two.service.versions[0].replicas
    slow.took(0.1, two.now_s)
    fast.took(0.01, two.now_s)
    assert Counter(two.ask().replica for _ in range(START)) == {fast: START}
    two.now_s += 60  # what is old says nothing any more
    assert slow.cost(two.now_s) < 1e-6


def test_the_own_site_first_and_another_when_it_is_full() -> None:
    two = desk(route(2, sites="ab"), site="a")
    here, there = two.service.versions[0].replicas
    assert {two.ask().replica for _ in range(START)} == {here}
    assert {two.ask().replica for _ in range(START)} == {there}
    here.out = "dead"
    two.service.versions[0].sort_out(two.now_s)
    assert two.ask().replica is None


def test_versions_get_their_weight_and_one_without_replicas_none() -> None:
    routes = [
        route(40, job="1", version=1, weight=900),
        route(40, job="2", version=2, weight=100),
        route(0, version=3, weight=9000, job_id="3"),
    ]
    three = desk(*routes)
    drawn = Counter(three.service.draw().number for _ in range(5000))
    assert drawn.keys() == {1, 2}
    assert 400 < drawn[2] < 600


def test_a_version_that_is_full_lets_another_with_room_take_its_request() -> None:
    two = desk(route(1, job="1", version=1, weight=1, slo=10.0), route(9, job="2", version=2, weight=1), max_waiting=1)
    asked = [two.ask() for _ in range(START * 10)]
    assert all(ticket.replica is not None or ticket.refused is None for ticket in asked)
    assert sum(ticket.replica is not None for ticket in asked) >= START * 10 - 2


def test_a_version_that_goes_leaves_its_queue_to_another() -> None:
    two = desk(route(1, job="1", version=1, weight=1000), route(1, job="2", version=2, weight=0))
    for _ in range(START):
        two.ask()
    waits = two.ask()
    assert waits.replica is None
    two.service.update([route(1, job="2", version=2, weight=1000)], two.now_s)
    assert waits.replica is not None
    assert waits.replica.replica.job_id == "2"


def test_who_cannot_be_answered_in_time_is_refused_at_once_with_when() -> None:
    """One at a time, 10 ms each: of requests that are due in 300 ms some thirty are let in, and no more."""
    serial = desk()
    limit = serial.service.versions[0].replicas[0].limit
    for _ in range(200):
        for ticket in [serial.ask() for _ in range(limit.limit)]:
            serial.done(ticket, took_s=0.01)
    for _ in range(20):
        serial.ask(in_s=0.3)
    with pytest.raises(Hopeless) as refused:
        [serial.ask(in_s=0.3) for _ in range(14)]
    assert 0.2 < refused.value.again_in_s < 0.4
    assert serial.ask(in_s=1.0).refused is None


def test_without_a_named_deadline_the_slo_says_when_an_answer_is_wanted() -> None:
    one = desk(route(slo=50.0))
    one.fill()
    assert one.ask(named=False).due_s == pytest.approx(one.now_s + 0.05, abs=0.003)
    assert one.ask(named=True, in_s=7.0).due_s == pytest.approx(one.now_s + 7.0, abs=0.02)


def test_what_became_hopeless_is_dropped_before_it_costs_a_replica_anything() -> None:
    one = desk()
    held = one.fill()
    late, other = one.ask("late", in_s=0.5), one.ask("other", in_s=5.0)
    one.done(held[0], took_s=1.0)
    assert isinstance(late.refused, Hopeless)
    assert other.replica is not None


def test_where_others_hold_all_slots_a_few_urgent_requests_are_sent_at_once() -> None:
    wide = desk(route(priority=9))
    wide.service.versions[0].replicas[0].limit.limit = 16
    assert sum(wide.ask(priority=1).replica is not None for _ in range(20)) == 16
    assert [wide.ask(priority=9).replica is not None for _ in range(5)] == [True] * 4 + [False]


def test_a_request_wakes_a_version_without_replicas_and_waits_past_its_slo() -> None:
    asleep = desk(route(0, job_id="1", wakes=True, slo=10.0))
    ticket = asleep.ask(named=False)
    assert (ticket.replica, asleep.attention) == (None, [1, 1])
    asleep.now_s += 2.0
    asleep.service.update([route(1, wakes=True, slo=10.0)], asleep.now_s)
    assert ticket.replica is not None
    tally = asleep.service.versions[0].tally
    load = tally.window("film", "chat", "1", at_s=1.0, now_s=asleep.now_s, in_flight=1, waiting=0)
    assert load is not None
    assert load.cold_start_s == pytest.approx(2.0)


def test_a_queue_that_begins_calls_for_attention() -> None:
    full = desk()
    full.fill()
    assert full.attention == []
    full.ask()
    full.ask()
    assert full.attention == [1]
