"""A job as its owner wrote it (YAML, JSON, flags: one schema) becomes a JobSpec, or one BadInput with every fault.

`check_shape` is what a client can know without a site's configuration; `job_from_mapping` adds what the site knows:
devices, priority classes, tenants, and what the token may do. A fault of form (BadInput) is reported before one of
rights (Forbidden).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from scheduler.core.demand import Constraints, Demand, Labels, Level
from scheduler.core.jobs import Autoscale, Canary, Checkpoint, JobKind, JobSpec, Misfire, Recurrence
from scheduler.errors import Forbidden
from scheduler.schema import serving_models
from scheduler.schema.fields import without_nulls
from scheduler.schema.job_checks import NO_DEVICE, check_absolute, check_together, demands
from scheduler.schema.job_flags import mapping_from_flags, overlay
from scheduler.schema.job_models import AutoscaleShape, CanaryShape, JobShape, ResourcesShape, ScheduleShape
from scheduler.schema.model import Card, SiteConfig
from scheduler.schema.problems import Problems, nearest, validated
from scheduler.schema.yaml_source import read_yaml

if TYPE_CHECKING:  # what a simulation reads job files with needs no ports
    from scheduler.ports import Principal

ANY_DEVICE: Final = "any"
CPU_VENDOR: Final = "cpu"  # a CPU device is one core; its model is its machine's, so no catalogue lists it
BEST_EFFORT: Final = "best-effort"


def job_from_file(path: Path) -> tuple[dict[str, Any], Mapping[str, int]]:
    """A job file's fields as written, and the line of each. Raises BadInput where it is no YAML mapping."""
    document = read_yaml(path)
    return document.mapping(), document.lines


def check_shape(data: object, source: str, lines: Mapping[str, int] | None) -> None:
    """Everything that can be said of a job without knowing the site. Raises BadInput with a line for each fault."""
    problems = Problems(source, lines)
    _parsed(data, problems)
    problems.raise_if_any()


def resolve_paths(data: Mapping[str, Any], base_dir: Path) -> dict[str, Any]:
    """The same job with an absolute `working_dir`: relative to `base_dir`, or `base_dir` itself when it has none.

    For clients, which know from where they were called. Other paths of a job are relative to its working_dir.
    """
    written = data.get("working_dir")
    if written is None:
        return {**data, "working_dir": str(base_dir.absolute())}
    if not isinstance(written, str) or not written.strip() or "\0" in written:
        return dict(data)  # left as it is for check_shape to refuse
    joined = os.path.join(base_dir.absolute(), os.path.expanduser(written))
    return {**data, "working_dir": os.path.normpath(joined)}


def job_from_mapping(
    data: object, *, source: str, lines: Mapping[str, int] | None, site: SiteConfig, principal: Principal
) -> JobSpec:
    """The job, checked against the site and the rights of `principal`.

    Raises BadInput with one line for each fault, or Forbidden where the token may not submit such a job.
    """
    problems = Problems(source, lines)
    job = _parsed(data, problems)
    if isinstance(data, Mapping):
        _check_names(data, site, problems)
        check_absolute(data, problems)
    problems.raise_if_any()
    assert job is not None, "a job that did not parse has problems"
    tenant = _tenant(job, source, site, principal)
    _check_priority(job, tenant, source, site, principal)
    return _spec(job, tenant, site)


def _parsed(data: object, problems: Problems) -> JobShape | None:
    data = without_nulls(data)
    if not isinstance(data, dict):
        problems.expected("", "a mapping of fields (name: value)", data)
        return None
    job = validated(JobShape, data, problems)
    check_together(data, problems)
    return job


# ---- names that the site's configuration gives -------------------------------------------------------------------


class Catalogued(Protocol):
    """Whatever has a hardware catalogue: a site's configuration, a cluster to be simulated."""

    @property
    def catalogue(self) -> Mapping[str, Card]: ...


@dataclass(frozen=True, slots=True)
class DeviceName:
    """What `device:` names: a model, a vendor, any device (both None) or no device."""

    model: str | None = None
    vendor: str | None = None
    none: bool = False


def device_named(name: str, site: Catalogued) -> DeviceName | None:
    """`name` without regard to case: any, none, a catalogue model or vendor, `cpu`; None when it is none of these."""
    wanted = name.strip().lower()
    if wanted == ANY_DEVICE:
        return DeviceName()
    if wanted == NO_DEVICE:
        return DeviceName(none=True)
    for model in site.catalogue:
        if model.lower() == wanted:
            return DeviceName(model=model)
    for vendor in vendors(site):
        if vendor.lower() == wanted:
            return DeviceName(vendor=vendor)
    return None


def vendors(site: Catalogued) -> tuple[str, ...]:
    """Vendors that a demand may name, in the catalogue's order, and `cpu`."""
    return (*dict.fromkeys(card.vendor for card in site.catalogue.values()), CPU_VENDOR)


def _check_names(data: Mapping[str, Any], site: SiteConfig, problems: Problems) -> None:
    priority_class, tenant = data.get("priority_class"), data.get("tenant")
    if isinstance(priority_class, str) and priority_class not in site.priority_classes:
        problems.unknown_name("priority_class", list(site.priority_classes), priority_class)
    if isinstance(tenant, str) and tenant not in site.tenants:
        problems.unknown_name("tenant", list(site.tenants), tenant)
    for field, demand in demands(data):
        device, at_site = demand.get("device"), demand.get("site")
        if isinstance(device, str) and device_named(device, site) is None:
            known = [ANY_DEVICE, NO_DEVICE, *vendors(site), *site.catalogue]
            problems.expected(
                f"{field}.device",
                f"a model of the hardware catalogue, a vendor ({', '.join(vendors(site))}), any or none",
                device,
                names=nearest(device, known, count=3),
            )
        if isinstance(at_site, str) and at_site not in site.sites:
            problems.unknown_name(f"{field}.site", list(site.sites), at_site)


# ---- what the token may do ---------------------------------------------------------------------------------------


def _tenant(job: JobShape, source: str, site: SiteConfig, principal: Principal) -> str:
    """The tenant that the job belongs to: the token's; an operator may submit for another."""
    if principal.role == "viewer":
        raise Forbidden(
            f"{source}: token {principal.name!r} is a viewer's and may not submit jobs; use a tenant's token"
        )
    if principal.tenant not in site.tenants:
        raise Forbidden(
            f"{source}: token {principal.name!r} belongs to tenant {principal.tenant!r}, which is not in the site's "
            f"configuration ({', '.join(site.tenants)}); ask an operator for a new token",
            field="tenant",
        )
    if job.tenant is None or job.tenant == principal.tenant:
        return principal.tenant
    if principal.role == "operator":
        return job.tenant
    raise Forbidden(
        f"{source}: tenant: {job.tenant!r} is not {principal.tenant!r}, the tenant of token {principal.name!r}; "
        "leave the field out or use that tenant's token",
        field="tenant",
    )


def _check_priority(job: JobShape, tenant: str, source: str, site: SiteConfig, principal: Principal) -> None:
    """The class may be as high as the token's, and for a tenant's token as the tenant's. Best-effort is free."""
    if job.priority_class == BEST_EFFORT:
        return
    limits = [(principal.max_priority_class, f"token {principal.name!r}")]
    if principal.role == "tenant":
        limits.append((site.tenants[tenant].max_priority_class, f"tenant {tenant!r}"))
    asked = site.priority_classes[job.priority_class]
    for limit_name, whose in limits:
        limit = site.priority_classes.get(limit_name)
        if limit is None:
            raise Forbidden(
                f"{source}: priority_class: the highest class of {whose} is {limit_name!r}, which is not in the site's "
                f"configuration ({', '.join(site.priority_classes)}); ask an operator for a new token",
                field="priority_class",
            )
        if asked.priority > limit.priority:
            allowed = [c.name for c in site.priority_classes.values() if c.priority <= limit.priority]
            raise Forbidden(
                f"{source}: priority_class: {asked.name!r} is above {limit.name!r}, the highest class of {whose}; "
                f"use one of {', '.join(allowed)}",
                field="priority_class",
            )


# ---- the spec ----------------------------------------------------------------------------------------------------


def _spec(job: JobShape, tenant: str, site: SiteConfig) -> JobSpec:
    kind = JobKind(job.kind)
    bounds = job.replicas if kind is JobKind.INFERENCE else job.workers
    working_dir = None if job.working_dir is None else os.path.normpath(job.working_dir)
    checkpoint = None
    if job.checkpoint is not None:
        directory = os.path.normpath(os.path.join(working_dir or "/", job.checkpoint.dir))
        asked = job.checkpoint
        checkpoint = Checkpoint(directory, asked.grace, asked.signal, asked.kill_wait)
    return JobSpec(
        name=job.name,
        tenant=tenant,
        kind=kind,
        priority_class=job.priority_class,
        priority=site.priority_classes[job.priority_class].priority,
        command=job.command,
        model=job.model,
        workers_min=bounds.min,
        workers_max=bounds.max,
        alternatives=tuple(demand_of(demand, site) for demand in job.resources),
        time_limit_s=job.time_limit,
        retries=job.retries,
        checkpoint=checkpoint,
        slo_p99_ms=None if job.slo is None else job.slo.p99_ms,
        env=tuple(job.env.items()),
        working_dir=working_dir,
        array_size=0 if job.array is None else job.array.count,
        array_limit=None if job.array is None else job.array.limit,
        after=job.after,
        after_any=job.after_any,
        deadline_after_s=None if job.deadline is None else job.deadline.after_s,
        deadline_at_s=None if job.deadline is None else job.deadline.at_s,
        constraints=Constraints(_level(job.within), _level(job.spread), _level(job.one_per), job.apart_from),
        reservation=job.reservation,
        schedule=_recurrence(job.schedule, site),
        serving=serving_models.serving_of(
            job.port, job.readiness, job.liveness, job.batching, model=job.model is not None
        ),
        autoscale=_autoscale(job.autoscale),
        canary=_canary(job.canary),
        hosts=job.hosts,
    )


def _autoscale(written: AutoscaleShape | None) -> Autoscale | None:
    return None if written is None else Autoscale(written.idle, written.concurrency, written.down_after)


def _canary(written: CanaryShape | None) -> Canary | None:
    return None if written is None else Canary(written.steps, written.step, written.min_requests, written.ready_within)


def _recurrence(written: ScheduleShape | None, site: SiteConfig) -> Recurrence | None:
    if written is None:
        return None
    return Recurrence(written.cron, written.zone or site.time_zone, Misfire(written.misfire))


def _level(word: str | None) -> Level | None:
    return None if word is None else Level(word)


def _labels(written: Mapping[str, str]) -> Labels:
    return tuple(sorted(written.items()))


def demand_of(written: ResourcesShape, site: Catalogued) -> Demand:
    """Whose device was checked before."""
    device = device_named(written.device, site)
    assert device is not None, f"{written.device} was checked before"
    return Demand(
        vendor=device.vendor,
        model=device.model,
        devices=0 if device.none or written.share else written.count,
        share_milli=written.share,
        cpus_milli=written.cpus,
        memory_bytes=written.memory,
        simulated=written.simulated,
        node=written.node,
        site=written.site,
        mig_profile=written.mig,
        node_labels=_labels(written.labels),
        device_labels=_labels(written.device_labels),
    )


__all__ = [
    "Catalogued",
    "DeviceName",
    "check_shape",
    "demand_of",
    "device_named",
    "job_from_file",
    "job_from_mapping",
    "mapping_from_flags",
    "overlay",
    "resolve_paths",
    "vendors",
]
