"""A service gets more replicas, or fewer, while the others go on.

How many it is to have is part of the job (`workers_wanted`) and survives everything. What it has too many, the planner
chooses and they are told to go for good; what it lacks waits in the queue, replica by replica, like one that lost its
place (`replicas.ask_places`). After a restart of the service the same comparison is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from node_agent.messages import Stop
from scheduler.core import transitions
from scheduler.core.demand import Placement
from scheduler.core.jobs import Job, Pending, Running, Starting, Stopping, WorkerPhase, WorkerRun
from scheduler.errors import BadInput, Conflict
from scheduler.service import autoscaling, dispatch
from scheduler.service.job_facts import workers_of
from scheduler.service.outcome import Outcome, ScaleRequested
from scheduler.service.places import places_detail
from scheduler.service.planner_words import replica_name
from scheduler.service.state import ServiceState

SCALED_DOWN = "scaled down"


def scale(state: ServiceState, out: Outcome, event: ScaleRequested, now_s: float) -> None:
    """Raises Conflict for what is no living service, BadInput beyond the bounds of its job file."""
    job = state.jobs.get(event.job_id)
    if job is None:
        raise Conflict(f"job {event.job_id} has ended already; submit it again with the replicas that it is to have")
    if not dispatch.is_service(job):
        raise Conflict(
            f"job {job.id} is of kind {job.spec.kind.value}: only an inference service has replicas to scale"
        )
    if event.replicas is None:
        _unpin(state, out, job, event.by, now_s)
        return
    if job.id in state.stopped_versions:
        raise Conflict(f"job {job.id} is a version of {job.spec.name} that serves nothing: suanli service rollback")
    low, high = job.spec.workers_min, job.spec.workers_max
    if not low <= event.replicas <= high:
        raise BadInput(
            f"job {job.id} may have {low} to {high} replicas by its job file (replicas: {{min, max}}), not "
            f"{event.replicas}",
            field="replicas",
        )
    if isinstance(job.state, Stopping):
        raise Conflict(f"job {job.id} is being stopped ({job.state.cause.value}); scale it when it waits or runs again")
    job = replace(job, workers_wanted=event.replicas, pinned=True)
    if isinstance(job.state, Pending) and event.replicas == 0:
        job = transitions.run(replace(job, state=Starting((), now_s)), now_s)  # with nothing to start it runs already
    state.put(out, job, "scaled", now_s, {"replicas": event.replicas, "by": event.by})
    state.needs_plan = True
    _drop_ended(state, out, job.id, now_s)


def _unpin(state: ServiceState, out: Outcome, job: Job, by: str, now_s: float) -> None:
    """Its load says again how many replicas it has, from what it has now on."""
    if autoscaling.settings_of(job.spec) is None:
        raise Conflict(
            f"job {job.id} is not scaled by its load: its job file would say so (autoscale: true, and replicas: {{min,"
            " max}})"
        )
    if not job.pinned:
        raise Conflict(f"job {job.id} is scaled by its load already")
    state.put(out, replace(job, pinned=False), "unpinned", now_s, {"by": by})
    state.loads.forget(job.id)  # what it had to do while somebody else decided says little
    autoscaling.watch(state, state.jobs[job.id], now_s)


def _drop_ended(state: ServiceState, out: Outcome, job_id: str, now_s: float) -> None:
    """Replicas that wait to be started again go first: nobody misses them."""
    waiting = sorted((worker for of, worker in state.restarts if of == job_id), reverse=True)
    for worker in waiting:
        job = state.jobs[job_id]
        if too_many(state, job) > 0:
            gone(state, out, job, worker, now_s)


def staying(state: ServiceState, job: Job) -> tuple[WorkerRun, ...]:
    """Its replicas but for those that were told to go for good, or have a replacement and will be."""
    replaced = {run.replaces for run in workers_of(job)}
    return tuple(
        run
        for run in workers_of(job)
        if (job.id, run.placement.worker) not in state.leaving and run.placement.worker not in replaced
    )


def replacement(job: Job, worker: int) -> WorkerRun | None:
    """The replica that is to take this one's place, once it is ready."""
    return next((run for run in workers_of(job) if run.replaces == worker), None)


def too_many(state: ServiceState, job: Job) -> int:
    """How many of those that stay are more than wanted (below 0: how many are missing, counted down)."""
    return 0 if job.workers_wanted is None else len(staying(state, job)) - job.workers_wanted


def missing(state: ServiceState, job: Job) -> list[int]:
    """Numbers for the replicas that a running service is to have more. One that still goes keeps its number."""
    if not isinstance(job.state, Starting | Running):
        return []
    used = {run.placement.worker for run in workers_of(job)}
    free = [number for number in range(job.spec.workers_max) if number not in used]
    return free[: max(0, -too_many(state, job))]


def add_replica(
    state: ServiceState, out: Outcome, job: Job, place: Placement, now_s: float, *, replaces: int | None = None
) -> None:
    """One more, at the place that the planner found; or (`replaces`) one in the place of another that is to go."""
    assert isinstance(job.state, Starting | Running), job
    run = WorkerRun(place, job.attempts + 1, replaces=replaces)
    job = replace(job, state=replace(job.state, workers=(*job.state.workers, run)), attempts=run.attempt)
    detail = {"worker": place.worker, "attempt": run.attempt, **places_detail(state, job, [run])}
    if replaces is not None:
        detail["replaces"] = replaces
    state.put(out, job, "replica_added", now_s, detail)
    out.send(
        place.node, dispatch.prepare(state.epoch, job, run, len(workers_of(job)), state.secret, state.run_settings)
    )


def release(state: ServiceState, out: Outcome, job: Job, workers: Sequence[int], now_s: float) -> None:
    """These replicas are told to go for good. They hold their devices until they have gone."""
    runs = {run.placement.worker: run for run in staying(state, job)}
    going = [runs[worker] for worker in workers if worker in runs]
    state.leaving |= {(job.id, run.placement.worker) for run in going}
    detail = {"workers": [run.placement.worker for run in going], "replicas": job.workers_wanted}
    state.put(out, job, "releasing", now_s, detail)
    for run in going:
        if run.phase is WorkerPhase.EXITED:  # it ended by itself, and was to be started again
            gone(state, out, state.jobs[job.id], run.placement.worker, now_s)
        else:
            out.send(run.placement.node, stop_command(state, job, run))


def stop_command(state: ServiceState, job: Job, run: WorkerRun) -> Stop:
    return Stop(state.epoch, dispatch.key_of(job, run), False, dispatch.grace_s(job), SCALED_DOWN)


def gone(state: ServiceState, out: Outcome, job: Job, worker: int, now_s: float) -> None:
    """A replica that the service is not to have any more has ended; `job` has it as EXITED and is not yet committed
    so. Its devices go back."""
    assert isinstance(job.state, Starting | Running), job
    state.leaving.discard((job.id, worker))
    state.restarts.pop((job.id, worker), None)
    state.unseen_ends.pop(replica_name(job.id, worker), None)
    went = next(run for run in job.state.workers if run.placement.worker == worker)
    left = tuple(
        # Where it was itself to replace another, its own replacement does.
        replace(run, replaces=went.replaces) if run.replaces == worker else run
        for run in job.state.workers
        if run.placement.worker != worker
    )
    job = replace(job, state=replace(job.state, workers=left))
    if isinstance(job.state, Starting) and transitions.every_worker_started(job):
        job = transitions.run(job, now_s)
    state.put(out, job, "replica_released", now_s, {"worker": worker, "replicas": len(left)})
