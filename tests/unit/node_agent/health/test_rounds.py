"""The agent's rounds: changes are told and nothing else, and what was found outlives the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node_agent.devices.source import DeviceEvent, Measured, Quality, Quantity, Reading, Unavailable
from node_agent.exporter import NodeFacts
from node_agent.health import HealthRules
from node_agent.health.verdicts import Finding, Jobs, Lifts, Use
from node_agent.health_rounds import HealthRounds
from node_agent.messages import Event, HealthChanged


class FakeNode:
    """A node of one device, which reads as it is told."""

    def __init__(self) -> None:
        self.simulated = self.made_up = False
        self.uuids: tuple[str, ...] = ("d",)
        self.celsius = 50.0
        self.silent = False
        self.heard: list[DeviceEvent] = []
        self.expected: int | None = 1

    def events(self, _now_s: float) -> list[DeviceEvent]:
        heard, self.heard = self.heard, []
        return heard

    def facts(self) -> NodeFacts:
        return NodeFacts("n1", 1, self.expected)

    joules: float | None = None

    async def readings(self) -> Mapping[str, Mapping[Quantity, Measured]]:
        if self.silent:
            return {"d": {Quantity.POWER_WATTS: Unavailable("the driver has not answered for 9 s")}}
        hot = Reading(self.celsius, "celsius", 0.0, Quality.MEASURED)
        read: dict[Quantity, Measured] = {
            Quantity.TEMPERATURE_CELSIUS: Reading(hot.value, hot.unit, self.now_s, hot.quality)
        }
        if self.joules is not None:
            read[Quantity.ENERGY_JOULES] = Reading(self.joules, "joules", self.now_s, Quality.MEASURED)
        return {"d": read}

    now_s = 0.0


class Rounds:
    def __init__(self, directory: Path, boot: str = "b1") -> None:
        self.node = FakeNode()
        self.told: list[Event] = []
        nodes: dict[str, Any] = {"n1": self.node}
        self.rounds = HealthRounds(nodes, directory, HealthRules(), self.told.append, boot=boot)
        self.rounds.remember()

    def look(self, now_s: float) -> list[str]:
        """Which rules it has just told of; empty: nothing was told."""
        before = len(self.told)
        self.node.now_s = now_s
        asyncio.run(self.rounds.look("n1", self.node, now_s))  # type: ignore[arg-type]
        new = self.told[before:]
        assert len(new) <= 1
        return [finding.rule for each in new if isinstance(each, HealthChanged) for finding in each.findings]


def test_what_does_not_change_is_not_told(tmp_path: Path) -> None:
    agent = Rounds(tmp_path)
    for now_s in range(0, 100, 5):
        assert agent.look(float(now_s)) == []
    assert agent.told == []
    assert not list(tmp_path.iterdir())
    agent.node.celsius = 95.0
    said = [agent.look(100.0 + 5 * i) for i in range(10)]
    assert [each for each in said if each] == [["too-hot"]]
    assert [finding.rule for finding in agent.rounds.findings("n1")] == ["too-hot"]


def test_the_next_agent_knows_and_a_mended_node_is_forgiven(tmp_path: Path) -> None:
    first = Rounds(tmp_path)
    first.look(0.0)
    first.node.silent = True
    assert first.look(31.0) == ["unread"]
    second = Rounds(tmp_path)
    assert [finding.rule for finding in second.rounds.findings("n1")] == ["unread"]
    asyncio.run(second.rounds.mended("n1"))
    assert isinstance(second.told[-1], HealthChanged)
    assert second.told[-1].findings == ()
    assert Rounds(tmp_path).rounds.findings("n1") == ()


def test_a_file_that_is_broken_is_left_out(tmp_path: Path) -> None:
    for content in (b"{", b"\xff\xfe", b'{"version": 99, "watches": []}'):
        (tmp_path / "health-n1.json").write_bytes(content)
        agent = Rounds(tmp_path)
        assert agent.rounds.findings("n1") == ()
        assert agent.look(1.0) == []


def test_a_directory_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    agent = Rounds(tmp_path / "none")
    agent.look(0.0)
    agent.node.silent = True
    assert agent.look(31.0) == ["unread"]


def test_what_a_driver_tells_of_by_itself_counts_in_the_round_that_hears_it(tmp_path: Path) -> None:
    agent = Rounds(tmp_path)
    agent.node.heard = [DeviceEvent("d", "xid", 79, "GPU has fallen off the bus", 4.0, "the kernel")]
    assert agent.look(5.0) == ["fallen-off-bus"]
    assert agent.look(10.0) == []


def test_fewer_devices_than_the_bus_knows_are_told_of(tmp_path: Path) -> None:
    agent = Rounds(tmp_path)
    agent.node.expected = 2
    said = [agent.look(5.0 * i) for i in range(20)]
    assert [each for each in said if each] == [["too-few-devices"]]


def test_a_device_that_was_reset_while_the_agent_was_stopped_is_given_work_again(tmp_path: Path) -> None:
    """As it must be: nothing may be open on a device that is reset."""
    agent = Rounds(tmp_path)
    agent.node.joules = 1e6
    agent.look(0.0)
    agent.node.heard = [DeviceEvent("d", "xid", 48, "double bit error", 4.0, "the kernel")]
    assert agent.look(5.0) == ["memory-fault"]
    agent.node.joules = 2e6
    assert agent.look(10.0) == []
    again = Rounds(tmp_path)  # the same start of the machine
    again.node.joules = 50.0
    assert again.look(100.0) == []
    again.node.joules = 60.0
    assert again.look(105.0) == []
    assert again.told[-1].findings == ()  # type: ignore[union-attr]


def noted(rule: str, device: str = "d") -> Finding:
    return Finding(device, rule, Use.SCHEDULABLE, Jobs.KEEP, Lifts.ALONE, "12% slower", "compare", 7.0)


def test_what_others_found_is_kept_and_told_with_the_rest(tmp_path: Path) -> None:
    agent = Rounds(tmp_path)
    asyncio.run(agent.rounds.note("n1", "nights", (noted("slow-than-like"),)))
    agent.node.silent = True
    agent.look(0.0)
    assert agent.look(31.0) == ["unread", "slow-than-like"]
    asyncio.run(agent.rounds.note("n1", "checks", (noted("check-slow"),)))
    second = Rounds(tmp_path)
    assert [each.rule for each in second.rounds.findings("n1")] == ["unread", "check-slow", "slow-than-like"]
    asyncio.run(second.rounds.note("n1", "nights", ()))
    assert [each.rule for each in second.rounds.findings("n1")] == ["unread", "check-slow"]
    asyncio.run(second.rounds.mended("n1"))
    assert Rounds(tmp_path).rounds.findings("n1") == ()


def test_what_makes_no_sense_is_not_kept(tmp_path: Path) -> None:
    agent = Rounds(tmp_path)
    asyncio.run(agent.rounds.note("elsewhere", "nights", (noted("slow-than-like"),)))
    asyncio.run(agent.rounds.note("n1", "rumours", (noted("slow-than-like"),)))
    assert agent.told == []
    content = '{"version": 1, "now_s": 0, "watches": [], "noted": {"nights": [{"device": 7}]}, "counts": {"d": 7}}'
    (tmp_path / "health-n1.json").write_text(content)
    assert Rounds(tmp_path).rounds.findings("n1") == ()
