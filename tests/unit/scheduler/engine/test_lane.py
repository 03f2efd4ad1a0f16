"""The agent's own connection: who has the key is served, and whatever breaks it is heard of at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from node_agent import lane as agents_side
from node_agent.lane import LaneServer
from node_agent.messages import Command, EventBatch, Forget, Lane, NumberedEvent, Refused, RenewLease, RunKey
from node_agent.wire import framed
from scheduler.engine import lane as services_side
from scheduler.engine.lane import LaneBroken, LaneClient, open_lane

WITHIN_S = 10.0
KEY = RunKey("7", 1, 0, "n1")


class Agent:
    """Notes what it is told; a poll is answered when `answer` says so."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, tuple[Command, ...]]] = []
        self.asked: list[tuple[int, float]] = []
        self.answer: asyncio.Future[EventBatch] | None = None
        self.heard = asyncio.Event()

    def perform(self, session: int, number: int, commands: Sequence[Command]) -> None:
        self.taken.append((session, number, tuple(commands)))
        self.heard.set()

    async def events(self, after_seq: int, wait_s: float) -> EventBatch:
        self.asked.append((after_seq, wait_s))
        self.answer = asyncio.get_running_loop().create_future()
        self.heard.set()
        return await self.answer

    async def hears(self) -> None:
        await asyncio.wait_for(self.heard.wait(), WITHIN_S)
        self.heard.clear()


def with_lane(test: Callable[[Agent, LaneServer, Lane], Awaitable[None]]) -> None:
    async def run() -> None:
        agent = Agent()
        server = LaneServer(agent.perform, agent.events)
        await server.open("127.0.0.1")
        assert server.offer is not None
        try:
            await asyncio.wait_for(test(agent, server, server.offer), WITHIN_S)
        finally:
            server.close()

    asyncio.run(run())


async def closed(client: LaneClient) -> None:
    async with asyncio.timeout(WITHIN_S):
        for _ in itertools.takewhile(lambda _: client.is_open, itertools.count()):
            await asyncio.sleep(0.001)


def test_commands_go_out_and_polls_come_back() -> None:
    async def test(agent: Agent, _server: LaneServer, offer: Lane) -> None:
        client = await open_lane(offer)
        sent = (RenewLease(3, 60.0, 1.5), Forget(3, KEY))
        assert client.send(2, 1, sent)
        await agent.hears()
        assert agent.taken == [(2, 1, sent)]
        poll = asyncio.create_task(client.events(41, 5.0))
        await agent.hears()
        batch = EventBatch("i", (NumberedEvent(42, Refused(KEY, 9)),), 2, 1, 7.25)
        assert agent.answer is not None
        agent.answer.set_result(batch)
        assert await poll == batch
        assert agent.asked == [(41, 5.0)]
        client.close()

    with_lane(test)


def test_without_the_key_nothing_is_taken() -> None:
    async def test(agent: Agent, server: LaneServer, offer: Lane) -> None:
        with pytest.raises(LaneBroken):
            await open_lane(replace(offer, key=bytes(32)))
        reader, writer = await asyncio.open_connection(offer.host, offer.port)
        await reader.readexactly(agents_side.NONCE_BYTES)
        writer.write(bytes(agents_side.PROOF_BYTES + agents_side.NONCE_BYTES) + framed(b"\x93"))
        assert await reader.read() == b""
        writer.close()
        assert agent.taken == []
        assert not server.connections

    with_lane(test)


def test_who_answers_there_without_the_key_is_not_believed() -> None:
    async def run() -> None:
        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(agents_side.NONCE_BYTES))
            await reader.readexactly(agents_side.PROOF_BYTES + agents_side.NONCE_BYTES)
            writer.write(bytes(agents_side.PROOF_BYTES))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(impostor, "127.0.0.1", 0)
        async with server:
            with pytest.raises(LaneBroken, match="not the agent"):
                await open_lane(Lane("127.0.0.1", server.sockets[0].getsockname()[1], b"k" * 32))

    asyncio.run(run())


def test_an_agent_that_dies_is_heard_of_by_who_waits() -> None:
    async def test(agent: Agent, server: LaneServer, offer: Lane) -> None:
        client = await open_lane(offer)
        poll = asyncio.create_task(client.events(0, 60.0))
        await agent.hears()
        server.close()
        with pytest.raises(LaneBroken):
            await poll
        assert not client.is_open
        assert not client.send(1, 1, [])
        with pytest.raises(LaneBroken):
            await client.events(0, 1.0)

    with_lane(test)


def test_an_agent_that_reads_no_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is not taken whole must not hold up the service's loop: Ray's calls carry it then."""
    monkeypatch.setattr(services_side, "SEND_BUFFER_BYTES", 4096)

    async def test(agent: Agent, _server: LaneServer, offer: Lane) -> None:
        client = await open_lane(offer)
        many = [Forget(1, replace(KEY, job_id=f"{number}" * 50)) for number in range(1000)]
        sent = 0
        while client.send(1, sent + 1, many):  # nothing reads: this very loop would
            sent += 1
            assert sent < 1000
        await closed(client)

    with_lane(test)


def test_nobody_is_waited_for_who_does_not_prove_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_side, "PROVE_WITHIN_S", 0.05)

    async def test(_agent: Agent, server: LaneServer, offer: Lane) -> None:
        reader, writer = await asyncio.open_connection(offer.host, offer.port)
        await reader.readexactly(agents_side.NONCE_BYTES)
        assert await reader.read() == b""
        writer.close()
        assert not server.connections

    with_lane(test)


def test_more_connections_than_there_can_be_services_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_side, "MOST_CONNECTIONS", 1)

    async def test(_agent: Agent, _server: LaneServer, offer: Lane) -> None:
        client = await open_lane(offer)
        with pytest.raises(LaneBroken):
            await open_lane(offer)
        assert client.is_open
        client.close()

    with_lane(test)


def test_what_is_no_frame_ends_the_connection() -> None:
    async def test(agent: Agent, server: LaneServer, offer: Lane) -> None:
        client = await open_lane(offer)
        client._socket.send(framed(b"\xc1 nonsense"))
        await closed(client)
        assert agent.taken == []
        again = await open_lane(offer)
        assert again.send(1, 1, [])
        await agent.hears()
        again.close()

    with_lane(test)


def test_a_door_that_cannot_be_opened_is_none() -> None:
    async def run() -> None:
        agent = Agent()
        server = LaneServer(agent.perform, agent.events)
        await server.open("192.0.2.1")  # no address of this machine
        assert server.offer is None
        server.close()

    asyncio.run(run())


def test_the_key_is_not_shown() -> None:
    assert "kkkk" not in repr(Lane("h", 1, b"k" * 32))
