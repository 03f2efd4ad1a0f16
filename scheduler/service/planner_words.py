"""What is the planner told of a job that waits or runs, and of typical work? Of the job alone: by the service of each
that changes, by a simulation of each that comes, starts or goes. So this file needs nothing of the service.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.decisions import PendingJob, RunningJob
from scheduler.core.demand import Demand, Placement, linked
from scheduler.core.jobs import ON_NODES, EndCause, Job, JobKind, JobSpec, Stopping, WorkerRun
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
    return PendingJob(  # by position: one a job, and names cost as much as the fields
        job.id,
        job.seq,
        spec.tenant,
        spec.priority,
        job.submitted_s,
        # A service that may be scaled to nothing waits for its first replica like any other.
        max(1, min(spec.workers_min, wanted)),
        max(1, wanted),
        _alternatives(spec),
        spec.time_limit_s,
        True,  # may_preempt
        spec.name,
        job.deadline_s,
        spec.constraints,
        spec.reservation,
    )


def nodes_beside(runs: Iterable[WorkerRun]) -> tuple[str, ...]:
    """Where these replicas stand, each node once and sorted."""
    return tuple(sorted({run.placement.node for run in runs}))


def pending_replica(job: Job, worker: int, beside: tuple[str, ...]) -> PendingJob:
    """One replica as the planner is asked a place for it; `beside`: the nodes of the others."""
    return replaced(
        pending_job(job),
        job_id=replica_name(job.id, worker),
        workers_min=1,
        workers_max=1,
        holds_slo=job.spec.slo_p99_ms is not None,
        beside=beside,
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
    if len(state.workers) == 1:  # nearly all: without lists
        (run,) = state.workers
        placements: tuple[Placement, ...] = (run.placement,)
        saved_s = state.since_s if run.started_s is None else run.started_s
    else:
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
    constraints = spec.constraints
    return RunningJob(  # by position, as above
        job.id,
        spec.tenant,
        spec.priority,
        started_s,
        None if spec.time_limit_s is None else started_s + spec.time_limit_s,
        saved_s,
        placements,
        stopping,
        stopping_for,
        spec.name,
        constraints.apart_from,
        job.preemptions,
        is_simulated(spec.alternatives),
        spec.workers_max if grows else None,
        _alternatives(spec) if grows else (),
        constraints,
        job.workers_wanted if too_many and not stopping and not is_leaving else None,
    )
