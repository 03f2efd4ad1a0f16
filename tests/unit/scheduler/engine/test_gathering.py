"""Readings over a connection of their own: asked for again when some are missing, and by Ray where there is none."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from node_agent import lane as agents_side
from node_agent.devices.source import Quantity, reading
from node_agent.lane import LaneServer, ToldReadings
from node_agent.messages import EventBatch
from node_agent.readings_book import ReadingsBook
from scheduler.engine.feed import (
    BY_RAY_EVERY_S,
    BY_RAY_FOR_S,
    COUNT,
    FAILURES,
    SILENT_S,
    ReadingsFeed,
    Way,
)
from scheduler.engine.gathering import ReadingsGathering
from scheduler.engine.lane import LaneBroken
from tests.fakes.told_readings import full, told

WITHIN_S = 10.0
EVERY_S = 0.05


class Agent:
    """Has one card, whose power is how often it was read."""

    def __init__(self) -> None:
        self.book = ReadingsBook()
        self.asked: list[tuple[int, int]] = []
        self.spoilt = 0
        """So many of its next answers are no readings."""
        self.door = LaneServer(lambda *_: None, self.events, self.read)

    async def events(self, after_seq: int, wait_s: float) -> EventBatch:
        raise AssertionError("nobody polls it")

    async def read(self, book: int, number: int) -> ToldReadings:
        self.asked.append((book, number))
        watts = reading(Quantity.POWER_WATTS, float(len(self.asked)), 1.0)
        bodies = told(self.book, book, number, n1={"gpu-a": full(power_watts=watts)})
        if self.spoilt:
            self.spoilt -= 1
            bodies = [b"\xc1"]
        return ToldReadings(tuple(bodies), self.book.book, self.book.number)


def with_agent(test: Callable[[Agent, ReadingsGathering], Awaitable[None]]) -> None:
    async def run() -> None:
        agent, gathering = Agent(), ReadingsGathering(EVERY_S)
        await agent.door.open("127.0.0.1")
        try:
            gathering.attend("a", ("n1",), agent.door.offer)
            await asyncio.wait_for(test(agent, gathering), WITHIN_S)
        finally:
            gathering.close()
            agent.door.close()

    asyncio.run(run())


async def until(gathering: ReadingsGathering, true: Callable[[], bool], now_s: float = 0.0) -> None:
    for _ in itertools.takewhile(lambda _: not true(), itertools.count()):
        gathering.drain(now_s)
        await asyncio.sleep(0.001)


def watts(gathering: ReadingsGathering) -> float:
    values = gathering.store.rows(["n1"], ["power_watts"]).get("n1")
    return 0.0 if values is None else (values["gpu-a"].values[0] or 0.0)


def test_what_changes_is_told_again_and_again() -> None:
    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        assert gathering.look("a", 0.0) is Way.CONNECT
        await gathering.connect("a", 0.0)
        assert gathering.look("a", 0.0) is Way.NOTHING
        await until(gathering, lambda: watts(gathering) >= 3)
        assert agent.asked[:3] == [(0, 0), (agent.book.book, 1), (agent.book.book, 2)]

    with_agent(test)


def test_asking_goes_on_before_all_that_was_asked_for_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_side, "READ_AT_LEAST_S", 0.0)

    async def test(_agent: Agent, gathering: ReadingsGathering) -> None:
        gathering._agents["a"].feed.every_s = gathering._every_s = 0.001
        await gathering.connect("a", 0.0)
        await until(gathering, lambda: watts(gathering) > 2 * COUNT)

    with_agent(test)


def test_an_agent_that_dies_is_connected_to_again() -> None:
    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        await gathering.connect("a", 0.0)
        await until(gathering, lambda: watts(gathering) >= 1)
        for connection in list(agent.door.connections):
            connection.close()
        await until(gathering, lambda: gathering._agents["a"].connection is None)
        assert gathering.look("a", 1.0) is Way.CONNECT
        before = watts(gathering)
        agent.book = ReadingsBook()  # it was started again
        await gathering.connect("a", 1.0)
        await until(gathering, lambda: watts(gathering) > before)

    with_agent(test)


def test_readings_that_cannot_be_taken_are_asked_for_anew() -> None:
    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        await gathering.connect("a", 0.0)
        await until(gathering, lambda: watts(gathering) >= 1)
        agent.spoilt = 1
        await until(gathering, lambda: agent.spoilt == 0)
        before = len(agent.asked)
        known = gathering.store.known("a", ("n1",))
        await until(gathering, lambda: any(known[1] == number for _, number in agent.asked[before:]), now_s=5.0)
        await until(gathering, lambda: watts(gathering) > before, now_s=5.0)

    with_agent(test)


def test_who_says_something_else_is_given_up_and_asked_by_ray() -> None:
    """As an agent of a version that does not know the question: it breaks the connection."""

    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        agent.door.read = None
        for _ in range(FAILURES):
            assert gathering.look("a", 0.0) is Way.CONNECT
            await gathering.connect("a", 0.0)
            await until(gathering, lambda: gathering._agents["a"].connection is None)
        assert gathering.look("a", 0.0) is Way.RAY
        assert gathering.look("a", 1.0) is Way.NOTHING
        assert gathering.look("a", BY_RAY_EVERY_S) is Way.RAY
        gathering.hear_by_ray("a", (await Agent().read(*gathering.known("a"))).batches)
        assert watts(gathering) == 1.0
        assert gathering.look("a", BY_RAY_FOR_S) is Way.CONNECT

    with_agent(test)


def test_a_door_that_cannot_be_reached_is_a_failure() -> None:
    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        offer = agent.door.offer
        assert offer is not None
        gathering.attend("a", ("n1",), replace(offer, key=b"other" * 8))
        for _ in range(FAILURES):
            with pytest.raises(LaneBroken):
                await gathering.connect("a", 0.0)
        assert gathering.look("a", 0.0) is Way.RAY
        gathering.attend("a", ("n1",), None)  # it has no door now
        assert gathering.look("a", 0.0) is Way.RAY
        gathering.attend("a", ("n1",), offer)
        assert gathering.look("a", 0.0) is Way.CONNECT
        gathering.forget("a")
        assert gathering.look("a", 0.0) is Way.NOTHING

    with_agent(test)


def test_one_who_reads_nothing_is_told_nothing_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_side, "READINGS_BUFFER_BYTES", -1)

    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        await gathering.connect("a", 0.0)
        await asyncio.sleep(4 * EVERY_S)
        assert agent.asked == []
        monkeypatch.setattr(agents_side, "READINGS_BUFFER_BYTES", 0)
        await until(gathering, lambda: watts(gathering) >= 1)

    with_agent(test)


def test_an_agent_whose_driver_is_broken_goes_on_taking_commands() -> None:
    async def test(agent: Agent, gathering: ReadingsGathering) -> None:
        async def fails(_book: int, _number: int) -> ToldReadings:
            raise RuntimeError("what?")

        agent.door.read = fails
        await gathering.connect("a", 0.0)
        await asyncio.sleep(2 * EVERY_S)
        gathering.drain(0.0)
        assert gathering._agents["a"].connection is not None
        agent.door.read = agent.read
        assert gathering.look("a", SILENT_S) is Way.ASK
        await until(gathering, lambda: watts(gathering) >= 1)

    with_agent(test)


# ---- when and how --------------------------------------------------------------------------------------------------


def asked(feed: ReadingsFeed, now_s: float) -> Way:
    way = feed.step(now_s, connected=True, offered=True)
    if way is Way.ASK:
        feed.asked(now_s)
    return way


def test_one_that_says_nothing_is_asked_again_and_then_by_ray() -> None:
    feed = ReadingsFeed()
    said = [asked(feed, now_s) for now_s in (0.0, SILENT_S - 1, SILENT_S, 2 * SILENT_S)]
    assert said == [Way.ASK, Way.NOTHING, Way.ASK, Way.RAY]
    assert asked(feed, 2 * SILENT_S + BY_RAY_FOR_S) is Way.ASK


def test_silence_after_something_was_heard_begins_anew() -> None:
    feed = ReadingsFeed()
    assert asked(feed, 0.0) is Way.ASK
    for now_s in (6.0, 12.0, 18.0):
        feed.heard(now_s, whole=True, refused=False)
        assert asked(feed, now_s + SILENT_S - 1) is Way.NOTHING
    assert asked(feed, 18.0 + SILENT_S) is Way.ASK


def test_what_is_refused_again_and_again_is_asked_for_rarely() -> None:
    feed = ReadingsFeed()
    asked(feed, 0.0)
    times = [0.0]
    for now_s in range(1, 600):
        feed.heard(float(now_s), whole=False, refused=True)
        if feed.wants(float(now_s)):
            feed.asked(float(now_s))
            times.append(float(now_s))
    assert len(times) <= 600 / (COUNT // 2) + 1
