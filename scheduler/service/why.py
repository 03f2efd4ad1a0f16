"""Why does a job not run (or where does it)? The answer to `suanli why`, as JSON and as a screenful for a person."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.explain import Explanation, TenantUse, explain
from scheduler.core.jobs import EndCause, Hold, Job, Pending, Running, shown
from scheduler.core.quotas import is_simulated
from scheduler.core.reasons import (
    ArrayLimit,
    BackingOff,
    JobLimitReached,
    QuotaReached,
    Reason,
    WaitingForJobs,
    WaitingForLease,
    WaitingForVictims,
)
from scheduler.ports import Json, StoredEvent
from scheduler.service import health
from scheduler.service.endings import duration_text
from scheduler.service.job_facts import workers_of
from scheduler.service.state import ServiceState
from scheduler.service.views import ended_view, job_view, reason_text, reason_view, shown_reason

_MOST_BORROWERS = 3
_MOST_JOBS = 5
_MOST_FINDINGS = 5


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
    elif isinstance(reason, ArrayLimit):
        blocked_by = state.arrays.in_the_way(job)[:_MOST_JOBS]
    view = job_view(state, job, now_s)
    if reason is not None:
        view["reason"] = reason_view(reason, now_s, state.policy)
    est_start_s = explanation.expected_start_s if explanation is not None else view["est_start_s"]
    return {
        "job": view,
        "reason": view["reason"],
        "nodes_by_reason": [list(pair) for pair in explanation.nodes_by_reason] if explanation is not None else [],
        "blocked_by": list(blocked_by),
        "est_start_s": est_start_s,
        **_around(explanation),
        "text": "\n".join(_live_lines(state, job, view, reason, explanation, blocked_by, est_start_s, now_s)),
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
    reason: Reason | None,
    explanation: Explanation | None,
    blocked_by: tuple[str, ...],
    est_start_s: float | None,
    now_s: float,
) -> list[str]:
    head = f"job {job.id} ({job.spec.name}) is {view['state']}"
    if not isinstance(job.state, Pending):
        return _placed_lines(state, job, view, head, now_s)
    lines = [f"{head}: {view['reason']['text']}" if view["reason"] else head]
    workers = max(1, job.spec.workers_min)
    allowed = " (simulated devices allowed)" if any(demand.simulated for demand in job.spec.alternatives) else ""
    lines.append(f"  asks for      {workers} worker{'' if workers == 1 else 's'}, each {view['demand']}{allowed}")
    lines.append(f"  class         {job.spec.priority_class} (priority {job.spec.priority})")
    lines += [f"  {word:<13} {said}" for word, said in _wishes(job, now_s, est_start_s)]
    if job.held is not None:
        lines += _held_lines(job, job.held, now_s)
    elif isinstance(reason, ArrayLimit):
        more = f" and {reason.taken - len(blocked_by)} more" if reason.taken > len(blocked_by) else ""
        lines.append(f"  its array     job {', '.join(blocked_by)}{more}")
        lines += [f"                {line}" for line in _blockers(state, blocked_by, now_s, ends=True)]
        lines.append("  try           wait for one of them to end, or submit with a higher array.limit")
    elif isinstance(reason, JobLimitReached | QuotaReached):  # nodes, and who stands there, are not what is in the way
        if explanation is not None and isinstance(reason, QuotaReached):
            lines += _quota_lines(explanation)
        lines += _limit_lines(state, reason, now_s)
    else:
        lines += _room_lines(state, job, explanation, reason, blocked_by, est_start_s, now_s)
    if job.resume_from is not None:
        lines.append(f"  resumes from  {job.resume_from}")
    return lines


def _held_lines(job: Job, held: Hold, now_s: float) -> list[str]:
    """Since when, what it would wait for anyway, and how it goes on."""
    who = f"the operator {held.by}" if held.by_operator else held.by
    lines = [f"  held          since {_about(now_s - held.at_s)} ago, by {who}"]
    if isinstance(job.state, Pending) and isinstance(job.state.reason, WaitingForJobs | WaitingForLease | BackingOff):
        lines.append(f"  and           {reason_text(job.state.reason, now_s)}")
    by_whom = " (an operator must)" if held.by_operator else ""
    return [*lines, f"  try           suanli release {job.id}{by_whom}"]


def _placed_lines(state: ServiceState, job: Job, view: Json, head: str, now_s: float) -> list[str]:
    """Of a job that runs, or is about to, or ends: where it stands."""
    lines = [head + (f" ({view['cause']}: {view['detail']})" if view["cause"] else "")]
    for worker in view["workers"]:
        devices = ", ".join(map(str, worker["devices"])) or "none"
        share = f" ({worker['share_milli'] / 1000:g} of it)" if worker["share_milli"] else ""
        mark = ", simulated" if worker["simulated"] else ""
        place = f"worker {worker['worker']} on {worker['node']}, devices {devices}{share}{mark}"
        lines.append(f"  {place}: {worker['phase']}")
    lines += [f"  {word:<13} {said}" for word, said in _wishes(job, now_s, None)]
    return lines + _waiting_replicas(state, job, now_s)


def _room_lines(
    state: ServiceState,
    job: Job,
    explanation: Explanation | None,
    reason: Reason | None,
    blocked_by: tuple[str, ...],
    est_start_s: float | None,
    now_s: float,
) -> list[str]:
    """What keeps it off the nodes, until when, and what would let it start now."""
    lines = []
    if explanation is not None:
        for why, count in explanation.nodes_by_reason:
            lines.append(f"  nodes         {count} {'node' if count == 1 else 'nodes'}: {why}")
    if blocked_by:
        after = isinstance(reason, WaitingForJobs)
        lines.append(f"  {'waits for' if after else 'in the way':<13} job {', '.join(blocked_by)}")
        lines += [f"                {line}" for line in _blockers(state, blocked_by[:_MOST_JOBS], now_s, ends=after)]
    drained = "draining" in {why for why, _ in explanation.nodes_by_reason} if explanation is not None else False
    if drained:
        for drain in state.drains.values():
            lines.append(f"  drained       {drain.node}: {drain.reason} (by {drain.by})")
    sick = explanation is not None and any("unhealthy" in why for why, _ in explanation.nodes_by_reason)
    if sick:
        found = health.keeping_off(state, job.spec.alternatives)
        lines += [f"  unhealthy     {said}" for said in found[:_MOST_FINDINGS]]
        if len(found) > _MOST_FINDINGS:
            lines.append(f"                and {len(found) - _MOST_FINDINGS} more: suanli nodes --reasons")
    if explanation is not None:
        lines += _quota_lines(explanation)
    if est_start_s is not None:
        lines.append(f"  could start   in about {duration_text(max(0.0, round(est_start_s - now_s)))}, by time limits")
    elif explanation is not None and explanation.reason is not None:
        bound = (
            "when a drained node is resumed"
            if drained
            else "when what is unhealthy is mended, or enough of what is in the way ends"
            if sick
            else "unknown: no time limit bounds the wait, or too many like it are ahead"
        )
        lines.append(f"  could start   {bound}")
    if explanation is not None:
        lines += [f"  try           {suggestion}" for suggestion in explanation.suggestions]
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


def _limit_help(reason: Reason | None) -> str | None:
    """What would let a job start that a limit of its tenant keeps waiting."""
    match reason:
        case JobLimitReached(tenant=tenant):
            setting = "limits.running_jobs"
        case QuotaReached(tenant=tenant):
            setting = "quota.maximum"
        case _:
            return None
    return f"raise {setting} of tenant {tenant}, or wait for one of its jobs to end"


def _limit_lines(state: ServiceState, reason: JobLimitReached | QuotaReached, now_s: float) -> list[str]:
    """The tenant's jobs that use up the limit, those that are over first before the others, and what would help."""
    own = [
        job
        for job in state.jobs.values()
        if job.spec.tenant == reason.tenant
        and workers_of(job)
        and (isinstance(reason, JobLimitReached) or is_simulated(job.spec.alternatives) is reason.simulated)
    ]
    ends_s = {job.id: _over_by_s(state, job.id) for job in own}
    own.sort(key=lambda job: (ends_s[job.id] is None, ends_s[job.id] or 0.0, job.seq))
    lines = []
    if own:
        more = f" and {len(own) - _MOST_JOBS} more" if len(own) > _MOST_JOBS else ""
        ids = tuple(job.id for job in own[:_MOST_JOBS])
        lines.append(f"  its jobs      job {', '.join(ids)}{more}")
        lines += [f"                {line}" for line in _blockers(state, ids, now_s, ends=True)]
    return [*lines, f"  try           {_limit_help(reason)}"]


def _over_by_s(state: ServiceState, job_id: str) -> float | None:
    """When a job is over at the latest, if it is not interrupted; None where no time limit bounds it."""
    running = state.queue.running_job(job_id)
    if running is not None:
        return running.ends_by_s
    job, start_s = state.jobs.get(job_id), state.expected_start_s.get(job_id)
    if job is None or start_s is None or job.spec.time_limit_s is None:
        return None
    return start_s + job.spec.time_limit_s


def _waiting_replicas(state: ServiceState, job: Job, now_s: float) -> list[str]:
    """Replicas of a running service that wait for a place, one by one, and why."""
    lines = []
    for name, asked in state.asked.items():
        if asked.job_id == job.id:
            reason = state.reasons.get(name)
            said = "not looked at yet" if reason is None else reason_text(reason, now_s, state.policy)
            lines.append(f"  replica {asked.worker} waits: {said}")
    return lines


def _wishes(job: Job, now_s: float, est_start_s: float | None) -> list[tuple[str, str]]:
    """What the job file says of where and when, if anything; and how often it had to make room."""
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
        wishes.append(("deadline", text + _missed_text(job, job.deadline_s, est_start_s)))
    wishes.append(("reservation", spec.reservation or ""))
    if job.preemptions:
        wishes.append(("preempted", "once" if job.preemptions == 1 else f"{job.preemptions} times"))
    return [(word, text) for word, text in wishes if text]


def _missed_text(job: Job, deadline_s: float, est_start_s: float | None) -> str:
    """That it will not be over by its deadline, if it starts when expected (or runs) and takes all its time limit."""
    limit_s = job.spec.time_limit_s
    since_s = job.state.since_s if isinstance(job.state, Running) else est_start_s
    if since_s is None:
        return ""
    late_s = round(since_s + (limit_s or 0.0) - deadline_s)
    if late_s <= 0:
        return ""
    bound = ", if it takes all of its time limit" if limit_s and since_s <= deadline_s else ""
    return f"; will miss its deadline by {_about(late_s)}{bound}"


def _end_text(over_s: float | None, now_s: float, *, waits: bool) -> str:
    if over_s is not None:
        return f"over in {_about(over_s - now_s)} by time limits"
    return "and when it is over is not known" if waits else "and no time limit bounds it"


def _about(seconds: float) -> str:
    """To the minute from some minutes on: estimates are no better."""
    return duration_text(max(0, round(seconds)) if seconds < 300 else round(seconds / 60) * 60)


def _blockers(state: ServiceState, ids: tuple[str, ...], now_s: float, *, ends: bool = False) -> list[str]:
    """Of each its name, class and state; with `ends` also when it is over at the latest."""
    lines = []
    for job_id in ids:
        other = state.jobs.get(job_id)
        if other is not None:
            spec = other.spec
            line = f"{job_id} ({spec.name}, {spec.priority_class}) is {shown(other.state)}"
            if ends:
                line += f", {_end_text(_over_by_s(state, job_id), now_s, waits=isinstance(other.state, Pending))}"
            lines.append(line)
    return lines


def dry_run_view(explanation: Explanation, state: ServiceState, now_s: float) -> Json:
    """Where a job that was not submitted would run now, or why not."""
    help_text = _limit_help(explanation.reason)
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
        "reason": None if explanation.reason is None else reason_view(explanation.reason, now_s, state.policy),
        "preempts": list(explanation.preempts),
        "est_start_s": explanation.expected_start_s,
        "suggestions": [*explanation.suggestions, *([] if help_text is None else [help_text])],
    }
