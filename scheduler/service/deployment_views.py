"""What the API shows of services: versions, replicas, what they had to do in the last minute, and what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scheduler.core.autoscaling import STABLE_S
from scheduler.core.jobs import Job
from scheduler.core.reasons import Reason
from scheduler.core.rollout import WHOLE, Deployed, Rollout, Version
from scheduler.ports import Json, ServiceLoad, StoredEvent
from scheduler.service import autoscaling
from scheduler.service.job_facts import workers_of
from scheduler.service.state import ServiceState
from scheduler.service.views import reason_view, shown_reason, word

DECISIONS = ("scaled", "unpinned", "registered", "rollout_began", "rollout_step", "promoted", "rolled_back")
MOST_DECISIONS = 20
Key = tuple[str, str]


def keys(state: ServiceState, *, tenant: str | None) -> list[Key]:
    """Tenant and name of every service, or of a tenant's."""
    plain = {(state.jobs[job_id].spec.tenant, state.jobs[job_id].spec.name) for job_id in state.services}
    return sorted(key for key in plain | state.deployed.keys() if tenant in (None, key[0]))


def service_views(state: ServiceState, wanted: Sequence[Key], now_s: float) -> list[Json]:
    """Of these; without those that have gone meanwhile."""
    plain = _plain(state)
    return [_view(state, key, plain.get(key, []), now_s) for key in wanted if key in plain or key in state.deployed]


def service_view(state: ServiceState, key: Key, now_s: float) -> Json | None:
    """None where there is none."""
    plain = _plain(state).get(key, [])
    return _view(state, key, plain, now_s) if plain or key in state.deployed else None


def serving_job(state: ServiceState, key: Key) -> str | None:
    """The live version's job, or the newest plain job of that name."""
    if (found := state.deployed.get(key)) is not None:
        live = found.live
        if live is None and found.rollout is not None and found.rollout.base is not None:
            live = found.version(found.rollout.base)
        return live.job_id if live is not None and live.job_id in state.jobs else None
    plain = _plain(state).get(key)
    return plain[0].id if plain else None


def counts_view(state: ServiceState) -> Json:
    """Since the service was started."""
    return {
        "deployed": len(state.deployed),
        "live_jobs": len(state.services),
        "rollouts": len(state.rollouts),
        "scaled_up": sum(up for _, up in state.scaled_by_load.values()),
        "scaled_down": sum(down for down, _ in state.scaled_by_load.values()),
        "evictions": state.evictions,
        "rollbacks": state.rollbacks,
        "gateways": len(state.loads.gateways),
    }


def decision_views(view: Json, events: Mapping[str, Sequence[StoredEvent]]) -> list[Json]:
    """The last ones of all versions, the newest first."""
    number = {version["job"]: version["number"] for version in view["versions"]}
    rows = [(number[job_id], event) for job_id, found in events.items() for event in found]
    rows.sort(key=lambda row: row[1].seq, reverse=True)
    return [
        {"at_s": event.at_s, "version": of, "event": event.event, "detail": dict(event.detail)}
        for of, event in rows[:MOST_DECISIONS]
    ]


def _plain(state: ServiceState) -> dict[Key, list[Job]]:
    """Services that were submitted and not deployed, the newest job of each first."""
    found: dict[Key, list[Job]] = {}
    jobs = [state.jobs[job_id] for job_id in state.services if job_id not in state.version_of]
    for job in sorted(jobs, key=lambda job: -job.seq):
        found.setdefault((job.spec.tenant, job.spec.name), []).append(job)
    return found


def _view(state: ServiceState, key: Key, plain: Sequence[Job], now_s: float) -> Json:
    found = state.deployed.get(key)
    if found is not None:
        rows = [
            _version_view(state, each, found.weight(each.number), state.jobs.get(each.job_id), now_s)
            for each in reversed(found.versions)
        ]
        serving = serving_job(state, key)
    else:
        rows = [
            _version_view(state, Version(1, job.id, "", job.submitted_s, "live"), WHOLE, job, now_s) for job in plain
        ]
        serving = plain[0].id
    job = None if serving is None else state.jobs.get(serving)
    current = next((row for row in rows if row["job"] == serving), None)
    down, up = state.scaled_by_load.get(key, (0, 0))
    return {
        "name": key[1],
        "tenant": key[0],
        "state": _state_word(found, job, current),
        "deployed": found is not None,
        "version": None if current is None else current["number"],
        "priority_class": None if job is None else job.spec.priority_class,
        "slo_p99_ms": None if job is None else job.spec.slo_p99_ms,
        "hosts": [] if job is None else list(job.spec.hosts),
        "request_rate_limit_per_s": state.request_rates.get(key[0]),
        "replicas_wanted": sum(row["replicas_wanted"] for row in rows),
        "replicas_ready": sum(row["replicas_ready"] for row in rows),
        "scaled_up": up,
        "scaled_down": down,
        "autoscaling": None if job is None else _autoscaling_view(state, job),
        "traffic": _traffic(_all_reports(state, rows, now_s), now_s),
        "rollout": None
        if found is None or found.rollout is None
        else _rollout_view(state, found, found.rollout, now_s),
        "versions": rows,
    }


def _state_word(found: Deployed | None, job: Job | None, current: Json | None) -> str:
    if found is not None and found.deleted:
        return "deleting"
    if found is not None and found.rollout is not None:
        return "rolling back" if found.rollout.back else "rolling out"
    if job is None or current is None:
        return "down"
    if current["replicas_ready"]:
        return "serving" if current["replicas_ready"] >= current["replicas_wanted"] else "short of replicas"
    return "asleep" if autoscaling.may_sleep(job) and not current["replicas_wanted"] else "not ready"


def _version_view(state: ServiceState, version: Version, weight: int, job: Job | None, now_s: float) -> Json:
    reason = None if job is None else shown_reason(state, job) or _missing_reason(state, job)
    stopped = job is None or version.job_id in state.stopped_versions
    seen = state.loads.seen.get(version.job_id)
    return {
        "number": version.number,
        "job": version.job_id,
        "state": version.state,
        "why": version.why,
        "at_s": version.at_s,
        "weight_milli": weight,
        "job_state": None if job is None else word(job),
        "reason": None if reason is None else reason_view(reason, now_s, state.policy),
        "replicas_wanted": 0 if job is None or stopped else autoscaling.wanted(job),
        "replicas_ready": 0 if job is None else autoscaling.ready(state, job),
        "replicas_placed": 0 if job is None else len(workers_of(job)),
        "traffic": _traffic(
            [] if seen is None else seen.recent(now_s), now_s, 0 if seen is None else seen.waiting(now_s)
        ),
        "requests": 0 if seen is None else seen.requests,
        "idle_s": None if seen is None else max(0.0, now_s - seen.used_s),
        "cold_starts": 0 if seen is None else seen.cold_starts,
        "last_cold_start_s": None if seen is None else seen.last_cold_start_s,
    }


def _missing_reason(state: ServiceState, job: Job) -> Reason | None:
    """Why a replica that it is to have more waits."""
    return next(
        (state.reasons[n] for n, asked in state.asked.items() if asked.job_id == job.id and n in state.reasons), None
    )


def _autoscaling_view(state: ServiceState, job: Job) -> Json:
    low, high = autoscaling.bounds(state, job)
    settings = autoscaling.settings_of(job.spec)
    return {
        "on": autoscaling.is_scaled(job),
        "pinned": job.pinned,
        "min": low,
        "max": high,
        "wanted": autoscaling.wanted(job),
        "idle_s": None if settings is None else settings.idle_s,
        "concurrency": None if settings is None else settings.concurrency,
        "down_after_s": None if settings is None else settings.down_after_s,
    }


def _rollout_view(state: ServiceState, found: Deployed, plan: Rollout, now_s: float) -> Json:
    new = found.version(plan.to)
    job = state.jobs.get(new.job_id)
    of_new, _ = state.loads.figures(new.job_id)
    return {
        "to": plan.to,
        "from": plan.base,
        "steps": list(plan.canary.steps),
        "step_s": plan.canary.step_s,
        "min_requests": plan.canary.min_requests,
        "share_milli": plan.share_milli,
        "next_milli": plan.next_milli,
        "since_s": plan.since_s,
        "lasted_s": max(0.0, now_s - plan.since_s),
        "requests": of_new.requests,
        "errors": of_new.errors,
        "late": of_new.late,
        "replicas_ready": 0 if job is None else autoscaling.ready(state, job),
    }


def _all_reports(state: ServiceState, rows: Iterable[Json], now_s: float) -> list[ServiceLoad]:
    found = [state.loads.seen.get(row["job"]) for row in rows]
    return [load for seen in found if seen is not None for load in seen.recent(now_s)]


def _traffic(reports: Sequence[ServiceLoad], now_s: float, waiting: int = 0) -> Json:
    """Of the last minute, over all gateways. p50 is the mean of the gateways' and windows' medians, by requests; p95
    and p99 are the worst of them: percentiles of windows cannot be put together exactly. `queue_s` by Little's law."""
    total = {name: sum(getattr(load, name) for load in reports) for name in _SUMS}
    served = [load for load in reports if load.answered]
    medians = [(load.p50_s, load.answered) for load in served if load.p50_s is not None]
    services = [(load.service_s, load.answered) for load in served if load.service_s is not None]
    rate = total["arrivals"] / STABLE_S
    return {
        **total,
        "rate_per_s": rate,
        "attainment": total["within_slo"] / total["answered"] if total["answered"] else None,
        "waiting": waiting,
        "queue_s": waiting / rate if waiting and rate else 0.0,
        "service_s": _mean(services),
        "p50_s": _mean(medians),
        "p95_s": max((load.p95_s for load in served if load.p95_s is not None), default=None),
        "p99_s": max((load.p99_s for load in served if load.p99_s is not None), default=None),
    }


_SUMS = ("arrivals", "answered", "errors", "within_slo", "refused", "hopeless")


def _mean(parts: Sequence[tuple[float, int]]) -> float | None:
    weight = sum(count for _, count in parts)
    return sum(value * count for value, count in parts) / weight if weight else None
