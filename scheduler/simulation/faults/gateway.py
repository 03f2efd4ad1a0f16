"""A gateway beside the simulated service: it keeps the newest table of routes, serves by it whoever is killed, and
tells what it sees. Nobody's requests are played one by one: what comes of them is counted for each version.

It is where one promise is looked at: a service whose version is live has all its requests going somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scheduler.ports import Route, ServiceLoad
from scheduler.service.state import ServiceState
from scheduler.simulation.faults.truth import Violation

REPORT_S = 1.0
REQUESTS = 40
"""To each service, between two reports."""


class VirtualGateway:
    """`errors_milli`: by job, how many of a thousand of its answers are errors."""

    def __init__(self) -> None:
        self.table: tuple[Route, ...] = ()
        self.epoch = 0
        self.silent = False
        self.asleep: set[str] = set()
        """Services that nobody asks."""
        self.errors_milli: dict[str, int] = {}

    def take(self, routes: Sequence[Route], epoch: int) -> None:
        if epoch >= self.epoch:
            self.table, self.epoch = tuple(routes), epoch

    def loads(self, at_s: float) -> list[ServiceLoad]:
        """Of deployed versions, since the last report."""
        return [self._load(route, at_s) for route in self.table if route.service.startswith("svc-")]

    def _load(self, route: Route, at_s: float) -> ServiceLoad:
        arrivals = 0 if route.service in self.asleep else REQUESTS * route.weight // 1000
        there = bool(route.replicas)
        errors = arrivals * self.errors_milli.get(route.job_id, 0) // 1000 if there else 0
        answered = arrivals - errors if there else 0
        return ServiceLoad(
            tenant=route.tenant,
            service=route.service,
            job_id=route.job_id,
            at_s=at_s,
            window_s=REPORT_S,
            arrivals=arrivals,
            answered=answered,
            errors=errors,
            within_slo=answered,
            refused=0 if there else arrivals,
            hopeless=0,
            in_flight=0,
            waiting=arrivals if route.wakes and not there else 0,
            service_s=0.05 if answered else None,
            p50_s=0.05 if answered else None,
            p95_s=0.06 if answered else None,
            p99_s=0.07 if answered else None,
            idle_s=0.0 if arrivals else 3600.0,
        )

    def check(self, state: ServiceState) -> None:
        """That the table, which is of this service, sends all requests of each service somewhere."""
        weights: dict[tuple[str, str], Mapping[int, int]] = {}
        for route in self.table:
            key = route.tenant, route.service
            weights[key] = {**weights.get(key, {}), route.version: route.weight}
        for key, found in state.deployed.items():
            live = found.live
            if found.deleted or live is None or live.job_id not in state.jobs:
                continue
            told = weights.get(key, {})
            if live.number not in told or sum(told.values()) != 1000:
                said = f"version {live.number} of {key[1]} is live, and the weights are {dict(told)}: {found}"
                raise Violation("routed", said)
