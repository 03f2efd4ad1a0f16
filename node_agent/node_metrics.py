"""What a host's nodes show to Prometheus: readings, what is known of each node, and who holds which device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from node_agent.devices.source import Device
from node_agent.exporter import Holders, NodeFacts, render, render_dcgm, render_node


class Node(Protocol):
    """As NodeAgent is."""

    @property
    def all_devices(self) -> Sequence[Device]: ...

    def facts(self) -> NodeFacts: ...


class HeldBy(NamedTuple):
    """A run that lives: `devices` are indices on its node."""

    node: str
    job_id: str
    tenant: str
    devices: tuple[int, ...]


def holders_of(nodes: Mapping[str, Node], held: Iterable[HeldBy]) -> dict[str, Holders]:
    """By device uuid, in order of names; a job with several workers on a device is named once."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    uuids = {(name, device.index): device.uuid for name, node in nodes.items() for device in node.all_devices}
    for each in held:
        for index in each.devices:
            uuid = uuids.get((each.node, index))
            if uuid is not None:
                jobs, tenants = found.setdefault(uuid, (set(), set()))
                jobs.add(each.job_id)
                tenants.add(each.tenant)
    return {uuid: Holders(tuple(sorted(jobs)), tuple(sorted(tenants))) for uuid, (jobs, tenants) in found.items()}


def metrics_text(nodes: Mapping[str, Node], readings: Mapping[str, Any], held: Iterable[HeldBy], *, dcgm: bool) -> str:
    """`readings` by node, as AgentHost.readings gives them."""
    holders = holders_of(nodes, held)
    models = {device.uuid: device.model for node in nodes.values() for device in node.all_devices}
    text = render(readings, models, holders)
    text += render_node([node.facts() for node in nodes.values()])
    if dcgm:
        facts = {name: node.facts() for name, node in nodes.items()}
        text += render_dcgm(
            [
                (name, facts[name].versions.get("driver", ""), device)
                for name, node in nodes.items()
                for device in node.all_devices
            ],
            {uuid: fields for devices in readings.values() for uuid, fields in devices.items()},
            holders=holders,
        )
    return text
