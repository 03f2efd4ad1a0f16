"""The fields of the configuration files, one by one. What must hold between files is in load.py."""

from __future__ import annotations

import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator

from node_agent.devices.openers import DEFAULT_NAMES, REPLAY, adapters
from scheduler.schema.cron import as_zone
from scheduler.schema.fields import (
    SIZE_WORDS,
    ConfigName,
    CpusMilli,
    Flag,
    LabelMap,
    MigProfile,
    SizeBytes,
    Text,
    as_size_or_zero_bytes,
    duration,
    expected,
    matching,
    one_of,
    positive,
    thousandths,
    whole,
)
from scheduler.schema.model import NETWORKS, LogSettings, PolicySettings
from scheduler.schema.problems import Shape

DEFAULTS: Final = PolicySettings()
PRECISIONS: Final = ("dense 16-bit", "dense fp8", "dense fp64")
PACKINGS: Final = ("default", "fgd", "best-fit", "dot-product", "gpu-packing", "random")  # those of core.packing
BACKFILLS: Final = ("easy", "conservative", "none")
MAX_SIMULATED_NODES: Final = 2000
MAX_DEVICES_MILLI: Final = 1_000_000_000
LEAST_LOG_CAP_BYTES: Final = 64 << 10
RAY_LEAST_OBJECT_STORE_BYTES: Final = 75 << 20  # Ray refuses to start with less

Port = Annotated[int, PlainValidator(whole(0, 65535))]
Seconds = Annotated[float, PlainValidator(duration(high_s=3600.0))]


def _as_date(value: object) -> str:
    try:
        if isinstance(value, str) and len(value) == 10:
            return datetime.date.fromisoformat(value).isoformat()
    except ValueError:
        pass  # said below, in words
    raise expected("a date as YYYY-MM-DD")


def _as_sources(value: object) -> tuple[str, ...]:
    """Those that ship, a vendor's file of the site's own (SUANLI_VENDORS), or `replay:` and the path of a recording."""
    known = ("nvml", "cpu", *sorted(set(adapters()) - {"nvml"}))
    words = f"a list of device sources, tried in order: {', '.join(known)}, or {REPLAY}PATH"
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise expected(words)
    unknown = [item for item in value if item not in known and not (item.startswith(REPLAY) and item != REPLAY)]
    if unknown or len(set(value)) < len(value):
        raise expected(words + f"; each once, got {', '.join(str(item)[:40] for item in value[:8])}")
    return tuple(value)


def _as_store_url(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("sqlite:///", "postgresql")) or "://" not in value:
        # Not echoed: a database URL may hold a password.
        raise expected('a URL such as "sqlite:////var/lib/suanli/jobs.db" or "postgresql+psycopg://..."', hide=True)
    return value


def _as_devices_milli(value: object) -> int:
    milli = thousandths(value)
    if milli is None or not 0 <= milli <= MAX_DEVICES_MILLI:
        raise expected("a number of devices from 0 to 1000000, in steps of 0.001")
    return milli


def _as_racks(value: object) -> object:
    """One rack stands for a list of one."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise expected("a rack's name, or a list of names in which the nodes stand in turn")
    return value


def _as_profiles(value: object) -> object:
    if not isinstance(value, list) or not 1 <= len(value) <= 7:
        raise expected("a list of 1 to 7 MIG profiles, the instances of each card, such as [3g.40gb, 3g.40gb]")
    return value


def _as_nodes(value: object) -> object:
    if not isinstance(value, list):
        raise expected("a list of groups of simulated nodes (prefix, count, site, model, devices)")
    return value


class ListenShape(Shape):
    host: Text
    port: Port


def _as_gateways(value: object) -> tuple[str, ...]:
    words = "a list of other gateways' URLs such as [https://10.0.2.1:7412], 100 at most"
    if not isinstance(value, list) or len(value) > 100 or not all(isinstance(item, str) for item in value):
        raise expected(words)
    for item in value:
        where = urlsplit(item)
        if where.scheme not in ("http", "https") or not where.hostname or where.path.strip("/"):
            raise expected(words)
    return tuple(item.rstrip("/") for item in value)


class GatewayShape(ListenShape):
    also: Annotated[tuple[str, ...], PlainValidator(_as_gateways)] = ()


class TlsShape(Shape):
    cert: Text
    key: Text


class IncludeShape(Shape):
    sites: Text
    priority_classes: Text
    tenants: Text
    hardware_catalogue: Text
    policy: Text | None = None
    health: Text | None = None


def _as_door(value: object) -> str:
    """PORT, or ADDRESS:PORT."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    address, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535) or (colon and not address):
        raise expected('a port, or an address and a port such as "10.0.2.1:9400"')
    return text


class MetricsShape(Shape):
    listen: Annotated[str, PlainValidator(_as_door)]
    token: Text
    dcgm: Flag = False


class NodeShape(Shape):
    site: Text
    expected_devices: Annotated[int, PlainValidator(whole(0, 1024))] | None = None
    metrics: MetricsShape | None = None
    name: ConfigName | None = None
    devices: Annotated[tuple[str, ...], PlainValidator(_as_sources)] = DEFAULT_NAMES
    rack: ConfigName | None = None
    labels: LabelMap = Field(default_factory=dict)


class HealthCheckShape(Shape):
    """What is left out is as the network's profile has it."""

    period: Seconds | None = None
    timeout: Seconds | None = None
    failures: Annotated[int, PlainValidator(whole(1, 100))] | None = None


class RayShape(Shape):
    address: Text = "127.0.0.1"
    port: Port = 0
    object_store_memory: SizeBytes = 100_000_000
    network: Annotated[str, PlainValidator(one_of(*NETWORKS))] = "lan"
    health_check: HealthCheckShape = Field(default_factory=HealthCheckShape)


class SimulatedShape(Shape):
    prefix: ConfigName
    count: Annotated[int, PlainValidator(whole(1, MAX_SIMULATED_NODES))]
    site: Text
    model: Text
    devices: Annotated[int, PlainValidator(whole(1, 64))]
    device_memory: SizeBytes | None = None
    cpus: CpusMilli
    memory: SizeBytes
    rack: Annotated[list[ConfigName], BeforeValidator(_as_racks)] = Field(default_factory=list)
    labels: LabelMap = Field(default_factory=dict)
    island: Annotated[int, PlainValidator(whole(1, 64))] | None = None
    mig: Annotated[list[MigProfile], BeforeValidator(_as_profiles)] = Field(default_factory=list)


def _as_cap_bytes(value: object) -> int:
    cap = as_size_or_zero_bytes(value)
    if 0 < cap < LEAST_LOG_CAP_BYTES:
        raise expected(f"{SIZE_WORDS}; at least {LEAST_LOG_CAP_BYTES >> 10} KiB, or 0 for no cap")
    return cap


class LogsShape(Shape):
    keep: Annotated[float, PlainValidator(duration(low_s=60.0))] = LogSettings().keep_s
    cap: Annotated[int, PlainValidator(_as_cap_bytes)] = LogSettings().cap_bytes


class LocalShape(Shape):
    """The file that `suanli up --config` names."""

    name: ConfigName
    include: IncludeShape
    api: ListenShape
    gateway: GatewayShape
    tls: TlsShape | None = None
    store: Annotated[str | None, PlainValidator(_as_store_url)] = None
    node: NodeShape
    time_zone: Annotated[str | None, PlainValidator(as_zone)] = None
    lease: Annotated[float, PlainValidator(duration(low_s=5.0, high_s=3600.0))] = 60.0
    ray: RayShape = Field(default_factory=RayShape)
    logs: LogsShape = Field(default_factory=LogsShape)
    simulated_nodes: Annotated[list[SimulatedShape], BeforeValidator(_as_nodes)] = Field(default_factory=list)


class SiteShape(Shape):
    title_en: Text
    title_zh: Text


class GoalShape(Shape):
    name: ConfigName
    title_en: Text
    title_zh: Text
    sites: list[Text]
    goal_pflops: Annotated[float, PlainValidator(positive(1e6, "PFlops: a number"))]
    precision: Annotated[str, PlainValidator(one_of(*PRECISIONS))] = PRECISIONS[0]
    due: Annotated[str, PlainValidator(_as_date)]
    source: Text
    is_context: Flag = False


class SitesShape(Shape):
    sites: dict[ConfigName, SiteShape]
    goals: list[GoalShape]


class PriorityClassShape(Shape):
    priority: Annotated[int, PlainValidator(whole(0, 1_000_000))]
    may_preempt: Flag
    title_en: Text
    title_zh: Text


class PriorityClassesShape(Shape):
    priority_classes: dict[ConfigName, PriorityClassShape]


DevicesMilli = Annotated[int, PlainValidator(_as_devices_milli)]


class QuotaShape(Shape):
    guaranteed: DevicesMilli = 0
    maximum: DevicesMilli | None = None


class LimitsShape(Shape):
    running_jobs: Annotated[int, PlainValidator(whole(1, 1_000_000))] | None = None
    queued_jobs: Annotated[int, PlainValidator(whole(1, 1_000_000))] | None = None
    queued_devices: DevicesMilli | None = None


class TenantShape(Shape):
    title_en: Text
    title_zh: Text
    max_priority_class: Text
    unix_user: (
        Annotated[
            str,
            PlainValidator(
                matching(r"[a-z_][a-z0-9_-]{0,31}", "a Unix user name: lower-case letters, digits, _ and -")
            ),
        ]
        | None
    ) = None
    weight: Annotated[float, PlainValidator(positive(1e6, "a weight: a number"))] = 1.0
    quota: QuotaShape = Field(default_factory=QuotaShape)
    limits: LimitsShape = Field(default_factory=LimitsShape)
    requests_per_s: Annotated[float, PlainValidator(positive(1e9, "requests a second: a number"))] | None = None


class TenantsShape(Shape):
    tenants: dict[ConfigName, TenantShape]


def _as_pause_s(value: object) -> float:
    """A duration that may be 0."""
    return 0.0 if value == 0 and not isinstance(value, bool) else duration()(value)


class PolicyShape(Shape):
    """policy.yaml. Every field has a default: those of scheduler.schema.model.PolicySettings."""

    packing: Annotated[str, PlainValidator(one_of(*PACKINGS))] = DEFAULTS.packing
    backfill: Annotated[str, PlainValidator(one_of(*BACKFILLS))] = DEFAULTS.backfill
    tie_seed: Annotated[int, PlainValidator(whole(0, 2**31 - 1))] = DEFAULTS.tie_seed
    starve_after: Annotated[float, PlainValidator(duration(low_s=60.0))] = DEFAULTS.starve_after_s
    fair_share_half_life: Annotated[float, PlainValidator(duration(low_s=60.0))] = DEFAULTS.fair_share_half_life_s
    min_run_before_preemption: Annotated[float, PlainValidator(_as_pause_s)] = DEFAULTS.min_run_before_preemption_s
    min_run_before_growth: Annotated[float, PlainValidator(_as_pause_s)] = DEFAULTS.min_run_before_growth_s
    reservation_depth: Annotated[int, PlainValidator(whole(1, 10_000))] = DEFAULTS.reservation_depth
