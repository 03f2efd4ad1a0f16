"""Commands and polls take the agent's own connection while it holds, and Ray's calls when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from node_agent.config import AgentConfig
from node_agent.lane import LaneServer, ToldReadings
from node_agent.messages import AgentHello, Command, EventBatch, NodeReport, RenewLease
from node_agent.nodes import NodeConfig
from node_agent.readings_book import ReadingsBook
from scheduler.engine.driver import RayDriver
from scheduler.engine.joining import LocalNodes
from scheduler.engine.link import AgentLink
from scheduler.engine.ray_engine import RayEngine, _Agent
from tests.fakes.fake_clock import FakeClock
from tests.fakes.told_readings import full, told

NODE = NodeConfig("n1", "site", "addr")
RENEW = RenewLease(1, 60.0, 5.0)
EMPTY = EventBatch("i", (), 1, 0, 5.0)


class Host:
    """What is behind both ways."""

    def __init__(self) -> None:
        self.by_lane: list[Sequence[Command]] = []
        self.by_ray: list[Sequence[Command]] = []
        self.heard = asyncio.Event()
        self.book = ReadingsBook()
        self.read_as_of: list[tuple[int, int]] = []

    def take(self, _session: int, _number: int, commands: Sequence[Command]) -> None:
        self.by_lane.append(commands)
        self.heard.set()

    async def events(self, _after_seq: int, _wait_s: float) -> EventBatch:
        return EMPTY


class RaysMethod:
    def __init__(self, call: Any) -> None:
        self._call = call

    def remote(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class RaysHandle:
    def __init__(self, host: Host) -> None:
        self.perform = RaysMethod(lambda _session, _number, commands: self._perform(commands))
        self.events = RaysMethod(host.events)
        self.read = RaysMethod(self._read)
        self._host = host

    async def _read(self, book: int, number: int) -> ToldReadings:
        self._host.read_as_of.append((book, number))
        bodies = told(self._host.book, book, number, n1={"gpu-a": full()})
        return ToldReadings(tuple(bodies), self._host.book.book, self._host.book.number)

    def _perform(self, commands: Sequence[Command]) -> Any:
        self._host.by_ray.append(commands)
        return asyncio.sleep(0)


class Met(RayEngine):
    """Has greeted its one agent."""

    def _watch(self, _agent: _Agent, reference: Any) -> None:
        reference.close()


def hello(server: LaneServer) -> AgentHello:
    report = NodeReport("n1", "site", "addr", (), 1000, 1 << 30, simulated=False)
    return AgentHello("i", 1, 2, (report,), (), 0, session=1, clock_s=5.0, lane=server.offer)


@pytest.mark.parametrize("offered", [True, False])
def test_what_is_sent_arrives_whatever_way_there_is(offered: bool) -> None:
    async def run() -> None:
        host = Host()
        server = LaneServer(host.take, host.events)
        if offered:
            await server.open("127.0.0.1")
        engine = Met(driver=RayDriver("host:1"), nodes=LocalNodes(NODE, ()), lease_s=60.0, clock=FakeClock())
        engine._loop.close()
        engine._loop = asyncio.get_running_loop()
        agent = _Agent("n1", "ray-1", AgentConfig("n1", (NODE,), "", "", 60.0), AgentLink("n1"), RaysHandle(host))
        engine._by_node["n1"] = agent
        agent.link.greet(0.0)
        agent.link.on_hello(hello(server), 0.0)
        await engine._open_lane(agent, hello(server))
        assert (agent.lane is not None) == offered

        await asyncio.to_thread(engine.send, "n1", [RENEW])
        if offered:
            await asyncio.wait_for(host.heard.wait(), 10.0)
        assert (len(host.by_lane), len(host.by_ray)) == ((1, 0) if offered else (0, 1))
        assert await engine._poll(agent, 0, 1.0) == EMPTY

        kept = agent.lane
        await engine._open_lane(agent, hello(server))
        assert agent.lane is kept, "a greeting keeps a connection that holds"

        server.close()
        assert await engine._poll(agent, 0, 1.0) == EMPTY
        await asyncio.to_thread(engine.send, "n1", [RENEW])
        assert len(host.by_ray) == (1 if offered else 2)
        assert agent.lane is None

    asyncio.run(run())


def test_readings_come_by_ray_where_there_is_no_other_way() -> None:
    async def run() -> None:
        host = Host()
        engine = Met(driver=RayDriver("host:1"), nodes=LocalNodes(NODE, ()), lease_s=60.0, clock=FakeClock())
        engine._loop.close()
        engine._loop = asyncio.get_running_loop()
        agent = _Agent("n1", "ray-1", AgentConfig("n1", (NODE,), "", "", 60.0), AgentLink("n1"), RaysHandle(host))
        engine._agents["n1"] = agent
        engine._gathering.attend("n1", ("n1",), None)
        gathering = asyncio.create_task(engine._rounds.run())
        async with asyncio.timeout(10.0):
            while not engine.readings().node("n1"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        gathering.cancel()
        assert host.read_as_of == [(0, 0)]
        await engine._rounds._read(agent.name)
        assert host.read_as_of[1:] == [(host.book.book, 1)]
        agent.handle.read = RaysMethod(lambda *_: asyncio.sleep(0, "no readings at all"))
        await engine._rounds._read(agent.name)  # is only logged
        assert set(engine.readings().node("n1")) == {"gpu-a"}

    asyncio.run(run())


@pytest.mark.parametrize("answer", [EMPTY, RuntimeError("the actor died")])
def test_a_poll_that_is_cancelled_in_the_moment_of_its_answer_is_cancelled(answer: EventBatch | Exception) -> None:
    """Else an agent that is let go of is attended to for ever, and whoever lets go of it waits as long."""

    async def run() -> None:
        asked: asyncio.Future[EventBatch] = asyncio.get_running_loop().create_future()
        host = Host()
        handle = RaysHandle(host)
        handle.events = RaysMethod(lambda *_: asked)
        engine = Met(driver=RayDriver("host:1"), nodes=LocalNodes(NODE, ()), lease_s=60.0, clock=FakeClock())
        engine._loop.close()
        agent = _Agent("n1", "ray-1", AgentConfig("n1", (NODE,), "", "", 60.0), AgentLink("n1"), handle)
        poll = asyncio.create_task(engine._poll(agent, 0, 60.0))
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            asked.set_exception(answer)
        else:
            asked.set_result(answer)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll

    asyncio.run(run())
