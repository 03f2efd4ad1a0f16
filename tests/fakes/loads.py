"""Loads as a gateway would report them: `load("1", arrivals=20)` is one window of version 1's job."""

from __future__ import annotations

from typing import Any

from scheduler.ports import ServiceLoad


def load(job_id: str, **given: Any) -> ServiceLoad:
    """All that came was answered in 10 ms, within the SLO, in a window of half a second, unless told otherwise."""
    arrivals = given.setdefault("arrivals", 0)
    answered = given.setdefault("answered", arrivals)
    busy = bool(arrivals)
    base: dict[str, Any] = {
        "tenant": "studio",
        "service": "svc",
        "job_id": job_id,
        "at_s": 0.0,
        "window_s": 0.5,
        "errors": 0,
        "within_slo": answered,
        "refused": 0,
        "hopeless": 0,
        "in_flight": 0,
        "waiting": 0,
        "service_s": 0.01 if answered else None,
        "p50_s": 0.01 if answered else None,
        "p95_s": 0.012 if answered else None,
        "p99_s": 0.015 if answered else None,
        "idle_s": 0.0 if busy else 3600.0,
    }
    return ServiceLoad(**{**base, **given})
