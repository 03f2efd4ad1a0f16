"""The gateway as its callers see it: who may ask what, what reaches a replica, what comes back, and what is refused."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scheduler.errors import BadInput
from scheduler.gateway.app import create_gateway_app
from scheduler.gateway.limits import START
from tests.fakes.fake_clock import FakeClock
from tests.fakes.fake_replica import FakeReplica, Request
from tests.unit.scheduler.gateway.conftest import CONTROL, Gateway, StartGateway, Tokens, route

MakeReplica = Callable[..., FakeReplica]


def closed_address() -> str:
    """Where nobody listens: the socket was bound, so the port was free, and is closed again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    ("token", "service", "status"),
    [
        (None, "chat", 401),
        ("stolen", "chat", 401),
        ("film", "chat", 200),
        ("film", "nothing", 404),
        ("film", "drones", 404),
        ("drone", "chat", 404),
        ("drone", "drones", 200),
        ("op", "chat", 200),
        ("op", "drones", 200),
        ("op", "nothing", 404),
        ("eye", "chat", 403),
        (CONTROL, "chat", 401),
    ],
)
def test_who_may_call_which_service(
    gateway: Gateway, replica: MakeReplica, token: str | None, service: str, status: int
) -> None:
    one = replica()
    gateway.put(route(one), route(one, service="drones", tenant="drone"))
    answer = gateway.ask(f"/v1/services/{service}/predict", token=token)
    assert answer.status == status
    assert len(one.seen) == (1 if status == 200 else 0)
    if status != 200:
        assert answer.json["error"]["message"]
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_name_of_two_tenants_is_each_ones_own(gateway: Gateway, replica: MakeReplica) -> None:
    films, drones = replica(), replica()
    gateway.put(route(films, service="x"), route(drones, service="x", tenant="drone"))
    gateway.ask("/v1/services/x/", token="film")
    gateway.ask("/v1/services/x/", token="drone")
    assert (len(films.seen), len(drones.seen)) == (1, 1)
    ambiguous = gateway.ask("/v1/services/x/", token="op")
    assert ambiguous.status == 422
    assert "drone, film" in ambiguous.json["error"]["message"]


def test_no_token_file_lets_nobody_in(gateway: Gateway, replica: MakeReplica) -> None:
    gateway.put(route(replica()))
    gateway.tokens.broken = True
    assert gateway.ask().status == 503


def test_what_reaches_the_replica(gateway: Gateway, replica: MakeReplica) -> None:
    one = replica()
    gateway.put(route(one, simulated=True))
    forged = {"X-Suanli-Replica-Secret": "forged", "X-Custom": "kept", "Connection": "x-drop, close", "X-Drop": "1"}
    answer = gateway.ask("/v1/services/chat/a%20b/c?q=1&r=%2F", body=b'{"inputs": [1]}', headers=forged)
    (seen,) = one.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/a%20b/c?q=1&r=%2F", b'{"inputs": [1]}')
    assert seen.headers["x-suanli-replica-secret"] == "replica-secret"
    assert seen.headers["host"] == one.address
    assert seen.headers["x-custom"] == "kept"
    assert 0 < int(seen.headers["x-suanli-timeout-ms"]) <= 30_000
    assert not {"authorization", "x-drop"} & seen.headers.keys()
    assert answer.headers["x-suanli-replica"] == "7/0"
    assert answer.headers["x-suanli-simulated"] == "1"
    assert answer.json["body"] == '{"inputs": [1]}'


def test_the_replicas_own_status_and_headers_come_back(gateway: Gateway, replica: MakeReplica) -> None:
    def behave(request: Request) -> None:
        request.answer(418, b"short and stout", (("X-Model", "teapot"), ("Keep-Alive", "timeout=1")))

    gateway.put(route(replica(behave)))
    answer = gateway.ask()
    assert (answer.status, answer.body, answer.headers["x-model"]) == (418, b"short and stout", "teapot")
    assert "keep-alive" not in answer.headers
    assert "x-suanli-simulated" not in answer.headers


@pytest.mark.parametrize(
    ("raw", "close", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", False, b"abcde"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", False, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, b""),
    ],
    ids=["chunked", "until close", "after a 100", "no content"],
)
def test_every_way_to_end_an_answer(
    gateway: Gateway, replica: MakeReplica, raw: bytes, close: bool, body: bytes
) -> None:
    gateway.put(route(replica(lambda request: request.raw(raw, close=close))))
    for _ in range(2):  # the second may come over the same connection
        assert gateway.ask().body == body


def test_head_has_a_length_and_no_body(gateway: Gateway, replica: MakeReplica) -> None:
    gateway.put(route(replica(lambda request: request.answer(body=b"12345"))))
    for _ in range(2):
        answer = gateway.ask(method="HEAD")
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")


def test_a_stream_arrives_while_it_is_made(gateway: Gateway, replica: MakeReplica) -> None:
    first_read = threading.Event()

    def behave(request: Request) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert first_read.wait(10)
        request.raw(b"4\r\nlast\r\n0\r\n\r\n")

    gateway.put(route(replica(behave)))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("POST", "/v1/services/chat/", b"{}", {"Authorization": "Bearer film"})
    response = connection.getresponse()
    assert response.read(5) == b"first"
    first_read.set()
    assert response.read() == b"last"
    connection.close()


def test_an_answer_that_breaks_off_is_not_passed_as_whole(gateway: Gateway, replica: MakeReplica) -> None:
    gateway.put(route(replica(lambda r: r.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", close=True))))
    with pytest.raises(http.client.IncompleteRead):
        gateway.ask()
    assert gateway.service()["refused"] == {"broken off": 1}


@pytest.mark.parametrize("raw", [b"this is not HTTP\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"])
def test_an_answer_that_is_not_http_is_a_502(gateway: Gateway, replica: MakeReplica, raw: bytes) -> None:
    gateway.put(route(replica(lambda request: request.raw(raw, close=True))))
    assert gateway.ask().status == 502


def test_a_body_over_the_limit(gateway: Gateway, replica: MakeReplica) -> None:
    one = replica()
    gateway.put(route(one))
    assert gateway.ask(body=b"x" * 100_000).status == 200
    assert gateway.ask(body=b"x" * 100_001).status == 413
    assert gateway.ask(body=b"x" * 700_000).status == 413
    assert gateway.ask(headers={"Content-Length": "99999999"}).status == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(101):
            yield b"x" * 1000

    assert gateway.ask(body=chunks()).status == 413
    assert len(one.seen) == 1


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "999999999"])
def test_a_deadline_must_make_sense(gateway: Gateway, replica: MakeReplica, value: str) -> None:
    gateway.put(route(replica()))
    answer = gateway.ask(headers={"X-Suanli-Timeout-Ms": value})
    assert (answer.status, answer.json["error"]["field"]) == (400, "x-suanli-timeout-ms")


def test_a_replica_past_the_deadline_is_a_504_and_its_slot_is_free_again(
    gateway: Gateway, replica: MakeReplica
) -> None:
    one = replica()
    gateway.put(route(one))
    with one.hold():
        assert gateway.ask(headers={"X-Suanli-Timeout-Ms": "80"}).status == 504
    assert gateway.service()["in_flight"] == 0
    assert gateway.ask().status == 200


def test_no_replica_says_when_to_come_back(gateway: Gateway) -> None:
    gateway.put(route())
    answer = gateway.ask()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_busy_replicas_queue_then_refuse(gateway: Gateway, replica: MakeReplica) -> None:
    """START in flight on the one replica (as many as one gets that has not answered yet) and 4 waiting are all that
    this gateway takes."""
    one = replica()
    gateway.put(route(one))
    with ThreadPoolExecutor(START + 4) as pool:
        with one.hold():
            asked = [pool.submit(gateway.ask) for _ in range(START + 4)]
            gateway.wait(lambda told: told["in_flight"] == START and told["waiting"] == 4)
            assert len(one.seen) <= START
            refused = gateway.ask()
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert [one.result().status for one in asked] == [200] * (START + 4)
    assert gateway.service()["refused"] == {"queue full": 1}


def test_a_request_that_waits_past_its_deadline_never_reaches_a_replica(gateway: Gateway, replica: MakeReplica) -> None:
    one = replica()
    gateway.put(route(one))
    with ThreadPoolExecutor(8) as pool:
        with one.hold():
            asked = [pool.submit(gateway.ask) for _ in range(START)]
            gateway.wait(lambda told: told["in_flight"] == START)
            late = gateway.ask(body=b'"late"', headers={"X-Suanli-Timeout-Ms": "50"})
        assert [one.result().status for one in asked] == [200] * START
    assert (late.status, late.headers["retry-after"]) == (503, "1")
    assert b'"late"' not in [seen.body for seen in one.seen]
    assert gateway.service()["waiting"] == 0


def test_a_dead_replica_costs_nobody_a_request(gateway: Gateway, replica: MakeReplica) -> None:
    living = replica()
    gateway.put(route(closed_address(), living))
    assert [gateway.ask().status for _ in range(20)] == [200] * 20
    gateway.wait(lambda told: [one["reachable"] for one in told["replicas"]] == [False, True])
    assert gateway.service()["retries"] <= 1  # found dead by the gateway itself, or by the first request


def test_all_replicas_dead_is_a_503(gateway: Gateway) -> None:
    gateway.put(route(closed_address(), closed_address()))
    assert gateway.ask().status == 503


@pytest.mark.parametrize(
    ("method", "headers", "declared", "statuses"),
    [
        ("GET", {}, False, {200}),
        ("PUT", {}, False, {200}),
        ("POST", {}, False, {200, 502}),
        ("POST", {"Idempotency-Key": "k"}, False, {200}),
        ("POST", {}, True, {200}),
    ],
    ids=["GET", "PUT", "POST", "POST with a key", "POST to a replica that allows it"],
)
def test_what_is_sent_again_when_a_replica_dies_with_it(
    gateway: Gateway, replica: MakeReplica, method: str, headers: dict[str, str], declared: bool, statuses: set[int]
) -> None:
    """One of two replicas breaks every connection once the request is in: the first that meets it is sent again, and it
    gets no more."""
    says = (("X-Suanli-Resend", "safe"),) if declared else ()
    both = [replica(lambda request: request.answer(headers=says)) for _ in range(2)]
    gateway.put(route(*both))
    while not all(one.seen for one in both):  # each has said what it allows
        gateway.ask()
    both[0].then(Request.break_off)
    seen_before = len(both[0].seen)
    found = set()
    deadline_s = time.monotonic() + 20
    while len(both[0].seen) == seen_before:
        found.add(gateway.ask(method=method, headers=headers).status)
        assert time.monotonic() < deadline_s
    found.add(gateway.ask(method=method, headers=headers).status)
    assert found == statuses
    assert gateway.service()["in_flight"] == 0


def test_both_replicas_get_their_part(gateway: Gateway, replica: MakeReplica) -> None:
    one, other = replica(), replica()
    gateway.put(route(one, other))
    with ThreadPoolExecutor(2 * START) as pool:
        with one.hold(), other.hold():
            asked = [pool.submit(gateway.ask) for _ in range(2 * START)]
            gateway.wait(lambda told: [state["in_flight"] for state in told["replicas"]] == [START, START])
        assert [one.result().status for one in asked] == [200] * (2 * START)


def test_a_replica_that_leaves_the_table_finishes_what_it_has(gateway: Gateway, replica: MakeReplica) -> None:
    old, new = replica(), replica()
    gateway.put(route(old))
    with ThreadPoolExecutor(1) as pool, old.hold():
        asked = pool.submit(gateway.ask)
        old.wait_seen(1)
        gateway.put(route(new))
        assert gateway.ask().status == 200
        old._open.set()
        assert asked.result().status == 200
    assert (len(old.seen), len(new.seen)) == (1, 1)


def test_a_service_that_leaves_the_table_is_gone(gateway: Gateway, replica: MakeReplica) -> None:
    gateway.put(route(replica()))
    gateway.put()
    assert gateway.ask().status == 404


# ---- the gateway's own doors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["film", "op", "eye", "control-toke", "", None])
def test_only_the_control_token_changes_routes(gateway: Gateway, replica: MakeReplica, token: str | None) -> None:
    gateway.put(route(replica()))
    answer = gateway.ask("/-/routes", method="PUT", token=token, body=b'{"routes": []}')
    assert answer.status == 401
    assert gateway.ask().status == 200


def test_a_bad_table_changes_nothing(gateway: Gateway, replica: MakeReplica) -> None:
    gateway.put(route(replica()))
    answer = gateway.ask("/-/routes", method="PUT", token=CONTROL, body=b'{"routes": [{}]}')
    assert (answer.status, answer.json["error"]["field"]) == (422, "routes[0].slo_p99_ms")
    assert gateway.ask().status == 200


def test_an_empty_control_token_would_let_everybody_in() -> None:
    with pytest.raises(BadInput):
        create_gateway_app(Tokens(), "", FakeClock())


def test_metrics_show_each_their_own(gateway: Gateway, replica: MakeReplica) -> None:
    one = replica()
    gateway.put(route(one), route(one, service="drones", tenant="drone"))
    for _ in range(5):
        gateway.ask()
    gateway.ask(body=b"x" * 100_001)

    def seen_by(token: str | None) -> list[str]:
        return [told["service"] for told in gateway.ask("/-/metrics", method="GET", token=token).json["services"]]

    assert seen_by("film") == ["chat"]
    assert seen_by("op") == seen_by("eye") == seen_by(CONTROL) == ["chat", "drones"]
    assert gateway.ask("/-/metrics", method="GET", token=None).status == 401
    told = gateway.service()
    assert (told["requests"], told["answers"], told["refused"]) == (6, {"200": 5, "413": 1}, {"too large": 1})
    assert told["latency_ms"]["count"] == 5
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"] <= told["latency_ms"]["max"]


def test_health_is_for_anybody_and_the_rest_is_not_there(gateway: Gateway) -> None:
    health = gateway.ask("/-/health", method="GET", token=None)
    assert (health.status, health.json["ok"], health.json["services"]) == (200, True, 0)
    assert gateway.ask("/", method="GET", token=None).status == 404


def test_the_last_table_outlives_the_gateway(start_gateway: StartGateway, replica: MakeReplica, tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    one = replica()
    start_gateway(table_path=path).put(route(one))
    assert path.stat().st_mode & 0o777 == 0o600
    assert start_gateway(table_path=path).ask().status == 200


@pytest.mark.parametrize("spoil", ["mode", "text"])
def test_a_spoilt_table_is_told_and_not_used(start_gateway: StartGateway, tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "routes.json"
    path.write_text('{"routes": []}' if spoil == "mode" else "half a tab")
    path.chmod(0o644 if spoil == "mode" else 0o600)
    health = start_gateway(table_path=path).ask("/-/health", method="GET", token=None).json
    assert health["ok"]
    assert "not used" in health["problem"]
