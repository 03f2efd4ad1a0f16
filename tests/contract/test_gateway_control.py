"""What the service may expect of whatever it steers gateways by: the fake, one gateway over HTTP, and several."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from scheduler.gateway.control import EveryGateway, HttpGatewayControl
from scheduler.ports import GatewayControl, Replica, Route
from tests.fakes.fake_gateway import FakeGateway
from tests.fakes.fake_replica import FakeReplica, Request

Addresses = Callable[[], list[str]]


def table(*addresses: str) -> list[Route]:
    told = tuple(Replica("7", worker, 1, address, False) for worker, address in enumerate(addresses))
    return [Route("chat", "film", 5, None, told, "secret")]


@pytest.fixture(params=["fake", "http", "several"])
def steered(request: pytest.FixtureRequest) -> Iterator[tuple[GatewayControl, Addresses]]:
    """A control, and what its gateway (the last, of several) knows."""
    if request.param == "fake":
        fake = FakeGateway()
        yield fake, lambda: fake.addresses("chat")
        return
    doors = [FakeReplica(Request.answer) for _ in range(1 if request.param == "http" else 2)]
    controls = [HttpGatewayControl(f"http://{door.address}", "control", retry_s=0.02) for door in doors]
    control = controls[0] if request.param == "http" else EveryGateway(controls)

    def known() -> list[str]:
        seen = doors[-1].seen
        routes = json.loads(seen[-1].body)["routes"] if seen else []
        return [replica["address"] for route in routes for replica in route["replicas"]]

    yield control, known
    control.close()
    for door in doors:
        door.close()


def test_the_newest_table_is_what_the_gateway_knows(steered: tuple[GatewayControl, Addresses]) -> None:
    control, known = steered
    for addresses in (["10.0.0.1:1"], ["10.0.0.1:1", "10.0.0.2:1"], ["10.0.0.2:1"]):
        control.publish(table(*addresses), epoch=1)
    deadline_s = time.monotonic() + 10
    while known() != ["10.0.0.2:1"]:
        assert time.monotonic() < deadline_s, known()
        time.sleep(0.005)
