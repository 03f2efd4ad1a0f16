"""The shapes of requests about jobs, enforced, and of answers, documented: what /openapi.json says and tests hold to.
Those about nodes, reservations, tenants and the service are in `site_models.py`.

Answers are not validated on their way out: that would cost a millisecond on a long queue and turn a field too many into
an internal error. Times are epoch seconds, `_milli` are thousandths, None is "not known" or "does not apply".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

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


class CancelJobsRequest(Shape):
    """Ids of jobs (7), of tasks (7.3), or numbers of arrays, for all their tasks that live."""

    ids: list[Annotated[str, Field(max_length=100)]] = Field(min_length=1, max_length=20_000)
    reason: str = Field(default="", max_length=500)


JobIds = Annotated[
    list[Annotated[str, Field(max_length=100)]],
    Field(min_length=1, max_length=20_000, description="of jobs (7), of tasks (7.3), or numbers of arrays"),
]


class HoldRequest(Shape):
    """What waits is not to start. An array's number means those of its tasks that wait."""

    ids: JobIds
    reason: str = Field(min_length=1, max_length=500)


class ReleaseRequest(Shape):
    """What is held may start again."""

    ids: JobIds


class RequeueRequest(Shape):
    """What runs saves its work, goes, and waits again; what has ended is submitted anew. `hold`: it then waits until it
    is released."""

    ids: JobIds
    reason: str = Field(min_length=1, max_length=500)
    hold: bool = False


class ScaleRequest(Shape):
    """How many replicas a service is to have, within the bounds of its job file; null: as its load says again."""

    replicas: int | None = Field(ge=0, le=100_000)


class PauseRequest(Shape):
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
    share_by: Literal["mps", "advisory"] | None = Field(
        description="what holds the run to its share; advisory: nothing does; null: whole devices, or it has ended"
    )


class ReasonView(BaseModel):
    """Why a job does not run: `text` in words; further fields depend on `kind`."""

    model_config = ConfigDict(extra="allow")
    kind: str
    text: str


class ConstraintsView(Shape):
    """What holds between a job's workers, and between it and others: levels are island, node, rack, site."""

    within: str | None
    spread: str | None
    one_per: str | None
    apart_from: list[str]


class HoldView(Shape):
    """Who wants a job not to start. Only an operator releases what an operator holds."""

    by: str
    reason: str
    at_s: float
    by_operator: bool


class VersionWord(Shape):
    """Which version of its service a job is, and its part of the requests."""

    number: int
    weight_milli: int
    state: Literal["starting", "canary", "live", "stopped", "rolled back", "failed", "gone"]


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
    array_limit: int | None = Field(description="so many tasks of its array run at a time")
    after: list[str] = Field(description="jobs that must succeed first")
    after_any: list[str] = Field(description="jobs that must have ended first, however they did")
    time_limit_s: float | None
    deadline_s: float | None
    constraints: ConstraintsView
    reservation: str | None
    preemptions: int = Field(description="how often it had to make room for another job")
    workers_wanted: int | None = Field(description="how many replicas it was last scaled to")
    pinned: bool = Field(description="a person scaled it: its load changes nothing until `scale ... auto`")
    version: VersionWord | None = Field(description="of a live inference service")
    held: HoldView | None


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


class MeteredUseView(Shape):
    """What the run made its whole devices do, all together (memory: the one that held most), over `metered_s` of its
    time, which is less than all of it where the agent was restarted meanwhile. null: it could not be read."""

    devices: int
    metered_s: float
    joules: float | None
    joules_at_least: bool = Field(description="a counter was set back meanwhile: it was that or more")
    mean_watts: float | None
    peak_memory_bytes: float | None
    mean_utilisation_percent: float | None
    simulated: bool = Field(description="a simulated device made the readings up")


class AchievedView(Shape):
    """What a benchmark's result says, those of one workload, precision and evidence added up."""

    workload: str
    precision: str
    on: Literal["accelerator", "cpu", "simulated"] = Field(
        description="the evidence: measured on an accelerator, measured on a CPU (counts towards no goal), or simulated"
    )
    gflops: float | None = Field(description="what counts: unverified devices are in it with 0; null: nothing was run")
    devices: int
    verified: int


class UsageView(Shape):
    """One worker's run that has ended: how long its process lived, by its node's clock, and what it held meanwhile.

    `end` is unseen where nobody saw it: then `to_s` is the last moment at which the run is known to have lived."""

    attempt: int
    worker: int
    node: str
    devices: list[int]
    share_milli: int
    simulated: bool
    from_s: float
    to_s: float
    seconds: float
    device_seconds: float
    end: Literal["seen", "unseen"]
    cause: str
    site: str | None = Field(description="of its node, as it was known then")
    models: list[str] = Field(description="of each of `devices`; empty where they were not known")
    use: MeteredUseView | None = Field(description="null: nothing was metered, as of shares of devices")
    unmetered_s: float = Field(description="of `seconds` those that no energy reading covers")
    no_energy: str | None = Field(description="why its energy is not known; null where it is")
    achieved: list[AchievedView] = Field(description="of benchmarks that left a result")


class JobDetailView(JobView):
    spec: dict[str, Any]
    events: list[EventView]
    results: list[ResultView]
    usage: list[UsageView] = Field(description="by attempt and worker; what runs still is not in it")


class JobAnswer(JobDetailView, Answer):
    pass


class JobViewAnswer(JobView, Answer):
    pass


class ScheduleView(Shape):
    """A job that is submitted again and again. `runs` counts its submissions, `skips` the times that were left out."""

    name: str
    tenant: str
    kind: Literal["training", "batch", "benchmark"]
    priority_class: str
    state: Literal["active", "paused", "over"] = Field(description="over: no further time comes")
    cron: str
    zone: str
    misfire: Literal["once", "skip"] = Field(description="what becomes of a time that nobody was there for")
    next_s: float | None
    paused: HoldView | None
    runs: int
    last_job: str | None = Field(description="the last job that it submitted, or the number of the array")
    last_s: float | None = Field(description="the time that this was for")
    last_is_live: bool = Field(description="that job has not ended: the next time is left out if it still has not")
    skips: int
    skipped_s: float | None = Field(description="the last time that was left out")
    skipped_why: str
    by: str
    made_s: float


class ScheduleAnswer(ScheduleView, Answer):
    pass


class ScheduleDetailAnswer(ScheduleAnswer):
    spec: dict[str, Any]
    upcoming_s: list[float] = Field(description="its next times; of a paused one as if it were resumed now")


class SchedulesAnswer(Answer):
    schedules: list[ScheduleView]


class JobsAnswer(Answer):
    jobs: list[JobView]
    schedules: list[ScheduleView] = Field(
        default=[], description="of a submission: what is submitted again and again from now on"
    )
    total: int | None = Field(
        default=None, description="of a listing: how many match; None where ended jobs go on beyond the limit"
    )


class CancelledView(Shape):
    """What became of one id: counts of jobs (for an array, of tasks); of a single job also its state."""

    id: str
    name: str | None
    tasks: int | None = Field(description="all that the array has; None for a single job")
    cancelled: int = Field(description="ended by this")
    stopping: int = Field(description="asked to go")
    ended: int = Field(description="had ended before")
    state: JobStateWord | None
    cause: str | None
    detail: str | None
    error: ErrorBody | None = Field(description="why nothing was cancelled")


class CancelJobsAnswer(Answer):
    """`cancelled` and `stopping` count each job once, `failed` the ids with an error."""

    cancelled: int
    stopping: int
    failed: int
    jobs: list[CancelledView]


class ChangedView(Shape):
    """What became of one id: counts of jobs (for an array, of tasks); of a single job also its state."""

    id: str
    name: str | None
    tasks: int | None = Field(description="all that the array has; None for a single job")
    changed: int
    left: int = Field(description="live tasks of the array that were left as they are")
    ended: int = Field(description="had ended before")
    state: JobStateWord | None
    new: str | None = Field(description="the id under which it was submitted anew")
    detail: str | None = Field(description="what was done, in words")
    error: ErrorBody | None = Field(description="why nothing was done")


class ChangeJobsAnswer(Answer):
    """`changed` counts each job once, `failed` the ids with an error."""

    changed: int
    failed: int
    jobs: list[ChangedView]


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


class TenantUseView(Shape):
    """Thousandths of devices that a tenant holds, against its quota."""

    tenant: str
    used_milli: int
    guaranteed_milli: int
    maximum_milli: int | None
    borrowed_milli: int = Field(description="held above the guarantee")
    simulated: bool = Field(description="of the jobs that allow simulated devices, which are counted apart")


class ChangeView(Shape):
    kind: str = Field(description="workers, device, devices, time_limit, pin, constraint, resume or reclaim")
    text: str


class WhyAnswer(Answer):
    job: JobView
    reason: ReasonView | None
    nodes_by_reason: list[tuple[str, int]]
    blocked_by: list[str]
    est_start_s: float | None
    quota: TenantUseView | None = Field(description="of the job's own tenant, where it waits in the queue")
    borrowers: list[TenantUseView] = Field(description="tenants that hold more than their guarantee")
    preempts: list[str] = Field(description="jobs that would be asked to go for it in this pass")
    changes: list[ChangeView] = Field(description="each alone would start it now, the smallest first")
    text: str = Field(description="several lines for a person")
