"""The nodes of a cluster file as the planner sees them, and the same with some more: what if we bought a hundred?

In a what-if simulation the file's nodes count as ordinary ones, so that jobs need not say `simulated: true`; the whole
answer says it instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduler.core.demand import DeviceFacts, NodeFacts
from scheduler.errors import BadInput
from scheduler.schema.cluster_file import MAX_NODES, ClusterConfig, NodeGroup
from scheduler.schema.model import SimulatedNodes
from scheduler.schema.problems import did_you_mean, nearest
from scheduler.simulation.measures import Group

_ADDED = re.compile(r"(?P<count>\d{1,6})x(?P<model>[^@]+)@(?P<site>.+)")
# A node of a model that the cluster has none of: what common 8-card servers have.
_DEVICES, _CPUS_MILLI, _MEMORY_BYTES, _PER_RACK = 8, 128_000, 1024 * 2**30, 4


@dataclass(frozen=True, slots=True)
class AddedNodes:
    """`said`: as it was asked for. `assumed`: what had to be assumed of them."""

    said: str
    group: NodeGroup
    assumed: str = ""


def nodes_of(groups: Sequence[NodeGroup]) -> tuple[NodeFacts, ...]:
    return tuple(_node(group, i) for group in groups for i in range(group.nodes.count))


def _node(group: NodeGroup, i: int) -> NodeFacts:
    nodes = group.nodes
    name = f"{nodes.prefix}-{i}"
    profiles: tuple[str | None, ...] = nodes.mig_profiles or (None,)
    parts = [(card, profile) for card in range(nodes.devices) for profile in profiles]
    rack = None
    if group.per_rack:
        rack = f"{nodes.prefix}-r{i // group.per_rack}"
    elif nodes.racks:
        rack = nodes.racks[i % len(nodes.racks)]
    return NodeFacts(
        name=name,
        site=nodes.site,
        address="",
        devices=tuple(
            DeviceFacts(
                index=index,
                uuid=f"{name}-{index}",
                model=nodes.model,
                vendor=nodes.vendor,
                memory_bytes=nodes.device_memory_bytes // len(profiles),
                simulated=False,
                island=f"{name}/{card // nodes.devices_per_island}" if nodes.devices_per_island else None,
                mig_profile=profile,
            )
            for index, (card, profile) in enumerate(parts)
        ),
        cpus_milli=nodes.cpus_milli,
        memory_bytes=nodes.memory_bytes,
        simulated=False,
        labels=nodes.labels,
        rack=rack,
    )


def measured_groups(groups: Sequence[NodeGroup]) -> tuple[tuple[Group, ...], dict[str, int]]:
    """What is measured together, and by a node's name which of them it is in."""
    found: list[Group] = []
    number_of: dict[str, int] = {}
    for group in groups:
        power = group.power
        idle = None if power is None else power.idle_watts
        found.append(
            Group(group.nodes.site, group.nodes.model, group.devices, None if power is None else power.busy_watts, idle)
        )
        number_of.update((f"{group.nodes.prefix}-{i}", len(found) - 1) for i in range(group.nodes.count))
    return tuple(found), number_of


# ---- more nodes ------------------------------------------------------------------------------------------------------


def added_nodes(said: str, cluster: ClusterConfig, number: int) -> AddedNodes:
    """`100xh200@dongyang-subnode`. Raises BadInput. `number` tells several of them apart."""
    match = _ADDED.fullmatch(said.strip())
    if match is None or not int(match["count"]):
        raise _refused(f"expected COUNTxMODEL@SITE, such as 100xh200@dongyang-subnode; got {said[:60]!r}")
    count, site = int(match["count"]), match["site"].strip()
    if site not in cluster.sites:
        sites = ", ".join(cluster.sites)
        raise _refused(
            f"expected one of the sites {sites}; got {site[:60]!r}{did_you_mean(nearest(site, cluster.sites))}"
        )
    there = sum(group.nodes.count for group in cluster.groups)
    if there + count > MAX_NODES:
        raise _refused(f"{count} more nodes than {there}: at most {MAX_NODES} in all")
    model = _model(match["model"], cluster)
    alike = [group for group in cluster.groups if group.nodes.model == model]
    prefix = f"added{number}"
    if alike:
        group = max(alike, key=lambda group: (group.nodes.site == site, group.nodes.count))
        return AddedNodes(said, replace(group, nodes=replace(group.nodes, prefix=prefix, count=count, site=site)))
    card = cluster.catalogue[model]
    nodes = SimulatedNodes(
        prefix=prefix,
        count=count,
        site=site,
        model=model,
        vendor=card.vendor,
        devices=_DEVICES,
        device_memory_bytes=card.memory_bytes or 0,
        cpus_milli=_CPUS_MILLI,
        memory_bytes=_MEMORY_BYTES,
        devices_per_island=_DEVICES,
    )
    assumed = (
        f"the cluster has no {model}: nodes of {_DEVICES} devices in one island, {_CPUS_MILLI // 1000} CPUs and "
        f"{_MEMORY_BYTES // 2**30} GiB are assumed"
    )
    return AddedNodes(said, NodeGroup(nodes, _PER_RACK), assumed)


def _model(word: str, cluster: ClusterConfig) -> str:
    """The one model that the word can mean: its name, or the only one whose name holds the word, of those that the
    cluster has or else of the catalogue."""
    wanted = _letters(word)
    here = dict.fromkeys(group.nodes.model for group in cluster.groups)
    for models in (list(here), list(cluster.catalogue)):
        exact = [model for model in models if _letters(model) == wanted]
        close = exact or [model for model in models if wanted and wanted in _letters(model)]
        if len(close) == 1:
            return close[0]
        if close:
            raise _refused(f"{word.strip()[:60]!r} may be any of {', '.join(close)}; write more of the name")
    names = nearest(word, cluster.catalogue, count=3) or tuple(here)
    raise _refused(f"expected a model of the hardware catalogue; got {word.strip()[:60]!r}{did_you_mean(names)}")


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _refused(why: str) -> BadInput:
    return BadInput(f"--add-nodes: {why}", field="add-nodes")
