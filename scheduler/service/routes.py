"""What the gateway is to know: one route a live service, with the replicas that answer now."""

from __future__ import annotations

from scheduler.core import rollout
from scheduler.core.jobs import Job, Stopping, WorkerPhase
from scheduler.ports import Replica, Route
from scheduler.service.autoscaling import may_sleep
from scheduler.service.dispatch import replica_secret
from scheduler.service.job_facts import serves, workers_of
from scheduler.service.state import ServiceState


def routes(state: ServiceState) -> tuple[Route, ...] | None:
    """The whole table, or None where it is as it was published. Only what changed is made anew: there may be a thousand
    services, and this is asked after every batch.

    A service that waits or is being stopped has a route without replicas: it is known, and nothing goes to it. A
    version that serves nothing has one until its last replica has gone."""
    changed = False
    for job_id in state.routes_changed:
        job = state.jobs.get(job_id) if job_id in state.services else None
        route = None if job is None else _route(state, job)
        if route is None:
            changed |= state.routes.pop(job_id, None) is not None
        elif state.routes.get(job_id) != route:
            state.routes[job_id] = route
            changed = True
    state.routes_changed.clear()
    if not changed and state.published is not None:
        return None
    return tuple(state.routes[job_id] for job_id in sorted(state.routes))


def _route(state: ServiceState, job: Job) -> Route | None:
    replicas = tuple(
        Replica(
            job.id,
            run.placement.worker,
            run.attempt,
            run.address,
            state.simulated(job, run.placement),
            node=run.placement.node,
            site=state.cluster.facts(run.placement.node).site if run.placement.node in state.cluster else "",
            unix_path=run.unix_path,
        )
        for run in (workers_of(job) if serves(job) else ())
        if run.phase is WorkerPhase.READY
        and run.address is not None
        # Before a replica is told to go for good, nothing is sent to it any more.
        and (job.id, run.placement.worker) not in state.leaving
    )
    spec, number, weight = job.spec, 1, rollout.WHOLE
    key = state.version_of.get(job.id)
    if key is not None:
        version = state.deployed[key].version_of(job.id)
        assert version is not None, job.id
        number, weight = version.number, state.deployed[key].weight(version.number)
        if not weight and not replicas and job.id in state.stopped_versions:
            return None
    return Route(
        spec.name,
        spec.tenant,
        spec.priority,
        spec.slo_p99_ms,
        replicas,
        replica_secret(state.secret, job.id),
        version=number,
        weight=weight,
        hosts=spec.hosts,
        tenant_rate_per_s=state.request_rates.get(spec.tenant),
        job_id=job.id,
        wakes=weight > 0 and may_sleep(job) and not isinstance(job.state, Stopping),
    )
