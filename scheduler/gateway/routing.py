"""Which replica takes a request, and who waits for one? A version of a service has replicas and a queue.

A request goes to the cheaper
(replica_state.py) of two replicas drawn at random, which is nearly as even as asking all (Mitzenmacher, "The power of
two choices in randomized load balancing", 2001), of the gateway's own site first. Where all hold as many as they should
(limits.py) it waits here, so that an urgent one that comes late still overtakes (admission.py).

Nothing here waits: a request is told what becomes of it by a call, at once or later. Times are time.monotonic()'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from scheduler.gateway.admission import AdmissionQueue, headroom, slack_s
from scheduler.gateway.replica_state import ReplicaState, identity_of
from scheduler.gateway.tallies import ClassCounts, Tally
from scheduler.gateway.upstream import ConnectionPool
from scheduler.ports import Route

MAX_WAITING = 1024
PRESSED_S = 0.5  # for so long after a request was turned away more would have been sent if they might
RATE_KEPT_S = 0.005  # for so long the sum of the replicas' rates is not summed up anew


class NoReplicas(Exception):
    """The version has no replica that could take the request."""


class QueueFull(Exception):
    """As many requests wait as may, none of them less urgent than this one."""


class Hopeless(Exception):
    """It cannot be answered when it is due. `again_in_s`: when there is likely room."""

    def __init__(self, again_in_s: float) -> None:
        super().__init__(f"no room for {again_in_s:.3f} s")
        self.again_in_s = again_in_s


class Ticket:
    """A request as the queue sees it. `until_s`: its deadline; `due_s`: when its answer is wanted, which is the
    deadline where the caller named one (`deadline_named`), else what the version's SLO asks, less some slack. `held`:
    what its replica held when it was given to it, itself included; `lower_class`: below the version's own priority."""

    __slots__ = (
        "arrived_s",
        "counts",
        "deadline_named",
        "due_s",
        "held",
        "lower_class",
        "order",
        "priority",
        "queued_s",
        "sent_s",
        "until_s",
        "version",
        "wakes",
    )

    def __init__(self, priority: int, until_s: float, arrived_s: float, *, deadline_named: bool) -> None:
        self.priority = priority
        self.until_s = self.due_s = until_s
        self.arrived_s = arrived_s
        self.deadline_named = deadline_named
        self.order = (0, 0.0, 0)
        self.held = 0
        self.lower_class = False
        self.queued_s = 0.0
        self.sent_s = 0.0
        self.wakes = False
        self.version: Version
        self.counts: ClassCounts

    def granted(self, replica: ReplicaState, now_s: float) -> None:
        """It has a slot of `replica`, to be given back by `Version.done`."""
        raise NotImplementedError

    def turned_away(self, why: Exception) -> None:
        """It waited and will not get one: NoReplicas, QueueFull or Hopeless."""
        raise NotImplementedError


class Site:
    """What all services share: where this gateway is, chance, and who is told when something needs attention."""

    def __init__(
        self,
        rng: random.Random,
        *,
        node: str = "",
        site: str = "",
        max_waiting: int = MAX_WAITING,
        attention: Callable[[], None] = lambda: None,
        suspect: Callable[[Version, ReplicaState], None] = lambda version, state: None,
        appeared: Callable[[Version, ReplicaState], None] = lambda version, state: None,
    ) -> None:
        self.rng = rng
        self.node = node
        self.site = site
        self.max_waiting = max_waiting
        self.attention = attention
        self.suspect = suspect  # a replica's idle connection broke
        self.appeared = appeared  # a replica is new
        self.busy: set[Version] = set()  # versions with requests, and some that had


class Version:
    """One version of one service: ask for a slot with `ask`, give it back with `done`."""

    def __init__(self, tenant: str, service: str, number: int, at: Site, now_s: float) -> None:
        self.tenant = tenant
        self.service = service
        self.number = number
        self.job_id = ""
        self.priority = 0
        self.weight = 0
        self.slo_s: float | None = None
        self.wakes = False
        self.replicas: list[ReplicaState] = []
        self.tally = Tally(now_s)
        self.queue: AdmissionQueue[Ticket] = AdmissionQueue(max_waiting=at.max_waiting)
        self._at = at
        self._random = at.rng.random
        self._near: list[ReplicaState] = []
        self._far: list[ReplicaState] = []
        self._rate_per_s: float | None = None
        self._rate_at_s = -1.0
        self._refused_at_s = -PRESSED_S  # when one was last turned away for want of room

    @property
    def in_flight(self) -> int:
        return sum(replica.outstanding for replica in self.replicas)

    # ---- the table -----------------------------------------------------------------------------------------------

    def update(self, route: Route, now_s: float) -> None:
        """Take over what `route` says. Replicas that stay keep their connections and their load; one that is gone
        finishes what it has and gets nothing more."""
        self.priority, self.weight, self.wakes = route.priority, route.weight, route.wakes
        self.job_id = route.job_id or next((replica.job_id for replica in route.replicas), self.job_id)
        self.slo_s = None if route.slo_p99_ms is None else route.slo_p99_ms / 1e3
        old = {state.identity: state for state in self.replicas}
        self.replicas = []
        new: list[ReplicaState] = []
        for replica in route.replicas:
            state = old.pop(identity_of(replica, route.secret), None)
            if state is None:
                near = replica.node != "" and replica.node == self._at.node
                pool = ConnectionPool(replica.address, replica.unix_path if near else None)
                state = ReplicaState(replica, route.secret, pool)
                pool.when_lost(partial(self._at.suspect, self, state))
                new.append(state)
            self.replicas.append(state)
        for gone in old.values():
            gone.pool.close()
        self.sort_out(now_s)
        for state in new:
            self._at.appeared(self, state)

    def close(self, now_s: float) -> None:
        """The version is gone: whoever waits is told so."""
        for state in self.replicas:
            state.pool.close()
        self.replicas = []
        self.wakes = False
        self.sort_out(now_s)

    def sort_out(self, now_s: float) -> None:
        """To be called when a replica came, went, or its `out` changed."""
        usable = [state for state in self.replicas if state.out is None] or self.replicas
        here = self._at.site
        self._near = [state for state in usable if not here or state.replica.site in (here, "")]
        self._far = [state for state in usable if here and state.replica.site not in (here, "")]
        self._rate_at_s = -1.0
        self.hand_out(now_s)

    # ---- requests ------------------------------------------------------------------------------------------------

    def ask(self, ticket: Ticket, now_s: float) -> None:
        """Grant it a slot, or let it wait. Raises NoReplicas, QueueFull or Hopeless where it is turned away at once."""
        queue = self.queue
        priority = ticket.priority
        queue.arrivals.note(priority, now_s)
        self._at.busy.add(self)
        first = queue.first()
        # Who comes now does not overtake those who wait before it in the order.
        if first is None or first.priority < priority:
            free = self.pick(priority < self.priority, now_s)
            if free is not None:
                self._grant(ticket, free, now_s)
                return
        if not self.replicas:
            if not self.wakes:
                raise NoReplicas
            ticket.wakes = True
            self._at.attention()
        else:
            wanted_s = ticket.until_s - ticket.arrived_s
            if self.slo_s is not None and not ticket.deadline_named:
                wanted_s = min(wanted_s, self.slo_s)
            ticket.due_s = ticket.arrived_s + wanted_s - slack_s(wanted_s)
            wait_s = queue.predicted_wait_s(priority, ticket.due_s, self.rate_per_s(now_s), now_s)
            if not queue.in_time(wait_s, ticket.due_s, now_s, lower_class=priority < self.priority):
                self._refused_at_s = now_s
                raise Hopeless(wait_s)
        leaves = queue.push(ticket)
        if leaves is ticket:
            raise QueueFull
        if leaves is not None:
            leaves.turned_away(QueueFull())
        if len(queue) == 1:
            self._at.attention()

    def has_free(self, ticket: Ticket, now_s: float) -> bool:
        return self.queue.first() is None and self.pick(ticket.priority < self.priority, now_s) is not None

    def withdraw(self, ticket: Ticket) -> bool:
        """It gave up. Whether it still waited."""
        return self.queue.remove(ticket)

    def another(self, ticket: Ticket, failed: ReplicaState, now_s: float) -> ReplicaState:
        """For a request that `failed` has lost: another replica at once, past the queue. Raises NoReplicas.

        Where there is no other it is `failed` again: it may only have closed a connection that was idle.
        """
        others = [state for state in self.replicas if state is not failed] or self.replicas
        if not others:
            raise NoReplicas
        chosen = min(others, key=lambda state: (state.out is not None, state.cost(now_s)))
        self._hold(ticket, chosen, now_s)
        return chosen

    def done(self, ticket: Ticket, replica: ReplicaState, now_s: float, *, answered: bool) -> None:
        """Give the slot back. `answered`: the time that it took counts."""
        replica.outstanding -= 1
        replica.lower -= ticket.lower_class
        assert replica.outstanding >= 0, f"replica {replica.identity} released more often than acquired"
        queue = self.queue
        if answered:
            taken_s = now_s - ticket.sent_s
            replica.took(taken_s, now_s)
            pressed = len(queue) > 0 or now_s - self._refused_at_s < PRESSED_S
            replica.limit.answered(ticket.held, taken_s, waiting=pressed, fed=ticket.queued_s > 0.0)
            queue.answered(taken_s, lower_class=ticket.lower_class)
            if replica.out is not None:
                replica.out = None
                self.sort_out(now_s)
        if len(queue):
            self.hand_out(now_s)

    def pick(self, lower_class: bool, now_s: float) -> ReplicaState | None:
        """A replica that may be given one more."""
        for group in (self._near, self._far):
            count = len(group)
            if count == 1:
                if _free(group[0], lower_class):
                    return group[0]
            elif count:
                one = int(self._random() * count)
                other = int(self._random() * (count - 1))
                if other >= one:
                    other += 1
                first, second = group[one], group[other]
                first_free, second_free = _free(first, lower_class), _free(second, lower_class)
                if first_free and second_free:
                    return first if first.better_than(second, now_s) else second
                if first_free or second_free:
                    return first if first_free else second
                free = [state for state in group if _free(state, lower_class)]
                if free:
                    return min(free, key=lambda state: state.cost(now_s))
        return None

    def hand_out(self, now_s: float) -> None:
        """Give those who wait what is free, in their order. Drops those that have become hopeless."""
        queue = self.queue
        if not len(queue):
            return
        if not self.replicas:
            if not self.wakes:
                while len(queue):
                    queue.pop().turned_away(NoReplicas())
            return
        for dropped in queue.drop_hopeless(now_s, self.priority):
            dropped.turned_away(Hopeless(1.0))
        while (first := queue.first()) is not None:
            free = self.pick(first.priority < self.priority, now_s)
            if free is None:
                return
            self._grant(queue.pop(), free, now_s)

    def rate_per_s(self, now_s: float) -> float | None:
        """Answers a second of all replicas together; those that have not answered yet count as the others do."""
        if now_s - self._rate_at_s > RATE_KEPT_S:
            usable = [*self._near, *self._far]
            known = [rate for state in usable if (rate := state.limit.rate_per_s()) is not None]
            self._rate_per_s = sum(known) / len(known) * len(usable) if known else None
            self._rate_at_s = now_s
        return self._rate_per_s

    def _grant(self, ticket: Ticket, replica: ReplicaState, now_s: float) -> None:
        if ticket.wakes:
            ticket.wakes = False
            self.tally.cold_started(now_s - ticket.arrived_s)
        self._hold(ticket, replica, now_s)
        ticket.queued_s = now_s - ticket.arrived_s
        ticket.granted(replica, now_s)

    def _hold(self, ticket: Ticket, replica: ReplicaState, now_s: float) -> None:
        if not replica.outstanding:
            replica.progress_s = now_s
        replica.outstanding += 1
        ticket.lower_class = ticket.priority < self.priority
        replica.lower += ticket.lower_class
        ticket.held = replica.outstanding
        ticket.sent_s = now_s


def _free(state: ReplicaState, lower_class: bool) -> bool:
    limit = state.limit.limit
    if state.outstanding < limit:
        return True
    return not lower_class and state.lower > 0 and state.outstanding - state.lower < headroom(limit)
