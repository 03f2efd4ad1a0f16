"""What the gateway is to know: one route a live service, with the replicas that answer now."""

from __future__ import annotations

from scheduler.core.jobs import Job, WorkerPhase
from scheduler.ports import Replica, Route
from scheduler.service.dispatch import replica_secret
from scheduler.service.state import ServiceState, serves, workers_of


def routes(state: ServiceState) -> tuple[Route, ...]:
    """A service that waits or is being stopped has a route without replicas: it is known, and nothing goes to it."""
    return tuple(_route(state, state.jobs[job_id]) for job_id in sorted(state.services))


def _route(state: ServiceState, job: Job) -> Route:
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
    spec = job.spec
    return Route(spec.name, spec.tenant, spec.priority, spec.slo_p99_ms, replicas, replica_secret(state.secret, job.id))
