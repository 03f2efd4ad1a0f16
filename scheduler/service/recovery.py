"""How a service that starts takes over where the last one was: from the store, and then from what the nodes report.

Of times that the last service wrote down nothing is believed where two writers could come of it: the clock may have
been set since. Jobs that waited for a lease wait a whole one from now on, and no back-off is longer than any can be.

Jobs on nodes stay as they were committed, with their devices taken in the books, until their node is heard of: then
`nodes.node_up` compares. A node that is not heard of for FIRST_CONTACT_S is treated as silent. Nothing is started
before its node has said what it knows of, so nothing is started twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from scheduler.core import transitions
from scheduler.core.cluster import ClusterState
from scheduler.core.decisions import Policy
from scheduler.core.jobs import Job, Pending, Starting, WorkerPhase
from scheduler.core.reasons import BackingOff, WaitingForLease
from scheduler.ports import Drain, NextTime, Store, no_time
from scheduler.service import (
    checks,
    deployments,
    draining,
    fairness,
    fencing,
    health_notes,
    machine,
    recurring,
    replicas,
    served,
    typical_work,
)
from scheduler.service.dispatch import RunSettings, is_gang
from scheduler.service.endings import LONGEST_BACK_OFF_S
from scheduler.service.health_book import HealthSettings
from scheduler.service.job_facts import ended_well, serves, workers_of
from scheduler.service.node_status import NodeStatus
from scheduler.service.outcome import JobsSubmitted, Outcome
from scheduler.service.state import Released, ServiceState, UnseenEnds
from scheduler.service.timers import Timer

FIRST_CONTACT_S = 30.0
DEFAULT_HALF_LIFE_S = 7 * 86_400.0


def recover(
    store: Store,
    *,
    epoch: int,
    lease_s: float,
    secret: bytes,
    policy: Policy,
    now_s: float,
    half_life_s: float = DEFAULT_HALF_LIFE_S,
    most_live_jobs: int = 100_000,
    next_time: NextTime = no_time,
    run_settings: RunSettings | None = None,
    request_rates: Mapping[str, float] | None = None,
    health: HealthSettings | None = None,
    zone: str = "UTC",
) -> tuple[ServiceState, Outcome]:
    """The state to start with, and what is to be committed first. Raises Unavailable if the store cannot be read."""
    state = ServiceState(epoch, lease_s, secret, policy, now_s, ClusterState())
    state.most_live_jobs, state.next_time = most_live_jobs, next_time
    state.run_settings = run_settings or RunSettings()
    state.request_rates = request_rates or {}
    state.health.settings = health or HealthSettings()
    recurring.take_in(state, store.schedules())
    deployments.take_in(state, store.deployed())
    state.usage = fairness.restored(store.usage(), half_life_s, now_s)
    state.served = served.restored(store, zone, now_s)
    state.reservations = {reservation.name: reservation for reservation in store.reservations()}
    health_notes.take_in(state, store.health_notes())
    jobs = store.live_jobs()
    waiting = [job for job in jobs if isinstance(job.state, Pending) and job.spec.waits_for]
    heard_below = {job.id for job in waiting}
    recent = store.recent_jobs(tenant=None, states=None, limit=typical_work.LOOKED_BACK_JOBS)
    typical_work.saw(state, (job for job in reversed(recent) if job.id not in heard_below))
    released = {job.id: found for job in jobs if (found := _released(store, job)) is not None}
    out = Outcome()
    _take_in(
        state, store.drains(), (job for job in jobs if not (isinstance(job.state, Pending) and job.spec.waits_for))
    )
    state.released |= released
    state.unseen_ends |= _unseen_ends(store, jobs)
    before = ended_before(store, (before for job in waiting for before in job.spec.waits_for))
    machine.apply(state, out, JobsSubmitted(tuple(waiting), before), now_s)
    for job in list(state.jobs.values()):
        again = _waits_anew(state, job, now_s)
        if again is not job:
            state.put(out, again, "waits_anew", now_s, {"why": "the service was restarted"})
    deployments.recovered(state, out, now_s)
    machine.finish(state, out, now_s)
    return state, out


def ended_before(store: Store, waited_for: Iterable[str]) -> Mapping[str, bool]:
    """Of these jobs those that the store knows to have ended: whether they succeeded."""
    found: dict[str, bool] = {}
    for before in set(waited_for):
        job = store.job(before)
        well = None if job is None else ended_well(job)
        if well is not None:
            found[before] = well
    return found


def _take_in(state: ServiceState, drains: Sequence[Drain], jobs: Iterable[Job]) -> None:
    now_s = state.started_s
    state.drains = {drain.node: drain for drain in drains}
    for drain in drains:
        draining.watch(state, drain)
    for job in jobs:
        for run in workers_of(job):  # what an earlier service's clock showed is not to be compared with this one's
            job = transitions.worker_set_right(job, run.placement.worker, heard_s=None)
        if serves(job):
            state.leaving |= set(draining.leaving_after_restart(job))
        checks.saw(state, job)
        state.keep(job, now_s)
        for run in workers_of(job):
            node = run.placement.node
            if node not in state.nodes:
                # Its lease may have been renewed until a moment ago, by the service before this one.
                state.nodes[node] = NodeStatus(node, now_s, silent_since_s=now_s)
                state.timers.add(Timer(now_s + FIRST_CONTACT_S, "first_contact", node))
            if serves(job) and run.phase is WorkerPhase.EXITED:
                replicas.ask_restart(state, job.id, run.placement.worker, now_s)


def _waits_anew(state: ServiceState, job: Job, now_s: float) -> Job:
    if not isinstance(job.state, Pending):
        return job
    match job.state.reason:
        case WaitingForLease() as lease:
            until_s = now_s + fencing.wait_s(state, job)
            return transitions.wait(job, replace(lease, until_s=until_s), now_s, not_before_s=until_s)
        case BackingOff() as pause if job.state.not_before_s > now_s + LONGEST_BACK_OFF_S:
            until_s = now_s + LONGEST_BACK_OFF_S
            return transitions.wait(job, replace(pause, until_s=until_s), now_s, not_before_s=until_s)
        case _:
            return job


def _unseen_ends(store: Store, jobs: Iterable[Job]) -> dict[str, UnseenEnds]:
    """How often in a row the attempts of these jobs had ended unseen, by what was written when they were requeued."""
    tried = [job.id for job in jobs if job.attempts and isinstance(job.state, Pending | Starting)]
    found: dict[str, UnseenEnds] = {}
    for job_id, events in store.events_named(tried, ["requeued"]).items():
        counts = [event.detail["unseen"] for event in events if "unseen" in event.detail]
        if counts and any(counts[-1]):
            found[job_id] = UnseenEnds(*counts[-1])
    return found


def _released(store: Store, job: Job) -> Released | None:
    """Where the gang's attempt was told to meet, if it was: those that start late must be told the same."""
    if not isinstance(job.state, Starting) or not is_gang(job, len(job.state.workers)):
        return None
    for event in reversed(store.job_events(job.id)):
        if event.event == "released" and event.detail["attempt"] == job.attempts:
            return Released(job.attempts, event.detail["master_addr"], event.detail["master_port"])
    return None
