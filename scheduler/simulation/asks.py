"""What follows from a job's spec alone, found out once for all jobs of a workload that share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.core.cluster import ClusterState
from scheduler.core.jobs import JobSpec
from scheduler.core.packing.shapes import Shape
from scheduler.core.quotas import is_simulated
from scheduler.core.satisfiable import demand_text, nearest_possible
from scheduler.service.planner_words import asked_milli
from scheduler.simulation.tenant_time import Account


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """`milli`: what the smallest gang asks for, in thousandths of devices. `shape`: as typical work. `impossible`: why
    the cluster can never take it, in the service's words; None: it can. Then the accounts on which it waits and holds.
    """

    spec: JobSpec
    milli: int
    shape: Shape
    impossible: str | None
    waits_on: Account
    holds_on: Account


class Asks:
    """`account`: the account of a tenant, of real (False) or simulated devices. The cluster's nodes do not change."""

    __slots__ = ("_account", "_cluster", "_known")

    def __init__(self, cluster: ClusterState, account: Callable[[str, bool], Account]) -> None:
        self._cluster = cluster
        self._account = account
        self._known: dict[int, Ask] = {}  # by the spec's identity, which is its own as long as it is kept here

    def of(self, spec: JobSpec) -> Ask:
        found = self._known.get(id(spec))
        if found is None:
            found = self._known[id(spec)] = Ask(
                spec,
                asked_milli(spec),
                Shape.of(spec.alternatives[0]),
                self._impossible(spec),
                self._account(spec.tenant, False),
                self._account(spec.tenant, is_simulated(spec.alternatives)),
            )
        return found

    def _impossible(self, spec: JobSpec) -> str | None:
        workers = max(1, spec.workers_min)
        nearest = nearest_possible(self._cluster.nodes, spec.alternatives, workers, spec.constraints)
        if nearest is None:
            return None
        wanted = demand_text(spec.alternatives, workers, spec.constraints)
        return f"the cluster can never take {wanted}; the nearest that it could take is {nearest}"
