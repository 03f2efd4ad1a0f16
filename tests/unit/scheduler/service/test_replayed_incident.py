"""A recorded incident, played back, is judged like a real one: the device is taken out of use, its job moves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from node_agent.devices.packed import packed_event
from node_agent.devices.recording import Recorder
from node_agent.devices.simulated import SimulatedDevices, SimulatedSpec
from node_agent.devices.source import DeviceEvent
from node_agent.health import HealthRules
from node_agent.health_rounds import HealthRounds
from node_agent.launcher.ports import Limits
from node_agent.messages import Event, HealthChanged, Prepare, Stop
from node_agent.nodes import NodeAgent, NodeConfig
from scheduler.core.demand import Demand
from scheduler.ports import node_facts
from tests.fakes.fake_engine import node_facts as made_up
from tests.fakes.service_world import OPERATOR, World


def recorded(path: Path) -> Path:
    """Two cards, of which the second falls off the bus after a moment."""
    source = SimulatedDevices(SimulatedSpec("H100 SXM", "nvidia", 2, 80 << 30), "n1")
    with path.open("w") as out:
        recorder = Recorder(source, out)
        for at_s in (1_000.0, 1_001.0, 1_002.0):
            recorder.step(at_s)
        lost = DeviceEvent(source.enumerate()[1].uuid, "xid", 79, "GPU has fallen off the bus", 1_000.5, "the driver")
        out.write(json.dumps({"events": [packed_event(lost)], "at_s": 1_000.5}) + "\n")
        recorder.step(1_600.0)
    return path


def test_a_recorded_incident_takes_the_device_out_and_moves_its_job(tmp_path: Path) -> None:
    played = recorded(tmp_path / "incident.jsonl")
    node = NodeAgent(NodeConfig("n1", "s", "a", (f"replay:{played}",), cpus_milli=8_000, memory_bytes=1 << 34))
    assert node.simulated
    assert not node.made_up
    facts = node_facts(node.report(Limits(True, True, "")))
    assert facts.simulated
    world = World(facts, replace(made_up("n2", 2, simulated=True), memory_bytes=1 << 34))
    job = world.one(alternatives=(Demand(devices=2, simulated=True, node="n1"), Demand(devices=2, simulated=True)))
    assert [each.key.node for each in world.sent(Prepare)] == ["n1"]

    told: list[Event] = []
    nodes: Mapping[str, Any] = {"n1": node}
    rounds = HealthRounds(nodes, tmp_path, HealthRules(), told.append, boot="b1")
    now_s = time.time()
    asyncio.run(rounds.look("n1", node, now_s))
    asyncio.run(rounds.look("n1", node, now_s + 2.0))
    found = [finding for each in told if isinstance(each, HealthChanged) for finding in each.findings]
    assert [finding.rule for finding in found] == ["fallen-off-bus"]
    assert "simulated: played back from a recording" in found[0].reason

    world.engine.find("n1", *found)
    world.run()
    assert [(each.key.job_id, each.cause) for each in world.sent(Stop)] == [(job, "device unhealthy")]
    world.pass_time(1.0)
    assert [each.key.node for each in world.sent(Prepare)] == ["n1", "n2"]
    (shown,) = world.service.node("n1", OPERATOR)["health"]
    assert (shown["device"], shown["use"], shown["undone"]) == (1, "cordoned", "")
    world.no_bugs()


def test_made_up_devices_are_never_looked_at(tmp_path: Path) -> None:
    node = NodeAgent(NodeConfig("s1", "s", "a", SimulatedSpec("H100 SXM", "nvidia", 2, 80 << 30)))
    assert node.made_up
    assert node.simulated
    assert HealthRounds({"s1": node}, tmp_path, HealthRules(), lambda _: None, boot="b").findings("s1") == ()
