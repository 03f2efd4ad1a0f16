"""May these jobs join the queue? Asked in the loop's thread, before the store is: room, limits, and whether the cluster
could ever run them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from scheduler.core import quotas
from scheduler.core.explain import nearest_possible
from scheduler.core.jobs import JobSpec
from scheduler.core.satisfiable import demand_text
from scheduler.errors import BadInput, Overloaded, Unavailable
from scheduler.ports import Principal
from scheduler.service import reserving, tenants
from scheduler.service.state import ServiceState, superseded_text


def admit(state: ServiceState, specs: Sequence[JobSpec], by: Principal, *, max_live_jobs: int, now_s: float) -> None:
    """Raises Overloaded where there is no room now, BadInput for a job that could never run, Forbidden for one that
    names a reservation which is not for it."""
    if state.superseded_by is not None:
        raise Unavailable(superseded_text(state))
    tasks = sum(max(1, spec.array_size) for spec in specs)
    if len(state.jobs) + tasks > max_live_jobs:
        raise Overloaded(
            f"{len(state.jobs)} jobs are waiting or running and at most {max_live_jobs} may be;"
            " submit again when some have ended"
        )
    _check_limits(state, specs)
    check_possible(state, specs, by, now_s)


def check_possible(state: ServiceState, specs: Sequence[JobSpec], by: Principal, now_s: float) -> None:
    """Could they ever run, for this submitter, whatever waits now? Raises BadInput or Forbidden."""
    for spec in specs:
        _check_maximum(state, spec)
        reserving.check_job(state, spec, by)
        if spec.deadline_at_s is not None and spec.deadline_at_s <= now_s:
            raise BadInput("the deadline is over already; give a later one, or none", field="deadline")
    if not state.cluster.node_names or any(status.facts is None for status in state.nodes.values()):
        return  # after a restart, until every node that carries a job has said what it has
    reserved = reserving.ReservedFit(state)
    for spec in specs:
        workers = max(1, spec.workers_min)
        nearest = nearest_possible(state.cluster, spec.alternatives, workers, spec.constraints)
        if nearest is not None:
            raise BadInput(
                f"this cluster can never take {demand_text(spec.alternatives, workers, spec.constraints)};"
                f" the nearest possible is {nearest}",
                field="resources",
            )
        reserved.check(spec)


def _check_limits(state: ServiceState, specs: Sequence[JobSpec]) -> None:
    """What each tenant may have waiting, on real and on simulated devices."""
    new: dict[tuple[str, bool], list[int]] = defaultdict(lambda: [0, 0])
    for spec in specs:
        jobs = max(1, spec.array_size)
        counts = new[spec.tenant, quotas.is_simulated(spec.alternatives)]
        counts[0] += jobs
        counts[1] += jobs * tenants.asked_milli(spec)
    for tenant in {tenant for tenant, _ in new}:
        limits = state.policy.tenant(tenant)
        if limits.max_queued_jobs is None and limits.max_queued_milli is None:
            continue
        queued_jobs = tenants.queued_jobs(state, tenant)
        new_jobs = sum(jobs for (of, _), (jobs, _) in new.items() if of == tenant)
        for simulated in (False, True):
            said = quotas.submission_limit(
                tenant,
                limits,
                queued_jobs=queued_jobs,
                queued_milli=tenants.queued_milli(state, tenant, simulated),
                new_jobs=new_jobs,
                new_milli=new[tenant, simulated][1] if (tenant, simulated) in new else 0,
                simulated=simulated,
            )
            if said is not None:
                raise Overloaded(said)


def _check_maximum(state: ServiceState, spec: JobSpec) -> None:
    """A job that is larger than its tenant may ever hold would wait for ever."""
    most_milli = state.policy.tenant(spec.tenant).maximum_milli
    asked_milli = tenants.asked_milli(spec)
    if most_milli is not None and asked_milli > most_milli:
        raise BadInput(
            f"this needs {asked_milli / 1000:g} devices at once, and tenant {spec.tenant} may hold at most "
            f"{most_milli / 1000:g}: ask for fewer, or ask an operator to raise the tenant's quota.maximum",
            field="resources",
        )
