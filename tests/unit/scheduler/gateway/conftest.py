"""A real gateway in a thread, on loopback, with replicas that obey the test."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scheduler.errors import Unavailable
from scheduler.gateway.app import create_gateway_app
from scheduler.gateway.run import gateway_server
from scheduler.gateway.table import EPOCH_HEADER, table_to_json
from scheduler.ports import Principal, Replica, Route
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_replica import FakeReplica, Request, echo

CONTROL = "control-token"
PRINCIPALS = {
    "op": Principal("op", "ops", "operator", "emergency"),
    "film": Principal("film", "film", "tenant", "normal"),
    "drone": Principal("drone", "drone", "tenant", "low-altitude"),
    "eye": Principal("eye", "ops", "viewer", "normal"),
}


class Tokens:
    broken = False

    def principal(self, token: str) -> Principal | None:
        if self.broken:
            raise Unavailable("the token file is away")
        return PRINCIPALS.get(token)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def route(
    *replicas: FakeReplica | str,
    service: str = "chat",
    tenant: str = "film",
    simulated: bool = False,
    priority: int = 5,
) -> Route:
    addresses = [one if isinstance(one, str) else one.address for one in replicas]
    told = tuple(Replica("7", worker, 1, address, simulated) for worker, address in enumerate(addresses))
    return Route(service, tenant, priority, None, told, "replica-secret")


@dataclass
class Gateway:
    port: int
    tokens: Tokens
    open: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        target: str = "/v1/services/chat/predict",
        *,
        method: str = "POST",
        token: str | None = "film",
        body: bytes | Iterator[bytes] = b"{}",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        self.open.append(connection)
        told = dict(headers or {})
        if token is not None:
            told["Authorization"] = f"Bearer {token}"
        connection.request(method, target, body if method in ("POST", "PUT") else None, told)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def put(self, *routes: Route, token: str = CONTROL, epoch: int | str = 0) -> Answer:
        headers = {EPOCH_HEADER: str(epoch)}
        return self.ask("/-/routes", method="PUT", token=token, body=table_to_json(routes), headers=headers)

    def hang_up(self) -> None:
        for connection in self.open:
            connection.close()
        self.open.clear()

    def service(self, name: str = "chat") -> dict[str, Any]:
        told = self.ask("/-/metrics", method="GET", token=CONTROL).json["services"]
        return next(one for one in told if one["service"] == name)

    def wait(self, ready: Callable[[dict[str, Any]], bool], timeout_s: float = 10.0) -> None:
        """Until the service's metrics are as `ready` wants them."""
        deadline_s = time.monotonic() + timeout_s
        while not ready(told := self.service()):
            assert time.monotonic() < deadline_s, told
            time.sleep(0.01)


StartGateway = Callable[..., Gateway]


@contextmanager
def gateways() -> Iterator[StartGateway]:
    running = []

    def start(*, table_path: Path | None = None, port: int = 0, **settings: Any) -> Gateway:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        tokens = Tokens()
        app = create_gateway_app(tokens, CONTROL, FakeClock(), table_path=table_path, seed=1, **settings)
        server = gateway_server(app)
        gateway = Gateway(listener.getsockname()[1], tokens)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, gateway))
        deadline_s = time.monotonic() + 10
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        return gateway

    try:
        yield start
    finally:
        for server, _, gateway in running:
            gateway.hang_up()
            server.should_exit = True
        for _, thread, _ in running:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def start_gateway() -> Iterator[StartGateway]:
    with gateways() as start:
        yield start


@pytest.fixture(scope="module")
def _one_gateway() -> Iterator[Gateway]:
    with gateways() as start:
        yield start(body_limit_bytes=100_000, max_waiting=4)


@pytest.fixture
def gateway(_one_gateway: Gateway) -> Iterator[Gateway]:
    """The module's own (starting and stopping one takes a third of a second), with nothing left of other tests."""
    assert _one_gateway.put().status == 200
    yield _one_gateway
    _one_gateway.tokens.broken = False
    _one_gateway.hang_up()


@pytest.fixture
def replica() -> Iterator[Callable[..., FakeReplica]]:
    made: list[FakeReplica] = []

    def make(behave: Callable[[Request], None] = echo) -> FakeReplica:
        made.append(FakeReplica(behave))
        return made[-1]

    yield make
    for one in made:
        one.close()
