"""May these jobs join the queue? Asked in the loop's thread, before the store is: room, limits, and whether the cluster
could ever run them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from scheduler.core import quotas
from scheduler.core.demand import Constraints, Demand
from scheduler.core.explain import nearest_possible
from scheduler.core.jobs import JobKind, JobSpec
from scheduler.core.satisfiable import demand_text
from scheduler.errors import BadInput, Overloaded, Unavailable
from scheduler.ports import Principal
from scheduler.service import deployment_requests, reserving, tenants
from scheduler.service.planner_words import asked_milli
from scheduler.service.state import ServiceState, superseded_text


class Admission:
    """For submissions that come together: what is admitted counts for those after it. Good for one moment."""

    def __init__(self, state: ServiceState, *, max_live_jobs: int, now_s: float) -> None:
        self._state = state
        self._max_live_jobs = max_live_jobs
        self._now_s = now_s
        self._jobs = len(state.jobs)
        self._queued: dict[str, int] = {}
        """By tenant: jobs that wait, with those that were admitted."""
        self._queued_milli: dict[tuple[str, bool], int] = {}
        """By tenant and whether on simulated devices."""
        self._nearest: dict[tuple[tuple[Demand, ...], int, Constraints], str | None] = {}

    def admit(self, specs: Sequence[JobSpec], by: Principal) -> None:
        """Raises Overloaded where there is no room now, BadInput for a job that could never run, Forbidden for one that
        names a reservation which is not for it."""
        state = self._state
        if state.superseded_by is not None:
            raise Unavailable(superseded_text(state))
        tasks = sum(max(1, spec.array_size) for spec in specs)
        if self._jobs + tasks > self._max_live_jobs:
            raise Overloaded(
                f"{self._jobs} jobs are waiting or running and at most {self._max_live_jobs} may be;"
                " submit again when some have ended"
            )
        new = _counted(specs)
        self._check_limits(new)
        self.check(specs, by)
        self._count(tasks, new)

    def count(self, specs: Sequence[JobSpec]) -> None:
        """These were admitted already, and the state does not hold their jobs yet."""
        self._count(sum(max(1, spec.array_size) for spec in specs), _counted(specs))

    def _count(self, tasks: int, new: dict[tuple[str, bool], tuple[int, int]]) -> None:
        self._jobs += tasks
        for (tenant, simulated), (jobs, milli) in new.items():
            self._queued[tenant] = self._queued_jobs(tenant) + jobs
            self._queued_milli[tenant, simulated] = self._queued_devices(tenant, simulated) + milli

    def check(self, specs: Sequence[JobSpec], by: Principal) -> None:
        """Could they ever run, for this submitter, whatever waits now? Raises BadInput or Forbidden."""
        state = self._state
        for spec in specs:
            _check_maximum(state, spec)
            reserving.check_job(state, spec, by)
            if spec.kind is JobKind.INFERENCE:
                check_service = deployment_requests.check_deploy if spec.deployed else deployment_requests.check_plain
                check_service(state, (spec.tenant, spec.name))
            if spec.deadline_at_s is not None and spec.deadline_at_s <= self._now_s:
                raise BadInput("the deadline is over already; give a later one, or none", field="deadline")
        if not state.cluster.node_names or any(status.facts is None for status in state.nodes.values()):
            return  # after a restart, until every node that carries a job has said what it has
        for spec in specs:
            workers = max(1, spec.workers_min)
            asked = (spec.alternatives, workers, spec.constraints)
            if asked not in self._nearest:
                self._nearest[asked] = nearest_possible(state.cluster, *asked)
            if (nearest := self._nearest[asked]) is not None:
                raise BadInput(
                    f"this cluster can never take {demand_text(*asked)}; the nearest possible is {nearest}",
                    field="resources",
                )
            self._reserved.check(spec)

    @cached_property
    def _reserved(self) -> reserving.ReservedFit:
        return reserving.ReservedFit(self._state)

    def _queued_jobs(self, tenant: str) -> int:
        if tenant not in self._queued:
            self._queued[tenant] = tenants.queued_jobs(self._state, tenant)
        return self._queued[tenant]

    def _queued_devices(self, tenant: str, simulated: bool) -> int:
        if (tenant, simulated) not in self._queued_milli:
            self._queued_milli[tenant, simulated] = tenants.queued_milli(self._state, tenant, simulated)
        return self._queued_milli[tenant, simulated]

    def _check_limits(self, new: dict[tuple[str, bool], tuple[int, int]]) -> None:
        """What each tenant may have waiting, on real and on simulated devices."""
        for tenant in {tenant for tenant, _ in new}:
            limits = self._state.policy.tenant(tenant)
            if limits.max_queued_jobs is None and limits.max_queued_milli is None:
                continue
            new_jobs = sum(jobs for (of, _), (jobs, _) in new.items() if of == tenant)
            for simulated in (False, True):
                said = quotas.submission_limit(
                    tenant,
                    limits,
                    queued_jobs=self._queued_jobs(tenant),
                    queued_milli=self._queued_devices(tenant, simulated),
                    new_jobs=new_jobs,
                    new_milli=new.get((tenant, simulated), (0, 0))[1],
                    simulated=simulated,
                )
                if said is not None:
                    raise Overloaded(said)


def _counted(specs: Sequence[JobSpec]) -> dict[tuple[str, bool], tuple[int, int]]:
    """By tenant and whether on simulated devices: jobs, and what they ask for."""
    new: dict[tuple[str, bool], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for spec in specs:
        tasks = max(1, spec.array_size)
        account = spec.tenant, quotas.is_simulated(spec.alternatives)
        jobs, milli = new[account]
        new[account] = jobs + tasks, milli + tasks * asked_milli(spec)
    return dict(new)


def _check_maximum(state: ServiceState, spec: JobSpec) -> None:
    """A job that is larger than its tenant may ever hold would wait for ever."""
    most_milli = state.policy.tenant(spec.tenant).maximum_milli
    milli = asked_milli(spec)
    if most_milli is not None and milli > most_milli:
        raise BadInput(
            f"this needs {milli / 1000:g} devices at once, and tenant {spec.tenant} may hold at most "
            f"{most_milli / 1000:g}: ask for fewer, or ask an operator to raise the tenant's quota.maximum",
            field="resources",
        )
