"""The gateway's queue in front of replicas that only exist in virtual time: Poisson arrivals, open loop."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull, Site, Ticket
from scheduler.gateway.versions import Service
from scheduler.ports import Replica, Route

GATHER_S = 0.0001
WAY_S = 0.0002  # between gateway and replica, there and back


@dataclass(frozen=True)
class Stream:
    """Callers of one class. `slo_s` is the deadline that they name."""

    rate_per_s: float
    slo_s: float
    priority: int


@dataclass
class Fate:
    offered: int = 0
    within: int = 0
    late: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)

    def quantile_s(self, q: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Simulated(Ticket):
    def __init__(self, world: World, stream: Stream) -> None:
        super().__init__(stream.priority, world.now_s + stream.slo_s, world.now_s, deadline_named=True)
        self.world = world
        self.stream = stream
        self.fate = world.fates[stream]

    def granted(self, replica: ReplicaState, now_s: float) -> None:
        self.world.servers[id(replica)].take(self, replica)

    def turned_away(self, why: Exception) -> None:
        assert isinstance(why, Hopeless | QueueFull | NoReplicas)
        self.fate.refused += 1


class Server:
    """Takes what is there, up to `batch` at once, for `first_s` and `each_s` for each (some percent more or less)."""

    def __init__(self, world: World, batch: int, first_s: float, each_s: float) -> None:
        self.world, self.batch, self.first_s, self.each_s = world, batch, first_s, each_s
        self.queue: list[tuple[Simulated, ReplicaState]] = []
        self.running: list[tuple[Simulated, ReplicaState]] = []
        self.gathers = False
        self.by_priority = False

    def take(self, ticket: Simulated, replica: ReplicaState) -> None:
        self.queue.append((ticket, replica))
        if not self.running and not self.gathers:  # what comes in the same moment is in the same batch
            self.gathers = True
            self.world.at(self.world.now_s + GATHER_S, self.begin)

    def begin(self) -> None:
        self.gathers = False
        if self.by_priority:
            self.queue.sort(key=lambda one: -one[0].priority)
        self.running, self.queue = self.queue[: self.batch], self.queue[self.batch :]
        if self.running:
            takes_s = (self.first_s + self.each_s * len(self.running)) * self.world.rng.uniform(0.97, 1.03)
            self.world.at(self.world.now_s + takes_s, self.end)

    def end(self) -> None:
        done, self.running = self.running, []
        if self.queue:
            self.begin()
        for ticket, replica in done:
            self.world.at(self.world.now_s + WAY_S, lambda ticket=ticket, replica=replica: self.tell(ticket, replica))

    def tell(self, ticket: Simulated, replica: ReplicaState) -> None:
        world = self.world
        fate = ticket.fate
        latency_s = world.now_s - ticket.arrived_s
        fate.latencies_s.append(latency_s)
        if latency_s <= ticket.stream.slo_s:
            fate.within += 1
        else:
            fate.late += 1
        ticket.version.done(ticket, replica, world.now_s, answered=True)


class World:
    def __init__(
        self, streams: list[Stream], *, replicas: int = 1, batch: int = 1, first_s: float = 0.0, each_s: float = 0.01
    ) -> None:
        self.rng = random.Random(11)
        self.now_s = 1000.0
        self.fates = {stream: Fate() for stream in streams}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.service = Service("film", "chat", Site(random.Random(5)))
        told = tuple(Replica("1", worker, 1, f"10.0.0.1:{worker + 1}", False) for worker in range(replicas))
        self.service.update(
            [Route("chat", "film", max(stream.priority for stream in streams), None, told, "")], self.now_s
        )
        states = self.service.versions[0].replicas
        self.servers = {id(state): Server(self, batch, first_s, each_s) for state in states}

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when_s, self._number, what))

    def run(self, seconds: float, *, warm_s: float = 3.0) -> dict[Stream, Fate]:
        """What became of the requests of the `seconds` after `warm_s`."""
        until_s = self.now_s + warm_s + seconds
        for stream in self.fates:
            self._arrive(stream, until_s)
        self._look()
        self.at(self.now_s + warm_s, self._forget)
        while self._events and self._events[0][0] <= until_s + 6.0:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
        return self.fates

    def _forget(self) -> None:
        for stream in self.fates:
            self.fates[stream] = Fate()

    def _arrive(self, stream: Stream, until_s: float) -> None:
        when_s = self.now_s + self.rng.expovariate(stream.rate_per_s)
        if when_s < until_s:
            self.at(when_s, lambda: self._ask(stream, until_s))

    def _ask(self, stream: Stream, until_s: float) -> None:
        self._arrive(stream, until_s)
        self.fates[stream].offered += 1
        ticket = Simulated(self, stream)
        self.service.arrived(ticket, self.now_s)
        try:
            self.service.ask(ticket, self.now_s)
        except (Hopeless, QueueFull, NoReplicas) as why:
            ticket.turned_away(why)

    def _look(self) -> None:
        """As the gateway does, some fifty times a second."""
        self.service.versions[0].hand_out(self.now_s)
        self.at(self.now_s + 0.02, self._look)
