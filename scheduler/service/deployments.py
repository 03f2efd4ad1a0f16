"""Services with versions: a new one takes over step by step, or is given up. `core.rollout` has the rule.

The record of a service (`Deployed`) and its jobs are written one after the other, and a service that is killed in
between finds the rest out again: a job that was deployed and is no version yet becomes one (`adopt`), and what a
version's job is to have follows from the record alone (`settle`). So the record is the truth, whatever of the jobs
was committed.

A rollout is looked at in every batch (`advance`): there are few at a time, and what it waits for (replicas that answer,
reports of gateways, time) all ends in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from scheduler.core import rollout, transitions
from scheduler.core.jobs import Canary, EndCause, Failed, Job, Pending, Running, Starting, Stopping
from scheduler.core.rollout import WHOLE, Deployed, Rollout, Verdict, Version, VersionState, judge
from scheduler.service import autoscaling
from scheduler.service.dispatch import is_service
from scheduler.service.endings import duration_text, stop
from scheduler.service.outcome import Outcome, Undeploy
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

KEPT_VERSIONS = 5
"""Versions that do not serve are kept to go back to, so many; older ones are stopped for good."""
REMEMBERED = 50
"""Versions of which anything is remembered."""
BY = "rollout"
Key = tuple[str, str]


# ---- versions come and go ----------------------------------------------------------------------------------------


def adopt(state: ServiceState, out: Outcome, job: Job, now_s: float) -> None:
    """A deployed job becomes a version: the first is live at once, a later one when it has taken over."""
    if job.id in state.version_of:
        return
    key = key_of_job(job)
    found = state.deployed.get(key)
    if found is None:
        found = Deployed(*key, versions=())
        for number, plain in enumerate(plain_jobs(state, key), start=1):
            found = replace(found, versions=(*found.versions, Version(number, plain.id, "", plain.submitted_s, "live")))
        for each in found.versions[:-1]:  # more than one only where they came at the same moment as this
            found = with_word(found, each.number, "stopped", "another job of its name was newer")
    if found.rollout is not None:
        found = _given_up(state, out, found, f"version {len(found.versions) + 1} was deployed", None, now_s)
    number = max((each.number for each in found.versions), default=0) + 1
    live = found.live
    new = Version(number, job.id, "", job.submitted_s, "starting" if live is not None else "live")
    found = replace(found, versions=(*found.versions, new))
    if live is None or found.deleted:
        keep(state, out, found)
        autoscaling.begin(state, out, state.jobs[job.id], now_s)
        settle(state, out, found, now_s)
        return
    plan = Rollout(number, live.number, job.spec.canary or Canary(), now_s, keep=present(state, live))
    start(state, out, found, plan, now_s)


def take_in(state: ServiceState, records: Sequence[Deployed]) -> None:
    """What the last service left. Before its jobs are."""
    for found in records:
        _index(state, found)


def recovered(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Jobs that were deployed and have no version, versions whose job has ended, and what was decided and not carried
    out. What was seen of a step is forgotten, so it begins again."""
    for job in sorted((job for job in state.jobs.values() if job.spec.deployed), key=lambda job: job.seq):
        adopt(state, out, job, now_s)
    for job_id in state.services:
        autoscaling.watch(state, state.jobs[job_id], now_s)
    for key in sorted(state.deployed):
        found = state.deployed[key]
        for version in found.versions:
            if version.job_id not in state.jobs:
                job_ended(state, out, version.job_id, "its job ended", now_s)
        if (found := state.deployed.get(key)) is None:  # type: ignore[assignment]
            continue
        if found.rollout is not None:
            keep(state, out, replace(found, rollout=replace(found.rollout, since_s=now_s)), store=False)
        settle(state, out, state.deployed[key], now_s)


def job_ended(state: ServiceState, out: Outcome, job_id: str, why: str, now_s: float) -> None:
    key = state.version_of.get(job_id)
    if key is None:
        return
    found = state.deployed[key]
    version = found.version_of(job_id)
    assert version is not None, job_id
    if found.deleted:
        state.timers.add(Timer(now_s, "rollout", "/".join(key)))
        return
    if version.state in ("failed", "gone"):
        return
    plan = found.rollout
    if plan is not None and plan.to == version.number:
        give_up(state, out, found, why, None, now_s, failed=True)
        return
    found = with_word(found, version.number, "failed", why)
    if plan is not None and plan.base == version.number:  # nothing is left to go back to
        found = replace(found, rollout=None)
        found = with_word(found, plan.to, "live", "")
    keep(state, out, found)
    settle(state, out, found, now_s)


def ended_text(job: Job) -> str:
    if isinstance(job.state, Failed):
        return f"its job {job.id} failed ({job.state.cause.value}): {job.state.detail}"
    return f"its job {job.id} was cancelled"


# ---- rollouts ----------------------------------------------------------------------------------------------------


def advance(state: ServiceState, out: Outcome, now_s: float) -> None:
    """Look at every rollout that is under way, and at every service that is being deleted."""
    for key in sorted(state.rollouts):
        if state.deployed[key].deleted:
            _finish_deleting(state, out, state.deployed[key], now_s)
            continue
        before: Rollout | None = None
        while (found := state.deployed.get(key)) is not None and found.rollout not in (None, before):
            before = found.rollout
            _advance(state, out, found, now_s)


def _advance(state: ServiceState, out: Outcome, found: Deployed, now_s: float) -> None:
    plan = found.rollout
    assert plan is not None, found
    new = state.jobs[found.version(plan.to).job_id]
    base = None if plan.base is None else state.jobs.get(found.version(plan.base).job_id)
    waited_s = now_s - plan.since_s
    verdict: Verdict | None = None
    if plan.step >= 0 and not plan.back and base is not None:
        (of_new, _), (of_base, before) = state.loads.figures(new.id), state.loads.figures(base.id)
        has_slo = new.spec.slo_p99_ms is not None
        verdict = judge(plan.canary, of_new, of_base, before, lasted_s=waited_s, has_slo=has_slo)
        if verdict.word == "go back":
            give_up(state, out, found, verdict.text, verdict, now_s)
            return
        if verdict.word == "wait":
            _wake_at(state, found.key, plan.since_s + plan.canary.step_s, now_s)
            return
    following = plan.next_milli
    if following is None:
        _promote(state, out, found, verdict, now_s)
        return
    enough = _floor(following, plan.keep, new)
    up = autoscaling.ready(state, new)
    nothing_else = base is None or autoscaling.ready(state, base) == 0
    if up >= enough or (up and nothing_else and plan.back):
        _step(state, out, found, verdict, now_s)
        return
    patience_s = plan.canary.ready_within_s
    if plan.step >= 0:
        patience_s += rollout.PATIENCE * plan.canary.step_s
    if waited_s >= patience_s and not nothing_else:
        why = f"{up} of {enough} replicas answer after {duration_text(waited_s)}, and the next step needs them"
        give_up(state, out, found, why, None, now_s)
        return
    _wake_at(state, found.key, plan.since_s + patience_s, now_s)


def start(state: ServiceState, out: Outcome, found: Deployed, plan: Rollout, now_s: float) -> None:
    found = replace(found, rollout=plan)
    keep(state, out, found)
    new = found.version(plan.to)
    ids = [new.job_id] if plan.base is None else [new.job_id, found.version(plan.base).job_id]
    for job_id in ids:
        state.loads.of(job_id, now_s)
    state.loads.new_step(*ids, first=True)
    detail = {"by": BY, "version": plan.to, "from": plan.base, "steps": list(plan.canary.steps)}
    state.put(out, state.jobs[new.job_id], "rollout_began", now_s, detail)
    settle(state, out, found, now_s)


def _step(state: ServiceState, out: Outcome, found: Deployed, verdict: Verdict | None, now_s: float) -> None:
    plan = found.rollout
    assert plan is not None, found
    share = plan.next_milli
    plan = replace(plan, step=plan.step + 1, since_s=now_s)
    found = replace(with_word(found, plan.to, "canary", found.version(plan.to).why), rollout=plan)
    keep(state, out, found)
    new = found.version(plan.to)
    state.loads.new_step(new.job_id, *(() if plan.base is None else (found.version(plan.base).job_id,)))
    detail = {"by": BY, "version": plan.to, "share_milli": share, **_figures(verdict)}
    state.put(out, state.jobs[new.job_id], "rollout_step", now_s, detail)
    settle(state, out, found, now_s)


def _promote(state: ServiceState, out: Outcome, found: Deployed, verdict: Verdict | None, now_s: float) -> None:
    plan = found.rollout
    assert plan is not None, found
    found = replace(found, rollout=None)
    if plan.base is not None:
        left: VersionState = "rolled back" if plan.back else "stopped"
        why = f"version {plan.to} was gone back to" if plan.back else f"version {plan.to} took over"
        found = with_word(found, plan.base, left, why)
    found = with_word(found, plan.to, "live", "")
    keep(state, out, found)
    detail = {"by": BY, "version": plan.to, "from": plan.base, **_figures(verdict)}
    state.put(out, state.jobs[found.version(plan.to).job_id], "promoted", now_s, detail)
    settle(state, out, found, now_s)
    _drop_old(state, out, found, now_s)


def give_up(
    state: ServiceState,
    out: Outcome,
    found: Deployed,
    why: str,
    verdict: Verdict | None,
    now_s: float,
    *,
    failed: bool = False,
) -> None:
    found = _given_up(state, out, found, why, verdict, now_s, failed=failed)
    keep(state, out, found)
    settle(state, out, found, now_s)


def _given_up(
    state: ServiceState,
    out: Outcome,
    found: Deployed,
    why: str,
    verdict: Verdict | None,
    now_s: float,
    *,
    failed: bool = False,
) -> Deployed:
    """The record after it; the base has its replicas still."""
    plan = found.rollout
    assert plan is not None, found
    new = found.version(plan.to)
    found = with_word(replace(found, rollout=None), plan.to, "failed" if failed else "rolled back", why)
    if plan.base is not None:
        found = with_word(found, plan.base, "live", "")
    job = state.jobs.get(new.job_id)
    if job is not None:
        detail = {"by": BY, "version": plan.to, "to": plan.base, "detail": why, **_figures(verdict)}
        state.put(out, job, "rolled_back", now_s, detail)
    state.rollbacks += 1
    return found


def _figures(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    return {
        "what": verdict.what,
        "new": _counts(verdict.new),
        "old": _counts(verdict.old),
        "chance": verdict.chance,
        "limit": verdict.limit,
    }


def _counts(figures: rollout.Figures) -> Mapping[str, int]:
    return {"requests": figures.requests, "errors": figures.errors, "late": figures.late}


# ---- the record and its jobs -------------------------------------------------------------------------------------


def settle(state: ServiceState, out: Outcome, found: Deployed, now_s: float) -> None:
    """Give every version's job what the record says. Done twice it changes nothing."""
    plan = found.rollout
    for version in found.versions:
        job = state.jobs.get(version.job_id)
        if job is None:
            continue
        if found.deleted or version.state == "gone":
            _end(state, out, job, found, now_s)
            continue
        serving = version.state == "live" or (plan is not None and version.number in (plan.to, plan.base))
        if not serving:
            state.floors.pop(job.id, None)
            if not isinstance(job.state, Stopping) and autoscaling.wanted(job) != 0:
                why = version.why or f"version {version.number} is {version.state}"
                autoscaling.give(state, out, job, 0, "scaled", now_s, {"by": BY, "detail": why})
            continue
        floor = 0
        if plan is not None:
            share = plan.keep if version.number == plan.base else None
            floor = share if share is not None else _floor(plan.next_milli or plan.share_milli, plan.keep, job)
        if floor:
            state.floors[job.id] = floor
        else:
            state.floors.pop(job.id, None)
        _lift(state, out, job, now_s)


def _lift(state: ServiceState, out: Outcome, job: Job, now_s: float) -> None:
    """At least as many as it may have; one that was stopped before is woken by this."""
    if not isinstance(job.state, Pending | Starting | Running):
        return
    low = autoscaling.bounds(state, job)[0]
    first = job.workers_wanted is None and autoscaling.is_scaled(job)
    if first or autoscaling.wanted(job) < low:
        autoscaling.give(state, out, job, low, "scaled", now_s, {"by": BY, "detail": "to take requests"})
    autoscaling.watch(state, state.jobs[job.id], now_s)


def _end(state: ServiceState, out: Outcome, job: Job, found: Deployed, now_s: float) -> None:
    why = "its service was deleted" if found.deleted else f"only {KEPT_VERSIONS} earlier versions are kept"
    if isinstance(job.state, Pending):
        state.put(out, transitions.cancel(job, BY, why, now_s), "cancelled", now_s, {"by": BY, "reason": why})
    elif not (isinstance(job.state, Stopping) and job.state.cause is EndCause.CANCELLED):
        stop(state, out, job, EndCause.CANCELLED, by=BY, detail=why, now_s=now_s)


def _floor(share_milli: int, keep: int, job: Job) -> int:
    """Replicas that the new version is to have for so large a part of the requests: its part of what the old one
    has."""
    part = -(-share_milli * max(1, keep) // WHOLE)
    return max(1, job.spec.workers_min, min(job.spec.workers_max, part))


def present(state: ServiceState, version: Version) -> int:
    job = state.jobs.get(version.job_id)
    return 0 if job is None else autoscaling.wanted(job)


def _drop_old(state: ServiceState, out: Outcome, found: Deployed, now_s: float) -> None:
    idle = [each for each in found.versions if each.state in ("stopped", "rolled back") and each.job_id in state.jobs]
    for each in idle[:-KEPT_VERSIONS]:
        found = with_word(found, each.number, "gone", f"only {KEPT_VERSIONS} earlier versions are kept")
    kept = found.versions[-REMEMBERED:]
    rest = tuple(each for each in found.versions[:-REMEMBERED] if each.job_id in state.jobs)
    found = replace(found, versions=(*rest, *kept))
    if found != state.deployed[found.key]:
        keep(state, out, found)
        settle(state, out, found, now_s)


def _finish_deleting(state: ServiceState, out: Outcome, found: Deployed, now_s: float) -> None:
    """Forget the record, once the ends of its jobs are committed: it is written before them, and a job that was
    deployed and has no record would become a service again."""
    ids = {version.job_id for version in found.versions}
    if ids & state.jobs.keys():
        return
    if any(change.job.id in ids for change in out.changes):
        state.timers.add(Timer(now_s, "rollout", "/".join(found.key)))  # with the next batch
        return
    del state.deployed[found.key]
    state.rollouts.discard(found.key)
    for job_id in ids:
        state.version_of.pop(job_id, None)
        state.stopped_versions.discard(job_id)
    out.deployed.append(Undeploy(*found.key))


def keep(state: ServiceState, out: Outcome, found: Deployed, *, store: bool = True) -> None:
    _index(state, found)
    if store:
        out.deployed.append(found)


def _index(state: ServiceState, found: Deployed) -> None:
    state.deployed[found.key] = found
    plan = found.rollout
    if plan is None and not found.deleted:
        state.rollouts.discard(found.key)
    else:
        state.rollouts.add(found.key)
    for version in found.versions:
        state.version_of[version.job_id] = found.key
        state.routes_changed.add(version.job_id)
        if version.state == "live" or (plan is not None and version.number in (plan.to, plan.base)):
            state.stopped_versions.discard(version.job_id)
        else:
            state.stopped_versions.add(version.job_id)


def with_word(found: Deployed, number: int, word: VersionState, why: str) -> Deployed:
    changed = replace(found.version(number), state=word, why=why)
    return replace(found, versions=tuple(changed if each.number == number else each for each in found.versions))


def _wake_at(state: ServiceState, key: Key, due_s: float, now_s: float) -> None:
    """A step that is over and was not enough is looked at again with each report, and now and then without."""
    state.timers.add(Timer(due_s if due_s > now_s else now_s + 10.0, "rollout", "/".join(key)))


def plain_jobs(state: ServiceState, key: Key) -> list[Job]:
    jobs = [state.jobs[job_id] for job_id in state.services if job_id not in state.version_of]
    return sorted((job for job in jobs if key_of_job(job) == key and not job.spec.deployed), key=lambda job: job.seq)


def key_of_job(job: Job) -> Key:
    assert is_service(job), job
    return job.spec.tenant, job.spec.name
