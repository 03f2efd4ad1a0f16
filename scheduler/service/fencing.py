"""Jobs that wait until a silent node's lease is over: what becomes of them when something is heard of their runs.

While such a job waits, runs of its last attempt may still live on the node. When the node comes back in time with all
of them, and nothing else of the job was stopped meanwhile, the attempt simply goes on. When the last of them is known
to be gone, the wait is over at once. After a restart of the service none of this is known: then the wait is waited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from node_agent.messages import RunKey, RunReport
from scheduler.core import transitions
from scheduler.core.jobs import Job, Pending, Running, WorkerPhase, WorkerRun
from scheduler.core.reasons import Requeued, WaitingForLease
from scheduler.service.dispatch import key_of
from scheduler.service.outcome import Outcome
from scheduler.service.state import Fenced, ServiceState, workers_of


def fence(state: ServiceState, ended: Job) -> None:
    """Remember which runs of the attempt that `ended` shows may still live. The job waits already."""
    doubtful = {key_of(ended, run) for run in workers_of(ended) if in_doubt(state, run)}
    state.fenced[ended.id] = Fenced(None, doubtful)


def in_doubt(state: ServiceState, run: WorkerRun) -> bool:
    """It counts as ended because its node went silent, and may live there all the same."""
    gone = run.phase is WorkerPhase.EXITED and run.exit_code is None
    return gone and state.silent_since_s(run.placement.node) is not None


def remember_whole(state: ServiceState, before: Job, node: str) -> None:
    """`before` is the job as it ran when `node` went silent: it can go on if it was there and nowhere else."""
    fenced = state.fenced.get(before.id)
    whole = all(run.placement.node == node for run in workers_of(before))
    if fenced is not None and whole and isinstance(before.state, Running):
        state.fenced[before.id] = replace(fenced, before=before)


def on_return(state: ServiceState, out: Outcome, node: str, reports: Mapping[RunKey, RunReport], now_s: float) -> None:
    """The node answers again and knows of these runs."""
    for fenced in list(state.fenced.values()):
        there = {key for key in fenced.doubtful if key.node == node}
        if not there:
            continue
        if fenced.before is not None and there <= reports.keys():
            state.put(out, fenced.before, "reconnected", now_s, {"node": node})
            continue
        for key in there - reports.keys():
            run_is_gone(state, out, key, now_s)


def on_death(state: ServiceState, out: Outcome, node: str, now_s: float) -> None:
    """The node's processes are known to be gone."""
    for fenced in list(state.fenced.values()):
        for key in [key for key in fenced.doubtful if key.node == node]:
            run_is_gone(state, out, key, now_s)


def run_is_gone(state: ServiceState, out: Outcome, key: RunKey, now_s: float) -> None:
    """If a job waits for nothing but this run's certain end, it need not wait any longer."""
    fenced = state.fenced.get(key.job_id)
    if fenced is None or key not in fenced.doubtful:
        return
    fenced.doubtful.discard(key)
    if fenced.doubtful:
        return
    job = state.jobs[key.job_id]
    assert isinstance(job.state, Pending), job
    assert isinstance(job.state.reason, WaitingForLease), job
    reason = Requeued(f"node {job.state.reason.node} was lost")
    state.put(out, transitions.wait(job, reason, now_s), "requeued", now_s, {"cause": reason.cause})
