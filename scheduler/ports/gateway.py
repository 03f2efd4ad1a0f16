"""What does a gateway know of services, and what does it tell of their load?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Replica:
    """`node` and `site` say where it runs. `unix_path` is a socket on that node on which it answers too: for a gateway
    on the same node, and no other."""

    job_id: str
    worker: int
    attempt: int
    address: str  # host:port
    simulated: bool
    node: str = ""
    site: str = ""
    unix_path: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One version of a service as the gateway sees it: one job. `secret` is what the gateway shows to the replicas.

    Versions of one service are routes with the same tenant and name. `weight` is this one's part of the requests, out
    of the sum of all weights. `tenant_rate_per_s` bounds what the tenant's callers may send to all its services
    together; None: nothing does. `wakes`: without a replica, a request waits for one that it causes to be started.
    `job_id` names the version in ServiceLoad; "": the gateway takes it from the replicas.
    """

    service: str
    tenant: str
    priority: int
    slo_p99_ms: float | None
    replicas: tuple[Replica, ...]
    secret: str
    version: int = 1
    weight: int = 1000
    hosts: tuple[str, ...] = ()
    tenant_rate_per_s: float | None = None
    wakes: bool = False
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """What one gateway saw of one version of a service in the `window_s` that end at `at_s` (the gateway's epoch
    seconds). Counts are of requests; times are of those answered in the window, None where there were none.

    `arrivals` are all that came, refused ones too. `errors`: answers of 5xx that came from a replica, and replicas that
    died under a request. `within_slo`: of `answered`, those within the version's SLO. `hopeless`: refused or dropped
    because they could not have been answered in time. `service_s` is the mean time that a replica had a request.
    `cold_start_s`: the longest that a request of the window waited for a first replica.
    """

    tenant: str
    service: str
    job_id: str
    at_s: float
    window_s: float
    arrivals: int
    answered: int
    errors: int
    within_slo: int
    refused: int
    hopeless: int
    in_flight: int
    waiting: int
    service_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    idle_s: float  # since the last request came, or since the gateway knows the version
    cold_start_s: float | None = None


class GatewayControl(Protocol):
    def publish(self, routes: Sequence[Route], *, epoch: int) -> None:
        """Replace the whole table. Never blocks the caller for long; a gateway that is away gets it when it is back.
        One that has heard a service of a higher epoch takes nothing from this one any more."""
        ...
