"""Services are scaled by their load: `core.autoscaling` decides, this file asks it and carries the decision out.

It is asked when a report of a gateway names the version, in the same batch: a report that shows need leads to a
planning pass at once. What time alone decides (a service has been idle, or had less to do, for long enough) is asked
by a timer, for services that have replicas to give back. Only decisions are committed, with their figures, as the
job's `scaled` events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scheduler.core import transitions
from scheduler.core.autoscaling import Decision, Scaling, decide
from scheduler.core.jobs import Autoscale, Job, JobSpec, Pending, Running, Starting, WorkerPhase
from scheduler.service import served
from scheduler.service.job_facts import workers_of
from scheduler.service.loads import LoadsReported
from scheduler.service.outcome import Outcome
from scheduler.service.state import ServiceState
from scheduler.service.timers import Timer

BY = "autoscaling"
ASK_EVERY_S = 10.0


def settings_of(spec: JobSpec) -> Autoscale | None:
    """None for what its load does not scale. A deployed version whose bounds leave room is scaled without being
    told."""
    if spec.autoscale is not None:
        return spec.autoscale
    return Autoscale() if spec.deployed and spec.workers_min < spec.workers_max else None


def is_scaled(job: Job) -> bool:
    return not job.pinned and settings_of(job.spec) is not None


def may_sleep(job: Job) -> bool:
    """Without requests it may have no replicas at all, and a request brings one."""
    return job.spec.workers_min == 0 and is_scaled(job)


def wanted(job: Job) -> int:
    return job.spec.workers_max if job.workers_wanted is None else job.workers_wanted


def ready(state: ServiceState, job: Job) -> int:
    """Replicas that answer and are to stay."""
    if not isinstance(job.state, Starting | Running):
        return 0
    return sum(
        run.phase is WorkerPhase.READY and (job.id, run.placement.worker) not in state.leaving
        for run in workers_of(job)
    )


def bounds(state: ServiceState, job: Job) -> tuple[int, int]:
    """How many replicas it may have now: those of its job file, and what a rollout asks it to keep."""
    low, high = job.spec.workers_min, job.spec.workers_max
    return min(high, max(low, state.floors.get(job.id, 0))), high


def begin(state: ServiceState, out: Outcome, job: Job, now_s: float) -> None:
    """A service that was submitted has as few replicas as it may, until it has something to do."""
    if job.workers_wanted is None and is_scaled(job) and isinstance(job.state, Pending):
        low = bounds(state, job)[0]
        may_begin = job.held is None and not job.spec.waits_for  # with nothing to start it runs at once
        give(state, out, job, low if may_begin else max(1, low), "registered", now_s, {"by": BY})


def take_loads(state: ServiceState, out: Outcome, event: LoadsReported, now_s: float) -> None:
    gateways, loads = event.take()
    served.note(state, loads.values(), now_s)
    for job_id in state.loads.take(gateways, loads, state.services, now_s):
        ask(state, out, state.jobs[job_id], now_s)


def ask(state: ServiceState, out: Outcome, job: Job, now_s: float) -> None:
    """Is a change due?"""
    settings = settings_of(job.spec)
    if settings is None or job.pinned or state.closing_down or job.id in state.stopped_versions:
        return
    if not isinstance(job.state, Pending | Starting | Running):
        return
    seen, current = state.loads.of(job.id, now_s), wanted(job)
    low, high = bounds(state, job)
    slo_s = None if job.spec.slo_p99_ms is None else job.spec.slo_p99_ms / 1000
    decision = decide(
        seen.history,
        Scaling(low, high, slo_s, settings.concurrency, settings.idle_s, settings.down_after_s),
        now_s=now_s,
        current=current,
        ready=ready(state, job),
        waiting=seen.waiting(now_s),
        idle_s=now_s - seen.used_s,
        may_shrink=state.loads.all_heard(job.id, now_s),
    )
    if decision is not None:
        counts = state.scaled_by_load.setdefault((job.spec.tenant, job.spec.name), [0, 0])
        counts[decision.wanted > decision.before] += 1
        give(state, out, job, decision.wanted, "scaled", now_s, detail_of(decision))
    watch(state, state.jobs[job.id], now_s)


def watch(state: ServiceState, job: Job, now_s: float) -> None:
    """Ask again before long, where it has replicas to give back."""
    if is_scaled(job) and wanted(job) > bounds(state, job)[0]:
        state.timers.add(Timer(now_s + ASK_EVERY_S, "autoscale", job.id))
    else:
        state.timers.drop("autoscale", job.id)


def give(
    state: ServiceState, out: Outcome, job: Job, replicas: int, event: str, now_s: float, detail: Mapping[str, Any]
) -> None:
    """It is to have so many replicas from now on. For a job that is not being stopped."""
    job = replace(job, workers_wanted=replicas)
    if isinstance(job.state, Pending) and replicas == 0:
        job = transitions.run(replace(job, state=Starting((), now_s)), now_s)  # with nothing to start it runs already
    state.put(out, job, event, now_s, {"replicas": replicas, **detail})
    state.needs_plan = True


def detail_of(decision: Decision) -> dict[str, Any]:
    return {
        "by": BY,
        "before": decision.before,
        "why": decision.why,
        "detail": decision.text,
        "rate_per_s": round(decision.rate_per_s, 4),
        "window_s": decision.window_s,
        "service_s": decision.service_s,
        "load": decision.load,
        "waiting": decision.waiting,
    }
