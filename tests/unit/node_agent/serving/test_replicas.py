"""What real replicas do with models of all kinds, and with those that misbehave: the caller hears it, nobody else."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.model_server import SECRET, ModelServer, UnixConnection, serving

MODEL = """
import os, time

class Model:
    routes = {"/v1/embed": "embed", "/v1/chat": "chat"}
    def predict(self, batch):
        words = [one for one in batch if isinstance(one, str)]
        if "hang" in words:
            time.sleep(600)
        if "exit" in words:
            os._exit(9)
        if "slow" in words:
            time.sleep(0.3)
        return [one * 2 for one in batch]
    def predict_raw(self, body, content_type):
        if body == b"boom":
            raise ValueError("no")
        return body[::-1], content_type
    def embed(self, request):
        return {"path": request.path, "said": request.json()}
    def chat(self, request):
        yield from self.stream(request)
    def stream(self, request):
        asked = request.json()
        try:
            for number in range(asked["count"]):
                if number == asked.get("breaks_at"):
                    raise RuntimeError("the tape broke")
                yield b"x" * asked["bytes"] if "bytes" in asked else {"token": number}
        finally:
            with open(os.environ["NOTES"], "a") as notes:
                notes.write("done\\n")

class Bytes:
    accepts = "bytes"
    answers = "image/png"
    def predict(self, batch):
        return [body.upper() for body in batch]

class Wrong(Bytes):
    def predict(self, batch):
        return ["text" for body in batch]
"""


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    directory = tmp_path_factory.mktemp("replica")
    notes = directory / "notes"
    with serving(directory, MODEL, NOTES=str(notes), SUANLI_UNIX_SOCKET=str(directory / "socket")) as one:
        yield one


def test_arrays_in_arrays_out(replica: ModelServer) -> None:
    file = io.BytesIO()
    np.save(file, np.arange(6, dtype="f4").reshape(2, 3))
    answer = replica.ask(body=file.getvalue(), headers={"Content-Type": "application/x-npy"})
    assert answer.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.body)), np.arange(6).reshape(2, 3) * 2)
    told = {"Content-Type": "application/x-tensor; dtype=int32; shape=2", "Accept": "application/json"}
    assert replica.ask(body=np.array([1, 2], "<i4").tobytes(), headers=told).json == {"outputs": [2, 4]}
    answer = replica.ask(body=b"123", headers={"Content-Type": "application/x-tensor; dtype=int32; shape=2"})
    assert (answer.status, "needs 8 bytes; 3 came" in answer.json["error"]["message"]) == (400, True)


def test_a_body_that_is_no_input_goes_through_untouched(replica: ModelServer) -> None:
    body = bytes(range(256)) * 1000
    answer = replica.ask(body=body, headers={"Content-Type": "video/mp4"})
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body[::-1], "video/mp4")
    answer = replica.ask(body=b"boom", headers={"Content-Type": "video/mp4"})
    assert (answer.status, answer.json) == (500, {"error": {"message": "the model failed: ValueError: no"}})


def test_a_model_that_asks_for_bytes_gets_each_body_as_one_input(tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, "Bytes") as one:
        answer = one.ask(body=b"abc", headers={"Content-Type": "application/json"})
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"ABC", "image/png")
    with serving(tmp_path, MODEL, "Wrong") as one:
        assert "answers bytes, and this one a str" in one.ask(body=b"abc").json["error"]["message"]


def test_a_route_of_the_models_own(replica: ModelServer) -> None:
    assert replica.ask("/v1/embed?x=1", b'{"a": 1}').json == {"path": "/v1/embed", "said": {"a": 1}}
    for path in ("/v1/embed", "/v1/chat"):
        refused = replica.ask(path, b"no json")
        assert (refused.status, "not JSON" in refused.json["error"]["message"]) == (400, True)
    assert replica.ask("/v1/embed", method="GET").status == 405
    answer = replica.ask("/v1/other", b"")
    assert (answer.status, "/v1/embed" in answer.json["error"]["message"]) == (404, True)


@pytest.mark.parametrize("path", ["/stream", "/v1/chat"])
def test_a_stream_comes_as_events(replica: ModelServer, path: str) -> None:
    connection = replica.connection()
    answer = replica.ask(path, b'{"count": 3}', over=connection)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    events = [json.loads(line[6:]) for line in answer.body.decode().split("\n\n") if line]
    assert events == [{"token": 0}, {"token": 1}, {"token": 2}]
    assert replica.ask(path, b'{"count": 0}', over=connection).body == b""  # the connection goes on


def test_a_model_with_methods_of_its_own_is_not_asked_twice(replica: ModelServer) -> None:
    assert "x-suanli-resend" not in replica.predict(1).headers


def test_a_stream_of_bytes_is_left_as_it_is(replica: ModelServer) -> None:
    answer = replica.ask("/stream", b'{"count": 3, "bytes": 5}')
    assert (answer.headers["content-type"], answer.body) == ("application/octet-stream", b"x" * 15)


def test_a_stream_that_breaks_says_so_and_is_not_ended_as_if_it_were_whole(replica: ModelServer) -> None:
    with socket.create_connection(replica.address.rsplit(":", 1), timeout=20) as sock:  # type: ignore[arg-type]
        body = b'{"count": 9, "breaks_at": 2}'
        head = f"POST /stream HTTP/1.1\r\nHost: x\r\nX-Suanli-Replica-Secret: {SECRET}\r\nContent-Length: {len(body)}"
        sock.sendall(head.encode() + b"\r\n\r\n" + body)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"event: error" in got
    assert b"the tape broke" in got
    assert not got.endswith(b"0\r\n\r\n")
    answer = replica.ask("/stream", b'{"count": 9, "breaks_at": 0}')
    assert (answer.status, answer.json["error"]["message"]) == (500, "the model failed: RuntimeError: the tape broke")


def test_a_slow_reader_holds_its_stream_back_and_one_that_goes_ends_it(replica: ModelServer, tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, NOTES=str(tmp_path / "notes")) as one:
        before = _rss_bytes(one.process.pid)
        connection = one.connection()
        connection.request("POST", "/stream", b'{"count": 100000, "bytes": 65536}', {"X-Suanli-Replica-Secret": SECRET})
        response = connection.getresponse()
        assert response.read(10) == b"x" * 10
        for _ in range(20):  # others are answered meanwhile
            assert one.predict(1).json == {"outputs": [2]}
        assert one.get("/-/stats").json["streams"] == 1
        assert _rss_bytes(one.process.pid) - before < 32 << 20  # of 6.5 GB
        response.close()
        connection.close()
        deadline_s = time.monotonic() + 10
        while one.get("/-/stats").json["streams"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        assert (tmp_path / "notes").read_text() == "done\n"  # the generator was closed


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_unix_socket_answers_alike_and_is_for_its_user_alone(replica: ModelServer) -> None:
    path = Path(replica.unix_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answer = replica.ask(body=b'{"inputs": [4]}', over=UnixConnection(str(path)))
    assert answer.json == {"outputs": [8]}


def test_a_run_directory_may_be_longer_than_a_unix_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with serving(tmp_path, MODEL, SUANLI_UNIX_SOCKET=str(deep / "socket")) as one:
        assert stat.S_ISSOCK((deep / "socket").stat().st_mode)
        one.process.terminate()
        assert one.process.wait(10) == 0
    assert not (deep / "socket").exists()


# ---- models that misbehave -------------------------------------------------------------------------------------------


def test_while_the_model_hangs_health_answers_then_its_callers_are_told_and_the_replica_ends(tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, SUANLI_STUCK_S="1.5") as one, ThreadPoolExecutor(4) as pool:
        for _ in range(30):  # so quick that its thread has the sockets
            assert one.predict(1).status == 200
        hung = pool.submit(one.predict, "hang")
        one.wait_busy()
        health = one.get("/-/health")
        assert health.status == 200
        assert one.get("/-/ready").status == 200
        behind = pool.submit(_may_break, one)
        answer = hung.result()
        assert (answer.status, "has not come back for 1.5 s" in answer.json["error"]["message"]) == (500, True)
        assert behind.result() == "closed"  # without an answer: a gateway asks another replica
        assert one.process.wait(10) == 1
        said = one.stderr.read_text().splitlines()
        assert said[-1] == "error: the model has not come back for 1.5 s, so this replica ends"
        assert any("in predict" in line for line in said)


def _may_break(one: ModelServer) -> str:
    try:
        return str(one.predict(2).status)
    except (OSError, http.client.HTTPException):
        return "closed"


def test_a_model_that_exits_takes_its_replica_along_without_an_answer(tmp_path: Path) -> None:
    with serving(tmp_path, MODEL) as one:
        with pytest.raises(ConnectionError):
            one.predict("exit")
        assert one.process.wait(10) == 9


def test_what_waits_past_its_deadline_is_not_computed(replica: ModelServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(replica.predict, "slow")
        replica.wait_busy()
        answer = replica.ask(body=b'{"inputs": [1]}', headers={"X-Suanli-Timeout-Ms": "20"})
        assert (answer.status, "deadline passed" in answer.json["error"]["message"]) == (504, True)
        assert slow.result().status == 200


def test_a_call_larger_than_a_batch_runs_in_pieces(tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, SUANLI_BATCH_MAX="8") as one:
        assert one.predict(*range(70)).json == {"outputs": [2 * n for n in range(70)]}
        stats = one.get("/-/stats").json
        assert (stats["batches"], stats["largest_batch"]) == (9, 8)
        assert one.predict(*range(20), None).status == 500
        assert one.predict(1).json == {"outputs": [2]}


@pytest.mark.parametrize("name", ["SUANLI_BATCH_MAX", "SUANLI_SLO_MS", "SUANLI_STUCK_S"])
def test_a_setting_that_is_no_number_is_named(tmp_path: Path, name: str) -> None:
    said = f"error: {name} is 'many'; it must be a number"
    with pytest.raises(AssertionError, match=said), serving(tmp_path, MODEL, **{name: "many"}):
        pass


# ---- callers that misbehave ------------------------------------------------------------------------------------------


def raw(replica: ModelServer, data: bytes) -> bytes:
    """All that comes back until the connection is closed."""
    host, port = replica.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


HEAD = f"POST /predict HTTP/1.1\r\nHost: x\r\nX-Suanli-Replica-Secret: {SECRET}\r\n".encode()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"400"),
        (HEAD + b"X-Long: " + b"x" * 70_000 + b"\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 999999999999\r\n\r\n", b"413"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * (1 << 20) + b"\r\n", None),
        (HEAD + b"Connection: close\r\nContent-Length: 15\r\n\r\n" + b'{"inputs": [1]}', b"200"),
        (HEAD.replace(b"1.1", b"1.0") + b"Content-Length: 15\r\n\r\n" + b'{"inputs": [1]}', b"200"),
    ],
    ids=["nonsense", "upgrade", "headers", "negative", "two lengths", "huge", "unfinished", "close", "old"],
)
def test_what_comes_is_answered_and_the_connection_closed(
    replica: ModelServer, data: bytes, status: bytes | None
) -> None:
    if status is None:  # half a request: nothing is owed, and nobody else waits for it
        host, port = replica.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=20) as sock:
            sock.sendall(data)
            assert replica.predict(1).status == 200
        return
    assert raw(replica, data).split(b" ")[1] == status
    assert replica.predict(1).status == 200


def test_requests_that_come_in_one_piece_are_answered_in_order(replica: ModelServer) -> None:
    one = HEAD + b"Content-Length: 15\r\n\r\n" + b'{"inputs": [1]}'
    last = HEAD + b"Connection: close\r\nContent-Length: 15\r\n\r\n" + b'{"inputs": [7]}'
    got = raw(replica, one * 40 + last)
    assert got.count(b"HTTP/1.1 200 OK") == 41
    assert got.count(b"[2]") == 40
    assert got.rindex(b"[14]") > got.rindex(b"[2]")


def test_a_caller_that_asks_whether_it_may_go_on_is_told(replica: ModelServer) -> None:
    host, port = replica.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 15\r\n\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b'{"inputs": [1]}')
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_stopping_replica_lets_streams_and_calls_end(tmp_path: Path) -> None:
    with serving(tmp_path, MODEL, NOTES=str(tmp_path / "notes")) as one, ThreadPoolExecutor(2) as pool:
        slow = pool.submit(one.predict, "slow")
        one.wait_busy()
        connection = one.connection()
        assert one.ask("/-/ready", method="GET", over=connection).status == 200
        one.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + 10
        while (ready := one.ask("/-/ready", method="GET", over=connection)).status == 200:
            assert time.monotonic() < deadline_s
        assert (ready.status, ready.headers["connection"]) == (503, "close")
        answer = slow.result()
        assert (answer.json, answer.headers["connection"]) == ({"outputs": ["slowslow"]}, "close")
        assert one.process.wait(10) == 0


MOODY = """
import time

class Model:
    routes = {"/count": "count"}
    def predict(self, batch):
        if 13 in batch:
            time.sleep(0.08)  # now and then so long that the main thread takes the sockets back
        elif 7 in batch:
            time.sleep(0.002)
        return batch
    def count(self, request):
        yield from range(request.json())
"""


def test_nothing_is_lost_however_often_the_sockets_change_hands(tmp_path: Path) -> None:
    def ask(one: ModelServer, seed: int) -> int:
        connection = one.connection()
        for number in range(150):
            value = (seed * 31 + number * 7) % 97
            if value == 50:
                told = one.ask("/count", b"3", over=connection).body.decode()
                assert told == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
                continue
            body = json.dumps({"inputs": [value]}).encode()
            assert one.ask(body=body, over=connection).json == {"outputs": [value]}
        connection.close()
        return 150

    with serving(tmp_path, MOODY) as one, ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(lambda seed: ask(one, seed), range(6))) == 900
        one.process.terminate()
        assert one.process.wait(10) == 0
