"""The nodes that a site file describes, as an agent is to stand for them: this machine's own, and simulated ones."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from node_agent.devices.simulated import SimulatedSpec
from node_agent.metrics_door import DCGM_VARIABLE, TOKEN_VARIABLE, WHERE_VARIABLE
from node_agent.nodes import NodeConfig
from scheduler.errors import BadInput
from scheduler.schema.model import SimulatedNodes, SiteConfig


def own_node(site: SiteConfig) -> NodeConfig:
    return NodeConfig(
        name=site.node_name or socket.gethostname(),
        site=site.node_site,
        address=site.ray.address,
        source=site.device_sources,
        cpus_milli=None,
        memory_bytes=None,
        labels=site.node_labels,
        rack=site.node_rack,
        expected_devices=site.node_expected_devices,
    )


def require_sources(names: Sequence[str], field: str = "node.devices") -> list[str]:
    """What stands in the way of those that were named before the one that will be used: the agent passes them over.

    Raises BadInput where one is unknown or none can be used on this machine, before anything waits for the node. No
    driver is asked: it is looked whether its library or tool is there, and whether a recording is one.
    """
    from node_agent.devices.openers import DEFAULT_NAMES, REPLAY, SourceAbsent, adapters
    from node_agent.devices.replay import ReplayDevices
    from node_agent.devices.source import DeviceSourceError
    from node_agent.devices.vendor_file import read_vendor_file

    known, why = adapters(), []
    for name in names:
        if not name.startswith(REPLAY) and name != "cpu" and name not in known:
            words = f"{', '.join(('cpu', *sorted(known)))}, or {REPLAY}PATH of a recording"
            raise BadInput(f"{field}: {name!r} is no device source; known are {words}", field=field)
    for name in names:
        try:
            if name.startswith(REPLAY):
                ReplayDevices(name.removeprefix(REPLAY)).close()
            elif name in known:
                known[name].require()
                if "path" in known[name].options:  # a vendor's file
                    read_vendor_file(Path(known[name].options["path"]))
        except SourceAbsent as error:
            if tuple(names) != DEFAULT_NAMES:  # nobody asked for it
                why.append(f"{name}: {error}")
        except DeviceSourceError as error:
            why.append(f"{name}: {error}")
        else:
            return why
    raise BadInput(f"{field}: none of them can be used here: {'; '.join(why)}", field=field)


def metrics_environment(where: str, token: Path, *, dcgm: bool) -> dict[str, str]:
    """What an agent must find in its environment to answer Prometheus (node_agent/metrics_door.py)."""
    return {WHERE_VARIABLE: where, TOKEN_VARIABLE: str(token.absolute()), DCGM_VARIABLE: "1" if dcgm else "0"}


def simulated_nodes(site: SiteConfig) -> tuple[NodeConfig, ...]:
    return tuple(_simulated(site, group, i) for group in site.simulated_nodes for i in range(group.count))


def _simulated(site: SiteConfig, group: SimulatedNodes, index: int) -> NodeConfig:
    """The nodes of a group stand in its racks in turn."""
    return NodeConfig(
        name=f"{group.prefix}-{index}",
        site=group.site,
        address=site.ray.address,
        source=SimulatedSpec(
            model=group.model,
            vendor=group.vendor,
            count=group.devices,
            memory_bytes=group.device_memory_bytes,
            seed=index,
            devices_per_island=group.devices_per_island,
            mig_profiles=group.mig_profiles,
        ),
        cpus_milli=group.cpus_milli,
        memory_bytes=group.memory_bytes,
        labels=group.labels,
        rack=group.racks[index % len(group.racks)] if group.racks else None,
    )
