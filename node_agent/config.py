"""What an agent is told of itself: the nodes it stands for, and its directories."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from node_agent.devices.openers import SOURCES_VARIABLE
from node_agent.devices.simulated import SimulatedSpec
from node_agent.health import HealthRules
from node_agent.nodes import NodeConfig

EXPECTED_VARIABLE = "SUANLI_NODE_DEVICES"
"""How many devices the machine must have, by the word of who runs it."""
STATE_VARIABLE = "SUANLI_NODE_STATE"
RUNTIME_VARIABLE = "SUANLI_NODE_RUNTIME"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`state_dir` keeps logs and the journal; `runtime_dir` keeps the socket, is private and has a short path.

    Each host has directories of its own. Both empty: `with_directories` takes them from the agent's environment.
    """

    host_name: str
    nodes: tuple[NodeConfig, ...]
    state_dir: Path | str
    runtime_dir: Path | str
    lease_s: float = 60.0
    health: HealthRules = field(default_factory=HealthRules)


def with_expectation(config: AgentConfig, environ: Mapping[str, str]) -> AgentConfig:
    """How many devices the machine must have, where its environment says so and the configuration does not. Raises
    RuntimeError for what is no number."""
    told = environ.get(EXPECTED_VARIABLE, "")
    if not told:
        return config
    if not (told.isascii() and told.isdigit() and len(told) <= 4):
        raise RuntimeError(f"{EXPECTED_VARIABLE}={told[:40]}: the number of devices of this machine was expected")
    nodes = tuple(
        node
        if isinstance(node.source, SimulatedSpec) or node.expected_devices is not None
        else replace(node, expected_devices=int(told))
        for node in config.nodes
    )
    return replace(config, nodes=nodes)


def with_sources(config: AgentConfig, environ: Mapping[str, str]) -> AgentConfig:
    """The device sources of the machine, where its environment names them. Raises RuntimeError for what names none."""
    told = environ.get(SOURCES_VARIABLE, "")
    if not told:
        return config
    try:
        names = json.loads(told)
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise RuntimeError(f"{SOURCES_VARIABLE}={told[:80]}: a JSON list of device sources was expected")
    nodes = tuple(
        node if isinstance(node.source, SimulatedSpec) else replace(node, source=tuple(names)) for node in config.nodes
    )
    return replace(config, nodes=nodes)


def with_directories(config: AgentConfig, environ: Mapping[str, str]) -> AgentConfig:
    """Fill in directories that are the node's own business. Raises RuntimeError when the node does not say."""
    if config.state_dir and config.runtime_dir:
        return config
    missing = [name for name in (STATE_VARIABLE, RUNTIME_VARIABLE) if not environ.get(name)]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} not set on this node; start it with `suanli up` or `node join`")
    own = re.sub(r"[^A-Za-z0-9._-]", "_", config.host_name).lstrip(".") or "node"
    state_dir, runtime_dir = Path(environ[STATE_VARIABLE]) / own, Path(environ[RUNTIME_VARIABLE]) / own
    return replace(config, state_dir=state_dir, runtime_dir=runtime_dir)
