"""The service's end of an agent's own connection (node_agent.lane): commands out from any thread, polls answered here.

What it cannot do at once it does not do: a connection that breaks, or that does not take a batch whole, is given up,
and the caller goes on by Ray's calls. The protocol above (link.py) bears what was lost, late or said twice.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
import threading
from collections.abc import Sequence

from node_agent.lane import NONCE_BYTES, PROOF_BYTES, accepts, proof
from node_agent.messages import Command, EventBatch, Lane
from node_agent.wire import Frames, NotOurLanguage, batch_of, commands_frame, opened, poll_frame

CONNECT_WITHIN_S = 2.0
SEND_BUFFER_BYTES = 8 << 20
READ_BYTES = 1 << 16  # more would be fetched from the system for every read, and given back

log = logging.getLogger(__name__)


class LaneBroken(Exception):
    """There is no connection (any more)."""


class LaneClient:
    """Made by `open_lane`. `send` from any thread, the rest in the event loop that opened it."""

    def __init__(self, offer: Lane, connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.offer = offer
        self._socket = connection
        self._loop = loop
        self._sending = threading.Lock()
        self._open = True
        self._frames = Frames()
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[EventBatch]] = {}
        loop.add_reader(connection, self._readable)

    @property
    def is_open(self) -> bool:
        return self._open

    def send(self, session: int, number: int, commands: Sequence[Command]) -> bool:
        """False: it was not taken (whole), and the connection is of no use any more."""
        return self._send(commands_frame(session, number, commands))

    async def events(self, after_seq: int, wait_s: float) -> EventBatch:
        """The agent's answer to a long poll. Raises LaneBroken."""
        poll_id = next(self._ids)
        answer: asyncio.Future[EventBatch] = self._loop.create_future()
        self._asked[poll_id] = answer
        try:
            if not self._send(poll_frame(poll_id, after_seq, wait_s)):
                raise LaneBroken
            return await answer
        finally:
            self._asked.pop(poll_id, None)

    def _send(self, frame: bytes) -> bool:
        with self._sending:
            if not self._open:
                return False
            try:
                if self._socket.send(frame) == len(frame):
                    return True
            except OSError:  # BlockingIOError among them: the agent has not read for long
                pass
            self._open = False
        self._loop.call_soon_threadsafe(self.close)
        return False

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
            if not data:
                self.close()
                return
            for frame in self._frames.feed(data):
                what, items = opened(frame)
                if what != "batch":
                    raise NotOurLanguage(f"an agent says {what[:40]!r}")
                poll_id, batch = batch_of(items)
                answer = self._asked.pop(poll_id, None)
                if answer is not None and not answer.done():
                    answer.set_result(batch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
        except NotOurLanguage as error:
            log.warning("the connection to %s:%d is given up: %s", self.offer.host, self.offer.port, error)
            self.close()

    def close(self) -> None:
        """In the loop's thread. Whoever waits for an answer hears of it."""
        with self._sending:
            self._open = False
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LaneBroken())


async def open_lane(offer: Lane) -> LaneClient:
    """Raises LaneBroken, as `connected`."""
    return LaneClient(offer, await connected(offer), asyncio.get_running_loop())


async def connected(offer: Lane) -> socket.socket:
    """A connection, without blocking, over which both have proved the key. Raises LaneBroken when it cannot be reached
    in time, or is not the agent that made the offer."""
    loop = asyncio.get_running_loop()
    connection: socket.socket | None = None
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            family, kind, number, _, where = (
                await loop.getaddrinfo(offer.host, offer.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            )[0]
            connection = socket.socket(family, kind, number)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            await loop.sock_connect(connection, where)
            theirs, ours = await _receive(loop, connection, NONCE_BYTES), secrets.token_bytes(NONCE_BYTES)
            await loop.sock_sendall(connection, proof(offer.key, b"service", theirs) + ours)
            if not accepts(offer.key, ours, await _receive(loop, connection, PROOF_BYTES)):
                raise LaneBroken("whoever answers there is not the agent")
        return connection
    except (OSError, TimeoutError) as error:
        if connection is not None:
            connection.close()
        raise LaneBroken(str(error) or "it did not answer in time") from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise


async def _receive(loop: asyncio.AbstractEventLoop, connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = await loop.sock_recv(connection, count - len(received))
        if not more:
            raise LaneBroken("it closed the connection")
        received += more
    return received
