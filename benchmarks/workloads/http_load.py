"""How fast, and how reliably, does an HTTP service answer? A load generator on raw kept-open connections.

Closed loop (`rate_per_s=None`): each of `clients` connections sends its next request when it has its answer. It shows
the most a service can do, and hides what waiting callers would feel. Open loop: requests are due at seeded Poisson
times, whoever is slow; the latency of a request counts from when it was due, so that a stall is charged to all requests
that it delayed (Tene, "How NOT to measure latency", on coordinated omission).

Standard library only. One Python process sends some 15,000 requests a second at most: `generator` in the result says
so, for a reader who compares rates.
"""

from __future__ import annotations

import array
import asyncio
import math
import random
import selectors
import ssl
import time
import urllib.parse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

RECONNECT_S = 0.02
SWEEP_S = 0.1
SELECT_CLIENTS = 500


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`ok` are answers of status 200; the rest of `sent` are in `errors`, by status ("503") or "connect", "broken",
    "timeout". Latencies in milliseconds are those of the ok answers, None when there are none."""

    sent: int
    ok: int
    errors: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    elapsed_s: float
    requests_per_s: float
    generator: str


def quantile(ordered: list[float], q: float) -> float | None:
    """The ceil(q * n)-th smallest of n ordered values (the nearest-rank quantile); None for no values."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None


def run_load(
    url: str,
    token: str | None,
    body: bytes,
    *,
    requests: int | None = None,
    duration_s: float | None = None,
    rate_per_s: float | None = None,
    clients: int = 1,
    seed: int = 0,
    timeout_s: float = 30.0,
    ca_file: Path | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    on_progress: Callable[[int], None] | None = None,
) -> LoadResult:
    """POST `body` (GET where it is empty) to `url` until `requests` were sent or `duration_s` has passed.

    `on_progress` is told now and then how many requests are done. Raises ValueError for a URL or numbers without sense.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError(f"{url!r} must be http://HOST:PORT/PATH or https://HOST:PORT/PATH")
    if (requests is None) == (duration_s is None):
        raise ValueError("give either requests or duration_s")
    if clients < 1 or (rate_per_s is not None and rate_per_s <= 0):
        raise ValueError("clients must be at least 1 and rate_per_s above 0")
    tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{'POST' if body else 'GET'} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    message = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    due = _Due(requests, duration_s, rate_per_s, random.Random(seed))
    load = _Load(parts.hostname, port, tls, message, due, timeout_s, on_progress)
    with asyncio.Runner(loop_factory=_exact_loop if clients <= SELECT_CLIENTS else None) as runner:
        return runner.run(load.run(clients))


def _exact_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are exact to microseconds: epoll's are rounded up to milliseconds, which open-loop requests
    would leave too late by and be charged for. select() takes file descriptors below 1,024 only."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@dataclass(slots=True)
class _Due:
    """When requests are due. All of one run come from one seeded generator, so a run can be repeated."""

    requests: int | None
    duration_s: float | None
    rate_per_s: float | None
    rng: random.Random
    began_s: float = 0.0
    given: int = 0
    _next_s: float = field(default=0.0)

    def begin(self, now_s: float) -> None:
        self.began_s = self._next_s = now_s
        if self.rate_per_s is not None:
            self._next_s += self.rng.expovariate(self.rate_per_s)

    def next_s(self, now_s: float) -> float | None:
        """When the next request is due; None when there is none any more."""
        due_s = now_s if self.rate_per_s is None else self._next_s
        if self.requests is not None and self.given >= self.requests:
            return None
        if self.duration_s is not None and due_s >= self.began_s + self.duration_s:
            return None
        return due_s

    def take(self) -> None:
        self.given += 1
        if self.rate_per_s is not None:
            self._next_s += self.rng.expovariate(self.rate_per_s)


class _Load:
    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        message: bytes,
        due: _Due,
        timeout_s: float,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self.message = message
        self._where = (host, port, tls)
        self._due = due
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._latencies_s = array.array("d")
        self._errors: dict[str, int] = {}
        self._done = 0
        self._waiting: deque[float] = deque()  # due times of requests that no connection is free for
        self._idle: list[_Client] = []
        self._clients: set[_Client] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._last_answer_s = 0.0

    async def run(self, clients: int) -> LoadResult:
        loop = asyncio.get_running_loop()
        # Connections first, so that the first requests do not pay for them.
        await asyncio.gather(*(self._connect() for _ in range(clients)))
        began_s = self._last_answer_s = time.perf_counter()
        self._due.begin(began_s)
        if self._due.rate_per_s is None:
            for client in list(self._idle):
                self._feed(client)
        arrivals = loop.create_task(self._arrivals())
        try:
            while not self._over():
                await asyncio.sleep(SWEEP_S if self._due.next_s(time.perf_counter()) is not None else 0.01)
                self._sweep()
        finally:
            arrivals.cancel()
            for task in self._connecting:
                task.cancel()
            await asyncio.gather(arrivals, *self._connecting, return_exceptions=True)
            for client in list(self._clients):
                client.close()
        return self._result(began_s)

    def _over(self) -> bool:
        return self._due.next_s(time.perf_counter()) is None and self._done >= self._due.given

    async def _arrivals(self) -> None:
        """Open loop only: hand each request to a free connection when it is due, or let it wait for one."""
        if self._due.rate_per_s is None:
            return
        while (due_s := self._due.next_s(time.perf_counter())) is not None:
            left_s = due_s - time.perf_counter()
            if left_s > 0:
                await asyncio.sleep(left_s)
            self._due.take()
            if self._idle:
                self._idle.pop().send(due_s)
            else:
                self._waiting.append(due_s)

    def _feed(self, client: _Client) -> None:
        """Give a connection that is free its next request, or let it rest."""
        if client in self._idle:
            self._idle.remove(client)
        if self._waiting:
            client.send(self._waiting.popleft())
        elif self._due.rate_per_s is None and self._due.next_s(now_s := time.perf_counter()) is not None:
            self._due.take()
            client.send(now_s)
        else:
            self._idle.append(client)

    def answered(self, client: _Client, due_s: float, status: int, keeps: bool) -> None:
        self._last_answer_s = time.perf_counter()
        self._done += 1
        if status == 200:
            self._latencies_s.append(self._last_answer_s - due_s)
        else:
            self._errors[str(status)] = self._errors.get(str(status), 0) + 1
        if keeps:
            self._feed(client)
        else:
            client.close()

    def failed(self, what: str) -> None:
        self._done += 1
        self._errors[what] = self._errors.get(what, 0) + 1

    def lost(self, client: _Client) -> None:
        self._clients.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        if not self._over():
            task = asyncio.get_running_loop().create_task(self._reconnect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        host, port, tls = self._where
        _, client = await asyncio.get_running_loop().create_connection(lambda: _Client(self), host, port, ssl=tls)
        self._clients.add(client)
        self._idle.append(client)

    async def _reconnect(self) -> None:
        """Until it works; each failure is charged to the request that would have gone out."""
        while not self._over():
            try:
                await self._connect()
            except OSError:
                if self._waiting:
                    self._waiting.popleft()
                    self.failed("connect")
                elif self._due.rate_per_s is None and self._due.next_s(time.perf_counter()) is not None:
                    self._due.take()
                    self.failed("connect")
                await asyncio.sleep(RECONNECT_S)
            else:
                self._feed(self._idle[-1])
                return

    def _sweep(self) -> None:
        now_s = time.perf_counter()
        for client in list(self._clients):
            if client.sent_s is not None and now_s - client.sent_s > self._timeout_s:
                client.give_up()
        while self._waiting and now_s - self._waiting[0] > self._timeout_s:
            self._waiting.popleft()
            self.failed("timeout")
        if self._on_progress is not None:
            self._on_progress(self._done)

    def _result(self, began_s: float) -> LoadResult:
        ordered = sorted(self._latencies_s)

        def ms(q: float) -> float | None:
            value_s = quantile(ordered, q)
            return None if value_s is None else value_s * 1e3

        elapsed_s = max(self._last_answer_s - began_s, 1e-9)
        rate = self._due.rate_per_s
        loop_kind = "closed loop" if rate is None else f"open loop, Poisson, {rate:g}/s"
        return LoadResult(
            sent=self._due.given,
            ok=len(ordered),
            errors=dict(sorted(self._errors.items())),
            p50_ms=ms(0.50),
            p95_ms=ms(0.95),
            p99_ms=ms(0.99),
            max_ms=ms(1.0),
            elapsed_s=elapsed_s,
            requests_per_s=len(ordered) / elapsed_s,
            generator=f"suanli http_load ({loop_kind}, one Python process)",
        )


class _Client(asyncio.Protocol):
    """One connection, one request at a time. Reads answers with Content-Length, chunked, or ended by the close."""

    def __init__(self, load: _Load) -> None:
        self.sent_s: float | None = None
        self._load = load
        self._due_s = 0.0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._given_up = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def send(self, due_s: float) -> None:
        assert self._transport is not None
        self._due_s, self.sent_s, self._buffer = due_s, time.perf_counter(), b""
        self._transport.write(self._load.message)

    def give_up(self) -> None:
        self._given_up = True
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.sent_s is None:
            self.close()  # an answer to nothing
            return
        self._buffer += data
        answer = parse_answer(self._buffer)
        if answer is not None:
            self.sent_s = None
            self._load.answered(self, self._due_s, *answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sent_s is not None:
            self.sent_s = None
            self._load.failed("timeout" if self._given_up else "broken")
        self._load.lost(self)


def parse_answer(buffer: bytes) -> tuple[int, bool] | None:
    """(status, whether the connection stays open) of a complete answer; None while some of it is missing."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    status = int(buffer[9:12])
    headers = buffer[:end].lower()
    keeps = b"\r\nconnection: close" not in headers
    start = end + 4
    if b"\r\ntransfer-encoding: chunked" in headers:
        return (status, keeps) if _chunks_complete(buffer, start) else None
    at = headers.find(b"\r\ncontent-length:")
    if at < 0:
        return (status, keeps) if status in (204, 304) else None
    line_end = headers.find(b"\r\n", at + 2)
    length = int(headers[at + 17 : line_end if line_end >= 0 else end])
    return (status, keeps) if len(buffer) >= start + length else None


def _chunks_complete(buffer: bytes, position: int) -> bool:
    while (line_end := buffer.find(b"\r\n", position)) >= 0:
        size = int(buffer[position:line_end].split(b";", 1)[0], 16)
        position = line_end + 2 + size + 2
        if size == 0:
            return len(buffer) >= position
    return False
