"""What must hold between the files of a site's configuration?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from scheduler.schema.model import (
    Card,
)
from scheduler.schema.problems import Problems, nearest
from scheduler.schema.site_models import (
    MAX_SIMULATED_NODES,
    LocalShape,
    PriorityClassesShape,
    SitesShape,
    TenantsShape,
)

# Job files count on these two: `normal` is the default, `best-effort` is free to everybody.
REQUIRED_CLASSES: Final = ("normal", "best-effort")
MIG_SLICES: Final = 7  # compute slices of a card
_PROFILE_SIZE: Final = re.compile(r"(\d+)g\.(\d+)gb")


def check_sites(local: LocalShape, file: SitesShape, main: Problems, own: Problems) -> None:
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


def check_simulated(local: LocalShape, catalogue: Mapping[str, Card], main: Problems) -> None:
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


def check_names_of_nodes(local: LocalShape, main: Problems) -> None:
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
