"""A site's configuration from its files: `load_site(path)` gives a SiteConfig in which every name exists.

The named file includes the others (`include:`, paths relative to itself). All faults of all files come at once, as
BadInput with file, line and field, before anything is started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from node_agent.devices.openers import rooted
from scheduler.core.decisions import Backfill
from scheduler.errors import BadInput
from scheduler.schema.catalogue import read_catalogue
from scheduler.schema.cron import local_zone
from scheduler.schema.doors import check_doors
from scheduler.schema.fields import without_nulls
from scheduler.schema.health_file import HealthShape, check_health, health_policy
from scheduler.schema.model import (
    NETWORKS,
    Card,
    Goal,
    HealthCheck,
    Listen,
    LogSettings,
    NodeMetrics,
    PolicySettings,
    PriorityClass,
    RaySettings,
    SimulatedNodes,
    Site,
    SiteConfig,
    Tenant,
    TenantShare,
    Tls,
)
from scheduler.schema.problems import Problems, ShapeT, raise_together, validated
from scheduler.schema.site_checks import (
    check_classes,
    check_names_of_nodes,
    check_simulated,
    check_sites,
    check_tenants,
)
from scheduler.schema.site_models import (
    RAY_LEAST_OBJECT_STORE_BYTES,
    LocalShape,
    PolicyShape,
    PriorityClassesShape,
    RayShape,
    SimulatedShape,
    SitesShape,
    TenantShape,
    TenantsShape,
)
from scheduler.schema.yaml_source import read_yaml


def shipped_config(name: str = "local.yaml") -> Path:
    """A configuration that comes with Suanli, in a checkout as in an installed wheel."""
    import configs

    return Path(next(iter(configs.__path__))) / name


def load_site(path: Path) -> SiteConfig:
    """Read and cross-check a configuration. Raises BadInput with one line for each fault of each file."""
    reading = Reading()
    local = reading.yaml(path, LocalShape)
    if local is None:
        raise_together(reading.problems)
        raise AssertionError("unreachable: a file that did not parse has problems")
    main = reading.problems[0]
    here = path.parent
    sites_file = reading.yaml(here / local.include.sites, SitesShape, main, "include.sites")
    classes_file = reading.yaml(
        here / local.include.priority_classes, PriorityClassesShape, main, "include.priority_classes"
    )
    tenants_file = reading.yaml(here / local.include.tenants, TenantsShape, main, "include.tenants")
    catalogue = reading.catalogue(here / local.include.hardware_catalogue, main)
    policy_file: PolicyShape | None = PolicyShape()
    if local.include.policy is not None:
        policy_file = reading.yaml(here / local.include.policy, PolicyShape, main, "include.policy")
    health_file: HealthShape | None = HealthShape()
    if local.include.health is not None:
        health_file = reading.yaml(here / local.include.health, HealthShape, main, "include.health")
        if health_file:
            check_health(health_file, reading.of(here / local.include.health))
    # A name is checked only against a file that could be read: its absence is then the one fault to mend.
    if sites_file:
        check_sites(local, sites_file, main, reading.of(here / local.include.sites))
    if classes_file:
        check_classes(classes_file, reading.of(here / local.include.priority_classes))
        if tenants_file:
            check_tenants(tenants_file, classes_file, reading.of(here / local.include.tenants))
    if catalogue:
        check_simulated(local, catalogue, main)
    check_doors(local, here, main)
    check_names_of_nodes(local, main)
    if local.ray.object_store_memory < RAY_LEAST_OBJECT_STORE_BYTES:
        main.expected(
            "ray.object_store_memory", "at least 75MiB, the least that Ray takes", local.ray.object_store_memory
        )
    raise_together(reading.problems)
    # A file that did not parse has problems, and they were raised.
    assert sites_file is not None
    assert classes_file is not None
    assert tenants_file is not None
    assert policy_file is not None
    assert health_file is not None
    site = _site_config(path, local, sites_file, classes_file, tenants_file, catalogue, policy_file)
    return replace(site, health=health_policy(health_file))


class Reading:
    """The files of one configuration with their faults, in the order in which they are read."""

    def __init__(self) -> None:
        self.problems: list[Problems] = []

    def of(self, path: Path) -> Problems:
        return next(problems for problems in self.problems if problems.source == str(path))

    def yaml(self, path: Path, shape: type[ShapeT], includer: Problems | None = None, field: str = "") -> ShapeT | None:
        try:
            document = read_yaml(path)
            data = without_nulls(document.mapping())
        except BadInput as error:
            self._unreadable(path, error, includer, field)
            return None
        self.problems.append(Problems(str(path), document.lines))
        return validated(shape, data, self.problems[-1])

    def catalogue(self, path: Path, includer: Problems) -> dict[str, Card]:
        problems = Problems(str(path))
        try:
            cards = read_catalogue(path, problems)
        except BadInput as error:
            self._unreadable(path, error, includer, "include.hardware_catalogue")
            return {}
        self.problems.append(problems)
        return cards

    def _unreadable(self, path: Path, error: BadInput, includer: Problems | None, field: str) -> None:
        """A file that is not there is a fault of the line that names it; one that is no YAML, of its own."""
        if includer is None:
            raise error
        if path.is_file():
            problems = _Foreign(str(path), error.message)
            self.problems.append(problems)
        else:
            includer.expected(field, "the path of a file, relative to this one", str(path))


class _Foreign(Problems):
    """Faults that already read as lines."""

    def __init__(self, source: str, message: str) -> None:
        super().__init__(source)
        self._message = message

    def __bool__(self) -> bool:
        return True

    def messages(self) -> list[str]:
        return self._message.splitlines()


# ---- values ------------------------------------------------------------------------------------------------------


def _health_check(ray: RayShape) -> HealthCheck:
    profile, told = NETWORKS[ray.network], ray.health_check
    return HealthCheck(
        period_s=profile.period_s if told.period is None else told.period,
        timeout_s=profile.timeout_s if told.timeout is None else told.timeout,
        failures=profile.failures if told.failures is None else told.failures,
    )


def _site_config(
    path: Path,
    local: LocalShape,
    sites: SitesShape,
    classes: PriorityClassesShape,
    tenants: TenantsShape,
    catalogue: Mapping[str, Card],
    policy: PolicyShape,
) -> SiteConfig:
    ordered = sorted(classes.priority_classes.items(), key=lambda item: -item[1].priority)
    door = local.node.metrics
    metrics = None if door is None else NodeMetrics(door.listen, path.parent / door.token, door.dcgm)
    return SiteConfig(
        name=local.name,
        path=path,
        api=Listen(local.api.host, local.api.port),
        gateway=Listen(local.gateway.host, local.gateway.port),
        more_gateways=local.gateway.also,
        tls=None if local.tls is None else Tls(path.parent / local.tls.cert, path.parent / local.tls.key),
        store_url=local.store,
        node_name=local.node.name,
        node_site=local.node.site,
        device_sources=rooted(local.node.devices, path.parent),
        simulated_nodes=tuple(simulated_groups(local.simulated_nodes, catalogue)),
        lease_s=local.lease,
        logs=LogSettings(keep_s=local.logs.keep, cap_bytes=local.logs.cap),
        ray=RaySettings(
            address=local.ray.address,
            port=local.ray.port,
            object_store_memory_bytes=local.ray.object_store_memory,
            health_check=_health_check(local.ray),
        ),
        sites={name: Site(name, site.title_en, site.title_zh) for name, site in sites.sites.items()},
        goals=tuple(
            Goal(
                name=goal.name,
                title_en=goal.title_en,
                title_zh=goal.title_zh,
                sites=tuple(goal.sites),
                goal_pflops=goal.goal_pflops,
                precision=goal.precision,
                due=goal.due,
                source=goal.source,
                is_context=goal.is_context,
            )
            for goal in sites.goals
        ),
        catalogue=dict(catalogue),
        priority_classes={
            name: PriorityClass(name, entry.priority, entry.may_preempt, entry.title_en, entry.title_zh)
            for name, entry in ordered
        },
        tenants={
            name: Tenant(
                name,
                tenant.title_en,
                tenant.title_zh,
                tenant.max_priority_class,
                tenant.unix_user,
                tenant_share(tenant),
                tenant.requests_per_s,
            )
            for name, tenant in tenants.tenants.items()
        },
        policy=policy_settings(policy),
        node_rack=local.node.rack,
        node_expected_devices=local.node.expected_devices,
        node_metrics=metrics,
        node_labels=tuple(sorted(local.node.labels.items())),
        time_zone=local.time_zone or local_zone(),
    )


def tenant_share(tenant: TenantShape) -> TenantShare:
    return TenantShare(
        weight=tenant.weight,
        guaranteed_milli=tenant.quota.guaranteed,
        maximum_milli=tenant.quota.maximum,
        max_running_jobs=tenant.limits.running_jobs,
        max_queued_jobs=tenant.limits.queued_jobs,
        max_queued_milli=tenant.limits.queued_devices,
    )


def policy_settings(file: PolicyShape) -> PolicySettings:
    return PolicySettings(
        packing=file.packing,
        backfill=cast(Backfill, file.backfill),
        tie_seed=file.tie_seed,
        starve_after_s=file.starve_after,
        fair_share_half_life_s=file.fair_share_half_life,
        min_run_before_preemption_s=file.min_run_before_preemption,
        min_run_before_growth_s=file.min_run_before_growth,
        reservation_depth=file.reservation_depth,
    )


def simulated_groups(shapes: Sequence[SimulatedShape], catalogue: Mapping[str, Card]) -> list[SimulatedNodes]:
    """Whose models and memory were checked."""
    groups = []
    for group in shapes:
        card = catalogue[group.model]
        memory_bytes = group.device_memory or card.memory_bytes
        assert memory_bytes is not None, "checked in check_simulated"
        groups.append(
            SimulatedNodes(
                prefix=group.prefix,
                count=group.count,
                site=group.site,
                model=card.model,
                vendor=card.vendor,
                devices=group.devices,
                device_memory_bytes=memory_bytes,
                cpus_milli=group.cpus,
                memory_bytes=group.memory,
                racks=tuple(group.rack),
                labels=tuple(sorted(group.labels.items())),
                devices_per_island=group.island or 0,
                mig_profiles=tuple(group.mig),
            )
        )
    return groups
