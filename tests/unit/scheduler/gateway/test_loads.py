"""What the gateway tells of its load: windows that are told once, at once where that matters, and figures to read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from scheduler.errors import BadInput
from scheduler.gateway.control import HttpGatewayControl
from scheduler.gateway.loads_json import loads_from_json
from scheduler.gateway.tallies import Tally
from scheduler.ports import Route, ServiceLoad
from tests.fakes.fake_replica import FakeReplica
from tests.unit.scheduler.gateway.conftest import CONTROL, Gateway, StartGateway, route

MakeReplica = Callable[..., FakeReplica]


def poll(gateway: Gateway, after: int, wait_s: float = 0.0) -> dict[str, Any]:
    answer = gateway.ask(f"/-/loads?after={after}&wait_s={wait_s}", method="GET", token=CONTROL)
    assert answer.status == 200, answer.body
    told: dict[str, Any] = answer.json
    return told


def test_a_window_is_told_once_and_again_where_the_answer_was_lost(
    start_gateway: StartGateway, replica: MakeReplica
) -> None:
    gateway = start_gateway()
    gateway.put(route(replica()))
    for _ in range(5):
        gateway.ask()
    first = poll(gateway, 0)
    (load,) = first["loads"]
    assert (load["tenant"], load["service"], load["job_id"]) == ("film", "chat", "7")
    assert (load["arrivals"], load["answered"], load["errors"], load["within_slo"]) == (5, 5, 0, 5)
    assert 0 < load["service_s"] <= load["p99_s"]
    assert poll(gateway, first["number"] - 1) == first
    gateway.ask()
    second = poll(gateway, first["number"])
    assert [one["arrivals"] for one in second["loads"]] == [1]
    third = poll(gateway, second["number"])  # the end of the traffic is told once more
    assert [one["arrivals"] for one in third["loads"]] == [0]
    assert poll(gateway, third["number"])["loads"] == []


def test_a_wake_is_told_at_once_and_the_request_is_answered_when_a_replica_is_there(
    start_gateway: StartGateway, replica: MakeReplica
) -> None:
    gateway = start_gateway()
    gateway.put(Route("chat", "film", 5, 10.0, (), "s", job_id="7", wakes=True))
    number = poll(gateway, 0)["number"]
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(gateway.ask().status))
    caller.start()
    told: dict[str, Any] = {"loads": []}
    while not told["loads"]:
        told = poll(gateway, number, wait_s=20.0)
        number = told["number"]
    (load,) = told["loads"]
    assert (load["job_id"], load["waiting"]) == ("7", 1)
    started = route(replica())
    gateway.put(Route("chat", "film", 5, 10.0, started.replicas, "s", job_id="7", wakes=True))
    caller.join(10)
    assert answers == [200]
    (load,) = poll(gateway, number)["loads"]
    assert load["cold_start_s"] > 0


@pytest.mark.parametrize(
    ("query", "token", "status"),
    [
        ("", "film", 401),
        ("?after=x", CONTROL, 422),
        ("?wait_s=x", CONTROL, 422),
        ("?wait_s=-1", CONTROL, 422),
        ("?wait_s=nan", CONTROL, 422),
    ],
)
def test_who_asks_wrongly(gateway: Gateway, query: str, token: str, status: int) -> None:
    assert gateway.ask(f"/-/loads{query}", method="GET", token=token).status == status


def test_the_service_hears_loads_and_goes_on_when_it_fails_with_them(
    start_gateway: StartGateway, replica: MakeReplica
) -> None:
    gateway = start_gateway()
    heard: list[ServiceLoad] = []
    came = threading.Event()

    def on_loads(loads: Sequence[ServiceLoad]) -> None:
        heard.extend(loads)
        if sum(load.answered for load in heard) >= 2:
            came.set()
        if loads:
            raise RuntimeError("the service stumbles")

    control = HttpGatewayControl(
        f"http://127.0.0.1:{gateway.port}", CONTROL, retry_s=0.02, on_loads=on_loads, loads_wait_s=0.05
    )
    control.publish([route(replica())], epoch=1)
    assert control.wait_arrived(10)
    assert gateway.ask().status == 200
    assert gateway.ask().status == 200
    assert came.wait(10)
    began_s = time.monotonic()
    control.close()
    assert time.monotonic() - began_s < 5
    assert sum(load.arrivals for load in heard) == 2


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"number": 1}', b'{"number": "1", "loads": []}', b'{"number": 1, "loads": [{}]}'],
)
def test_loads_that_are_none(text: bytes) -> None:
    with pytest.raises(BadInput):
        loads_from_json(text)


def test_windows_add_up() -> None:
    tally = Tally(0.0)
    totals = {"arrivals": 0, "answered": 0, "hopeless": 0, "refused": 0, "errors": 0, "within_slo": 0}
    for second in range(1, 6):
        for number in range(second):
            counts = tally.of(5)
            tally.arrivals += 1
            if number == 0:
                tally.refused(counts, "hopeless", 503)
            else:
                tally.answered(counts, 500 if number == 1 else 200, 0.1 * number, 0.0, 0.1, 0.25)
        load = tally.window("t", "s", "7", at_s=0.0, now_s=float(second), in_flight=0, waiting=0)
        assert load is not None
        assert load.window_s == 1.0
        for name in totals:
            totals[name] += getattr(load, name)
    assert totals == {"arrivals": 15, "answered": 10, "hopeless": 5, "refused": 5, "errors": 4, "within_slo": 7}


def test_prometheus_is_by_version_and_class(gateway: Gateway, replica: MakeReplica) -> None:
    gateway.put(route(replica()))
    gateway.ask()
    gateway.ask(headers={"X-Suanli-Priority": "2"})
    answer = gateway.ask("/-/metrics/prometheus", method="GET", token="film")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    of = 'tenant="film",service="chat",version="1",priority="2"'
    assert f"suanli_gateway_requests_total{{{of}}} 1\n" in text
    assert f'suanli_gateway_answers_total{{{of},code="200"}} 1\n' in text
    assert f'suanli_gateway_latency_seconds{{{of},quantile="0.99"}}' in text
    assert "# TYPE suanli_gateway_latency_seconds summary" in text
    assert gateway.ask("/-/metrics", method="GET", token="film", headers={"Accept": "text/plain"}).body[:6] == b"# HELP"
    assert b"chat" not in gateway.ask("/-/metrics/prometheus", method="GET", token="drone").body
    classes = gateway.service()["versions"][0]["classes"]
    assert [(one["priority"], one["requests"]) for one in classes] == [(5, 1), (2, 1)]
    json.dumps(gateway.service())
