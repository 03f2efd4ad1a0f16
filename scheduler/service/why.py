"""Why does a job not run (or where does it)? The answer to `suanli why`, as JSON and as a screenful for a person."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.explain import Explanation, explain
from scheduler.core.jobs import EndCause, Job, Pending, shown
from scheduler.core.reasons import WaitingForJobs, WaitingForVictims
from scheduler.ports import Json, StoredEvent
from scheduler.service.endings import duration_text
from scheduler.service.planning import queue_of
from scheduler.service.state import ServiceState, pending_job
from scheduler.service.views import ended_view, job_view, reason_view, shown_reason


def why_live(state: ServiceState, job: Job, now_s: float) -> Json:
    explanation = None
    if job.id in state.queue:
        explanation = explain(state.cluster, queue_of(state, now_s), state.policy, pending_job(job), now_s=now_s)
    reason = shown_reason(state, job)
    if explanation is not None and explanation.reason is not None and not isinstance(reason, WaitingForVictims):
        reason = explanation.reason
    blocked_by: tuple[str, ...] = ()
    if explanation is not None:
        blocked_by = explanation.blocked_by
    elif isinstance(reason, WaitingForJobs):
        blocked_by = reason.jobs
    view = job_view(state, job, now_s)
    if reason is not None:
        view["reason"] = reason_view(reason, now_s)
    est_start_s = explanation.expected_start_s if explanation is not None else view["est_start_s"]
    return {
        "job": view,
        "reason": view["reason"],
        "nodes_by_reason": [list(pair) for pair in explanation.nodes_by_reason] if explanation is not None else [],
        "blocked_by": list(blocked_by),
        "est_start_s": est_start_s,
        "text": "\n".join(_live_lines(state, job, view, explanation, blocked_by, est_start_s, now_s)),
    }


def why_ended(job: Job, placed: Sequence[StoredEvent]) -> Json:
    view = ended_view(job, placed)
    line = f"job {job.id} ({job.spec.name}) has {_ended_word(job)}"
    if view["cause"] not in (None, EndCause.SUCCEEDED.value, EndCause.CANCELLED.value):
        line += f" ({view['cause']})"
    lines = [line] + ([f"  {view['detail']}"] if view["detail"] else [])
    if view["simulated"]:
        lines.append("  it ran on simulated devices")
    if job.resume_from is not None:
        lines.append(f"  its last saved work is in {job.resume_from}")
    return {
        "job": view,
        "reason": None,
        "nodes_by_reason": [],
        "blocked_by": [],
        "est_start_s": None,
        "text": "\n".join(lines),
    }


def _ended_word(job: Job) -> str:
    word = shown(job.state)
    return f"been {word}" if word == "cancelled" else word


def _live_lines(
    state: ServiceState,
    job: Job,
    view: Json,
    explanation: Explanation | None,
    blocked_by: tuple[str, ...],
    est_start_s: float | None,
    now_s: float,
) -> list[str]:
    head = f"job {job.id} ({job.spec.name}) is {view['state']}"
    if not isinstance(job.state, Pending):
        lines = [head + (f" ({view['cause']}: {view['detail']})" if view["cause"] else "")]
        for worker in view["workers"]:
            devices = ", ".join(map(str, worker["devices"])) or "none"
            mark = ", simulated" if worker["simulated"] else ""
            lines.append(f"  worker {worker['worker']} on {worker['node']}, devices {devices}{mark}: {worker['phase']}")
        return lines
    lines = [f"{head}: {view['reason']['text']}" if view["reason"] else head]
    workers = job.spec.workers_min
    allowed = " (simulated devices allowed)" if any(demand.simulated for demand in job.spec.alternatives) else ""
    lines.append(f"  asks for      {workers} worker{'' if workers == 1 else 's'}, each {view['demand']}{allowed}")
    lines.append(f"  class         {job.spec.priority_class} (priority {job.spec.priority})")
    if explanation is not None:
        for why, count in explanation.nodes_by_reason:
            lines.append(f"  nodes         {count} {'node' if count == 1 else 'nodes'}: {why}")
    if blocked_by:
        lines.append(f"  in the way    job {', '.join(blocked_by)}")
        lines += [f"                {line}" for line in _blockers(state, blocked_by[:5])]
    drained = "draining" in {why for why, _ in explanation.nodes_by_reason} if explanation is not None else False
    if drained:
        for drain in state.drains.values():
            lines.append(f"  drained       {drain.node}: {drain.reason} (by {drain.by})")
    if est_start_s is not None:
        lines.append(f"  could start   in about {duration_text(max(0.0, round(est_start_s - now_s)))}, by time limits")
    elif explanation is not None and explanation.reason is not None:
        bound = "when a drained node is resumed" if drained else "unknown: no time limit bounds the wait"
        lines.append(f"  could start   {bound}")
    if explanation is not None:
        lines += [f"  try           {suggestion}" for suggestion in explanation.suggestions]
    if job.resume_from is not None:
        lines.append(f"  resumes from  {job.resume_from}")
    return lines


def _blockers(state: ServiceState, ids: tuple[str, ...]) -> list[str]:
    lines = []
    for job_id in ids:
        other = state.jobs.get(job_id)
        if other is not None:
            spec = other.spec
            lines.append(f"{job_id} ({spec.name}, {spec.priority_class}) is {shown(other.state)}")
    return lines


def dry_run_view(explanation: Explanation, state: ServiceState, now_s: float) -> Json:
    """Where a job that was not submitted would run now, or why not."""
    return {
        "would_start": explanation.reason is None,
        "placements": [
            {
                "worker": place.worker,
                "node": place.node,
                "devices": list(place.devices),
                "share_milli": place.share_milli,
                "simulated": bool((facts := state.nodes[place.node].facts) and facts.simulated),
            }
            for place in explanation.placements
        ],
        "reason": None if explanation.reason is None else reason_view(explanation.reason, now_s),
        "preempts": list(explanation.preempts),
        "est_start_s": explanation.expected_start_s,
        "suggestions": list(explanation.suggestions),
    }
