"""A node is to be emptied: nothing new goes there, and what is there leaves it, as gently as the time allows.

Jobs may run to their end. At the drain's deadline, where it has one, those that are left are asked to save their work
and go back to the queue, which uses up none of their retries. Replicas of services have no end to wait for: each gets a
replacement elsewhere at once, and is told to go when that one answers; only at the deadline does it go without.

What is to be replaced is found anew from the drains and the jobs at every pass. That one replica replaces another is
part of the job (`WorkerRun.replaces`), so it survives a restart of the service.
"""

from __future__ import annotations

from collections.abc import Iterator

from node_agent.messages import Stop
from scheduler.core.jobs import EndCause, Job, Pending, Running, Starting, Stopping, WorkerPhase, WorkerRun
from scheduler.errors import Conflict
from scheduler.ports import Drain, Json
from scheduler.service import dispatch, health, scaling
from scheduler.service.endings import stop
from scheduler.service.job_facts import alive, serves, workers_of
from scheduler.service.outcome import Outcome, Undrain
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

# A deadline that is over is looked at again so often while the node is not heard of.
ASK_AGAIN_S = 1.0


def drain(state: ServiceState, out: Outcome, wanted: Drain) -> None:
    """The newest word on a node replaces the one before."""
    state.drains[wanted.node] = wanted
    out.drains.append(wanted)
    watch(state, wanted)
    state.health.unsettled = True  # it takes nothing from the budget any more
    state.set_schedulable(wanted.node)
    state.needs_plan = True


def resume(state: ServiceState, out: Outcome, node: str) -> None:
    """The operator's word: what was wrong with the node is mended."""
    was_unhealthy = health.mended(state, out, node)
    if node not in state.drains:
        if was_unhealthy:
            return
        raise Conflict(f"node {node} is not drained, and nothing is found wrong with it")
    del state.drains[node]
    state.health.unsettled = True
    out.drains.append(Undrain(node))
    state.timers.drop("drain", node)
    state.set_schedulable(node)


def watch(state: ServiceState, drained: Drain) -> None:
    """To be told when its deadline is over."""
    if drained.deadline_s is None:
        state.timers.drop("drain", drained.node)
    else:
        state.timers.add(Timer(drained.deadline_s, "drain", drained.node))


# ---- the deadline ------------------------------------------------------------------------------------------------


def deadline_over(state: ServiceState, out: Outcome, node: str, now_s: float) -> None:
    drained = state.drains.get(node)
    if drained is None or not is_over(drained, now_s):
        return
    if not state.is_up(node):  # what is there cannot be told; when it comes back, it may still be there
        state.timers.add(Timer(now_s + ASK_AGAIN_S, "drain", node))
        return
    for job_id in sorted(state.cluster.jobs_on(node)):
        job = state.jobs.get(job_id)
        if job is None:
            continue
        if serves(job):
            for run in alive(job):
                if run.placement.node == node:
                    _evict(state, out, job, run)
        elif isinstance(job.state, Starting | Running) and any(run.placement.node == node for run in alive(job)):
            detail = f"node {node} is drained: {drained.reason}"
            stop(state, out, job, EndCause.DRAINED, by=drained.by, detail=detail, now_s=now_s)


def is_over(drained: Drain, now_s: float) -> bool:
    return drained.deadline_s is not None and drained.deadline_s <= now_s


def _evict(state: ServiceState, out: Outcome, job: Job, run: WorkerRun) -> None:
    """Its replacement, if there is one, goes on coming up; otherwise it starts again where there is a place for it."""
    if (job.id, run.placement.worker) not in state.leaving:
        out.send(run.placement.node, stop_command(state, job, run))


def must_go(state: ServiceState, run: WorkerRun, now_s: float) -> bool:
    """Whether a replica that lives there still is to be told (again) to go at once."""
    drained = state.drains.get(run.placement.node)
    return drained is not None and is_over(drained, now_s)


def stop_command(state: ServiceState, job: Job, run: WorkerRun) -> Stop:
    return Stop(state.epoch, dispatch.key_of(job, run), False, dispatch.grace_s(job), EndCause.DRAINED.value)


# ---- replacing replicas ------------------------------------------------------------------------------------------


def to_replace(state: ServiceState, asked: set[tuple[str, int]]) -> Iterator[tuple[Job, int, int]]:
    """Replicas on drained nodes, or on devices that are to be mended, that need a replacement: job, worker, and the
    replacement's number. `asked`: numbers that are given away already, by job."""
    for node in sorted(state.drains.keys() | state.health.acted.keys()):
        drained = node in state.drains
        for job_id in sorted(state.cluster.jobs_on(node)) if node in state.cluster else ():
            job = state.jobs.get(job_id)
            if job is None or not serves(job):
                continue
            for run in alive(job):
                worker = run.placement.worker
                leaves = (job_id, worker) in state.leaving or scaling.replacement(job, worker) is not None
                here = run.placement.node == node and (drained or health.to_leave(state, run))
                if here and not leaves:
                    number = _free_number(job, asked)
                    asked.add((job_id, number))
                    yield job, worker, number


def _free_number(job: Job, asked: set[tuple[str, int]]) -> int:
    used = {run.placement.worker for run in workers_of(job)} | {number for of, number in asked if of == job.id}
    return next(number for number in range(len(used) + 1) if number not in used)


def release_replaced(state: ServiceState, out: Outcome, job_id: str, now_s: float) -> None:
    """Replicas whose replacement answers may go; those of a service that is stopped as a whole are going already."""
    job = state.jobs[job_id]
    if not serves(job):
        return
    runs = {run.placement.worker: run for run in workers_of(job)}
    for new in runs.values():
        old = None if new.replaces is None else runs.get(new.replaces)
        if old is None or new.phase is not WorkerPhase.READY or (job.id, old.placement.worker) in state.leaving:
            continue
        state.leaving.add((job.id, old.placement.worker))
        detail = {"workers": [old.placement.worker], "replaced_by": new.placement.worker, "node": old.placement.node}
        state.put(out, job, "releasing", now_s, detail)
        if old.phase is WorkerPhase.EXITED:
            scaling.gone(state, out, state.jobs[job.id], old.placement.worker, now_s)
        else:
            out.send(old.placement.node, scaling.stop_command(state, job, old))


def leaving_after_restart(job: Job) -> Iterator[tuple[str, int]]:
    """Which replicas an earlier service had told to go, or was about to: those whose replacement answers."""
    ready = {run.replaces for run in workers_of(job) if run.phase is WorkerPhase.READY}
    return ((job.id, run.placement.worker) for run in workers_of(job) if run.placement.worker in ready)


# ---- looking -----------------------------------------------------------------------------------------------------


def left_view(state: ServiceState, node: str) -> list[Json]:
    """What is still there, and what it does: run to its end, save its work, wait for its replacement, go."""
    left = []
    there = [state.jobs[job_id] for job_id in state.cluster.jobs_on(node) if job_id in state.jobs]
    for job in sorted(there, key=lambda each: each.seq):
        runs = [run for run in workers_of(job) if run.placement.node == node]
        left.append(
            {
                "job": job.id,
                "name": job.spec.name,
                "tenant": job.spec.tenant,
                "kind": job.spec.kind.value,
                "workers": [run.placement.worker for run in runs],
                "doing": _doing(state, job, runs),
            }
        )
    return left


def _doing(state: ServiceState, job: Job, runs: list[WorkerRun]) -> str:
    if isinstance(job.state, Stopping):
        saves = job.state.cause in dispatch.SAVING_CAUSES and job.spec.checkpoint is not None
        return "saving" if saves else "stopping"
    if not serves(job) or isinstance(job.state, Pending):
        return "running"
    if all((job.id, run.placement.worker) in state.leaving for run in runs):
        return "stopping"
    placed = all(scaling.replacement(job, run.placement.worker) is not None for run in runs)
    return "being replaced" if placed else "waiting for a place elsewhere"
