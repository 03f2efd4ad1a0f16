"""Views of inference services as the API answers them, for whoever stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scheduler.ports import Json

SERVICE_COUNTS = {
    "deployed": 1,
    "live_jobs": 2,
    "rollouts": 1,
    "scaled_up": 3,
    "scaled_down": 1,
    "evictions": 4,
    "rollbacks": 2,
    "gateways": 1,
}
DECISION = {
    "at_s": 1_750_000_000.0,
    "version": 1,
    "event": "scaled",
    "detail": {"by": "autoscaling", "before": 1, "replicas": 3, "why": "step", "detail": "the load has risen: 90/s"},
}


def traffic_view(**more: Any) -> Json:
    return {
        "arrivals": 1_200,
        "answered": 1_190,
        "errors": 2,
        "within_slo": 1_185,
        "refused": 6,
        "hopeless": 4,
        "rate_per_s": 20.0,
        "attainment": 1_185 / 1_190,
        "waiting": 3,
        "queue_s": 0.15,
        "service_s": 0.012,
        "p50_s": 0.011,
        "p95_s": 0.03,
        "p99_s": 0.045,
    } | more


def version_view(number: int = 1, job: str = "101", **more: Any) -> Json:
    return {
        "number": number,
        "job": job,
        "state": "live",
        "why": "",
        "at_s": 1_750_000_000.0,
        "weight_milli": 1000,
        "job_state": "running",
        "reason": None,
        "replicas_wanted": 2,
        "replicas_ready": 2,
        "replicas_placed": 2,
        "traffic": traffic_view(),
        "requests": 5_000,
        "idle_s": 0.2,
        "cold_starts": 1,
        "last_cold_start_s": 1.25,
    } | more


def rollout_view(to: int, base: int, steps: Sequence[int] = (5, 25, 100), **more: Any) -> Json:
    return {
        "to": to,
        "from": base,
        "steps": list(steps),
        "step_s": 60.0,
        "min_requests": 50,
        "share_milli": 50,
        "next_milli": 250,
        "since_s": 1_750_000_000.0,
        "lasted_s": 12.0,
        "requests": 60,
        "errors": 1,
        "late": 0,
        "replicas_ready": 1,
    } | more


def service_view(name: str = "detect", *, versions: Sequence[Json] | None = None, **more: Any) -> Json:
    return {
        "name": name,
        "tenant": "film-studio",
        "state": "serving",
        "deployed": True,
        "version": 1,
        "priority_class": "normal",
        "slo_p99_ms": 50.0,
        "hosts": ["detect.example.org"],
        "request_rate_limit_per_s": 500.0,
        "replicas_wanted": 2,
        "replicas_ready": 2,
        "scaled_up": 3,
        "scaled_down": 1,
        "autoscaling": {
            "on": True,
            "pinned": False,
            "min": 0,
            "max": 4,
            "wanted": 2,
            "idle_s": 600.0,
            "concurrency": 1,
            "down_after_s": 120.0,
        },
        "traffic": traffic_view(),
        "rollout": None,
        "versions": list(versions) if versions is not None else [version_view()],
    } | more
