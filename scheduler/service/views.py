"""What the API shows, as JSON-able dictionaries: job views, nodes, reasons. Shapes are documented in scheduler/api.

Pure: a function takes the state (or a job and events from the store) and answers. Called by the thread that owns the
state, except `ended_view`, which needs none of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from scheduler.core.decisions import Policy
from scheduler.core.demand import Constraints
from scheduler.core.jobs import (
    LIVE_STATES,
    Cancelled,
    EndCause,
    Failed,
    Hold,
    Job,
    JobSpec,
    Pending,
    Running,
    Starting,
    Stopping,
    Succeeded,
    WorkerRun,
    shown,
)
from scheduler.core.order import in_order
from scheduler.core.reasons import BehindReservation, Held, NotConsidered, Reason, Requeued, text
from scheduler.core.rollout import WHOLE
from scheduler.ports import Json, Reservation, StoredEvent
from scheduler.service import reserving
from scheduler.service.job_facts import workers_of
from scheduler.service.node_status import NodeStatus
from scheduler.service.places import last_places
from scheduler.service.state import ServiceState

# Beyond so many waiting jobs a list shows them by submission: to order them all would hold up the service.
MOST_ORDERED = 20_000


def reason_view(reason: Reason, now_s: float, policy: Policy | None = None) -> Json:
    return {**dataclasses.asdict(reason), "text": reason_text(reason, now_s, policy)}


def reason_text(reason: Reason, now_s: float, policy: Policy | None = None) -> str:
    """In words, with what the policy knows and the reason does not: without backfill a job waits behind another even
    where it would not delay it."""
    if policy is not None and policy.backfill == "none" and isinstance(reason, BehindReservation):
        return f"behind job {reason.ahead} (backfill is off)"
    return text(reason, now_s=now_s)


def shown_reason(state: ServiceState, job: Job) -> Reason | None:
    """The planner's newest word on a job in its queue; else what its state says. None when it does not wait. A hold
    comes first: whatever else it waits for, it is not considered."""
    if not isinstance(job.state, Pending):
        return None
    if job.held is not None:
        return Held(job.held.by, job.held.reason)
    if (no_place := state.arrays.reason(job)) is not None:
        return no_place
    if isinstance(job.state.reason, NotConsidered | Requeued) or state.queue.pending_job(job.id) is not None:
        return state.reasons.get(job.id, job.state.reason)
    return job.state.reason


def job_view(state: ServiceState, job: Job, now_s: float) -> Json:
    """A live job's view."""
    reason = shown_reason(state, job)
    runs = workers_of(job)
    workers = [_worker_view(state, job, run) for run in runs]
    view = _view(job)
    view["reason"] = None if reason is None else reason_view(reason, now_s, state.policy)
    view["est_start_s"] = state.expected_start_s.get(job.id)
    view["workers"] = workers
    view["version"] = version_word(state, job)
    view["simulated"] = any(worker["simulated"] for worker in workers) if workers else None
    return view


def version_word(state: ServiceState, job: Job) -> Json | None:
    """For a job's view: which version of which service it is. None for a job that is none."""
    if job.id not in state.services:
        return None
    key = state.version_of.get(job.id)
    if key is None:
        return {"number": 1, "weight_milli": WHOLE, "state": "live"}
    found = state.deployed[key]
    version = found.version_of(job.id)
    assert version is not None, job.id
    return {"number": version.number, "weight_milli": found.weight(version.number), "state": version.state}


def submitted_view(job: Job) -> Json:
    """A job that was accepted a moment ago."""
    assert isinstance(job.state, Pending), job
    reason = job.state.reason if job.held is None else Held(job.held.by, job.held.reason)
    return {**_view(job), "reason": reason_view(reason, job.submitted_s)}


def word(job: Job) -> str:
    return shown(job.state)


def ended_view(job: Job, placed: Sequence[StoredEvent]) -> Json:
    """The view of a job that has ended. `placed`: its events of places.PLACING, oldest first.

    `workers` are those of its last attempt; `simulated` is true where any of its attempts ran on simulated devices.
    """
    workers, simulated = last_places(job, placed)
    return {**_view(job), "workers": workers, "simulated": simulated}


def _view(job: Job) -> Json:
    """What the job itself says."""
    spec = job.spec
    cause, detail, ended_s = end_of(job)
    return {
        "id": job.id,
        "seq": job.seq,
        "name": spec.name,
        "tenant": spec.tenant,
        "kind": spec.kind.value,
        "priority_class": spec.priority_class,
        "state": shown(job.state),
        "reason": None,
        "version": None,
        "est_start_s": None,
        "submitted_s": job.submitted_s,
        "started_s": job.first_started_s,
        "ended_s": ended_s,
        "attempt": job.attempts,
        "failures": job.failures,
        "workers_min": spec.workers_min,
        "workers_max": spec.workers_max,
        "demand": " or ".join(dict.fromkeys(demand.device_text() for demand in spec.alternatives)),
        "workers": [],
        "simulated": None,
        "resume_from": job.resume_from,
        "cause": cause,
        "detail": detail,
        "array_index": job.array_index,
        "array_limit": spec.array_limit,
        "after": list(spec.after),
        "after_any": list(spec.after_any),
        "time_limit_s": spec.time_limit_s,
        "deadline_s": job.deadline_s,
        "constraints": constraints_view(spec.constraints),
        "reservation": spec.reservation,
        "preemptions": job.preemptions,
        "workers_wanted": job.workers_wanted,
        "pinned": job.pinned,
        # Nobody can release what has ended.
        "held": hold_json(job.held) if isinstance(job.state, LIVE_STATES) else None,
    }


def hold_json(held: Hold | None) -> Json | None:
    return None if held is None else dataclasses.asdict(held)


def constraints_view(constraints: Constraints) -> Json:
    return {
        "within": None if constraints.within is None else constraints.within.value,
        "spread": None if constraints.spread is None else constraints.spread.value,
        "one_per": None if constraints.one_per is None else constraints.one_per.value,
        "apart_from": list(constraints.apart_from),
    }


def end_of(job: Job) -> tuple[str | None, str | None, float | None]:
    match job.state:
        case Succeeded(at_s=at_s):
            return EndCause.SUCCEEDED.value, None, at_s
        case Failed(at_s=at_s, cause=cause, detail=detail):
            return cause.value, detail, at_s
        case Cancelled(at_s=at_s, by=by, detail=detail):
            return EndCause.CANCELLED.value, f"by {by}" + (f": {detail}" if detail else ""), at_s
        case Stopping(cause=cause, by=by, detail=detail):
            return cause.value, detail or f"by {by}", None
        case Pending() | Starting() | Running():
            return None, None, None


def _worker_view(state: ServiceState, job: Job, run: WorkerRun) -> Json:
    node = state.nodes.get(run.placement.node)
    return {
        "worker": run.placement.worker,
        "attempt": run.attempt,
        "node": run.placement.node,
        "devices": list(run.placement.devices),
        "share_milli": run.placement.share_milli,
        "phase": run.phase.value,
        "address": run.address,
        "exit_code": run.exit_code,
        "simulated": state.simulated(job, run.placement),
        "share_by": node.shares if node is not None and run.placement.share_milli else None,
    }


def spec_view(spec: JobSpec) -> Json:
    """The spec as stored, but environment variables by name alone: some hold secrets, and others may look on."""
    view = dataclasses.asdict(spec)
    view["env"] = [name for name, _ in spec.env]
    return view


def event_view(event: StoredEvent) -> Json:
    return {
        "seq": event.seq,
        "at_s": event.at_s,
        "event": event.event,
        "state": event.state,
        "detail": dict(event.detail),
    }


def result_views(results: Mapping[tuple[int, int], str]) -> list[Json]:
    """A result that is not JSON is shown as the text that it is."""
    views = []
    for (attempt, worker), said in results.items():
        try:
            value = json.loads(said)
        except ValueError:
            value = said
        views.append({"attempt": attempt, "worker": worker, "result": value})
    return views


# ---- nodes -------------------------------------------------------------------------------------------------------


def node_counts(state: ServiceState) -> dict[str, int]:
    """Nodes by state, each state named."""
    found = dict.fromkeys(("ready", "draining", "drained", "cordoned", "down"), 0)
    for status in state.nodes.values():
        if status.facts is not None:
            found[node_word(state, status)] += 1
    return found


def device_counts(state: ServiceState) -> Json:
    """Of nodes that answer: how many devices there are, and how much of them is held. Real and simulated apart."""
    found = {kind: {"total": 0, "used_milli": 0} for kind in ("real", "simulated")}
    for status in state.nodes.values():
        if status.facts is not None and status.up:
            of = found["simulated" if status.facts.simulated else "real"]
            of["total"] += len(status.facts.devices)
            of["used_milli"] += state.cluster.used_milli(status.name)
    return found


def node_word(state: ServiceState, status: NodeStatus) -> str:
    if not status.up:
        return "down"
    if status.name not in state.drains:
        return "ready" if state.health.on(status.name).whole is None else "cordoned"
    return "draining" if state.cluster.jobs_on(status.name) or state.strays.get(status.name) else "drained"


def upcoming(state: ServiceState, now_s: float) -> list[tuple[Reservation, tuple[float, float]]]:
    """Reservations with their present or next time, the next one first."""
    found = [(each, when) for each in state.reservations.values() if (when := reserving.window(each, now_s))]
    return sorted(found, key=lambda pair: (pair[1][0], pair[0].name))


def reservation_views(state: ServiceState, now_s: float, *, tenant: str | None) -> list[Json]:
    """The next one first. A tenant sees of the jobs its own alone."""
    shown = [reservation_view(state, reservation, now_s) for reservation, _ in upcoming(state, now_s)]
    for view in shown if tenant is not None else ():
        for field in ("jobs", "waiting", "running_past_start"):
            view[field] = [i for i in view[field] if i in state.jobs and state.jobs[i].spec.tenant == tenant]
    return shown


def reservation_view(state: ServiceState, reservation: Reservation, now_s: float) -> Json:
    start_s, end_s = reserving.window(reservation, now_s) or (reservation.start_s, reservation.end_s)
    naming = [job for job in state.jobs.values() if job.spec.reservation == reservation.name]
    return {
        "name": reservation.name,
        "nodes": list(reservation.nodes),
        "state": "over" if end_s <= now_s else "active" if start_s <= now_s else "upcoming",
        "start_s": start_s,
        "end_s": end_s,
        "every_s": reservation.every_s,
        "reason": reservation.reason,
        "by": reservation.by,
        "made_s": reservation.made_s,
        "tenants": list(reservation.tenants),
        "jobs": [job.id for job in naming],
        "waiting": [job.id for job in naming if isinstance(job.state, Pending)],
        "running_past_start": reserving.running_past(state, reservation, start_s) if start_s > now_s else [],
    }


def fragmentation_view(state: ServiceState) -> Json:
    """How much of what is idle typical work could not use, on real and on simulated devices."""
    figures = {name: state.cluster.fragmentation(simulated=name == "simulated") for name in ("real", "simulated")}
    return {
        name: {"idle_milli": figure.idle_milli, "stranded_milli": figure.stranded_milli, "share": figure.share}
        for name, figure in figures.items()
    }


def counts(state: ServiceState) -> dict[str, int]:
    """Live jobs by state."""
    found: dict[str, int] = {}
    for job in state.jobs.values():
        found[shown(job.state)] = found.get(shown(job.state), 0) + 1
    return found


def in_queue_order(state: ServiceState, jobs: Sequence[Job], now_s: float) -> list[Job]:
    """By class; within it those that hold devices, then the queue as the planner will look at it, then those that wait
    for something else."""
    waiting = [asked for job in jobs if (asked := state.queue.pending_job(job.id)) is not None]
    if len(waiting) > MOST_ORDERED:
        return sorted(jobs, key=lambda job: (-job.spec.priority, job.seq))
    usage, held = state.queue.usage, state.held_shares
    turn = {asked.job_id: i for i, asked in enumerate(in_order(waiting, state.policy, usage, held, now_s))}

    def place(job: Job) -> tuple[int, int, int]:
        if job.id in turn:
            return (-job.spec.priority, 1, turn[job.id])
        return (-job.spec.priority, 2 if isinstance(job.state, Pending) else 0, job.seq)

    return sorted(jobs, key=place)
