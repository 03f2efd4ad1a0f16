"""Why does a job not run (or where does it)? The answer to `suanli why`, as JSON and as a screenful for a person."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.explain import Explanation, TenantUse, explain
from scheduler.core.jobs import EndCause, Job, Pending, shown
from scheduler.core.reasons import WaitingForJobs, WaitingForVictims
from scheduler.core.reasons import text as reason_text
from scheduler.ports import Json, StoredEvent
from scheduler.service.endings import duration_text
from scheduler.service.state import ServiceState
from scheduler.service.views import ended_view, job_view, reason_view, shown_reason

_MOST_BORROWERS = 3


def why_live(state: ServiceState, job: Job, now_s: float) -> Json:
    explanation = None
    waiting = state.queue.pending_job(job.id)
    if waiting is not None:
        explanation = explain(state.cluster, state.queue, state.policy, waiting, now_s=now_s)
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
        **_around(explanation),
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
        **_around(None),
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
        return lines + _waiting_replicas(state, job, now_s)
    lines = [f"{head}: {view['reason']['text']}" if view["reason"] else head]
    workers = max(1, job.spec.workers_min)
    allowed = " (simulated devices allowed)" if any(demand.simulated for demand in job.spec.alternatives) else ""
    lines.append(f"  asks for      {workers} worker{'' if workers == 1 else 's'}, each {view['demand']}{allowed}")
    lines.append(f"  class         {job.spec.priority_class} (priority {job.spec.priority})")
    lines += [f"  {word:<13} {said}" for word, said in _wishes(job, now_s)]
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
    if explanation is not None:
        lines += _quota_lines(explanation)
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


def _around(explanation: Explanation | None) -> Json:
    """What else the answer says in numbers: quotas in the way, victims asked for, and changes that would help."""
    if explanation is None:
        return {"quota": None, "borrowers": [], "preempts": [], "changes": []}
    return {
        "quota": None if explanation.quota is None else _use_view(explanation.quota),
        "borrowers": [_use_view(use) for use in explanation.borrowers],
        "preempts": list(explanation.preempts),
        "changes": [{"kind": change.kind, "text": change.text} for change in explanation.changes],
    }


def _use_view(use: TenantUse) -> Json:
    """In thousandths of devices."""
    return {
        "tenant": use.tenant,
        "used_milli": use.used_milli,
        "guaranteed_milli": use.guaranteed_milli,
        "maximum_milli": use.maximum_milli,
        "borrowed_milli": use.borrowed_milli,
        "simulated": use.simulated,
    }


def _quota_lines(explanation: Explanation) -> list[str]:
    """The tenant's quota where it has one, and who holds more than is theirs while it is not full."""
    use = explanation.quota
    if use is None or not (use.guaranteed_milli or use.maximum_milli is not None):
        return []
    most = "" if use.maximum_milli is None else f", at most {use.maximum_milli / 1000:g}"
    kind = "simulated devices" if use.simulated else "devices"
    lines = [
        f"  quota         tenant {use.tenant} holds {use.used_milli / 1000:g} {kind} "
        f"({use.guaranteed_milli / 1000:g} guaranteed{most})"
    ]
    if use.used_milli < use.guaranteed_milli:
        for other in explanation.borrowers[:_MOST_BORROWERS]:
            lines.append(f"                tenant {other.tenant} has borrowed {other.borrowed_milli / 1000:g}")
    return lines


def _waiting_replicas(state: ServiceState, job: Job, now_s: float) -> list[str]:
    """Replicas of a running service that wait for a place, one by one, and why."""
    lines = []
    for name, asked in state.asked.items():
        if asked.job_id == job.id:
            reason = state.reasons.get(name)
            said = "not looked at yet" if reason is None else reason_text(reason, now_s=now_s)
            lines.append(f"  replica {asked.worker} waits: {said}")
    return lines


def _wishes(job: Job, now_s: float) -> list[tuple[str, str]]:
    """What the job file says of where and when, if anything."""
    spec = job.spec
    near = spec.constraints
    said = [
        f"within one {near.within}" if near.within else "",
        f"spread over {near.spread}s" if near.spread else "",
        f"at most one in each {near.one_per}" if near.one_per else "",
        f"on no node with {', '.join(near.apart_from)}" if near.apart_from else "",
    ]
    wishes = [("placed", ", ".join(filter(None, said)))]
    if job.deadline_s is not None:
        left_s = job.deadline_s - now_s
        text = f"in {duration_text(round(left_s))}" if left_s > 0 else f"{duration_text(round(-left_s))} ago"
        wishes.append(("deadline", text))
    wishes.append(("reservation", spec.reservation or ""))
    if job.preemptions:
        wishes.append(("preempted", "once" if job.preemptions == 1 else f"{job.preemptions} times"))
    return [(word, text) for word, text in wishes if text]


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
