"""The shapes of requests, enforced, and of answers, documented: what /openapi.json says and the tests hold us to.

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
    """How many replicas a service is to have, within the bounds of its job file."""

    replicas: int = Field(ge=0, le=100_000)


class ReserveRequest(Shape):
    """Nodes by name, or `count` nodes that carry `device` (a model; none: any), chosen by the service."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    nodes: list[str] | None = Field(default=None, min_length=1, max_length=10_000)
    count: int | None = Field(default=None, ge=1, le=10_000)
    device: str | None = Field(default=None, max_length=100)
    start_s: float = Field(gt=0, lt=1e11, allow_inf_nan=False, description="epoch seconds")
    end_s: float = Field(gt=0, lt=1e11, allow_inf_nan=False, description="epoch seconds")
    every_s: float | None = Field(
        default=None,
        ge=60,
        le=366 * 86_400,
        allow_inf_nan=False,
        description="it comes again so often, until cancelled",
    )
    reason: str = Field(min_length=1, max_length=500)
    tenants: list[str] = Field(
        default_factory=list,
        max_length=1_000,
        description="whose jobs may name it, beside those that operators submit",
    )

    @model_validator(mode="after")
    def _which_nodes(self) -> ReserveRequest:
        if (self.nodes is None) == (self.count is None):
            raise ValueError("exactly one of `nodes` and `count` is expected")
        if self.nodes is not None and self.device is not None:
            raise ValueError("`device` goes with `count`; nodes are named by themselves")
        return self


class PauseRequest(Shape):
    reason: str = Field(min_length=1, max_length=500)


class DrainRequest(Shape):
    reason: str = Field(min_length=1, max_length=500)
    deadline_in_s: float | None = Field(
        default=None,
        ge=0,
        le=366 * 86_400,
        allow_inf_nan=False,
        description="after so long, jobs that are left save their work and move; none: they run to their end",
    )


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


class DeviceView(Shape):
    index: int
    uuid: str
    model: str
    vendor: str
    memory_bytes: int
    simulated: bool
    used_milli: int
    jobs: list[str]
    island: str | None = Field(description="the devices that it reaches over NVLink or the like")
    mig_profile: str | None = Field(description="set for an instance of a partitioned card")
    labels: dict[str, str]


class DrainLeftView(Shape):
    """A job that is still on a drained node. `workers`: those of them that are there."""

    job: str
    name: str
    tenant: str
    kind: str
    workers: list[int]
    doing: Literal["running", "saving", "stopping", "being replaced", "waiting for a place elsewhere"]


class DrainView(Shape):
    reason: str
    by: str
    at_s: float
    deadline_s: float | None
    left: list[DrainLeftView]


class NodeReservationView(Shape):
    """Its present or next time."""

    name: str
    start_s: float
    end_s: float
    reason: str


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
    shares: Literal["mps", "advisory"] = Field(description="what holds jobs here to their shares; advisory: nothing")
    drain: DrainView | None
    readings: dict[str, dict[str, dict[str, Any]]] = Field(
        description='by device uuid and quantity: {"value","unit","at_s","quality"} or {"unavailable": reason}'
    )
    rack: str | None
    labels: dict[str, str]
    reservations: list[NodeReservationView]


class StrandedView(Shape):
    """Of the idle parts of devices, what typical work could not use, in thousandths; `share` is None while nothing is
    idle or no work is known."""

    idle_milli: int
    stranded_milli: int
    share: float | None


class FragmentationView(Shape):
    real: StrandedView
    simulated: StrandedView


class NodesAnswer(Answer):
    nodes: list[NodeView]
    fragmentation: FragmentationView


class NodeAnswer(NodeView, Answer):
    pass


class ReservationView(Shape):
    """`start_s` and `end_s` are those of its present or next time."""

    name: str
    nodes: list[str]
    state: Literal["upcoming", "active", "over"]
    start_s: float
    end_s: float
    every_s: float | None
    reason: str
    by: str
    made_s: float
    tenants: list[str] = Field(description="whose jobs may name it, beside those that operators submit")
    jobs: list[str] = Field(description="live jobs that name it")
    waiting: list[str] = Field(description="those of them that wait")
    running_past_start: list[str] = Field(description="jobs on its nodes that may still run when it starts")


class ReservationAnswer(ReservationView, Answer):
    pass


class ReservationsAnswer(Answer):
    reservations: list[ReservationView]


class AccountView(Shape):
    """What a tenant has on real devices, or with jobs that allow simulated ones: these are counted apart."""

    held_milli: int
    borrowed_milli: int = Field(description="held above the guarantee, and not being given back already")
    queued_milli: int = Field(description="what the smallest gangs of its waiting jobs ask for")
    held_share: float = Field(description="dominant share held now: of devices, CPUs and memory, what it has most of")
    usage: float = Field(description="decayed average of the dominant share, as of now")
    standing: float = Field(description="(usage + held_share) / 2 / weight: within a class the lowest goes first")


class TenantView(Shape):
    """Thousandths of devices; None is no limit."""

    name: str
    weight: float
    guaranteed_milli: int
    maximum_milli: int | None
    max_running_jobs: int | None
    max_queued_jobs: int | None
    max_queued_milli: int | None
    running_jobs: int = Field(description="jobs that hold a place, on real and simulated devices together")
    queued_jobs: int = Field(description="jobs that wait, also for other jobs")
    real: AccountView
    simulated: AccountView | None = Field(description="None: never used")


class TenantsAnswer(Answer):
    tenants: list[TenantView]
    half_life_s: float = Field(description="after so long, what was used counts half")


class AgentView(Shape):
    node: str
    pid: int
    launcher_pid: int
    nodes: list[str]


class PassTimesView(Shape):
    """How long the service's batches took, from the first look at what was handed in to the last command sent."""

    count: int = Field(description="batches since the service was started in which something was done")
    total_s: float
    last_s: float | None
    p50_s: float | None = Field(description="of the last few thousand")
    p99_s: float | None = Field(description="of the last few thousand")
    longest_s: float | None = Field(description="since the service was started")


class LoopView(Shape):
    """How the deciding loop fares. `store_error`: why nothing can be kept now; `bugs`: see the service's log."""

    bugs: int
    store_error: str | None
    backlog: int
    pass_s: PassTimesView


class WriteFiguresView(Shape):
    """Transactions since the service was started, from the wish to write to durability."""

    count: int
    total_s: float
    longest_s: float


class HistogramView(Shape):
    """`buckets`: [upper bound in seconds, how many were no longer]; the last is without a bound."""

    count: int
    total_s: float
    buckets: list[tuple[float | None, int]]


class DispatchView(Shape):
    """Since the service was started. `starting_s`: from the committed decision to start a job to the news that every
    worker runs; `waited_s`: from submission to the first start."""

    commands: int = Field(description="sent to nodes, renewals of leases left out")
    started: int
    requeued: int
    ended: dict[str, int]
    starting_s: HistogramView
    waited_s: HistogramView


class DeviceCountsView(Shape):
    total: int
    used_milli: int


class StatusAnswer(Answer):
    version: str
    service_pid: int
    api: str
    gateway: str | None
    ray_address: str | None
    epoch: int
    agents: list[AgentView]
    jobs: dict[str, int] = Field(description="live jobs by state")
    nodes: dict[str, int] = Field(description="nodes by state")
    devices: dict[Literal["real", "simulated"], DeviceCountsView] = Field(description="on nodes that answer")
    dispatch: DispatchView
    writes: dict[Literal["commits", "submissions"], WriteFiguresView]
    fragmentation: FragmentationView
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
