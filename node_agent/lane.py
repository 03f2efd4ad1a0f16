"""The agent's own door for the service that Ray introduced: commands in, events out, without a Ray call for each.

Ray stays what it is: it says who is there, starts agents, and carries the greeting, in which the agent offers this door
(`Lane`) and its key. Whatever goes wrong here closes the connection, and the two go on by Ray calls; so nothing is
lost that was not lost anyway, and no second membership has to be kept true. A call costs a fifth of Ray's.

Readings are told here too, to a connection that asks for some of them (the service has one for them alone): for each it
is told what has changed since the last. While it does not take them, none are added, and the next tells of more.

Whoever connects proves that it has the key, and so does the agent: both answer the other's nonce with an HMAC. The key
lives as long as the agent, and is known to those to whom Ray's token gave the greeting.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from node_agent.messages import Command, EventBatch, Lane
from node_agent.wire import (
    Frames,
    NotOurLanguage,
    batch_frame,
    commands_of,
    opened,
    poll_of,
    read_of,
    readings_frame,
)

NONCE_BYTES = 32
PROOF_BYTES = hashlib.sha256().digest_size
PROVE_WITHIN_S = 5.0
MOST_CONNECTIONS = 16  # of the service there are two (one for readings), or four while it is replaced
BUFFER_BYTES = 64 << 20  # what an answer may lie here while it is not taken
READINGS_BUFFER_BYTES = 1 << 20  # with more than this not taken yet, no readings are added
READ_AT_LEAST_S, READ_AT_MOST_S = 0.05, 600.0
MOST_AT_ONCE = 1000  # readings that can be asked for at once

log = logging.getLogger(__name__)

Perform = Callable[[int, int, Sequence[Command]], None]
Events = Callable[[int, float], Awaitable[EventBatch]]


@dataclass(frozen=True, slots=True)
class ToldReadings:
    """What has changed, as batches (readings_wire), and up to which number of which book."""

    batches: Sequence[bytes]
    book: int
    number: int


Read = Callable[[int, int], Awaitable[ToldReadings]]
"""The readings of now, as of a book and a number."""


def proof(key: bytes, whose: bytes, nonce: bytes) -> bytes:
    return hmac.digest(key, whose + nonce, "sha256")


class LaneServer:
    """`perform`, `events` and `read` are the host's. Belongs to one event loop."""

    def __init__(self, perform: Perform, events: Events, read: Read | None = None) -> None:
        self.perform = perform
        self.events = events
        self.read = read
        self.key = secrets.token_bytes(32)
        self.connections: set[_Connection] = set()
        self.offer: Lane | None = None
        """None: there is no door, and Ray carries everything."""
        self._server: asyncio.Server | None = None

    async def open(self, host: str) -> None:
        """Never raises: without a door the agent works too."""
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, 0)
        except OSError as error:
            log.warning("no connection of its own for commands on %s (%s); Ray carries them", host, error)
            return
        self.offer = Lane(host, int(self._server.sockets[0].getsockname()[1]), self.key)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()


@dataclass(slots=True)
class _Asked:
    """For readings: as of what, how often, how many more."""

    book: int
    number: int
    every_s: float
    left: int


class _Connection(asyncio.Protocol):
    def __init__(self, server: LaneServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._proven = False
        self._early = b""
        self._frames = Frames()
        self._polls: set[asyncio.Task[None]] = set()
        self._asked: _Asked | None = None
        self._reading: asyncio.Task[None] | None = None
        self._prove_by: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= MOST_CONNECTIONS:
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._prove_by = asyncio.get_running_loop().call_later(PROVE_WITHIN_S, self.close)
        self._transport.write(self._nonce)

    def data_received(self, data: bytes) -> None:
        try:
            if not self._proven:
                data = self._prove(data)
            for frame in self._frames.feed(data):
                self._take(frame)
        except NotOurLanguage as error:
            log.warning("a connection for commands is closed: %s", error)
            self.close()
        except Exception:  # a bug in what was asked: Ray's calls say it again, to where it is seen
            log.exception("a connection for commands is closed")
            self.close()

    def _prove(self, data: bytes) -> bytes:
        """What follows the caller's proof."""
        self._early += data
        if len(self._early) < PROOF_BYTES + NONCE_BYTES:
            return b""
        said, nonce = self._early[:PROOF_BYTES], self._early[PROOF_BYTES : PROOF_BYTES + NONCE_BYTES]
        if not hmac.compare_digest(said, proof(self._server.key, b"service", self._nonce)):
            raise NotOurLanguage("who called has not the key that the greeting gave")
        self._proven = True
        if self._prove_by is not None:
            self._prove_by.cancel()
        self._write(proof(self._server.key, b"agent", nonce))
        rest, self._early = self._early[PROOF_BYTES + NONCE_BYTES :], b""
        return rest

    def _take(self, frame: bytes) -> None:
        what, items = opened(frame)
        match what:
            case "commands":
                self._server.perform(*commands_of(items))
            case "poll":
                task = asyncio.ensure_future(self._answer(*poll_of(items)))
                self._polls.add(task)
                task.add_done_callback(self._polls.discard)
            case "read":
                self._take_ask(*read_of(items))
            case _:
                raise NotOurLanguage(f"nothing is called {what[:40]!r} here")

    def _take_ask(self, book: int, number: int, every_s: float, count: int) -> None:
        if self._server.read is None:
            raise NotOurLanguage("there are no readings here")
        every_s = min(max(every_s, READ_AT_LEAST_S), READ_AT_MOST_S)
        self._asked = _Asked(book, number, every_s, min(count, MOST_AT_ONCE))
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._tell_readings(self._server.read))

    async def _tell_readings(self, read: Read) -> None:
        """As many as are asked for, also where that is changed meanwhile."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while (asked := self._asked) is not None and asked.left > 0:
                if self._waits_to_be_taken() <= READINGS_BUFFER_BYTES:
                    told = await read(asked.book, asked.number)
                    for body in told.batches:
                        self._write(readings_frame(body))
                    asked.left -= 1
                    asked.book, asked.number = told.book, told.number
                due_s = max(due_s + asked.every_s, loop.time())
                await asyncio.sleep(due_s - loop.time())
        except Exception:  # commands and events have no part in it; who gets no readings asks again
            log.exception("readings are not told any more")

    async def _answer(self, poll_id: int, after_seq: int, wait_s: float) -> None:
        try:
            self._write(batch_frame(poll_id, await self._server.events(after_seq, wait_s)))
        except Exception:
            log.exception("a connection for commands is closed")
            self.close()

    def _waits_to_be_taken(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > BUFFER_BYTES:
            log.warning("a connection for commands is closed: its answers are not taken")
            self.close()
            return
        transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._prove_by is not None:
            self._prove_by.cancel()
        for task in (*self._polls, *([self._reading] if self._reading is not None else [])):
            task.cancel()


def accepts(key: bytes, nonce: bytes, said: bytes) -> bool:
    """Whether it is the agent that answered the service's nonce."""
    return hmac.compare_digest(said, proof(key, b"agent", nonce))
