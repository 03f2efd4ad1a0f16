"""The shapes of requests, enforced, and of answers, documented: what /openapi.json says and the tests hold us to.

Answers are not validated on their way out: that would cost a millisecond on a long queue and turn a field too many into
an internal error. Times are epoch seconds, `_milli` are thousandths, None is "not known" or "does not apply".
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

JobStateWord = Literal["pending", "starting", "running", "preempting", "succeeded", "failed", "cancelled"]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---- requests ----------------------------------------------------------------------------------------------------


class SubmitRequest(Shape):
    """One job or several; all are accepted or none. The fields of a job are those of a job file."""

    job: dict[str, Any] | None = None
    jobs: list[dict[str, Any]] | None = Field(default=None, min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> SubmitRequest:
        if (self.job is None) == (self.jobs is None):
            raise ValueError("exactly one of `job` and `jobs` is expected")
        return self

    def mappings(self) -> list[dict[str, Any]]:
        return self.jobs if self.jobs is not None else [self.job or {}]


class DryRunRequest(Shape):
    job: dict[str, Any]


class CancelRequest(Shape):
    reason: str = Field(default="", max_length=500)


class DrainRequest(Shape):
    reason: str = Field(min_length=1, max_length=500)


# ---- answers -----------------------------------------------------------------------------------------------------


class ErrorBody(Shape):
    message: str
    field: str | None
    type: str


class ErrorAnswer(Shape):
    """`field` names the input at fault; `type` is one of bad_input, unauthenticated, forbidden, not_found, conflict,
    unavailable, overloaded, too_large, timeout, method_not_allowed, internal, failed."""

    error: ErrorBody


class Answer(Shape):
    schema_: str = Field(default="", alias="schema", description="suanli/NAME/VERSION")


class WorkerView(Shape):
    worker: int
    attempt: int
    node: str
    devices: list[int]
    share_milli: int
    phase: Literal["assigned", "prepared", "running", "ready", "exited"]
    address: str | None
    exit_code: int | None
    simulated: bool


class ReasonView(BaseModel):
    """Why a job does not run: `text` in words; further fields depend on `kind`."""

    model_config = ConfigDict(extra="allow")
    kind: str
    text: str


class JobView(Shape):
    id: str
    seq: int
    name: str
    tenant: str
    kind: Literal["training", "inference", "batch", "benchmark"]
    priority_class: str
    state: JobStateWord
    reason: ReasonView | None
    est_start_s: float | None
    submitted_s: float
    started_s: float | None
    ended_s: float | None
    attempt: int
    failures: int
    workers_min: int
    workers_max: int
    demand: str
    workers: list[WorkerView]
    simulated: bool | None = Field(description="whether it runs on simulated devices; None while it has no place")
    resume_from: str | None
    cause: str | None = Field(description="why it ended or is being stopped")
    detail: str | None
    array_index: int | None
    after: list[str]
    time_limit_s: float | None


class EventView(Shape):
    seq: int
    at_s: float
    event: str
    state: str
    detail: dict[str, Any]


class ResultView(Shape):
    """What a worker left in SUANLI_RESULT_FILE: JSON, or the text that it is."""

    attempt: int
    worker: int
    result: Any


class JobDetailView(JobView):
    spec: dict[str, Any]
    events: list[EventView]
    results: list[ResultView]


class JobAnswer(JobDetailView, Answer):
    pass


class JobViewAnswer(JobView, Answer):
    pass


class JobsAnswer(Answer):
    jobs: list[JobView]


class PlacementView(Shape):
    worker: int
    node: str
    devices: list[int]
    share_milli: int
    simulated: bool


class DryRunAnswer(Answer):
    would_start: bool
    placements: list[PlacementView]
    reason: ReasonView | None
    preempts: list[str]
    est_start_s: float | None
    suggestions: list[str]


class WhyAnswer(Answer):
    job: JobView
    reason: ReasonView | None
    nodes_by_reason: list[tuple[str, int]]
    blocked_by: list[str]
    est_start_s: float | None
    text: str = Field(description="several lines for a person")


class DeviceView(Shape):
    index: int
    uuid: str
    model: str
    vendor: str
    memory_bytes: int
    simulated: bool
    used_milli: int
    jobs: list[str]


class DrainView(Shape):
    reason: str
    by: str
    at_s: float


class NodeView(Shape):
    name: str
    site: str
    state: Literal["ready", "draining", "drained", "down"] = Field(description="drained: nothing runs there any more")
    simulated: bool
    address: str
    devices: list[DeviceView]
    cpus_milli: int
    cpus_free_milli: int
    memory_bytes: int
    memory_free_bytes: int
    notes: list[str]
    drain: DrainView | None
    readings: dict[str, dict[str, dict[str, Any]]] = Field(
        description='by device uuid and quantity: {"value","unit","at_s","quality"} or {"unavailable": reason}'
    )


class NodesAnswer(Answer):
    nodes: list[NodeView]


class NodeAnswer(NodeView, Answer):
    pass


class AgentView(Shape):
    node: str
    pid: int
    launcher_pid: int
    nodes: list[str]


class LoopView(Shape):
    """How the deciding loop fares. `store_error`: why nothing can be kept now; `bugs`: see the service's log."""

    bugs: int
    store_error: str | None
    backlog: int


class StatusAnswer(Answer):
    version: str
    service_pid: int
    api: str
    gateway: str | None
    ray_address: str | None
    epoch: int
    agents: list[AgentView]
    jobs: dict[str, int] = Field(description="live jobs by state")
    store: str
    loop: LoopView


class CloseDownAnswer(Answer):
    """How far the closing down is."""

    running: int = Field(description="jobs that still hold devices")


class ConfigAnswer(Answer):
    """What names a job may use here: priority classes, tenants, sites, goals, catalogue names."""

    model_config = ConfigDict(extra="allow")


class HealthAnswer(Answer):
    status: Literal["ok"]
    version: str
