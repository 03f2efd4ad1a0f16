"""Jobs that wait until a silent node's lease is over: what becomes of them when something is heard of their runs.

While such a job waits, runs of an earlier attempt may still live on the node. When the node comes back in time with all
of them, and nothing else of the job was stopped meanwhile, the attempt simply goes on. When the last of them is known
to be gone, the wait is over at once. While a node answers its lease is renewed, so a wait never ends by the clock while
such a run is known to live on a node that answers, and each new silence of a node starts the wait for it anew.

After a restart of the service nothing is known of the runs until their node reports them, and nothing of when their
leases were renewed: then a whole wait is waited, from the restart on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from node_agent.messages import RunKey, RunReport
from scheduler.core import transitions
from scheduler.core.jobs import Job, Pending, Running, WorkerPhase, WorkerRun
from scheduler.core.quotas import allowed_workers
from scheduler.core.reasons import Requeued, WaitingForJobs, WaitingForLease
from scheduler.service.dispatch import grace_s, is_service, key_of
from scheduler.service.job_facts import workers_of
from scheduler.service.outcome import Outcome
from scheduler.service.planner_words import pending_job
from scheduler.service.state import Fenced, ServiceState

CLOCK_MARGIN_S = 5.0


# ---- how long ----------------------------------------------------------------------------------------------------


def wait_s(state: ServiceState, job: Job) -> float:
    """From a node's last possible renewal on: how long until no run of the job can live there any more."""
    return state.lease_s + grace_s(job) + CLOCK_MARGIN_S


def doubtful_runs(state: ServiceState, job: Job) -> set[RunKey]:
    """Runs of the attempt that `job` shows that count as ended and may live all the same."""
    if is_service(job):
        return set()  # replicas keep nothing that a second one could spoil
    return {key_of(job, run) for run in workers_of(job) if _in_doubt(state, job, run)}


def _in_doubt(state: ServiceState, job: Job, run: WorkerRun) -> bool:
    """Its node went silent and is so still, or has come back with the run, which is being stopped."""
    node = run.placement.node
    gone = run.phase is WorkerPhase.EXITED and run.exit_code is None
    return gone and (state.silent_since_s(node) is not None or key_of(job, run) in state.strays.get(node, ()))


def wait_for(state: ServiceState, job: Job, doubtful: Iterable[RunKey]) -> WaitingForLease | None:
    """The wait for the node, of those where these runs may live, whose lease may end last. None: there are none."""
    ends = {key.node: _heard_s(state, key.node) + wait_s(state, job) for key in doubtful}
    if not ends:
        return None
    node = max(ends, key=lambda name: (ends[name], name))
    return WaitingForLease(node, ends[node])


def _heard_s(state: ServiceState, node: str) -> float:
    """Its lease may have been renewed then, and not later (while it answers: not yet)."""
    status = state.nodes[node]
    return max(status.heard_s, status.renewed_s) if status.silent_since_s is None else status.silent_since_s


# ---- waiting -----------------------------------------------------------------------------------------------------


def fence(state: ServiceState, job_id: str, doubtful: set[RunKey]) -> None:
    """Remember which runs the job, which waits already, waits for."""
    state.fenced[job_id] = Fenced(None, doubtful)


def remember_whole(state: ServiceState, before: Job, node: str) -> None:
    """`before` is the job as it ran when `node` went silent: it can go on if it was there and nowhere else."""
    fenced = state.fenced.get(before.id)
    whole = all(run.placement.node == node for run in workers_of(before))
    if fenced is not None and whole and isinstance(before.state, Running):
        state.fenced[before.id] = replace(fenced, before=before)


def found_alive(state: ServiceState, out: Outcome, key: RunKey, now_s: float) -> None:
    """A node knows of a run that is not the current attempt's: until it has ended its job starts nowhere else."""
    job = state.jobs.get(key.job_id)
    if job is None or is_service(job) or not isinstance(job.state, Pending):
        return
    if isinstance(job.state.reason, WaitingForJobs):
        return  # a job of that number that ran in another store
    fenced = state.fenced.get(job.id)
    if fenced is None:
        reason = job.state.reason
        state.fenced[job.id] = Fenced(None, {key}, reason if isinstance(reason, WaitingForLease) else None)
        _wait(state, out, job, now_s)
    else:
        fenced.doubtful.add(key)


def push_out_all(state: ServiceState, out: Outcome, node: str, now_s: float) -> None:
    """The node's lease may run for longer than was thought when these jobs began to wait."""
    for job_id, fenced in list(state.fenced.items()):
        if any(key.node == node for key in fenced.doubtful):
            push_out(state, out, job_id, now_s)


def push_out(state: ServiceState, out: Outcome, job_id: str, now_s: float) -> bool:
    """Whether the job, which waits, must wait for longer than it was to; then it does."""
    fenced = state.fenced.get(job_id)
    job = state.jobs[job_id]
    assert isinstance(job.state, Pending), job
    lease = None if fenced is None else wait_for(state, job, fenced.doubtful)
    if lease is None or lease.until_s <= job.state.not_before_s:
        return False
    _wait(state, out, job, now_s)
    return True


def _wait(state: ServiceState, out: Outcome, job: Job, now_s: float) -> None:
    assert isinstance(job.state, Pending), job
    lease = wait_for(state, job, state.fenced[job.id].doubtful)
    assert lease is not None, job
    lease = replace(lease, until_s=max(lease.until_s, job.state.not_before_s))
    waiting = transitions.wait(job, lease, now_s, not_before_s=lease.until_s)
    detail = {"node": lease.node, "not_before_s": lease.until_s}
    state.put(out, waiting, "waiting_for_lease", now_s, detail)


# ---- news of a node ----------------------------------------------------------------------------------------------


def on_return(state: ServiceState, out: Outcome, node: str, reports: Mapping[RunKey, RunReport], now_s: float) -> None:
    """The node answers again and knows of these runs."""
    for fenced in list(state.fenced.values()):
        there = {key for key in fenced.doubtful if key.node == node}
        if not there:
            continue
        if fenced.before is not None and there <= reports.keys() and _may_go_on(state, fenced.before):
            state.put(out, fenced.before, "reconnected", now_s, {"node": node})
            continue
        if fenced.before is not None:  # its runs there are told to go now, and never taken back
            state.fenced[fenced.before.id] = replace(fenced, before=None)
        for key in there - reports.keys():
            run_is_gone(state, out, key, now_s)


def _may_go_on(state: ServiceState, before: Job) -> bool:
    """While it counted as lost others of its tenant may have started: together they must keep to the tenant's quota."""
    workers = len(workers_of(before))
    asked = replace(pending_job(before), workers_min=workers, workers_max=workers)
    return isinstance(allowed_workers(state.policy, state.queue.held, asked), int)


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
    if fenced.blind is not None and fenced.blind.until_s > now_s:
        # Of an attempt after that one: it may live on a node of which nothing was heard since the restart.
        del state.fenced[job.id]
        lease = fenced.blind
        detail = {"node": lease.node, "not_before_s": lease.until_s}
        waiting = transitions.wait(job, lease, now_s, not_before_s=lease.until_s)
        state.put(out, waiting, "waiting_for_lease", now_s, detail)
        return
    reason = Requeued(f"node {job.state.reason.node} was lost")
    state.put(out, transitions.wait(job, reason, now_s), "requeued", now_s, {"cause": reason.cause})
