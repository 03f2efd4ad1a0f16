"""A site's configuration from its files: `load_site(path)` gives a SiteConfig in which every name exists.

The named file includes the others (`include:`, paths relative to itself). All faults of all files come at once, as
BadInput with file, line and field, before anything is started.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from node_agent.devices.openers import rooted
from scheduler.core.decisions import Backfill
from scheduler.errors import BadInput
from scheduler.schema.catalogue import read_catalogue
from scheduler.schema.cron import local_zone
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
from scheduler.schema.problems import Problems, ShapeT, nearest, raise_together, validated
from scheduler.schema.site_models import (
    MAX_SIMULATED_NODES,
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

# Job files count on these two: `normal` is the default, `best-effort` is free to everybody.
REQUIRED_CLASSES: Final = ("normal", "best-effort")
MIG_SLICES: Final = 7  # compute slices of a card
_PROFILE_SIZE: Final = re.compile(r"(\d+)g\.(\d+)gb")


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
        _check_sites(local, sites_file, main, reading.of(here / local.include.sites))
    if classes_file:
        check_classes(classes_file, reading.of(here / local.include.priority_classes))
        if tenants_file:
            check_tenants(tenants_file, classes_file, reading.of(here / local.include.tenants))
    if catalogue:
        _check_simulated(local, catalogue, main)
    _check_doors(local, here, main)
    _check_names_of_nodes(local, main)
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


# ---- what must hold between the files ----------------------------------------------------------------------------


def _check_sites(local: LocalShape, file: SitesShape, main: Problems, own: Problems) -> None:
    known = list(file.sites)
    if not known:
        own.add("sites", "expected at least one site, and there is none")
    if local.node.site not in known:
        main.unknown_name("node.site", known, local.node.site)
    for i, group in enumerate(local.simulated_nodes):
        if group.site not in known:
            main.unknown_name(f"simulated_nodes[{i}].site", known, group.site)
    seen: set[str] = set()
    for i, goal in enumerate(file.goals):
        if goal.name in seen:
            own.add(f"goals[{i}].name", f"{goal.name!r} is the name of an earlier goal; goals are told apart by name")
        seen.add(goal.name)
        if not goal.sites:
            own.add(f"goals[{i}].sites", "expected at least one site, and there is none")
        for j, name in enumerate(goal.sites):
            if name not in known:
                own.unknown_name(f"goals[{i}].sites[{j}]", known, name)
            elif name in goal.sites[:j]:
                own.add(f"goals[{i}].sites[{j}]", f"{name!r} is listed twice; it would count twice")


def check_classes(file: PriorityClassesShape, own: Problems) -> None:
    by_priority: dict[int, str] = {}
    for name, entry in file.priority_classes.items():
        if entry.priority in by_priority:
            own.add(
                f"priority_classes.{name}.priority",
                f"{entry.priority} is also the priority of {by_priority[entry.priority]}; give each class its own",
            )
        by_priority[entry.priority] = name
    for name in REQUIRED_CLASSES:
        if name not in file.priority_classes:
            own.add(f"priority_classes.{name}", "required class, and not given: job files count on it")
    best_effort = file.priority_classes.get("best-effort")
    if best_effort is not None and best_effort.may_preempt:
        own.expected("priority_classes.best-effort.may_preempt", "false: everybody may submit at this class", True)


def check_tenants(file: TenantsShape, classes: PriorityClassesShape, own: Problems) -> None:
    if not file.tenants:
        own.add("tenants", "expected at least one tenant, and there is none")
    for name, tenant in file.tenants.items():
        if tenant.max_priority_class not in classes.priority_classes:
            own.unknown_name(
                f"tenants.{name}.max_priority_class", list(classes.priority_classes), tenant.max_priority_class
            )
        guaranteed, maximum = tenant.quota.guaranteed, tenant.quota.maximum
        if maximum is not None and maximum < guaranteed:
            own.expected(
                f"tenants.{name}.quota.maximum", f"at least guaranteed, which is {guaranteed / 1000:g}", maximum / 1000
            )


def _check_simulated(local: LocalShape, catalogue: Mapping[str, Card], main: Problems) -> None:
    for i, group in enumerate(local.simulated_nodes):
        field = f"simulated_nodes[{i}]"
        card = catalogue.get(group.model)
        if card is None:
            names = nearest(group.model, catalogue, count=3)
            main.expected(f"{field}.model", "a model of the hardware catalogue", group.model, names=names)
        elif group.device_memory is None and card.memory_bytes is None:
            main.add(f"{field}.device_memory", f"required, because the catalogue gives no memory for {group.model}")
        if group.island is not None and group.devices % group.island:
            main.expected(f"{field}.island", f"devices of one island, a part of the {group.devices}", group.island)
        memory_bytes = group.device_memory or (card.memory_bytes if card is not None else None)
        _check_instances(group.mig, memory_bytes, f"{field}.mig", main)


def _check_instances(profiles: Sequence[str], memory_bytes: int | None, field: str, main: Problems) -> None:
    """The instances of one card share its compute slices and its memory: `3g.40gb` has 3 of 7 slices and 40 GB (NVIDIA,
    "Multi-Instance GPU User Guide"). Parts such as `1c.3g.40gb` share one `3g.40gb` as long as its slices last.
    """
    slices = memory_gb = 0
    least_gb = 0.0  # names round to whole GB: two 3g.71gb are what a card of 141 GB has
    parts: Counter[str] = Counter()
    instances: list[str] = []
    for profile in profiles:
        part, _, whole = profile.rpartition("c.")
        if part:
            parts[whole] += int(part)
        else:
            instances.append(whole)
    for whole, part_slices in parts.items():
        instances += [whole] * -(-part_slices // max(1, _size(whole)[0]))
    for instance in instances:
        of_slices, of_gb = _size(instance)
        slices += of_slices
        memory_gb += of_gb
        least_gb += of_gb - 0.5
    said = ", ".join(profiles)
    if slices > MIG_SLICES:
        main.expected(
            field, f"instances that take at most the {MIG_SLICES} compute slices of a card", f"{said}: {slices}"
        )
    if memory_bytes is not None and least_gb * 10**9 > memory_bytes:
        has = f"{memory_bytes / 10**9:g} GB of memory"
        main.expected(field, f"instances that take at most a card's {has}", f"{said}: {memory_gb} GB")


def _size(profile: str) -> tuple[int, int]:
    """Compute slices and GB of `3g.40gb`."""
    found = _PROFILE_SIZE.match(profile)
    assert found is not None, profile  # the shape has looked at it
    return int(found[1]), int(found[2])


def _check_names_of_nodes(local: LocalShape, main: Problems) -> None:
    """Every node has its own name, and simulated ones stay within what one agent process stands for."""
    first: dict[str, int] = {}
    for i, group in enumerate(local.simulated_nodes):
        if group.prefix in first:
            main.add(
                f"simulated_nodes[{i}].prefix",
                f"{group.prefix!r} is the prefix of simulated_nodes[{first[group.prefix]}]",
            )
        first.setdefault(group.prefix, i)
        number = (local.node.name or "").removeprefix(f"{group.prefix}-")
        if number != local.node.name and number.isascii() and number.isdigit() and int(number) < group.count:
            main.add("node.name", f"{local.node.name!r} is also the name of a simulated node of simulated_nodes[{i}]")
    total = sum(group.count for group in local.simulated_nodes)
    if len(local.simulated_nodes) > 1 and total > MAX_SIMULATED_NODES:
        main.expected("simulated_nodes", f"at most {MAX_SIMULATED_NODES} nodes in all", total)


# ---- doors -------------------------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Only this machine can reach `host`. A name other than localhost may mean anything, so it is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_doors(local: LocalShape, here: Path, main: Problems) -> None:
    doors = {"api": local.api, "gateway": local.gateway}
    if local.api.port == local.gateway.port != 0:
        main.add(
            "gateway.port", f"{local.gateway.port} is also the port of api; give each its own, or 0 for any free one"
        )
    for field, door in doors.items():
        if not is_loopback(door.host) and local.tls is None:
            main.add(
                f"{field}.host",
                f"{door.host!r} can be reached from other machines. Beyond loopback: TLS. Add tls with cert and key, "
                "or use 127.0.0.1",
            )
    if local.tls is not None:
        for field, name in (("tls.cert", local.tls.cert), ("tls.key", local.tls.key)):
            _check_readable(field, here / name, main)


def _check_readable(field: str, path: Path, main: Problems) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        main.add(field, f"expected a PEM file that can be read, relative to this one; {path}: {reason}")
        return
    if b"-----BEGIN " not in start:
        main.add(field, f"expected a PEM file (-----BEGIN ...); {path} is none")


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
        assert memory_bytes is not None, "checked in _check_simulated"
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
