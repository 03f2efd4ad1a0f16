"""What is the planner told of a job that waits or runs, and of typical work? Of the job alone: by the service of each
that changes, by a simulation of each that comes, starts or goes. So this file needs nothing of the service.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.decisions import PendingJob, RunningJob
from scheduler.core.demand import Demand, linked
from scheduler.core.jobs import ON_NODES, EndCause, Job, JobKind, JobSpec, Stopping
from scheduler.core.quick import replaced
from scheduler.core.quotas import is_simulated, worker_milli

# How fast it forgets what kinds of work were submitted.
WORK_HALF_LIFE_S = 7 * 86_400.0
# Of a site where every job asks for something else, the most frequent shapes stand for all.
MOST_SHAPES = 100


def asked_milli(spec: JobSpec) -> int:
    """What the smallest gang of the job asks for."""
    return max(1, spec.workers_min) * worker_milli(spec.alternatives)


def replica_name(job_id: str, worker: int) -> str:
    """A single replica's name among jobs' ids."""
    return f"{job_id}/replica-{worker}"


def pending_job(job: Job) -> PendingJob:
    spec = job.spec
    wanted = spec.workers_max if job.workers_wanted is None else job.workers_wanted
    return PendingJob(
        job_id=job.id,
        seq=job.seq,
        tenant=spec.tenant,
        priority=spec.priority,
        submitted_s=job.submitted_s,
        # A service that may be scaled to nothing waits for its first replica like any other.
        workers_min=max(1, min(spec.workers_min, wanted)),
        workers_max=max(1, wanted),
        alternatives=_alternatives(spec),
        time_limit_s=spec.time_limit_s,
        name=spec.name,
        deadline_s=job.deadline_s,
        constraints=spec.constraints,
        reservation=spec.reservation,
    )


def pending_replica(job: Job, worker: int, beside: Iterable[str]) -> PendingJob:
    """One replica as the planner is asked a place for it; `beside`: the nodes of the others."""
    return replaced(
        pending_job(job),
        job_id=replica_name(job.id, worker),
        workers_min=1,
        workers_max=1,
        holds_slo=job.spec.slo_p99_ms is not None,
        beside=tuple(sorted(set(beside))),
        service=job.id,
    )


def _alternatives(spec: JobSpec) -> tuple[Demand, ...]:
    """As the planner is asked for them: the devices of a gang's workers talk to one another, those of replicas not."""
    return spec.alternatives if spec.workers_max == 1 or spec.kind is JobKind.INFERENCE else linked(spec.alternatives)


def running_job(job: Job, *, is_leaving: bool = False) -> RunningJob:
    """`is_leaving`: some of its replicas were told to go, or will be. Until they have gone it is asked to give up no
    others."""
    spec, state = job.spec, job.state
    assert isinstance(state, ON_NODES), job
    placements = tuple([run.placement for run in state.workers])
    began_s = [run.started_s for run in state.workers if run.started_s is not None]
    saved_s = min(began_s, default=state.since_s)
    if isinstance(state, Stopping):
        stopping, started_s = True, saved_s
        stopping_for = state.by if state.cause is EndCause.PREEMPTED else None
    else:
        stopping, started_s, stopping_for = False, state.since_s, None
    grows = spec.workers_max > spec.workers_min and spec.kind is JobKind.TRAINING and spec.checkpoint is not None
    too_many = job.workers_wanted is not None and len(placements) > job.workers_wanted
    return RunningJob(
        job_id=job.id,
        tenant=spec.tenant,
        priority=spec.priority,
        started_s=started_s,
        ends_by_s=None if spec.time_limit_s is None else started_s + spec.time_limit_s,
        saved_s=saved_s,
        placements=placements,
        stopping=stopping,
        stopping_for=stopping_for,
        name=spec.name,
        apart_from=spec.constraints.apart_from,
        preemptions=job.preemptions,
        simulated=is_simulated(spec.alternatives),
        workers_max=spec.workers_max if grows else None,
        alternatives=_alternatives(spec) if grows else (),
        constraints=spec.constraints,
        workers_wanted=job.workers_wanted if too_many and not stopping and not is_leaving else None,
    )
