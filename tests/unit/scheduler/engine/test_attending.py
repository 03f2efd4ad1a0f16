"""Whatever an agent answers, the engine goes on attending to it, and its nodes count as down when that lasts."""

from __future__ import annotations

import asyncio

import pytest

from node_agent.config import AgentConfig
from node_agent.nodes import NodeConfig
from scheduler.engine.driver import RayDriver
from scheduler.engine.joining import LocalNodes
from scheduler.engine.link import AGENT_RETURN_S, AgentLink
from scheduler.engine.ray_engine import OTHER_VERSION, RayEngine, _Agent
from scheduler.ports import EngineEvent, NodeDown
from tests.fakes.fake_clock import FakeClock

NODE = NodeConfig("n1", "site", "addr")


class Unanswered(RayEngine):
    """Each greeting fails with the next of `errors`; after the last the engine closes."""

    errors: list[Exception]

    async def _greet(self, agent: _Agent) -> None:
        self._clock.advance(AGENT_RETURN_S + 1.0)  # type: ignore[attr-defined]
        error = self.errors.pop(0)
        if not self.errors:
            self._closing.set()
        raise error


@pytest.mark.parametrize(
    ("error", "of_another_version"),
    [(TypeError("hello() takes 2 positional arguments but 3 were given"), True), (RuntimeError("what?"), False)],
)
def test_an_answer_that_nobody_expected(error: Exception, of_another_version: bool) -> None:
    engine = Unanswered(driver=RayDriver("host:1"), nodes=LocalNodes(NODE, ()), lease_s=60.0, clock=FakeClock())
    engine.errors = [error, error]
    heard: list[EngineEvent] = []
    engine._on_event = heard.append
    link = AgentLink("n1")
    link.nodes = ("n1",)
    agent = _Agent("n1", "ray-1", AgentConfig("n1", (NODE,), "", "", 60.0), link)
    engine._by_node["n1"] = agent
    asyncio.run(engine._attend(agent))
    (down,) = heard
    assert isinstance(down, NodeDown)
    assert (down.detail == OTHER_VERSION) == of_another_version
