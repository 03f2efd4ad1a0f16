"""From all agents their readings into one store, each by the way that its feed says. Knows connections, and no Ray.

Readings have connections of their own, beside those for commands, which wake the engine whenever something comes: these
are looked at together a few times a second, so that a site's readings cost one waking up for many. And whatever is
wrong with one breaks nothing else.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from node_agent.messages import Lane
from node_agent.wire import Frames, NotOurLanguage, opened, read_frame, readings_of
from scheduler.engine.feed import COUNT, EVERY_S, ReadingsFeed, Way
from scheduler.engine.lane import READ_BYTES, connected
from scheduler.engine.readings import ReadingsStore

DRAIN_S = 0.5
"""How often what came is looked at."""
LOOK_S = 2.0
"""How often each agent is looked at: is it silent, is it to be asked?"""
SLICE_S = 0.005
"""For so long what came is taken at a stretch; then it is another's turn."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Agent:
    """Whose readings are gathered. `nodes`: those that it stands for."""

    name: str
    nodes: tuple[str, ...]
    offer: Lane | None
    feed: ReadingsFeed
    connection: socket.socket | None = None
    frames: Frames = field(default_factory=Frames)


class ReadingsGathering:
    """Belongs to one thread, but for `store`, which is for everyone. `every_s`: how often each agent is to tell."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.store = ReadingsStore()
        self._every_s = every_s
        self._agents: dict[str, _Agent] = {}
        self._by_number: dict[int, _Agent] = {}
        self._epoll = select.epoll()
        self._ready: list[tuple[int, int]] = []

    # ---- whom ------------------------------------------------------------------------------------------------------

    def attend(self, name: str, nodes: Sequence[str], offer: Lane | None) -> None:
        """The agent was greeted: it stands for these nodes, and offers a door (or none)."""
        agent = self._agents.get(name)
        if agent is None:
            agent = self._agents[name] = _Agent(name, (), None, ReadingsFeed(self._every_s))
        if agent.offer != offer:
            self._close(agent)
            agent.offer, agent.feed = offer, ReadingsFeed(self._every_s)
        agent.nodes = tuple(nodes)

    def forget(self, name: str) -> None:
        """It is not attended to any more; what its devices last read stays."""
        agent = self._agents.pop(name, None)
        if agent is not None:
            self._close(agent)

    def close(self) -> None:
        for name in list(self._agents):
            self.forget(name)
        self._epoll.close()

    # ---- by its door -----------------------------------------------------------------------------------------------

    def look(self, name: str, now_s: float) -> Way:
        """Ask for what is due. CONNECT and RAY are for the caller to do."""
        agent = self._agents.get(name)
        if agent is None or not agent.nodes:
            return Way.NOTHING
        way = agent.feed.step(now_s, connected=agent.connection is not None, offered=agent.offer is not None)
        if way is Way.ASK:
            self._ask(agent, now_s)
        elif way is Way.RAY:
            self._close(agent)
        return way

    async def connect(self, name: str, now_s: float) -> None:
        """In the event loop's thread, which must be this one's. Raises scheduler.engine.lane.LaneBroken."""
        agent = self._agents.get(name)
        if agent is None or agent.offer is None or agent.connection is not None:
            return
        offer = agent.offer
        try:
            connection = await connected(offer)
        except BaseException:
            agent.feed.fail(now_s)
            raise
        if self._agents.get(name) is not agent or agent.offer is not offer or agent.connection is not None:
            connection.close()
            return
        agent.connection, agent.frames = connection, Frames()
        self._by_number[connection.fileno()] = agent
        self._epoll.register(connection, select.EPOLLIN)
        self._ask(agent, now_s)

    def drain(self, now_s: float, slice_s: float = SLICE_S) -> bool:
        """Take what came, for a while. True: there is more."""
        until_s = time.monotonic() + slice_s
        if not self._ready:
            self._ready = self._epoll.poll(0)
        while self._ready:
            number, _ = self._ready.pop()
            agent = self._by_number.get(number)
            if agent is not None:
                self._receive(agent, now_s)
            if time.monotonic() >= until_s:
                return True
        return False

    def _ask(self, agent: _Agent, now_s: float) -> None:
        assert agent.connection is not None
        agent.feed.asked(now_s)
        frame = read_frame(*self.store.known(agent.name, agent.nodes), self._every_s, COUNT)
        try:
            whole = agent.connection.send(frame) == len(frame)
        except OSError:  # BlockingIOError among them: it has not read for long
            whole = False
        if not whole:
            self._lose(agent, now_s)

    def _receive(self, agent: _Agent, now_s: float) -> None:
        assert agent.connection is not None
        try:
            data = agent.connection.recv(READ_BYTES)
            if not data:
                self._lose(agent, now_s)
                return
            for frame in agent.frames.feed(data):
                what, items = opened(frame)
                if what != "readings":
                    raise NotOurLanguage(f"an agent says {what[:40]!r} where readings belong")
                self._take(agent, readings_of(items), now_s)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._lose(agent, now_s)
            return
        except NotOurLanguage as error:
            log.warning("the connection for readings of agent %s is given up: %s", agent.name, error)
            self._lose(agent, now_s)
            return
        if agent.feed.wants(now_s):
            self._ask(agent, now_s)

    def _take(self, agent: _Agent, batch: bytes, now_s: float) -> None:
        taken = self.store.take(agent.name, agent.nodes, batch)
        agent.feed.heard(now_s, whole=not taken.gap, refused=bool(taken.refused))
        if taken.refused and agent.feed.refusals == 1:
            log.warning("agent %s: readings that cannot be taken: %s", agent.name, taken.refused)

    def _lose(self, agent: _Agent, now_s: float) -> None:
        self._close(agent)
        agent.feed.lost(now_s)

    def _close(self, agent: _Agent) -> None:
        connection, agent.connection = agent.connection, None
        if connection is None:
            return
        self._by_number.pop(connection.fileno(), None)
        with suppress(OSError):
            self._epoll.unregister(connection)
        connection.close()

    # ---- by Ray ----------------------------------------------------------------------------------------------------

    def known(self, name: str) -> tuple[int, int]:
        """As of what the agent is to be asked: (book, number)."""
        agent = self._agents.get(name)
        return (0, 0) if agent is None else self.store.known(name, agent.nodes)

    def hear_by_ray(self, name: str, batches: Sequence[bytes]) -> None:
        agent = self._agents.get(name)
        for batch in batches if agent is not None else ():
            assert agent is not None
            taken = self.store.take(name, agent.nodes, batch)
            if taken.refused:
                log.warning("agent %s: readings that cannot be taken: %s", name, taken.refused)
