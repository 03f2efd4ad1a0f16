"""The service's hand on the gateway: the newest table arrives, however long the gateway is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from scheduler.gateway.control import EveryGateway, HttpGatewayControl
from tests.fakes.fake_replica import FakeReplica, Request
from tests.unit.scheduler.gateway.conftest import CONTROL, StartGateway, route
from tests.unit.scheduler.gateway.test_app import closed_address


@pytest.fixture
def control() -> Iterator[Callable[..., HttpGatewayControl]]:
    made: list[HttpGatewayControl] = []

    def make(address: str, token: str = CONTROL, **settings: float) -> HttpGatewayControl:
        made.append(HttpGatewayControl(f"http://{address}", token, retry_s=0.02, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()
        assert not one._thread.is_alive()


def test_a_table_arrives(start_gateway: StartGateway, control: Callable[..., HttpGatewayControl]) -> None:
    gateway = start_gateway()
    steering = control(f"127.0.0.1:{gateway.port}")
    steering.publish([route("127.0.0.1:1")], epoch=1)
    assert steering.wait_arrived(10)
    assert len(gateway.service()["replicas"]) == 1


def test_a_gateway_that_is_away_gets_the_newest_when_it_is_back(
    start_gateway: StartGateway, control: Callable[..., HttpGatewayControl]
) -> None:
    address = closed_address()
    steering = control(address)
    began_s = time.monotonic()
    for replicas in range(1, 4):
        steering.publish([route(*["127.0.0.1:1"] * replicas)], epoch=1)
    assert time.monotonic() - began_s < 0.5
    assert not steering.wait_arrived(0.1)
    gateway = start_gateway(port=int(address.split(":")[1]))
    assert steering.wait_arrived(10)
    assert len(gateway.service()["replicas"]) == 3


def test_a_refusal_is_tried_again_until_it_is_taken(
    control: Callable[..., HttpGatewayControl], caplog: pytest.LogCaptureFixture
) -> None:
    gateway = FakeReplica(lambda request: request.answer(503, b"not now"))
    try:
        steering = control(gateway.address)
        steering.publish([], epoch=1)
        gateway.wait_seen(3)
        assert not steering.wait_arrived(0)
        gateway.then(Request.answer)
        assert steering.wait_arrived(10)
        assert len([line for line in caplog.messages if "not now" in line]) == 1
        assert gateway.seen[-1].headers["authorization"] == f"Bearer {CONTROL}"
    finally:
        gateway.close()


def test_a_table_that_arrived_is_sent_again_now_and_then(control: Callable[..., HttpGatewayControl]) -> None:
    gateway = FakeReplica()
    try:
        control(gateway.address, refresh_s=0.03).publish([], epoch=1)
        gateway.wait_seen(3)
        assert len({seen.body for seen in gateway.seen}) == 1
    finally:
        gateway.close()


def test_a_service_that_was_replaced_steers_the_gateway_no_more(
    start_gateway: StartGateway, control: Callable[..., HttpGatewayControl], caplog: pytest.LogCaptureFixture
) -> None:
    """It was stopped (SIGSTOP), another took over, and it goes on as if nothing had been."""
    gateway = start_gateway()
    old = control(f"127.0.0.1:{gateway.port}", refresh_s=0.03)
    old.publish([route("127.0.0.1:1")], epoch=4)
    assert old.wait_arrived(10)
    new = control(f"127.0.0.1:{gateway.port}")
    new.publish([route("127.0.0.1:2", "127.0.0.1:3")], epoch=5)
    assert new.wait_arrived(10)
    old.publish([], epoch=4)
    assert not old.wait_arrived(0.3)
    assert len(gateway.service()["replicas"]) == 2
    assert len([line for line in caplog.messages if "another service took over (epoch 5)" in line]) == 1
    assert gateway.put(epoch="x").status == 422
    assert gateway.put(epoch=5).status == 200


def test_several_gateways_are_each_sent_the_table_and_none_waits_for_another(start_gateway: StartGateway) -> None:
    first, second = start_gateway(), start_gateway()
    steering = [
        HttpGatewayControl(f"http://{address}", CONTROL, retry_s=0.02)
        for address in (f"127.0.0.1:{first.port}", closed_address(), f"127.0.0.1:{second.port}")
    ]
    every = EveryGateway(steering)
    every.publish([route("127.0.0.1:1")], epoch=3)
    assert steering[0].wait_arrived(10)
    assert steering[2].wait_arrived(10)
    assert not steering[1].wait_arrived(0)
    assert [len(gateway.service()["replicas"]) for gateway in (first, second)] == [1, 1]
    every.close()
    assert not any(one._thread.is_alive() for one in steering)


def test_a_url_without_sense() -> None:
    with pytest.raises(ValueError, match="gateway URL"):
        HttpGatewayControl("localhost:80", CONTROL)
