"""The fields of the configuration files, one by one. What must hold between files is in load.py."""

from __future__ import annotations

import datetime
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainValidator

from scheduler.schema.fields import (
    ConfigName,
    CpusMilli,
    Flag,
    SizeBytes,
    Text,
    duration,
    expected,
    matching,
    one_of,
    positive,
    whole,
)
from scheduler.schema.problems import Shape

DEVICE_SOURCES: Final = ("nvml", "cpu")
PRECISIONS: Final = ("dense 16-bit", "dense fp8", "dense fp64")
MAX_SIMULATED_NODES: Final = 2000
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
    words = f"a list of device sources, tried in order: {', '.join(DEVICE_SOURCES)}"
    if not isinstance(value, list) or not value:
        raise expected(words)
    if any(not isinstance(item, str) or item not in DEVICE_SOURCES for item in value) or len(set(value)) < len(value):
        raise expected(words + f"; each once, got {', '.join(str(item)[:40] for item in value[:8])}")
    return tuple(value)


def _as_store_url(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("sqlite:///", "postgresql")) or "://" not in value:
        # Not echoed: a database URL may hold a password.
        raise expected('a URL such as "sqlite:////var/lib/suanli/jobs.db" or "postgresql+psycopg://..."', hide=True)
    return value


def _as_nodes(value: object) -> object:
    if not isinstance(value, list):
        raise expected("a list of groups of simulated nodes (prefix, count, site, model, devices)")
    return value


class ListenShape(Shape):
    host: Text
    port: Port


class TlsShape(Shape):
    cert: Text
    key: Text


class IncludeShape(Shape):
    sites: Text
    priority_classes: Text
    tenants: Text
    hardware_catalogue: Text


class NodeShape(Shape):
    site: Text
    name: ConfigName | None = None
    devices: Annotated[tuple[str, ...], PlainValidator(_as_sources)] = DEVICE_SOURCES


class HealthCheckShape(Shape):
    period: Seconds = 3.0
    timeout: Seconds = 10.0
    failures: Annotated[int, PlainValidator(whole(1, 100))] = 5


class RayShape(Shape):
    address: Text = "127.0.0.1"
    port: Port = 0
    object_store_memory: SizeBytes = 100_000_000
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


class LocalShape(Shape):
    """The file that `suanli up --config` names."""

    name: ConfigName
    include: IncludeShape
    api: ListenShape
    gateway: ListenShape
    tls: TlsShape | None = None
    store: Annotated[str | None, PlainValidator(_as_store_url)] = None
    node: NodeShape
    lease: Annotated[float, PlainValidator(duration(low_s=5.0, high_s=3600.0))] = 60.0
    ray: RayShape = Field(default_factory=RayShape)
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


class TenantsShape(Shape):
    tenants: dict[ConfigName, TenantShape]
