"""Where do the workers of a run over many nodes meet? The coordinator's end: clocks compared, one start announced.

A thread of its own with an event loop: a worker a connection, each kept open from arming to its last window's end. The
messages are those of `benchmarks.meeting`. Whoever does not know the run's secret is not listened to.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.meeting import MESSAGE_BYTES, variable
from benchmarks.protocol import CLOCK_SKEW_S, Verdict
from benchmarks.work import Clock

PROBES = 12
# More of them where even the fastest exchange was slow: a busy machine answers late now and then.
MORE_PROBES = 60
FAST_ENOUGH_S = 0.01
HELLO_S = 10.0
ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """A node's clock minus the coordinator's, and what this may be wrong by."""

    offset_s: float
    uncertainty_s: float

    @property
    def is_beyond(self) -> bool:
        return abs(self.offset_s) + self.uncertainty_s > CLOCK_SKEW_S

    def refusal(self) -> dict[str, str] | None:
        if not self.is_beyond:
            return None
        detail = (
            f"this node's clock is {self.offset_s * 1e3:+.1f} ms (+- {self.uncertainty_s * 1e3:.1f}) from the "
            f"coordinator's; at most {CLOCK_SKEW_S * 1e3:.0f} ms are allowed: set its clock (chrony, NTP)"
        )
        return {"verdict": str(Verdict.CLOCK_SKEW), "detail": detail}


@dataclass(frozen=True, slots=True)
class Announced:
    """By the coordinator's clock."""

    at_s: float
    ramp_at_s: Mapping[str, float]


@dataclass(slots=True)
class _Worker:
    node: str
    connected: bool = True
    armed: dict[int, int] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    offsets: dict[int, list[ClockOffset]] = field(default_factory=dict)


class MeetingPlace:
    """`close` it. All methods may be called from any thread."""

    def __init__(self, host: str, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._secret = secrets.token_urlsafe(24)
        self._workers: dict[str, _Worker] = {}
        self._announced: dict[int, Announced] = {}
        self._raw: list[str] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._news: dict[int, asyncio.Event] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server((host, 0), family=_family(host))
        self._port = int(self._listener.getsockname()[1])
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-meeting", daemon=True)
        self._thread.start()

    def environment(self) -> dict[str, str]:
        """What a worker's job must have."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return variable(host, self._port, self._secret)

    def now_s(self) -> float:
        return self._clock.now_s()

    def armed(self, window: int) -> dict[str, int]:
        """Cards by node, of those that have armed for this window."""
        with self._lock:
            return {w.node: w.armed[window] for w in self._workers.values() if window in w.armed}

    def here(self) -> set[str]:
        """The nodes whose worker is connected now."""
        with self._lock:
            return {w.node for w in self._workers.values() if w.connected}

    def ended(self, window: int) -> set[str]:
        with self._lock:
            return {w.node for w in self._workers.values() if window in w.over}

    def offset(self, node: str, window: int) -> ClockOffset | None:
        """The worst that was measured around this window."""
        with self._lock:
            worker = self._workers.get(node)
            found = worker.offsets.get(window, []) if worker is not None else []
            return max(found, key=lambda o: abs(o.offset_s) + o.uncertainty_s, default=None)

    def take_raw(self) -> list[str]:
        with self._lock:
            taken, self._raw = self._raw, []
            return taken

    def announce(self, window: int, announced: Announced) -> None:
        """Who arms later for this window is refused."""
        with self._lock:
            self._announced[window] = announced
        self._loop.call_soon_threadsafe(lambda: self._event(window).set())

    def close(self) -> None:
        self._begun.wait(10)  # a loop that is stopped while its server starts leaves the door open
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)

    # -- in the loop's thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(
                asyncio.start_server(self._serve, sock=self._listener, limit=MESSAGE_BYTES)
            )
        finally:
            self._begun.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in list(self._serving):
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._serving, return_exceptions=True))
            self._loop.close()

    def _stop(self) -> None:
        self._loop.stop()

    def _event(self, window: int) -> asyncio.Event:
        return self._news.setdefault(window, asyncio.Event())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        worker: _Worker | None = None
        try:
            worker = await self._greeted(reader)
            if worker is not None:
                await self._attend(worker, reader, writer)
        except (OSError, ValueError, KeyError, TypeError, asyncio.IncompleteReadError, TimeoutError):
            pass  # a worker that goes away or talks nonsense is told of by its job
        finally:
            if worker is not None:
                with self._lock:
                    worker.connected = False
            self._serving.discard(task)
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader) -> _Worker | None:
        async with asyncio.timeout(HELLO_S):
            hello = await _heard(reader)
        if not hmac.compare_digest(str(hello.get("secret")).encode(), self._secret.encode()):
            return None
        worker = _Worker(str(hello["node"]))
        with self._lock:
            self._workers[worker.node] = worker
        return worker

    async def _attend(self, worker: _Worker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await _heard(reader)
            if "armed" in message:
                await self._start(worker, int(message["armed"]), int(message["cards"]), reader, writer)
            elif "over" in message:
                window = int(message["over"])
                offset = await self._measured(worker, window, reader, writer)
                with self._lock:
                    worker.over.add(window)
                await _said(writer, {"clocks": _clock_words(offset) | {"refused": offset.refusal()}})
            elif "raw" in message:
                with self._lock:
                    self._raw.append(str(message["raw"]))

    async def _start(
        self, worker: _Worker, window: int, cards: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        offset = await self._measured(worker, window, reader, writer)
        with self._lock:
            worker.armed[window] = cards
            late = window in self._announced
        if not late:
            gone = asyncio.ensure_future(reader.read(1))  # it has nothing to say now: this is its end
            news = asyncio.ensure_future(self._event(window).wait())
            try:
                await asyncio.wait({gone, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if gone.done():
                raise ConnectionError("the worker went away while it waited")
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        with self._lock:
            announced = self._announced[window]
        refused = offset.refusal()
        if late:
            detail = "armed after the shared start had been announced"
            refused = refused or {"verdict": str(Verdict.LATE_START), "detail": detail}
        told: dict[str, Any] = _clock_words(offset) | {"at_s": announced.at_s, "refused": refused}
        told["ramp_at_s"] = announced.ramp_at_s.get(worker.node)
        await _said(writer, {"start": told})

    async def _measured(
        self, worker: _Worker, window: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> ClockOffset:
        best: ClockOffset | None = None
        for number in range(MORE_PROBES):
            if number >= PROBES and best is not None and best.uncertainty_s <= FAST_ENOUGH_S:
                break
            asked = self._clock.now_s()
            await _said(writer, {"probe": number})
            async with asyncio.timeout(ANSWER_S):
                said = await _heard(reader)
            answered = self._clock.now_s()
            half = (answered - asked) / 2
            if best is None or half < best.uncertainty_s:
                best = ClockOffset(float(said["clock"]) - (asked + half), half)
        assert best is not None
        with self._lock:
            worker.offsets.setdefault(window, []).append(best)
        return best


def _clock_words(offset: ClockOffset) -> dict[str, Any]:
    return {"offset_s": offset.offset_s, "uncertainty_s": offset.uncertainty_s}


async def _heard(reader: asyncio.StreamReader) -> Mapping[str, Any]:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the worker went away")
    told = json.loads(line)
    if not isinstance(told, dict):
        raise ValueError("a message is an object")
    return told


async def _said(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def own_address(towards: list[str]) -> str:
    """The address of this machine by which others reach it: that from which the first of `towards` that is not this
    machine is reached; loopback where all of them are. Nothing is sent."""
    for name in towards:
        try:
            found = socket.getaddrinfo(name, 9, type=socket.SOCK_DGRAM)[0]
            with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
                probe.connect(found[4])
                own = str(probe.getsockname()[0])
        except OSError:
            continue
        if not (own.startswith("127.") or own == "::1"):
            return own
    return "127.0.0.1"
