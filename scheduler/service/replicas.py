"""Replicas of a service live and die one by one: one that ends is started again while the others go on.

It comes back at its own place after a back-off. Where that place is on a node that is away or drained, it asks the
planner for another one, as a waiting job of one worker would. So does each replica that a service is to have more.
"""

from __future__ import annotations

from scheduler.core import transitions
from scheduler.core.demand import Placement
from scheduler.core.jobs import NOT_THE_JOBS_FAULT, EndCause, Job, WorkerPhase, WorkerRun
from scheduler.service import dispatch, draining, evicting, health, scaling
from scheduler.service.endings import (
    MOST_UNSTARTED,
    back_off_s,
    count_unseen,
    had_started,
    never_started_text,
    stop,
)
from scheduler.service.job_facts import serves, workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.places import places_detail
from scheduler.service.planner_words import nodes_beside, pending_replica, replica_name
from scheduler.service.state import Asked, ServiceState
from scheduler.service.timers import Timer

# A replica that ends after so long is no part of a crash loop.
SERVED_WELL_S = 60.0


def replica_ended(
    state: ServiceState,
    out: Outcome,
    job: Job,
    run: WorkerRun,
    cause: EndCause,
    sentence: str,
    now_s: float,
    *,
    served: bool = False,
) -> None:
    """`job` has the replica as EXITED already and is not yet committed so. `served`: it answered before it ended.

    `retries` are for a service that does not come up. One that answered, or that others of it answer for, is started
    again as often as it takes, later and later until one has served for a while.
    """
    worker = run.placement.worker
    is_replaced = scaling.replacement(job, worker) is not None
    if (job.id, worker) in state.leaving or is_replaced or scaling.too_many(state, job) > 0:
        scaling.gone(state, out, job, worker, now_s)
        draining.release_replaced(state, out, job.id, now_s)
        return
    if cause is EndCause.SUCCEEDED:
        cause, sentence = EndCause.EXIT_CODE, f"{sentence}, although a service is to go on until it is cancelled"
    name = replica_name(job.id, worker)
    if cause in (EndCause.NODE_LOST, EndCause.DRAINED, EndCause.UNHEALTHY):
        wait_s = 0.0
    elif cause in NOT_THE_JOBS_FAULT:
        started = cause is EndCause.LEASE_LAPSED or run.started_s is not None
        ends = count_unseen(state, name, started=started)
        if ends.unstarted >= MOST_UNSTARTED and not had_started(job):
            # None of its replicas has come up, and this one never does. Where others serve, they go on.
            state.keep(job, now_s)
            detail = never_started_text(sentence)
            stop(state, out, job, cause, by=f"worker {worker}", detail=detail, now_s=now_s)
            return
        wait_s = back_off_s(ends.in_a_row)
    elif not (served or _others_answer(job, worker)) and job.failures >= job.spec.retries:
        state.keep(job, now_s)
        stop(state, out, job, cause, by=f"worker {worker}", detail=sentence, now_s=now_s)
        return
    else:
        state.unseen_ends.pop(name, None)
        if served and run.start_heard_s is not None and now_s - run.start_heard_s >= SERVED_WELL_S:
            job = transitions.forgive_failures(job)
        job = transitions.count_failure(job)
        wait_s = back_off_s(job.failures)
    facts = {"worker": worker, "attempt": run.attempt, "cause": cause.value, "detail": sentence}
    state.put(out, job, "replica_ended", now_s, {**facts, "restart_s": now_s + wait_s})
    ask_restart(state, job.id, worker, now_s + wait_s)


def _others_answer(job: Job, worker: int) -> bool:
    return any(run.phase is WorkerPhase.READY and run.placement.worker != worker for run in workers_of(job))


def ask_restart(state: ServiceState, job_id: str, worker: int, due_s: float) -> None:
    state.restarts[job_id, worker] = due_s
    state.timers.add(Timer(due_s, "replica", job_id, worker))


def restart_due(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Start again what is due and whose place can be used; the rest asks for another place (`ask_places`)."""
    for (job_id, worker), due_s in list(state.restarts.items()):
        job = state.jobs.get(job_id)
        if job is None or not serves(job):
            del state.restarts[job_id, worker]
        elif due_s <= now_s and _can_be_used(state, _run(job, worker).placement):
            start_again(state, out, job, worker, None, now_s)


def _can_be_used(state: ServiceState, place: Placement) -> bool:
    """Its node is there, with these devices, and takes work; and the replica's own earlier run does not live on there
    (the node was silent, and its replicas went on serving)."""
    node = place.node
    if not state.is_up(node) or node in state.drains or state.strays.get(node) or not health.takes(state, place):
        return False
    return set(place.devices) <= {device.index for device in state.cluster.facts(node).devices}


def ask_places(state: ServiceState, now_s: float) -> None:
    """Put into the queue the single replicas that need a place, and take out those that do not any more."""
    wanted: dict[str, Asked] = {}
    for (job_id, worker), due_s in state.restarts.items():
        if due_s <= now_s:
            _ask(state, wanted, state.jobs[job_id], worker)
    for job_id in sorted(state.scaled):
        for worker in scaling.missing(state, state.jobs[job_id]):
            _ask(state, wanted, state.jobs[job_id], worker)
    given = {(asked.job_id, asked.worker) for asked in wanted.values()}
    for job, worker, number in draining.to_replace(state, given):
        _ask(state, wanted, job, number, replaces=worker)
    for name in state.asked.keys() - wanted.keys():
        state.queue.withdraw(name)
    for name, asked in wanted.items():
        if state.asked.get(name) != asked:
            state.queue.submit(asked.pending)
            state.needs_plan = True
    state.asked = wanted


def _ask(state: ServiceState, wanted: dict[str, Asked], job: Job, worker: int, *, replaces: int | None = None) -> None:
    name = replica_name(job.id, worker)
    others = (run for run in scaling.staying(state, job) if run.placement.worker not in (worker, replaces))
    pending = evicting.polite(state, pending_replica(job, worker, nodes_beside(others)))
    wanted[name] = Asked(pending, job.id, worker, replaces)


def start_again(
    state: ServiceState, out: Outcome, job: Job, worker: int, place: Placement | None, now_s: float
) -> None:
    """A new attempt of one replica, at its own place or (`place`) another."""
    state.restarts.pop((job.id, worker), None)
    job = transitions.restart_replica(job, worker, place=place)
    run = _run(job, worker)
    detail = {"worker": worker, "attempt": run.attempt, **places_detail(state, job, [run])}
    state.put(out, job, "replica_restarted", now_s, detail)
    command = dispatch.prepare(state.epoch, job, run, len(workers_of(job)), state.secret, state.run_settings)
    out.send(run.placement.node, command)


def _run(job: Job, worker: int) -> WorkerRun:
    return next(run for run in workers_of(job) if run.placement.worker == worker)
