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

from benchmarks.workloads.http_answer import parse_answer, says_when_to_come_back

RECONNECT_S = 0.02
SWEEP_S = 0.1
SELECT_CLIENTS = 500


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`ok` are answers of status 200; the rest of `sent` are in `errors`, by status ("503") or "connect", "broken",
    "timeout". Latencies in milliseconds are those of the ok answers, None when there are none. `explicit`: how many of
    the rest were refused in so many words, by a status and Retry-After."""

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
    explicit: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One request, times on this machine's monotonic clock. `outcome` "ok", a status ("503"), "connect", "broken" or
    "timeout". `sent_s` None: it never left."""

    due_s: float
    sent_s: float | None
    done_s: float
    outcome: str

    @property
    def latency_s(self) -> float:
        return self.done_s - self.due_s


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
    if (requests is None) == (duration_s is None):
        raise ValueError("give either requests or duration_s")
    if clients < 1 or (rate_per_s is not None and rate_per_s <= 0):
        raise ValueError("clients must be at least 1 and rate_per_s above 0")
    due = Due(requests, duration_s, rate_per_s, random.Random(seed))
    load = Load(target_of(url, token, body, headers, ca_file), due, timeout_s, on_progress=on_progress)
    with asyncio.Runner(loop_factory=exact_loop if clients <= SELECT_CLIENTS else None) as runner:
        return runner.run(load.run(clients))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, and its octets."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    message: bytes


def target_of(
    url: str,
    token: str | None,
    body: bytes,
    headers: tuple[tuple[str, str], ...] = (),
    ca_file: Path | None = None,
) -> Target:
    """Raises ValueError for a URL without sense."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError(f"{url!r} must be http://HOST:PORT/PATH or https://HOST:PORT/PATH")
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
    return Target(parts.hostname, port, tls, message)


def exact_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are exact to microseconds: epoll's are rounded up to milliseconds, which open-loop requests
    would leave too late by and be charged for. select() takes file descriptors below 1,024 only."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@dataclass(slots=True)
class Due:
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


class Load:
    """One stream of requests. Open loop: connections are made as they are needed, up to `most_clients`, so that the
    generator itself is no queue."""

    def __init__(
        self,
        target: Target,
        due: Due,
        timeout_s: float,
        *,
        most_clients: int = 0,
        on_progress: Callable[[int], None] | None = None,
        on_record: Callable[[Record], None] | None = None,
    ) -> None:
        self.message = target.message
        self._target = target
        self._due = due
        self._timeout_s = timeout_s
        self._most_clients = most_clients
        self._on_progress = on_progress
        self._on_record = on_record
        self._explicit = 0
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
                continue
            self._waiting.append(due_s)
            if len(self._clients) + len(self._connecting) < self._most_clients:
                self._start_reconnecting()

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

    def answered(self, client: _Client, due_s: float, sent_s: float, status: int, keeps: bool, explicit: bool) -> None:
        self._last_answer_s = now_s = time.perf_counter()
        self._done += 1
        if status == 200:
            self._latencies_s.append(now_s - due_s)
        else:
            self._errors[str(status)] = self._errors.get(str(status), 0) + 1
            self._explicit += explicit
        if self._on_record is not None:
            self._on_record(Record(due_s, sent_s, now_s, "ok" if status == 200 else str(status)))
        if keeps:
            self._feed(client)
        else:
            client.close()

    def failed(self, what: str, due_s: float, sent_s: float | None = None) -> None:
        self._done += 1
        self._errors[what] = self._errors.get(what, 0) + 1
        if self._on_record is not None:
            self._on_record(Record(due_s, sent_s, time.perf_counter(), what))

    def lost(self, client: _Client) -> None:
        self._clients.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        if not self._over():
            self._start_reconnecting()

    def _start_reconnecting(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reconnect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        at = self._target
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: _Client(self), at.host, at.port, ssl=at.tls)
        self._clients.add(client)
        self._idle.append(client)

    async def _reconnect(self) -> None:
        """Until it works; each failure is charged to the request that would have gone out."""
        while not self._over():
            try:
                await self._connect()
            except OSError:
                if self._waiting:
                    self.failed("connect", self._waiting.popleft())
                elif self._due.rate_per_s is None and self._due.next_s(now_s := time.perf_counter()) is not None:
                    self._due.take()
                    self.failed("connect", now_s)
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
            self.failed("timeout", self._waiting.popleft())
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
            explicit=self._explicit,
        )


class _Client(asyncio.Protocol):
    """One connection, one request at a time. Reads answers with Content-Length, chunked, or ended by the close."""

    def __init__(self, load: Load) -> None:
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
            status, keeps = answer
            sent_s, self.sent_s = self.sent_s, None
            explicit = status >= 400 and says_when_to_come_back(self._buffer)
            self._load.answered(self, self._due_s, sent_s, status, keeps, explicit)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.sent_s is not None:
            sent_s, self.sent_s = self.sent_s, None
            self._load.failed("timeout" if self._given_up else "broken", self._due_s, sent_s)
        self._load.lost(self)
