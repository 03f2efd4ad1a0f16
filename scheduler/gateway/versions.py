"""Which version of a service takes a request? Drawn by weight when it comes; another one where that cannot have it."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.gateway.rates import TokenBucket
from scheduler.gateway.routing import Hopeless, NoReplicas, QueueFull, Site, Ticket, Version
from scheduler.ports import Route


class Service:
    """All versions of one service of one tenant."""

    def __init__(self, tenant: str, name: str, at: Site) -> None:
        self.tenant = tenant
        self.name = name
        self.priority = 0
        self.hosts: frozenset[str] = frozenset()
        self.tenant_rate_per_s: float | None = None
        self.bucket: TokenBucket | None = None  # of the tenant, shared by its services
        self.versions: list[Version] = []
        self._at = at

    def update(self, routes: Sequence[Route], now_s: float) -> None:
        """Take over its versions, one a route."""
        self.priority = max(route.priority for route in routes)
        self.hosts = frozenset(host.lower() for route in routes for host in route.hosts)
        self.tenant_rate_per_s = next(
            (route.tenant_rate_per_s for route in routes if route.tenant_rate_per_s is not None), None
        )
        old = {(version.number, version.job_id): version for version in self.versions}
        self.versions = []
        for route in routes:
            job_id = route.job_id or next((replica.job_id for replica in route.replicas), "")
            version = old.pop((route.version, job_id), None) or self._of_unnamed(route, job_id, old)
            if version is None:
                version = Version(self.tenant, self.name, route.version, self._at, now_s)
            self.versions.append(version)
            version.update(route, now_s)
        for gone in old.values():
            self._close(gone, now_s)

    def close(self, now_s: float) -> None:
        for version in self.versions:
            version.close(now_s)
        self.versions = []

    def draw(self) -> Version:
        """The version of a request: by weight among those with replicas; without any, one that can be woken."""
        ready = [version for version in self.versions if version.replicas]
        if not ready:
            ready = [version for version in self.versions if version.wakes]
            if not ready:
                return max(self.versions, key=lambda version: version.weight)
        total = sum(version.weight for version in ready)
        left = self._at.rng.random() * total
        for version in ready:
            left -= version.weight
            if left < 0:
                return version
        return ready[-1]

    def arrived(self, ticket: Ticket, now_s: float) -> None:
        """Give it a version, and count it there."""
        version = self.versions[0] if len(self.versions) == 1 else self.draw()
        ticket.version = version
        tally = version.tally
        tally.arrivals += 1
        tally.last_arrival_s = now_s
        ticket.counts = counts = tally.classes.get(ticket.priority) or tally.of(ticket.priority)
        counts.requests += 1

    def ask(self, ticket: Ticket, now_s: float) -> None:
        """As Version.ask, of its version; of another that has room at once where that one turns it away."""
        try:
            ticket.version.ask(ticket, now_s)
        except (NoReplicas, QueueFull, Hopeless):
            mine = ticket.version
            for other in self.versions:
                if other is not mine and other.weight and other.has_free(ticket, now_s):
                    ticket.version = other
                    ticket.counts = other.tally.of(ticket.priority)
                    other.ask(ticket, now_s)
                    return
            raise

    def _of_unnamed(self, route: Route, job_id: str, old: dict[tuple[int, str], Version]) -> Version | None:
        """A route that named no job while it had no replica is still the same version when it has one."""
        for key in old:
            if key[0] == route.version and (not key[1] or not job_id):
                return old.pop(key)
        return None

    def _close(self, gone: Version, now_s: float) -> None:
        """Who waits for a version that has gone is taken over by another."""
        waiting = list(gone.queue)
        for ticket in waiting:
            gone.queue.remove(ticket)
        gone.close(now_s)
        for ticket in waiting:
            if not self.versions:
                ticket.turned_away(NoReplicas())
                continue
            ticket.version = self.draw()
            try:
                ticket.version.ask(ticket, now_s)
            except (NoReplicas, QueueFull, Hopeless) as why:
                ticket.turned_away(why)
