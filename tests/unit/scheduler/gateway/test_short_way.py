"""What takes the short way and what does not is one to the caller: answers, refusals, streams, half requests."""

from __future__ import annotations

import http.client
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.gateway import fast
from scheduler.gateway.limits import START
from scheduler.ports import Replica, Route
from tests.fakes.fake_replica import FakeReplica, Request, echo
from tests.unit.scheduler.gateway.conftest import Gateway, StartGateway, route

MakeReplica = Callable[..., FakeReplica]
HEAD = b"POST /v1/services/chat/p HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer film\r\n"


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        yield connection


def read_answers(wire: socket.socket, count: int) -> list[bytes]:
    """The bodies of the next answers, which say how long they are."""
    file = wire.makefile("rb")
    bodies = []
    for _ in range(count):
        length = 0
        assert file.readline().startswith(b"HTTP/1.1 ")
        while (line := file.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        bodies.append(file.read(length))
    return bodies


def test_requests_in_one_write_are_answered_in_order(
    gateway: Gateway, replica: MakeReplica, wire: socket.socket
) -> None:
    """The short way, the long one (chunks), the gateway's own door, and the short one again."""
    gateway.put(route(replica(lambda request: request.answer(body=request.seen.body))))
    short = HEAD + b"Content-Length: 3\r\n\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    wire.sendall(short + b"one" + short + b"1.5" + chunked + short + b"six")
    # FakeReplica takes no chunks; the gateway has made a whole body of them.
    assert read_answers(wire, 4) == [b"one", b"1.5", b"two", b"six"]


def test_a_request_in_pieces_is_one_request(gateway: Gateway, replica: MakeReplica, wire: socket.socket) -> None:
    one = replica(lambda request: request.answer(body=request.seen.body))
    gateway.put(route(one))
    whole = HEAD + b"Content-Length: 6\r\n\r\npieces"
    for cut in (10, len(HEAD) + 5, len(whole) - 3):
        wire.sendall(whole[:cut])
        gateway.service()  # the gateway has gone on meanwhile
        wire.sendall(whole[cut:])
        assert read_answers(wire, 1) == [b"pieces"]
    assert len(one.seen) == 3


def test_a_caller_that_goes_away_frees_its_place(gateway: Gateway, replica: MakeReplica) -> None:
    one = replica()
    gateway.put(route(one))
    with ThreadPoolExecutor(START) as pool:
        with one.hold():
            asked = [pool.submit(gateway.ask) for _ in range(START)]
            gateway.wait(lambda told: told["in_flight"] == START)
            with socket.create_connection(("127.0.0.1", gateway.port)) as gone:
                gone.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
                gateway.wait(lambda told: told["waiting"] == 1)
            gateway.wait(lambda told: told["waiting"] == 0)
        assert [each.result().status for each in asked] == [200] * START
    assert gateway.service()["refused"] == {"caller gone": 1}
    assert len(one.seen) == START


@pytest.mark.parametrize("late", [HEAD[:20], HEAD])
def test_a_half_sent_head_is_ended_and_costs_nobody_else(
    gateway: Gateway, replica: MakeReplica, wire: socket.socket, monkeypatch: pytest.MonkeyPatch, late: bytes
) -> None:
    monkeypatch.setattr(fast, "HEAD_TIMEOUT_S", 0.2)
    gateway.put(route(replica()))
    wire.sendall(late)
    assert gateway.ask().status == 200
    assert wire.recv(12) == b"HTTP/1.1 408"


def test_a_half_sent_body_is_a_408_at_its_deadline(gateway: Gateway, replica: MakeReplica, wire: socket.socket) -> None:
    one = replica()
    gateway.put(route(one))
    wire.sendall(HEAD + b"X-Suanli-Timeout-Ms: 100\r\nContent-Length: 10\r\n\r\nhalf")
    assert gateway.ask().status == 200
    assert wire.recv(12) == b"HTTP/1.1 408"
    assert len(one.seen) == 1
    assert gateway.service()["refused"] == {"slow body": 1}


def test_what_is_no_http_is_a_400(wire: socket.socket) -> None:
    wire.sendall(b"this is not HTTP\r\n\r\n")
    assert wire.recv(12) == b"HTTP/1.1 400"


def test_a_tenant_over_its_rate_is_told_when_to_come_back(gateway: Gateway, replica: MakeReplica) -> None:
    one = replica()
    both = [replace(route(one, service=name), tenant_rate_per_s=2.0) for name in ("chat", "other")]
    gateway.put(*both, route(one, service="drones", tenant="drone"))
    answers = [gateway.ask(f"/v1/services/{name}/") for name in ("chat", "other", "chat", "chat")]
    refused = [answer for answer in answers if answer.status == 429]
    assert [answer.status for answer in answers[:2]] == [200, 200]
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert "2 requests a second" in refused[0].json["error"]["message"]
    # The long way keeps to the same bucket, and another tenant has its own.
    assert gateway.ask("/v1/services/chat/", method="HEAD").status == 429
    assert gateway.ask("/v1/services/drones/", token="drone").status == 200


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_a_service_is_found_by_its_host(gateway: Gateway, replica: MakeReplica, method: str) -> None:
    one = replica()
    gateway.put(replace(route(one), hosts=("Chat.example.com",)))
    told = {"Host": "chat.example.com:7412"}
    assert gateway.ask("/v1/chat/completions?a=1", method=method, headers=told).status == 200
    assert one.seen[-1].target == "/v1/chat/completions?a=1"
    assert gateway.ask("/v1/chat/completions", headers=told, token=None).status == 401
    assert gateway.ask("/v1/chat/completions", headers=told, token="drone").status == 404
    assert gateway.ask("/v1/chat/completions", headers={"Host": "other.example.com"}).status == 404
    assert gateway.ask("/-/health", method="GET", headers=told).json["ok"]


def test_an_openai_style_service_streams_through(gateway: Gateway, replica: MakeReplica) -> None:
    """Server-sent events arrive while the model makes them; the caller's token stays at the gateway."""
    first_read = threading.Event()

    def complete(request: Request) -> None:
        asked = json.loads(request.seen.body)
        assert "authorization" not in request.seen.headers
        if not asked.get("stream"):
            request.answer(body=b'{"object": "chat.completion"}', headers=(("Content-Type", "application/json"),))
            return
        request.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'13\r\ndata: {"delta": 1}\n\n\r\n'.replace(b"13", b"14")
        )
        assert first_read.wait(10)
        request.raw(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    one = replica(complete)
    gateway.put(replace(route(one), hosts=("llm.example.com",)))
    headers = {"Host": "llm.example.com", "Authorization": "Bearer film", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", b'{"stream": true}', headers)
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream"
    assert response.readline() == b'data: {"delta": 1}\n'
    first_read.set()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.request("POST", "/v1/chat/completions", b"{}", headers)  # and the connection is good for a next one
    assert json.loads(connection.getresponse().read()) == {"object": "chat.completion"}
    connection.close()
    assert gateway.service()["answers"] == {"200": 2}


def test_a_caller_that_leaves_a_stream_frees_the_replica(gateway: Gateway, replica: MakeReplica) -> None:
    ended = threading.Event()

    def endless(request: Request) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                request.raw(b"5\r\nagain\r\n")
                if ended.wait(0.005):
                    return
        finally:
            ended.set()

    gateway.put(route(replica(endless)))
    with socket.create_connection(("127.0.0.1", gateway.port)) as wire:
        wire.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        assert wire.recv(100)
    assert ended.wait(10)
    gateway.wait(lambda told: told["in_flight"] == 0 and told["refused"] == {"caller gone": 1})


# ---- Unix sockets ------------------------------------------------------------------------------------------------


class UnixReplica(FakeReplica):
    """Answers on a Unix socket as well."""

    def __init__(self, path: Path, mode: int = 0o600) -> None:
        super().__init__(echo)
        self.by_unix = 0
        outer = self

        class Handler(Request):
            replica = self
            disable_nagle_algorithm = False

            def handle_one_request(self) -> None:
                super().handle_one_request()

            def _serve(self) -> None:
                outer.by_unix += 1
                super()._serve()

            do_POST = do_GET = _serve

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.unix = Server(str(path), Handler)
        os.chmod(path, mode)
        self._unix_thread = threading.Thread(
            target=self.unix.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._unix_thread.start()

    def close(self) -> None:
        self.unix.shutdown()
        self.unix.server_close()
        super().close()


@pytest.mark.parametrize(
    ("node", "mode", "spoil", "used"),
    [
        ("here", 0o600, "", True),
        ("there", 0o600, "", False),
        ("here", 0o666, "", False),
        ("here", 0o600, "away", False),
        ("here", 0o600, "file", False),
    ],
    ids=["of this node", "of another node", "open to others", "not there", "no socket"],
)
def test_a_replica_of_this_node_is_reached_over_its_unix_socket(
    start_gateway: StartGateway, tmp_path: Path, node: str, mode: int, spoil: str, used: bool
) -> None:
    path = tmp_path / "s"
    one = UnixReplica(path, mode)
    try:
        if spoil:
            path.unlink()
        if spoil == "file":
            path.write_text("")
        gateway = start_gateway(node="here")
        told = Replica("7", 0, 1, one.address, False, node=node, unix_path=str(path))
        gateway.put(Route("chat", "film", 5, None, (told,), "secret"))
        assert [gateway.ask().status for _ in range(3)] == [200] * 3
        assert one.by_unix == (3 if used else 0)
    finally:
        one.close()
