"""What does a simulation's document say? Its JSON, read once into frozen values; what is absent or not finite is None.

Reading is lenient on purpose: a page with a gap helps an operator more than no page. Only a document of another kind,
or one without a run, is refused. Times are in seconds from the start of the simulation; shares are 0..1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = "suanli/simulate-run/1"
# What XML 1.0 cannot hold, and lone surrogates, which no encoding can: shown as the replacement character.
_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of one group of jobs. `never`: those that had not started (or not ended) when the simulation did."""

    count: float | None
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None
    never: float | None


@dataclass(frozen=True, slots=True)
class Grouped:
    all: Quantiles
    by_class: Mapping[str, Quantiles]
    by_tenant: Mapping[str, Quantiles]


@dataclass(frozen=True, slots=True)
class Series:
    """Values at `t_s`; None is a gap."""

    t_s: tuple[float, ...] = ()
    values: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    tenant: str
    priority_class: str
    slo_p99_ms: float | None
    requests: float | None
    attained: float | None
    p99_ms: float | None
    replicas_mean: float | None
    attained_series: Series
    replicas_series: Series
    requests_series: Series


@dataclass(frozen=True, slots=True)
class TenantShare:
    """`share`: of all device time used; `weight` means something beside the other weights only."""

    tenant: str
    weight: float | None
    device_s: float | None
    share: float | None
    wait_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Run:
    name: str
    policy: Mapping[str, str]
    added: tuple[str, ...]
    nodes: float | None
    devices: float | None
    partial: bool
    simulated_s: float | None
    elapsed_s: float | None
    jobs: Mapping[str, float | None]
    makespan_s: float | None
    utilisation: float | None
    utilisation_peak: float | None
    utilisation_by_site: Mapping[str, float | None]
    utilisation_by_model: Mapping[str, float | None]
    used: Series
    waiting_devices: Series
    waiting_jobs: Series
    wait_s: Grouped
    completion_s: Grouped
    services: tuple[Service, ...]
    preemptions: float | None
    work_lost_device_s: float | None
    preemptions_by_class: Mapping[str, float | None]
    fragmentation: float | None
    fragmentation_series: Series
    jain: float | None
    tenants: tuple[TenantShare, ...]
    energy_kwh: float | None
    energy_by_model: Mapping[str, float | None]
    energy_unknown_devices: float | None
    energy_basis: str

    @property
    def attained(self) -> float | None:
        """Requests within their service's limit, of all requests of all services; None without requests."""
        counted = [(s.requests, s.attained) for s in self.services if s.requests and s.attained is not None]
        total = sum(requests for requests, _ in counted)
        return sum(requests * attained for requests, attained in counted) / total if total > 0 else None


@dataclass(frozen=True, slots=True)
class About:
    title: str
    cluster: str
    nodes: float | None
    devices: float | None
    devices_by_model: Mapping[str, float | None]
    devices_by_site: Mapping[str, float | None]
    workload: str
    jobs: float | None
    services: float | None
    span_s: float | None
    seed: str
    partial: bool
    version: str
    commit: str
    generated_at: str
    elapsed_s: float | None
    command: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """`titles`: kind ("classes", "tenants", "sites") -> name -> language -> words. `classes`: highest first."""

    about: About
    runs: tuple[Run, ...]
    classes: tuple[str, ...]
    titles: Mapping[str, Mapping[str, Mapping[str, str]]]

    @property
    def partial(self) -> bool:
        return self.about.partial or any(run.partial for run in self.runs)

    def title(self, kind: str, name: str, lang: str) -> str:
        return self.titles.get(kind, {}).get(name, {}).get(lang) or name


def read(document: Mapping[str, Any]) -> Document:
    """ValueError where this is not the document of a simulated run, with what it is instead."""
    if document.get("schema") != SCHEMA:
        raise ValueError(f"schema is {document.get('schema')!r}; a page is made from {SCHEMA!r} only")
    runs = tuple(_run(_map(run)) for run in _list(document.get("runs")))
    if not runs:
        raise ValueError("the document holds no run, so there is nothing to show")
    titles = {
        kind: {name: {lang: _text(words) for lang, words in _map(said).items()} for name, said in _map(named).items()}
        for kind, named in _map(document.get("titles")).items()
    }
    named = [_text(name) for name in _list(document.get("classes"))]
    met = [name for run in runs for name in (*run.wait_s.by_class, *run.preemptions_by_class)]
    return Document(_about(_map(document.get("about"))), runs, tuple(dict.fromkeys([*named, *met])), titles)


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None


def clean(text: str) -> str:
    """Text that any XML parser and any encoding takes."""
    return _UNPRINTABLE.sub("\ufffd", text)


def _text(value: object) -> str:
    return "" if value is None else clean(str(value))


def _map(value: object) -> dict[str, Any]:
    return {_text(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _numbers(value: object) -> dict[str, float | None]:
    return {key: number(item) for key, item in _map(value).items()}


def _series(source: Mapping[str, Any], name: str) -> Series:
    pairs = [
        (at, number(value))
        for at, value in zip(map(number, _list(source.get("t_s"))), _list(source.get(name)), strict=False)
        if at is not None
    ]
    return Series(tuple(at for at, _ in pairs), tuple(value for _, value in pairs))


def _quantiles(value: object) -> Quantiles:
    q = _numbers(value)
    return Quantiles(*(q.get(name) for name in ("count", "mean", "p50", "p95", "p99", "max", "never")))


def _grouped(value: object) -> Grouped:
    groups = _map(value)
    by_class, by_tenant = (
        {name: _quantiles(q) for name, q in _map(groups.get(kind)).items()} for kind in ("by_class", "by_tenant")
    )
    return Grouped(_quantiles(groups.get("all")), by_class, by_tenant)


def _service(source: Mapping[str, Any]) -> Service:
    series = _map(source.get("series"))
    return Service(
        name=_text(source.get("name")),
        tenant=_text(source.get("tenant")),
        priority_class=_text(source.get("priority_class")),
        slo_p99_ms=number(source.get("slo_p99_ms")),
        requests=number(source.get("requests")),
        attained=number(source.get("attained")),
        p99_ms=number(source.get("p99_ms")),
        replicas_mean=number(source.get("replicas_mean")),
        attained_series=_series(series, "attained"),
        replicas_series=_series(series, "replicas"),
        requests_series=_series(series, "requests_per_s"),
    )


def _tenant(source: Mapping[str, Any]) -> TenantShare:
    weight, device_s, share, wait = (number(source.get(k)) for k in ("weight", "device_s", "share", "wait_p95_s"))
    return TenantShare(_text(source.get("tenant")), weight, device_s, share, wait)


def _run(source: Mapping[str, Any]) -> Run:
    utilisation, preemptions, fragmentation, fairness, energy = (
        _map(source.get(part)) for part in ("utilisation", "preemptions", "fragmentation", "fairness", "energy")
    )
    over_time = _map(utilisation.get("series"))
    return Run(
        name=_text(source.get("name")),
        policy={key: _text(value) for key, value in _map(source.get("policy")).items()},
        added=tuple(map(_text, _list(source.get("added")))),
        nodes=number(source.get("nodes")),
        devices=number(source.get("devices")),
        partial=source.get("partial") is True,
        simulated_s=number(source.get("simulated_s")),
        elapsed_s=number(source.get("elapsed_s")),
        jobs=_numbers(source.get("jobs")),
        makespan_s=number(source.get("makespan_s")),
        utilisation=number(utilisation.get("mean")),
        utilisation_peak=number(utilisation.get("peak")),
        utilisation_by_site=_numbers(utilisation.get("by_site")),
        utilisation_by_model=_numbers(utilisation.get("by_model")),
        used=_series(over_time, "used"),
        waiting_devices=_series(over_time, "waiting_devices"),
        waiting_jobs=_series(over_time, "waiting_jobs"),
        wait_s=_grouped(source.get("wait_s")),
        completion_s=_grouped(source.get("completion_s")),
        services=tuple(_service(_map(service)) for service in _list(source.get("services"))),
        preemptions=number(preemptions.get("count")),
        work_lost_device_s=number(preemptions.get("work_lost_device_s")),
        preemptions_by_class=_numbers(preemptions.get("by_class")),
        fragmentation=number(fragmentation.get("mean")),
        fragmentation_series=_series(_map(fragmentation.get("series")), "share"),
        jain=number(fairness.get("jain")),
        tenants=tuple(_tenant(_map(tenant)) for tenant in _list(fairness.get("tenants"))),
        energy_kwh=number(energy.get("kwh")),
        energy_by_model=_numbers(energy.get("by_model")),
        energy_unknown_devices=number(energy.get("unknown_devices")),
        energy_basis=_text(energy.get("basis")),
    )


def _about(source: Mapping[str, Any]) -> About:
    return About(
        title=_text(source.get("title")),
        cluster=_text(source.get("cluster")),
        nodes=number(source.get("nodes")),
        devices=number(source.get("devices")),
        devices_by_model=_numbers(source.get("devices_by_model")),
        devices_by_site=_numbers(source.get("devices_by_site")),
        workload=_text(source.get("workload")),
        jobs=number(source.get("jobs")),
        services=number(source.get("services")),
        span_s=number(source.get("span_s")),
        seed=_text(source.get("seed")),
        partial=source.get("partial") is True,
        version=_text(source.get("version")),
        commit=_text(source.get("commit")),
        generated_at=_text(source.get("generated_at")),
        elapsed_s=number(source.get("elapsed_s")),
        command=_text(source.get("command")),
        notes=tuple(map(_text, _list(source.get("notes")))),
    )
