"""The shapes of requests and answers about services: documented, and held to by tests. As in models.py."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from scheduler.api.models import Answer, ReasonView, Shape


class DeployRequest(Shape):
    """A job of kind inference, as in a job file; `canary` in it says how it takes over."""

    job: dict[str, Any]


class RollbackRequest(Shape):
    """`to`: a version's number; null: the one before the live one. While a version is being rolled out, that one is
    given up."""

    to: int | None = Field(default=None, ge=1)


class TrafficView(Shape):
    """Requests of the last minute, over all gateways. Percentiles of several windows cannot be put together exactly:
    p50 is the mean of their medians, p95 and p99 the worst of them."""

    arrivals: int
    answered: int
    errors: int = Field(description="answers of 5xx by replicas, and replicas that died under a request")
    within_slo: int
    refused: int
    hopeless: int = Field(description="refused or dropped, as they could not have been answered in time")
    rate_per_s: float
    attainment: float | None = Field(description="the part of those answered that was within the SLO")
    waiting: int = Field(description="in the gateways' queues now")
    queue_s: float = Field(description="how long they wait on average, by Little's law")
    service_s: float | None = Field(description="how long a replica had a request, on average")
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class ServiceVersionView(Shape):
    number: int
    job: str
    state: Literal["starting", "canary", "live", "stopped", "rolled back", "failed", "gone"]
    why: str
    at_s: float
    weight_milli: int = Field(description="its part of the requests")
    job_state: str | None = Field(description="null: its job has ended")
    reason: ReasonView | None = Field(description="why it, or a replica of it, waits")
    replicas_wanted: int
    replicas_ready: int
    replicas_placed: int
    traffic: TrafficView
    requests: int = Field(description="since the service process was started")
    idle_s: float | None
    cold_starts: int
    last_cold_start_s: float | None = Field(description="how long a request last waited for a first replica")


class AutoscalingView(Shape):
    on: bool
    pinned: bool
    min: int
    max: int
    wanted: int
    idle_s: float | None
    concurrency: int | None
    down_after_s: float | None


class RolloutView(Shape):
    to: int
    from_: int | None = Field(alias="from")
    steps: list[int]
    step_s: float
    min_requests: int
    share_milli: int
    next_milli: int | None
    since_s: float
    lasted_s: float
    requests: int = Field(description="to the new version since the step began, as the following")
    errors: int
    late: int
    replicas_ready: int


class ServiceView(Shape):
    name: str
    tenant: str
    state: Literal[
        "serving", "short of replicas", "not ready", "asleep", "rolling out", "rolling back", "down", "deleting"
    ]
    deployed: bool = Field(description="false: a plain job, which has no other versions")
    version: int | None
    priority_class: str | None
    slo_p99_ms: float | None
    hosts: list[str]
    request_rate_limit_per_s: float | None = Field(description="of its tenant, for all its services together")
    replicas_wanted: int
    replicas_ready: int
    scaled_up: int = Field(description="decisions because of its load, since the service process was started")
    scaled_down: int
    autoscaling: AutoscalingView | None
    traffic: TrafficView
    rollout: RolloutView | None
    versions: list[ServiceVersionView] = Field(description="the newest first")


class DecisionView(Shape):
    """An event of a version's job: scaled, rollout_began, rollout_step, promoted, rolled_back, with its figures."""

    at_s: float
    version: int
    event: str
    detail: dict[str, Any]


class ServicesAnswer(Answer):
    services: list[ServiceView]


class ServiceAnswer(ServiceView, Answer):
    decisions: list[DecisionView] = Field(description="the newest first")
    deployed_job: str | None = Field(default=None, description="of a deployment: the job that it made")
