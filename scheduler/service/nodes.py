"""Nodes come, go and come back: what their jobs make of it.

A node that comes says which runs it knows of. Those of a current attempt go on; those that are nobody's are stopped,
and nothing new starts there until they have ended; a run of ours that the node does not know is started (if it never
was) or counts as ended unseen.
"""

from __future__ import annotations

from dataclasses import replace

from node_agent.messages import Exited, RenewLease, RunKey, RunReport, Stop
from scheduler.core import transitions
from scheduler.core.jobs import ON_NODES, Job, Pending, Running, Starting, Stopping, WorkerRun
from scheduler.ports import NodeDown, NodeUp
from scheduler.service import dispatch, draining, fencing, health, health_notes, metering, runs, scaling
from scheduler.service.fencing import CLOCK_MARGIN_S
from scheduler.service.job_facts import alive, serves, workers_of
from scheduler.service.node_status import NodeStatus
from scheduler.service.outcome import Outcome
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

STRAY = "not the current attempt"
# The news of a start is never so long on its way: a difference beyond this is a clock that was set.
HEARING_S = 1.0


def node_up(state: ServiceState, out: Outcome, event: NodeUp, now_s: float) -> None:
    name = event.facts.name
    out.unsay(name)
    status = state.nodes.setdefault(name, NodeStatus(name, now_s))
    if status.facts != event.facts or name not in state.cluster:
        state.cluster.add_node(health.planners_facts(state, event.facts))
        state.routes_changed.update(state.cluster.jobs_on(name))
    health.heard(state, name, event.findings)
    health_notes.remind(state, out, name)
    status.facts, status.notes, status.agent_pid = event.facts, event.notes, event.agent_pid
    status.shares = event.shares
    status.heard(now_s)
    status.lived_s = _not_after(event.heard_s, now_s)
    status.up, status.silent_since_s, status.detail = True, None, ""
    # The lease first: whatever is asked of the node next, its runs are to outlive the asking.
    out.send(name, RenewLease(state.epoch, state.lease_s))
    status.renewed_s = now_s
    reports = {report.key: report for report in event.runs}
    state.strays[name] = set()
    metering.node_is_back(state, name, reports)
    fencing.on_return(state, out, name, reports, now_s)
    for report in event.runs:
        _reconcile_known(state, out, report, now_s)
    fencing.push_out_all(state, out, name, now_s)
    for job in _jobs_on(state, name):
        for run in alive(job):
            if run.placement.node == name and dispatch.key_of(job, run) not in reports:
                _reconcile_unknown(state, out, job.id, run, now_s)
    state.set_schedulable(name)


def _reconcile_known(state: ServiceState, out: Outcome, report: RunReport, now_s: float) -> None:
    """A run that the node knows of."""
    key = report.key
    found = state.find_run(key)
    never_tried = report.exited is not None and report.exited.how == "never_started" and report.exited.asked is None
    if report.exited is not None and not (found and never_tried and isinstance(found[0].state, Starting)):
        runs.exited(state, out, report.exited, now_s)
        return
    if found is None or found[1] not in alive(found[0]):
        state.strays[key.node].add(key)
        out.send(key.node, _stop_stray(state, key))
        fencing.found_alive(state, out, key, now_s)
        return
    job, run = found
    if isinstance(job.state, Stopping):
        out.send(key.node, dispatch.stop(state.epoch, job, run, job.state.cause))
    elif (job.id, key.worker) in state.leaving:
        out.send(key.node, scaling.stop_command(state, job, run))
    elif serves(job) and draining.must_go(state, run, now_s):
        out.send(key.node, draining.stop_command(state, job, run))
    elif serves(job) and health.must_go(state, run):
        out.send(key.node, health.stop_command(state, job, run))
    elif report.phase in ("prepared", "exited"):
        # Asked again, it answers again: with the port that a gang needs, or with what is wrong with the job.
        _prepare_again(state, out, job, run)
    else:
        runs.started(state, out, key, now_s if report.started_s is None else report.started_s, now_s)
        if report.phase == "ready" and report.address is not None:
            runs.ready(state, out, key, report.address, now_s, now_s, report.unix_path)
        if report.ran_s is not None:
            _set_right(state, job.id, key.worker, now_s - report.ran_s, now_s)


def _set_right(state: ServiceState, job_id: str, worker: int, began_s: float, now_s: float) -> None:
    """The worker has run since then, by a clock that nobody can set. Since when it and its job run was written down by
    an earlier service, and the clock of this machine may have been set since: its bill and its time limit count by the
    node's.
    """
    job = state.jobs.get(job_id)
    if job is None:
        return
    job = transitions.worker_set_right(job, worker, heard_s=began_s)
    state.keep(job, now_s)
    if not isinstance(job.state, Running) or job.spec.time_limit_s is None:
        return
    # A gang runs since the last of its workers began: of those that were heard of by this service.
    latest_s = state.began[job_id] = max(began_s, state.began.get(job_id, began_s))
    if abs(latest_s - job.state.since_s) > HEARING_S:
        state.keep(replace(job, state=replace(job.state, since_s=latest_s)), now_s)


def _stop_stray(state: ServiceState, key: RunKey) -> Stop:
    """It may save its work where its job has nothing newer: then the next attempt goes on from there."""
    job = state.jobs.get(key.job_id)
    newest = job is not None and isinstance(job.state, Pending) and job.attempts == key.attempt
    if job is not None and newest and job.spec.checkpoint is not None:
        return Stop(state.epoch, key, True, dispatch.grace_s(job), STRAY)
    return Stop(state.epoch, key, False, dispatch.PLAIN_GRACE_S, STRAY)


def _reconcile_unknown(state: ServiceState, out: Outcome, job_id: str, run: WorkerRun, now_s: float) -> None:
    """A run of ours that the node does not know of."""
    job = state.jobs.get(job_id)
    if job is None or run not in alive(job):
        return  # ended by what another of its workers did
    key = dispatch.key_of(job, run)
    leaving = (job.id, key.worker) in state.leaving
    if not isinstance(job.state, Stopping) and not leaving and run.phase in runs.UNSTARTED:
        _prepare_again(state, out, job, run)
        return
    asked = job.state.cause.value if isinstance(job.state, Stopping) else None
    detail = f"node {key.node} has no record of it"
    runs.exited(state, out, Exited(key, "unknown", None, asked, detail, now_s), now_s)


def _prepare_again(state: ServiceState, out: Outcome, job: Job, run: WorkerRun) -> None:
    """Harmless where it was heard before: a node starts a key once."""
    command = dispatch.prepare(state.epoch, job, run, len(workers_of(job)), state.secret, state.run_settings)
    out.send(run.placement.node, command)


# ---- going -------------------------------------------------------------------------------------------------------


def node_down(state: ServiceState, out: Outcome, event: NodeDown, now_s: float) -> None:
    out.unsay(event.node)
    status = state.nodes.setdefault(event.node, NodeStatus(event.node, now_s))
    status.lived_s = _not_after(event.heard_s, now_s)
    heard_s = status.contact_s if status.lived_s is None else status.lived_s
    if heard_s is not None:
        status.heard_before(min(heard_s, now_s))
    if event.proof_of_death:
        status.silent_since_s = None
        state.strays.pop(event.node, None)
    elif status.silent_since_s is None:
        status.silent_since_s = max(status.heard_s, status.renewed_s)
    status.up, status.detail = False, event.detail
    state.set_schedulable(event.node)
    for job in _jobs_on(state, event.node):
        if serves(job) and not event.proof_of_death:
            continue  # its replicas go on serving; see `silence_over`
        runs.lost(state, out, job, event.node, f"node {event.node} was lost: {event.detail}", now_s)
        fencing.remember_whole(state, job, event.node)
    if event.proof_of_death:
        metering.node_is_back(state, event.node, ())
        fencing.on_death(state, out, event.node, now_s)
    else:
        assert status.silent_since_s is not None
        until_s = status.silent_since_s + state.lease_s + CLOCK_MARGIN_S
        state.timers.add(Timer(until_s, "silence", event.node))
        fencing.push_out_all(state, out, event.node, now_s)


def _not_after(heard_s: float | None, now_s: float) -> float | None:
    """The clock may have been set back since: for what is still to come nobody is billed."""
    return None if heard_s is None else min(heard_s, now_s)


def silence_over(state: ServiceState, out: Outcome, node: str, now_s: float) -> None:
    """A node has been silent for as long as its lease: services get other replicas for those that stood there."""
    status = state.nodes[node]
    if status.up or status.silent_since_s is None or now_s < status.silent_since_s + state.lease_s:
        return
    for job in _jobs_on(state, node):
        if serves(job):
            runs.lost(state, out, job, node, f"node {node} has been silent for {state.lease_s:g} s", now_s)


def first_contact_over(state: ServiceState, out: Outcome, node: str, now_s: float) -> None:
    """Jobs stand on a node that has not been heard of since this service started."""
    status = state.nodes[node]
    if not status.up and status.facts is None:
        node_down(state, out, NodeDown(node, "not heard of since the service started", False), now_s)


def renew_leases(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Four times a lease, so that three renewals may be lost."""
    if now_s < state.lease_due_s:
        return
    state.lease_due_s = now_s + state.lease_s / 4
    for status in state.nodes.values():
        if status.up:
            out.send(status.name, RenewLease(state.epoch, state.lease_s))
            status.renewed_s = now_s


def _jobs_on(state: ServiceState, node: str) -> list[Job]:
    """Jobs with a run there whose end is not known."""
    return [
        job
        for job_id in state.cluster.jobs_on(node)
        if (job := state.jobs.get(job_id)) is not None
        and isinstance(job.state, ON_NODES)
        and any(run.placement.node == node for run in alive(job))
    ]
