"""What a machine says of itself when it joins, as labels of its Ray node: written by `suanli node join`, read by the
engine, which is to keep these agents there. Ray's labels take letters, digits, `-`, `_` and `.` alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from node_agent.config import AgentConfig
from node_agent.health import HealthRules
from node_agent.nodes import NodeConfig

HEAD = "head"
"""What the head's Ray node is called there: its own name stands in the site file."""
_NODE, _SITE, _RACK, _LABEL = "suanli-node", "suanli-site", "suanli-rack", "suanli-label."
_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LocalNodes:
    """What the head's machine carries: its own node, and the simulated ones, which share one agent process."""

    real: NodeConfig
    simulated: tuple[NodeConfig, ...]
    health: HealthRules = field(default_factory=HealthRules)
    """Of all agents, on other machines too."""


def is_label_word(text: str) -> bool:
    """Whether it may be a label's name or value here: shorter than elsewhere, as Ray's names hold our prefix too."""
    return bool(_WORD.fullmatch(text))


def ray_labels(name: str, site: str, rack: str | None, labels: Mapping[str, str]) -> str:
    """For `ray start --labels=`."""
    told = {_NODE: name, _SITE: site}
    if rack is not None:
        told[_RACK] = rack
    told |= {_LABEL + key: value for key, value in labels.items()}
    return ",".join(f"{key}={value}" for key, value in told.items())


def joined_node(labels: Mapping[str, str], address: str) -> NodeConfig:
    """The node that a machine with these labels is to be."""
    own = {key.removeprefix(_LABEL): value for key, value in labels.items() if key.startswith(_LABEL)}
    return NodeConfig(
        name=labels[_NODE],
        site=labels[_SITE],
        address=address,
        cpus_milli=None,
        memory_bytes=None,
        labels=tuple(sorted(own.items())),
        rack=labels.get(_RACK),
    )


def is_ours(labels: Mapping[str, str]) -> bool:
    """Whether the Ray node of these labels is to carry agents."""
    return _NODE in labels


def agents_of(labels: Mapping[str, str], address: str, local: LocalNodes, lease_s: float) -> list[AgentConfig]:
    """The agents that a Ray node is to carry: one for the machine, and on the head one for all simulated nodes."""
    if labels[_NODE] == HEAD:
        agents: list[tuple[str, tuple[NodeConfig, ...]]] = [(local.real.name, (local.real,))]
        if local.simulated:
            agents.append(("simulated", local.simulated))
    else:
        joined = joined_node(labels, address)
        agents = [(joined.name, (joined,))]
    # The directories are the node's own business: its agent takes them from its environment.
    return [
        AgentConfig(name, nodes, state_dir="", runtime_dir="", lease_s=lease_s, health=local.health)
        for name, nodes in agents
    ]
