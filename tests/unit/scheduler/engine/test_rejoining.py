"""The engine while Ray's head is away, comes back, or a node says that it has left: on a Ray that the test plays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from node_agent.messages import AgentHello, NodeReport
from node_agent.nodes import NodeConfig
from scheduler.engine import ray_engine
from scheduler.engine.driver import RayDriver, Row
from scheduler.engine.joining import LocalNodes
from scheduler.engine.link import AGENT_RETURN_S
from scheduler.engine.ray_engine import RayEngine, _Agent
from scheduler.ports import EngineEvent, NodeDown, NodeUp
from tests.fakes.fake_clock import FakeClock
from tests.fakes.processes import eventually

HEAD = NodeConfig("h", "site", "addr")


class PlayedDriver(RayDriver):
    """A Ray with a head and a machine named `far`; `raylet` counts the head's raylets."""

    def __init__(self) -> None:
        super().__init__("host:1")
        self.raylet = 1
        self.own = 0
        self.far = "far-1"
        self.far_lives = True
        self.away = threading.Event()
        self.left: set[str] = set()
        self.connected = 0
        self.refusals = 0

    def connect(self, closing: threading.Event) -> None:
        if self.away.is_set():
            self.refusals += 1
            raise OSError("nobody listens")
        self.own = self.raylet
        self.connected += 1

    def nodes(self) -> list[Row]:
        rows: list[Row] = [
            self._row(f"head-{number}", "head", number == self.raylet) for number in range(1, self.raylet + 1)
        ]
        return [*rows, self._row(self.far, "far", self.far_lives)]

    @staticmethod
    def _row(node_id: str, name: str, alive: bool) -> Row:
        labels = {"suanli-node": name, "suanli-site": "site"}
        return {"NodeID": node_id, "Alive": alive, "Labels": labels, "NodeManagerAddress": "addr"}

    def is_in(self, rows: list[Row]) -> bool:
        return self.own == self.raylet

    def has_left(self, ray_node_id: str) -> bool:
        return ray_node_id in self.left

    def disconnect(self) -> None:
        self.own = 0


class PlayedEngine(RayEngine):
    """Its agents answer each greeting, and hear nothing."""

    def __init__(self, driver: PlayedDriver, clock: FakeClock) -> None:
        super().__init__(driver=driver, nodes=LocalNodes(HEAD, ()), lease_s=60.0, clock=clock)
        self.greeted: list[tuple[str, str]] = []

    async def _greet(self, agent: _Agent) -> None:
        self.greeted.append((agent.name, agent.ray_node_id))
        report = NodeReport(agent.name, "site", "addr", (), 1_000, 1, simulated=False)
        session = agent.link.greet(self._clock.now_s())
        hello = AgentHello("first", 7, 8, (report,), (), 0, session, 1.0)
        self._by_node[agent.name] = agent
        self._tell(agent.link.on_hello(hello, self._clock.now_s()))

    async def _hear(self, agent: _Agent) -> None:
        await asyncio.Event().wait()


class Rig:
    def __init__(self) -> None:
        self.driver, self.clock = PlayedDriver(), FakeClock()
        self.engine = PlayedEngine(self.driver, self.clock)
        self.heard: list[EngineEvent] = []
        self.engine.start(1, self.heard.append)

    def ups(self, name: str) -> int:
        return sum(isinstance(event, NodeUp) and event.facts.name == name for event in self.heard)

    def downs(self, name: str) -> list[bool]:
        """Of each NodeDown: whether with proof."""
        return [event.proof_of_death for event in self.heard if isinstance(event, NodeDown) and event.node == name]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ray_engine, "MEMBERSHIP_PERIOD_S", 0.01)
    monkeypatch.setattr(ray_engine, "JOIN_PAUSE_S", 0.01)
    made = Rig()
    eventually(lambda: made.ups("h") == made.ups("far") == 1, "both nodes answer")
    yield made
    made.engine.close()


def test_when_its_raylet_died_it_joins_again_and_greets_all_agents_without_losing_a_node(rig: Rig) -> None:
    rig.driver.raylet = 2
    eventually(lambda: rig.ups("h") == rig.ups("far") == 2, "both nodes are greeted again")
    assert rig.driver.connected == 2
    assert rig.engine.greeted[-2:] in ([("h", "head-2"), ("far", "far-1")], [("far", "far-1"), ("h", "head-2")])
    assert rig.downs("h") == rig.downs("far") == []


def test_while_the_head_is_away_for_long_its_nodes_are_down_and_come_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert AGENT_RETURN_S > 1.0
    monkeypatch.setattr(ray_engine, "AGENT_RETURN_S", 0.05)
    rig.driver.away.set()
    rig.driver.raylet = 2
    eventually(lambda: rig.downs("h") == rig.downs("far") == [False], "both nodes are down")
    refused = rig.driver.refusals
    eventually(lambda: rig.driver.refusals > refused, "it goes on trying")
    rig.driver.away.clear()
    eventually(lambda: rig.ups("h") == rig.ups("far") == 2, "both nodes are back")
    assert rig.downs("h") == [False]


def test_a_node_that_says_that_it_left_is_proven_dead(rig: Rig) -> None:
    rig.driver.far_lives = False
    eventually(lambda: rig.downs("far") == [False], "it is away")
    rig.driver.left.add("far-1")
    eventually(lambda: rig.downs("far") == [False, True], "it is known to be gone")
    assert rig.downs("h") == []


def test_what_a_node_said_before_it_came_back_counts_no_more(rig: Rig) -> None:
    rig.driver.far_lives = False
    eventually(lambda: rig.downs("far") == [False], "it is away")
    rig.driver.far, rig.driver.far_lives = "far-2", True
    eventually(lambda: rig.ups("far") == 2, "it is back")
    rig.driver.left.add("far-1")
    _passes(rig, 3)
    assert rig.downs("far") == [False]


def _passes(rig: Rig, count: int) -> None:
    """Wait until membership was looked at so many times more."""
    seen = 0
    ask: Callable[[], list[Row]] = rig.driver.nodes

    def counting() -> list[Row]:
        nonlocal seen
        seen += 1
        return ask()

    rig.driver.nodes = counting  # type: ignore[method-assign]
    eventually(lambda: seen > count, "membership is looked at")
