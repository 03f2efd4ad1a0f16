"""The agent's own door for the service that Ray introduced: commands in, events out, without a Ray call for each.

Ray stays what it is: it says who is there, starts agents, and carries the greeting, in which the agent offers this door
(`Lane`) and its key. Whatever goes wrong here closes the connection, and the two go on by Ray calls; so nothing is
lost that was not lost anyway, and no second membership has to be kept true. A call costs a fifth of Ray's.

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
from typing import cast

from node_agent.messages import Command, EventBatch, Lane
from node_agent.wire import Frames, NotOurLanguage, batch_frame, commands_of, opened, poll_of

NONCE_BYTES = 32
PROOF_BYTES = hashlib.sha256().digest_size
PROVE_WITHIN_S = 5.0
MOST_CONNECTIONS = 16  # of the service there is one, or two while it is replaced
BUFFER_BYTES = 64 << 20  # what an answer may lie here while it is not taken

log = logging.getLogger(__name__)

Perform = Callable[[int, int, Sequence[Command]], None]
Events = Callable[[int, float], Awaitable[EventBatch]]


def proof(key: bytes, whose: bytes, nonce: bytes) -> bytes:
    return hmac.digest(key, whose + nonce, "sha256")


class LaneServer:
    """`perform` and `events` are the host's. Belongs to one event loop."""

    def __init__(self, perform: Perform, events: Events) -> None:
        self.perform = perform
        self.events = events
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


class _Connection(asyncio.Protocol):
    def __init__(self, server: LaneServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._proven = False
        self._early = b""
        self._frames = Frames()
        self._polls: set[asyncio.Task[None]] = set()
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
            case _:
                raise NotOurLanguage(f"nothing is called {what[:40]!r} here")

    async def _answer(self, poll_id: int, after_seq: int, wait_s: float) -> None:
        try:
            self._write(batch_frame(poll_id, await self._server.events(after_seq, wait_s)))
        except Exception:
            log.exception("a connection for commands is closed")
            self.close()

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
        for task in self._polls:
            task.cancel()


def accepts(key: bytes, nonce: bytes, said: bytes) -> bool:
    """Whether it is the agent that answered the service's nonce."""
    return hmac.compare_digest(said, proof(key, b"agent", nonce))
