"""What a node says of a run, and what follows: prepared, started, ready, checkpointed, ended.

Events may come twice, late, or for attempts that are over; they change only the current attempt of a live job.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import assert_never

from node_agent.messages import (
    NODES_FAULT,
    Checkpointed,
    Exited,
    Forget,
    HealthChanged,
    Prepared,
    PrepareFailed,
    Ready,
    Refused,
    Release,
    RunKey,
    Started,
)
from scheduler.core import transitions
from scheduler.core.jobs import NOT_THE_JOBS_FAULT, EndCause, Job, Pending, Starting, Stopping, WorkerPhase
from scheduler.ports import RunEvent
from scheduler.service import checks, dispatch, draining, fencing, health, metering, replicas
from scheduler.service.endings import stop, worker_ended
from scheduler.service.job_facts import alive, serves, workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.state import Released, ServiceState

UNSTARTED = (WorkerPhase.ASSIGNED, WorkerPhase.PREPARED)


def on_run_event(state: ServiceState, out: Outcome, event: RunEvent, now_s: float) -> None:
    out.ack(event.agent, event.seq)
    said = event.event
    if said.key is not None and said.key.node in state.nodes:
        state.nodes[said.key.node].heard(now_s)
    match said:
        case Prepared():
            prepared(state, out, said, now_s)
        case PrepareFailed():
            prepare_failed(state, out, said, now_s)
        case Started():
            started(state, out, said.key, said.at_s, now_s)
        case Ready():
            ready(state, out, said.key, said.address, said.at_s, now_s, said.unix_path)
        case Checkpointed():
            _checkpointed(state, out, said, now_s)
        case Exited():
            exited(state, out, said, now_s)
        case HealthChanged(node=node, findings=findings):
            if node in state.nodes:
                state.nodes[node].heard(now_s)
            health.heard(state, node, findings)
        case Refused(epoch=epoch):
            if epoch > state.epoch:
                state.superseded_by = max(epoch, state.superseded_by or 0)
        case _:
            assert_never(said)


# ---- starting ----------------------------------------------------------------------------------------------------


def prepared(state: ServiceState, out: Outcome, said: Prepared, now_s: float) -> None:
    """A gang is released when the last of its workers is prepared; a worker alone has started by itself."""
    found = state.find_run(said.key)
    if found is None:
        return
    job, run = found
    if not dispatch.is_gang(job, len(workers_of(job))) or not isinstance(job.state, Starting):
        return
    state.prepared[said.key] = (said.address, said.master_port)
    job = transitions.worker_prepared(job, said.key.worker)
    state.keep(job, now_s)
    before = state.released.get(job.id)
    if before is not None and before.attempt == run.attempt:
        # This node, or this service, was away when the others were released: it is told what they were told.
        if run.phase in UNSTARTED:
            out.send(said.key.node, Release(state.epoch, said.key, before.master_addr, before.master_port))
    elif all(each.phase is WorkerPhase.PREPARED for each in workers_of(job)):
        _release(state, out, job, now_s)


def _release(state: ServiceState, out: Outcome, job: Job, now_s: float) -> None:
    runs = workers_of(job)
    first = dispatch.key_of(job, runs[0])
    address, port = state.prepared[first]
    # Committed before any node is told: after a restart in between, every worker must still get the same rendezvous.
    detail = {"attempt": runs[0].attempt, "master_addr": address, "master_port": port}
    state.put(out, job, "released", now_s, detail)
    state.released[job.id] = Released(runs[0].attempt, address, port)
    for run in runs:
        key = dispatch.key_of(job, run)
        out.send(key.node, Release(state.epoch, key, address, port))


def prepare_failed(state: ServiceState, out: Outcome, said: PrepareFailed, now_s: float) -> None:
    """Nothing of the attempt has started. Where the job file is wrong trying again would not help; where the node is,
    it may: another attempt is made, perhaps elsewhere, as after any run that was never started.
    """
    if said.field == NODES_FAULT:
        exited(state, out, Exited(said.key, "never_started", None, None, said.detail, now_s), now_s)
        return
    out.send(said.key.node, Forget(state.epoch, said.key))
    found = state.find_run(said.key)
    if found is None or found[1].phase is WorkerPhase.EXITED:
        return
    job, run = found
    gone = transitions.worker_exited(job, said.key.worker, None)
    sentence = (
        f"worker {said.key.worker} cannot start on node {said.key.node}: {said.field}: {said.detail}."
        f" Mend `{said.field}` in the job file and submit it again."
    )
    if isinstance(job.state, Stopping):
        worker_ended(state, out, gone, run, EndCause.PREPARE_FAILED, sentence, now_s)
        return
    state.keep(gone, now_s)
    by = f"worker {said.key.worker}"
    stop(state, out, gone, EndCause.PREPARE_FAILED, by=by, detail=sentence, now_s=now_s)


def started(state: ServiceState, out: Outcome, key: RunKey, at_s: float, now_s: float) -> None:
    found = state.find_run(key)
    if found is not None:
        job = transitions.worker_started(found[0], key.worker, at_s, heard_s=now_s)
        _take_over(state, out, found[0], job, now_s)


def ready(
    state: ServiceState,
    out: Outcome,
    key: RunKey,
    address: str,
    at_s: float,
    now_s: float,
    unix_path: str | None = None,
) -> None:
    found = state.find_run(key)
    if found is None:
        return
    job = transitions.worker_ready(found[0], key.worker, address, at_s, heard_s=now_s, unix_path=unix_path)
    if job is not found[0]:
        detail = {"worker": key.worker, "attempt": key.attempt, "address": address}
        state.put(out, job, "ready", now_s, detail)
        _take_over(state, out, found[0], job, now_s)
        draining.release_replaced(state, out, job.id, now_s)


def _take_over(state: ServiceState, out: Outcome, before: Job, job: Job, now_s: float) -> None:
    """A worker has started: the job runs when no worker is still on its way."""
    if job is before:
        return
    if isinstance(job.state, Starting) and transitions.every_worker_started(job):
        nodes = {str(run.placement.worker): run.placement.node for run in workers_of(job)}
        state.put(out, transitions.run(job, now_s), "started", now_s, {"attempt": job.attempts, "nodes": nodes})
    else:
        state.keep(job, now_s)


def _checkpointed(state: ServiceState, out: Outcome, said: Checkpointed, now_s: float) -> None:
    found = state.find_run(said.key)
    if found is None:
        return
    job, run = found
    if dispatch.is_gang(job, len(workers_of(job))) and said.key.worker != 0:
        return  # what the gang has saved is whole when its first worker says so
    saved = dispatch.attempt_checkpoint_dir(job, run.attempt)
    if saved is not None and job.resume_from != saved:
        job = replace(job, resume_from=saved)
        state.put(out, job, "checkpointed", now_s, {"worker": said.key.worker, "dir": saved})


# ---- ending ------------------------------------------------------------------------------------------------------


def exited(state: ServiceState, out: Outcome, said: Exited, now_s: float) -> None:
    """The node may forget the run when what follows is committed; a run that is nobody's only frees its place."""
    key = said.key
    out.send(key.node, Forget(state.epoch, key))
    strays = state.strays.get(key.node)
    if strays is not None and key in strays:
        strays.discard(key)
        state.set_schedulable(key.node)
    found = state.find_run(key)
    if found is None:
        metering.ended_late(state, out, said)
        _saved_late(state, out, said, now_s)
        fencing.run_is_gone(state, out, key, now_s)
        return
    job, run = found
    cause, sentence = cause_of(said), sentence_of(said)
    by_itself = said.asked is None and cause in (EndCause.EXIT_CODE, EndCause.SIGNAL)
    if by_itself and (why := health.blamed(state, run)) is not None:
        cause, sentence = EndCause.UNHEALTHY, f"{sentence}; {why}"
    metering.ended(state, out, job, run, said, cause)
    if run.phase is WorkerPhase.EXITED:
        _saved_late(state, out, said, now_s)
        return
    served = run.phase is WorkerPhase.READY
    job = transitions.worker_exited(job, key.worker, exit_code_of(said))
    if said.checkpoint_dir is not None:
        job = replace(job, resume_from=said.checkpoint_dir)
    if said.result is not None:
        out.keep_result(key, said.result)
    checks.ended(state, out, job, run, said, now_s)
    state.prepared.pop(key, None)
    run = transitions.worker_run(job, key.worker) or run
    if serves(job):
        if said.asked in (EndCause.DRAINED.value, EndCause.UNHEALTHY.value):
            cause = EndCause(said.asked)
        replicas.replica_ended(state, out, job, run, cause, sentence, now_s, served=served)
    else:
        if (said.asked is None and cause is EndCause.SUCCEEDED) or _failed_in_time(job, said, cause):
            state.own_ends[key] = (cause, sentence)
        worker_ended(state, out, job, run, cause, sentence, now_s)


def _saved_late(state: ServiceState, out: Outcome, said: Exited, now_s: float) -> None:
    """A run that was given up had saved its work: its job's next attempt resumes from there. One that is under way
    already goes on with what it was started with: its workers must all resume from the same."""
    job = state.jobs.get(said.key.job_id)
    if job is None or said.checkpoint_dir is None or not isinstance(job.state, Pending | Stopping):
        return
    if dispatch.attempt_of_checkpoint(job) < said.key.attempt <= job.attempts:
        detail = {"worker": said.key.worker, "dir": said.checkpoint_dir}
        state.put(out, replace(job, resume_from=said.checkpoint_dir), "checkpointed", now_s, detail)


def _failed_in_time(job: Job, said: Exited, cause: EndCause) -> bool:
    """It went wrong before its time limit was over, though nobody had heard of it by then. By the node's clock."""
    limit_s = job.spec.time_limit_s
    if said.asked is not None or cause is EndCause.SUCCEEDED or cause in NOT_THE_JOBS_FAULT:
        return False
    if said.started_s is None or limit_s is None:
        return False
    stopping = isinstance(job.state, Stopping) and job.state.cause is EndCause.TIME_LIMIT
    return stopping and said.at_s - said.started_s < limit_s


def lost(state: ServiceState, out: Outcome, job: Job, node: str, detail: str, now_s: float) -> None:
    """The job's runs on that node are gone, with the node or (until its lease is over) perhaps without it."""
    gone = [run for run in alive(job) if run.placement.node == node]
    if serves(job):
        for run in gone:
            now = state.jobs.get(job.id)
            if now is None or not serves(now):
                return  # the loss of one was too much already
            metering.given_up(state, out, now, run, EndCause.NODE_LOST)
            ended = transitions.worker_exited(now, run.placement.worker, None)
            replicas.replica_ended(state, out, ended, run, EndCause.NODE_LOST, detail, now_s)
        return
    for run in gone:
        metering.given_up(state, out, job, run, EndCause.NODE_LOST)
        job = transitions.worker_exited(job, run.placement.worker, None)
    worker_ended(state, out, job, gone[0], EndCause.NODE_LOST, detail, now_s)


def cause_of(said: Exited) -> EndCause:
    match said.how:
        case "exit":
            return EndCause.SUCCEEDED if said.code == 0 else EndCause.EXIT_CODE
        case "signal":
            return EndCause.SIGNAL
        case "out_of_memory":
            return EndCause.OUT_OF_MEMORY
        case "lease":
            return EndCause.LEASE_LAPSED
        case "unknown" | "never_started":
            return EndCause.UNKNOWN
        case _:
            assert_never(said.how)


def exit_code_of(said: Exited) -> int | None:
    """Negative: the signal's number."""
    match said.how:
        case "exit":
            return said.code
        case "signal" | "out_of_memory":
            return -(said.code or signal.SIGKILL)
        case "lease" | "unknown" | "never_started":
            return None
        case _:
            assert_never(said.how)


def sentence_of(said: Exited) -> str:
    where = f"worker {said.key.worker} on node {said.key.node}"
    match said.how:
        case "exit":
            end = f"{where} exited with code {said.code}"
        case "signal":
            end = f"{where} was ended by {signal_name(said.code)}"
        case "out_of_memory":
            end = f"{where} was killed for memory; ask for more with resources.memory"
        case "lease":
            end = f"{where} was stopped by its node, not by its own fault"
        case "unknown":
            end = f"nobody saw how {where} ended"
        case "never_started":
            end = f"{where} was not started"
        case _:
            assert_never(said.how)
    return f"{end}: {said.detail}" if said.detail else end


def signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
