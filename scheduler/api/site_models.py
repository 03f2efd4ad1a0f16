"""The shapes of requests and answers about nodes, reservations, tenants and the service itself. See `models.py`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from scheduler.api.models import Answer, Shape

# ---- requests ----------------------------------------------------------------------------------------------------


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


class FindingView(Shape):
    """Something that is wrong with a device (or, with neither index nor uuid, with the node), or on record.

    `undone` says why nothing is done about it that would have to be; empty where it is. `advice` is for people.
    """

    device: int | None
    uuid: str | None
    rule: str
    use: Literal["schedulable", "no_multi_device", "no_new_work", "cordoned"]
    jobs: Literal["keep", "requeue", "move"]
    lifts: Literal["alone", "reset", "operator"]
    reason: str
    advice: str
    since_s: float
    undone: str


class NodeView(Shape):
    name: str
    site: str
    state: Literal["ready", "draining", "drained", "cordoned", "down"] = Field(
        description="drained: nothing runs there any more; cordoned: unhealthy, and given nothing new"
    )
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
    health: list[FindingView]
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


class DeviceJobView(Shape):
    id: str
    tenant: str
    share_milli: int = Field(description="what it holds of the device, in thousandths")


class DeviceRow(Shape):
    """A device with its last readings. `values` are in the order of the answer's `fields`; `unavailable` has the reason
    for each that is null."""

    node: str
    site: str
    rack: str | None
    index: int
    uuid: str
    model: str
    vendor: str
    simulated: bool
    node_state: Literal["ready", "draining", "drained", "cordoned", "down"]
    use: Literal["schedulable", "no_multi_device", "no_new_work", "cordoned"]
    reason: str = Field(description="health's, also where nothing is done about it; empty where nothing is wrong")
    jobs: list[DeviceJobView] = Field(description="a tenant sees its own alone")
    quality: Literal["measured", "simulated", "replayed"] | None = Field(
        description="how the values came about (of several ways the least real one); null: there is none"
    )
    read_at_s: float | None = Field(description="when the newest of them was taken")
    values: list[float | None]
    unavailable: dict[str, str]


class DevicesAnswer(Answer):
    at_s: float
    fields: list[str]
    devices: list[DeviceRow]
    truncated: bool = Field(description="there are more than are shown: ask for one site, node or model")


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


class ServiceCountsView(Shape):
    """Inference services now, and what was decided of them since the service process was started."""

    deployed: int
    live_jobs: int
    rollouts: int = Field(description="under way")
    scaled_up: int
    scaled_down: int
    evictions: int = Field(description="idle services that made room for one that was woken")
    rollbacks: int
    gateways: int = Field(description="that have reported loads in the last minutes")


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
    services: ServiceCountsView
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
