"""What a site file says of simulated nodes reaches the planner's facts: racks, labels, islands, MIG instances."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.launcher.ports import Limits
from node_agent.nodes import NodeAgent
from scheduler.cli.site_nodes import own_node, simulated_nodes
from scheduler.core.demand import NodeFacts
from scheduler.ports import node_facts
from scheduler.schema.load import load_site, shipped_config
from scheduler.schema.model import SimulatedNodes


def facts(**given: object) -> list[NodeFacts]:
    """As the service hears of the nodes of one group of three."""
    group = SimulatedNodes("sim", 3, "edge-cloud", "H100 SXM", "nvidia", 4, 80 * 10**9, 64_000, 1 << 40)
    site = replace(load_site(shipped_config()), simulated_nodes=(replace(group, **given),))  # type: ignore[arg-type]
    return [node_facts(NodeAgent(config).report(Limits(True, True))) for config in simulated_nodes(site)]


def test_nodes_stand_in_their_racks_in_turn() -> None:
    assert [node.rack for node in facts(racks=("r1", "r2"))] == ["r1", "r2", "r1"]
    assert [node.rack for node in facts()] == [None, None, None]


def test_labels_are_those_of_the_group() -> None:
    assert {node.labels for node in facts(labels=(("cooling", "liquid"), ("tier", "gold")))} == {
        (("cooling", "liquid"), ("tier", "gold"))
    }


@pytest.mark.parametrize(
    ("size", "islands"),
    [(0, [None] * 4), (2, ["sim-1/0", "sim-1/0", "sim-1/1", "sim-1/1"]), (4, ["sim-1/0"] * 4)],
)
def test_cards_are_joined_in_islands_of_their_node(size: int, islands: list[str | None]) -> None:
    assert [device.island for device in facts(devices_per_island=size)[1].devices] == islands


def test_a_partitioned_card_is_its_instances() -> None:
    devices = facts(mig_profiles=("3g.40gb", "1g.10gb"), devices_per_island=2)[0].devices
    assert [(d.index, d.mig_profile, d.memory_bytes // 10**9, d.island) for d in devices[:4]] == [
        (0, "3g.40gb", 40, "sim-0/0"),
        (1, "1g.10gb", 10, "sim-0/0"),
        (2, "3g.40gb", 40, "sim-0/0"),
        (3, "1g.10gb", 10, "sim-0/0"),
    ]
    assert len(devices) == 8
    assert len({device.uuid for device in devices}) == 8
    assert all(device.simulated for device in devices)


def test_this_machines_own_node_has_its_rack_and_labels() -> None:
    site = replace(load_site(shipped_config()), node_rack="r9", node_labels=(("tier", "gold"),))
    real = own_node(site)
    assert (real.rack, real.labels) == ("r9", (("tier", "gold"),))
