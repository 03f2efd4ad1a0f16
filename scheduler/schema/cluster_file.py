"""A cluster to be simulated, from its file: `load_cluster(path)` gives its nodes, tenants, classes and policy.

A cluster file names its includes as a site file does and lists `nodes`. A site file (such as configs/local.yaml) is a
cluster, too: that of its `simulated_nodes`. All faults of all files come at once, with file, line and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainValidator

from scheduler.errors import BadInput
from scheduler.schema.fields import ConfigName, expected, finite_number, whole, without_nulls
from scheduler.schema.load import (
    Reading,
    load_site,
    policy_settings,
    simulated_groups,
    tenant_share,
)
from scheduler.schema.model import Card, PolicySettings, PriorityClass, SimulatedNodes, Site, Tenant
from scheduler.schema.problems import Problems, Shape, nearest, raise_together, validated
from scheduler.schema.site_checks import check_classes, check_tenants
from scheduler.schema.site_models import (
    IncludeShape,
    PolicyShape,
    PriorityClassesShape,
    SimulatedShape,
    SitesShape,
    TenantsShape,
)
from scheduler.schema.yaml_source import read_yaml

MAX_NODES: Final = 20_000
MAX_WATTS: Final = 10_000.0


def _as_watts(value: object) -> float:
    number = finite_number(value)
    if number is None or not 0 <= number <= MAX_WATTS:
        raise expected(f"watts of one device: a number from 0 to {MAX_WATTS:g}")
    return number


Watts = Annotated[float, PlainValidator(_as_watts)]


def _as_groups(value: object) -> object:
    if not isinstance(value, list) or not value:
        raise expected("a list of groups of nodes (prefix, count, site, model, devices, cpus, memory)")
    return value


class PowerShape(Shape):
    busy: Watts
    idle: Watts | None = None


class NodesShape(SimulatedShape):
    """As `simulated_nodes` of a site file. `per_rack`: so many of them stand in a rack of their own, PREFIX-r0 ...;
    `power`: watts of one device, where its vendor says."""

    count: Annotated[int, PlainValidator(whole(1, MAX_NODES))]
    per_rack: Annotated[int, PlainValidator(whole(1, 1000))] | None = None
    power: PowerShape | None = None


class ClusterShape(Shape):
    """The file that `suanli simulate run --cluster` names."""

    name: ConfigName
    include: IncludeShape
    nodes: Annotated[list[NodesShape], BeforeValidator(_as_groups)] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Power:
    """Watts of one device. `idle_watts` None: not known."""

    busy_watts: float
    idle_watts: float | None


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """`nodes.count` nodes alike. `per_rack`: 0 where `nodes.racks` says where they stand. `power` None: not known."""

    nodes: SimulatedNodes
    per_rack: int = 0
    power: Power | None = None

    @property
    def devices(self) -> int:
        return self.nodes.count * self.nodes.devices * max(1, len(self.nodes.mig_profiles))


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Everything that a simulation needs to know of a cluster, validated."""

    name: str
    path: Path
    groups: tuple[NodeGroup, ...]
    sites: Mapping[str, Site]
    catalogue: Mapping[str, Card]
    priority_classes: Mapping[str, PriorityClass]
    tenants: Mapping[str, Tenant]
    policy: PolicySettings


def load_cluster(path: Path) -> ClusterConfig:
    """Read and cross-check a cluster file or a site file. Raises BadInput with one line for each fault."""
    document = read_yaml(path)
    if "nodes" not in without_nulls(document.mapping()):  # type: ignore[operator]
        return _of_site(path)
    reading = Reading()
    file = reading.yaml(path, ClusterShape)
    if file is None:
        raise_together(reading.problems)
        raise AssertionError("unreachable: a file that did not parse has problems")
    main, here, include = reading.problems[0], path.parent, file.include
    sites = reading.yaml(here / include.sites, SitesShape, main, "include.sites")
    classes = reading.yaml(here / include.priority_classes, PriorityClassesShape, main, "include.priority_classes")
    tenants = reading.yaml(here / include.tenants, TenantsShape, main, "include.tenants")
    catalogue = reading.catalogue(here / include.hardware_catalogue, main)
    policy: PolicyShape | None = PolicyShape()
    if include.policy is not None:
        policy = reading.yaml(here / include.policy, PolicyShape, main, "include.policy")
    if classes:
        check_classes(classes, reading.of(here / include.priority_classes))
        if tenants:
            check_tenants(tenants, classes, reading.of(here / include.tenants))
    _check_nodes(file, sites, catalogue, main)
    raise_together(reading.problems)
    # A file that did not parse has problems, and they were raised.
    assert sites is not None
    assert classes is not None
    assert tenants is not None
    assert policy is not None
    ordered = sorted(classes.priority_classes.items(), key=lambda item: -item[1].priority)
    groups = simulated_groups(file.nodes, catalogue)
    return ClusterConfig(
        name=file.name,
        path=path,
        groups=tuple(_group(shape, nodes) for shape, nodes in zip(file.nodes, groups, strict=True)),
        sites={name: Site(name, site.title_en, site.title_zh) for name, site in sites.sites.items()},
        catalogue=catalogue,
        priority_classes={
            name: PriorityClass(name, entry.priority, entry.may_preempt, entry.title_en, entry.title_zh)
            for name, entry in ordered
        },
        tenants={
            name: Tenant(
                name, each.title_en, each.title_zh, each.max_priority_class, each.unix_user, tenant_share(each)
            )
            for name, each in tenants.tenants.items()
        },
        policy=policy_settings(policy),
    )


def load_policy(path: Path) -> PolicySettings:
    """A policy.yaml alone. Raises BadInput."""
    document = read_yaml(path)
    problems = Problems(str(path), document.lines)
    shape = validated(PolicyShape, without_nulls(document.mapping()), problems)
    problems.raise_if_any()
    assert shape is not None
    return policy_settings(shape)


def _of_site(path: Path) -> ClusterConfig:
    site = load_site(path)
    if not site.simulated_nodes:
        raise BadInput(
            f"{path}: nodes: there are none to simulate; list `nodes` (or, in a site file, `simulated_nodes`)",
            field="nodes",
        )
    return ClusterConfig(
        name=site.name,
        path=path,
        groups=tuple(NodeGroup(nodes) for nodes in site.simulated_nodes),
        sites=site.sites,
        catalogue=site.catalogue,
        priority_classes=site.priority_classes,
        tenants=site.tenants,
        policy=site.policy,
    )


def _group(shape: NodesShape, nodes: SimulatedNodes) -> NodeGroup:
    power = None if shape.power is None else Power(shape.power.busy, shape.power.idle)
    return NodeGroup(nodes, shape.per_rack or 0, power)


def _check_nodes(file: ClusterShape, sites: SitesShape | None, catalogue: Mapping[str, Card], main: Problems) -> None:
    first: dict[str, int] = {}
    for i, group in enumerate(file.nodes):
        field = f"nodes[{i}]"
        if sites is not None and group.site not in sites.sites:
            main.unknown_name(f"{field}.site", list(sites.sites), group.site)
        card = catalogue.get(group.model)
        if catalogue and card is None:
            names = nearest(group.model, catalogue, count=3)
            main.expected(f"{field}.model", "a model of the hardware catalogue", group.model, names=names)
        elif card is not None and group.device_memory is None and card.memory_bytes is None:
            main.add(f"{field}.device_memory", f"required, because the catalogue gives no memory for {group.model}")
        if group.island is not None and group.devices % group.island:
            main.expected(f"{field}.island", f"devices of one island, a part of the {group.devices}", group.island)
        if group.per_rack is not None and group.rack:
            main.add(f"{field}.per_rack", "stands beside rack; give one of them")
        if group.power is not None and group.power.idle is not None and group.power.idle > group.power.busy:
            main.expected(f"{field}.power.idle", f"at most busy, which is {group.power.busy:g}", group.power.idle)
        if group.prefix in first:
            main.add(f"{field}.prefix", f"{group.prefix!r} is the prefix of nodes[{first[group.prefix]}]")
        first.setdefault(group.prefix, i)
    total = sum(group.count for group in file.nodes)
    if total > MAX_NODES:
        main.expected("nodes", f"at most {MAX_NODES} nodes in all", total)
