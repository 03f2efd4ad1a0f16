"""The pane of live jobs, in the order in which they will be considered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from scheduler.cli import words
from scheduler.cli.device_listing import natural
from scheduler.cli.top.answers import Job, Jobs
from scheduler.cli.top.pane import Field, Pane, state_style


def queue_pane(clock: Callable[[], float] = time.time) -> Pane[Job]:
    def estimate(job: Job) -> str:
        return words.estimated_start(_view(job), clock())

    return Pane(
        "queue",
        "Queue",
        [
            Field("ID", lambda j: j.id, lambda j: natural(j.id), 4, most=12),
            Field("NAME", lambda j: j.name, lambda j: j.name, 10, most=28),
            Field("TENANT", lambda j: j.tenant, lambda j: j.tenant, 6, most=18, shed=6),
            Field("CLASS", lambda j: j.priority_class, lambda j: j.priority_class, 5, most=14, shed=8),
            Field("KIND", lambda j: j.kind, lambda j: j.kind, 4, most=9, shed=9),
            Field("STATE", lambda j: j.state, lambda j: _STATES.get(j.state, 9), 10, style=state_style),
            Field("WORKERS", lambda j: words.workers(_view(j)), lambda j: j.workers_min, 7, right=True, falling=True),
            Field("ON", lambda j: words.place(_view(j)), _first_place, 22, shed=4),
            Field("START", estimate, lambda j: j.est_start_s, 8, shed=5),
            Field(
                "AGE",
                lambda j: words.duration(clock() - j.submitted_s),
                lambda j: -j.submitted_s,
                6,
                right=True,
                falling=True,
            ),
            Field("REASON", _reason, lambda j: _reason(j) or None, 12, rest=True, shed=3),
        ],
        none="no job waits or runs",
        identity=lambda j: j.id,
        text=_text,
        sort=5,
    )


# As the service lists them: what runs first, then what waits; equals stay in the order of their turn.
_STATES: Mapping[str, int] = {"running": 0, "preempting": 1, "starting": 2, "pending": 3}


def _view(job: Job) -> dict[str, Any]:
    """As `words` takes it; made for a line that is drawn."""
    view: dict[str, Any] = msgspec.to_builtins(job)
    return view


def _first_place(job: Job) -> Any:
    return natural(job.workers[0].node) if job.workers else None


def _reason(job: Job) -> str:
    if job.reason is not None and job.state == "pending":
        return job.reason.text
    if job.cause is None:
        return ""
    return f"{job.cause}: {job.detail}" if job.detail else job.cause


def _text(job: Job) -> str:
    nodes = " ".join(worker.node for worker in job.workers)
    kinds = f"{job.tenant} {job.priority_class} {job.kind} {job.state}"
    return f"{job.id} {job.name} {kinds} {nodes} {_reason(job)}".lower()


def left_out(answer: Jobs) -> str:
    """`of 12,345`: where the service has more than it lists."""
    return f"of {answer.total:,}" if answer.total is not None and answer.total > len(answer.jobs) else ""
