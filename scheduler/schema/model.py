"""A site's configuration as values: what configs/*.yaml says, parsed once. Standard library only; see load.py.

Units stand last in a name; TFlops values are dense, as the catalogue gives them, None where no vendor figure is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node_agent.health.rules import HealthRules
from scheduler.core.decisions import Backfill
from scheduler.core.device_checks import CheckSettings
from scheduler.core.health_budget import Budget


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a door is. Port 0 means any free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Tls:
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Card:
    """A row of the hardware catalogue. `peak_tflops` by precision (fp16_bf16, fp8, fp64, int8 in Tops): None unknown.

    `vendor` is the word that device sources use (nvidia, huawei, ...), all lower case.
    `achieved_tflops` by precision (bf16, fp16, fp8, fp64, fp32, int8 in Tops): others published it; absent if unknown.
    `flop_per_clock` by precision (fp16_bf16, fp8, fp64, fp32, tf32, int8), of the whole card, dense; absent if unknown.
    """

    model: str
    vendor: str
    memory_bytes: int | None
    peak_tflops: Mapping[str, float | None]
    memory_bandwidth_tbps: float | None
    achieved_tflops: Mapping[str, float]
    confidence: str
    source: str
    note: str = ""
    flop_per_clock: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    title_en: str
    title_zh: str


@dataclass(frozen=True, slots=True)
class Goal:
    """A published goal. Goals are never added to one another. `is_context` marks the city's 900, shown beside them."""

    name: str
    title_en: str
    title_zh: str
    sites: tuple[str, ...]
    goal_pflops: float
    precision: str  # "dense 16-bit"
    due: str  # ISO date
    source: str
    is_context: bool


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """`priority`: higher goes first. `may_preempt` is False for best-effort."""

    name: str
    priority: int
    may_preempt: bool
    title_en: str
    title_zh: str


@dataclass(frozen=True, slots=True)
class TenantShare:
    """What a tenant is due of the devices, and how much it may ask for at a time. None: no bound.

    `weight`: of its fair share. In thousandths of devices: `guaranteed_milli` it gets back from borrowers whenever it
    asks, and up to `maximum_milli` it may borrow what lies idle; `max_queued_milli` may wait.
    """

    weight: float = 1.0
    guaranteed_milli: int = 0
    maximum_milli: int | None = None
    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None
    max_queued_milli: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """`max_priority_class` is the highest class its tokens may use; `unix_user` runs its jobs where we are root.
    `requests_per_s` bounds what its callers send to all its services together; None: nothing does."""

    name: str
    title_en: str
    title_zh: str
    max_priority_class: str
    unix_user: str | None
    share: TenantShare = TenantShare()
    requests_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """How the planner decides; what each means is in scheduler.core.decisions.Policy.

    `fair_share_half_life_s`: after so long, what a tenant used counts half.
    """

    packing: str = "default"
    backfill: Backfill = "easy"
    tie_seed: int = 0
    starve_after_s: float = 86_400.0
    fair_share_half_life_s: float = 7 * 86_400.0
    min_run_before_preemption_s: float = 600.0
    min_run_before_growth_s: float = 600.0
    reservation_depth: int = 64


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """`rules` are for the agents; the rest is for the service, which sees the fleet: how much may be taken out at a
    time, what is only told (`only_told`: by rules of these names), and how idle devices are checked (None: not)."""

    rules: HealthRules = field(default_factory=HealthRules)
    budget: Budget = field(default_factory=Budget)
    report_only: bool = False
    only_told: frozenset[str] = frozenset()
    checks: CheckSettings | None = field(default_factory=CheckSettings)


@dataclass(frozen=True, slots=True)
class SimulatedNodes:
    """`count` nodes `PREFIX-0`.. of `devices` simulated cards each. Everything they report is marked simulated.

    `racks`: the nodes stand in them in turn. Each `devices_per_island` cards are one NVLink (or the like) island; 0: no
    islands. `mig_profiles`: every card is partitioned into these, and its devices are the instances.
    """

    prefix: str
    count: int
    site: str
    model: str
    vendor: str
    devices: int
    device_memory_bytes: int
    cpus_milli: int
    memory_bytes: int
    racks: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    devices_per_island: int = 0
    mig_profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How Ray's head looks after the other machines: it asks every `period_s`, waits `timeout_s` for each answer, and
    takes a machine for dead after so many failures in a row.
    """

    period_s: float
    timeout_s: float
    failures: int


NETWORKS: Mapping[str, HealthCheck] = {
    # One that answers nothing any more is noticed after 0.5 + 3 x 0.7 + 2 x 0.5 = 3.6 s, a killed raylet after 1.5 s.
    "lan": HealthCheck(period_s=0.5, timeout_s=0.7, failures=3),
    # Ray's own defaults: answers that take seconds, and outages of half a minute.
    "wan": HealthCheck(period_s=3.0, timeout_s=10.0, failures=5),
}


@dataclass(frozen=True, slots=True)
class RaySettings:
    """What Ray is told. `address` is where other nodes reach this machine; port 0 is any free one."""

    address: str
    port: int
    object_store_memory_bytes: int
    health_check: HealthCheck


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How runs' logs are kept: for `keep_s` after their end, and of each at most about `cap_bytes` (0: all)."""

    keep_s: float = 14 * 86_400.0
    cap_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class NodeMetrics:
    """Where this machine's agent answers Prometheus, as node_agent/metrics_door.py takes it: `where` is PORT or
    ADDRESS:PORT."""

    where: str
    token: Path
    dcgm: bool = False


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """Everything `suanli up --config FILE` needs, validated: names refer to things that exist."""

    name: str
    path: Path
    api: Listen
    gateway: Listen
    tls: Tls | None
    store_url: str | None  # None: SQLite in the instance's home
    node_name: str | None  # None: this machine's host name
    node_site: str
    device_sources: tuple[str, ...]  # tried in order: nvml, ascend, cpu, ...
    simulated_nodes: tuple[SimulatedNodes, ...]
    lease_s: float
    ray: RaySettings
    sites: Mapping[str, Site]
    goals: tuple[Goal, ...]
    catalogue: Mapping[str, Card]
    priority_classes: Mapping[str, PriorityClass]
    tenants: Mapping[str, Tenant]
    policy: PolicySettings = PolicySettings()
    health: HealthPolicy = field(default_factory=HealthPolicy)
    node_rack: str | None = None
    node_labels: tuple[tuple[str, str], ...] = ()
    node_expected_devices: int | None = None  # None: as many as the bus has, or were ever seen
    node_metrics: NodeMetrics | None = None
    time_zone: str = "UTC"  # of recurring jobs that name none
    more_gateways: tuple[str, ...] = ()  # URLs of those elsewhere that are sent the routing table too
    logs: LogSettings = LogSettings()
