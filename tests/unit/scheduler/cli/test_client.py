"""How the client finds its service and keeps its token to itself, and what it makes of answers from elsewhere."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scheduler import errors
from scheduler.cli import client as client_module
from scheduler.cli.client import Client
from tests.fakes.control_views import job_view, worker_view
from tests.fakes.live_api import write_private

if TYPE_CHECKING:
    from tests.unit.scheduler.cli.conftest import Shell


class Impostor(BaseHTTPRequestHandler):
    """Something else on the port: gives scripted answers, then `reply` (None: hangs up), and keeps what was asked."""

    protocol_version = "HTTP/1.1"
    reply: tuple[int, bytes] | None = (200, b"{}")
    script: list[tuple[int, bytes] | None]
    asked: list[tuple[str, str | None]]  # path, Authorization

    def _answer(self) -> None:
        type(self).asked.append((self.path, self.headers.get("Authorization")))
        reply = self.script.pop(0) if self.script else self.reply
        if reply is None:
            self.close_connection = True
            return
        status, body = reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, *_args: Any) -> None:
        return


@pytest.fixture
def impostor() -> Iterator[tuple[str, type[Impostor]]]:
    handler = type("Scripted", (Impostor,), {"asked": [], "script": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True  # each ends when its client closes the connection
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join(5)
    server.server_close()


def free_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# ---- where the service is, and who asks --------------------------------------------------------------------------


def test_without_a_home_it_says_what_to_do(home: Path) -> None:
    with pytest.raises(errors.Unavailable, match="start one with `suanli up`, or set SUANLI_API"):
        Client.from_env()
    with pytest.raises(errors.Unavailable, match="no Suanli service is known in"):
        Client.from_home(home)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"api": 3}'])
def test_a_broken_client_json_is_named(home: Path, text: str) -> None:
    home.mkdir()
    (home / "client.json").write_text(text)
    with pytest.raises(errors.Unavailable, match=r"client\.json .*writes it anew"):
        Client.from_env()


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ("127.0.0.1:80", "is no address"),
        ("ftp://127.0.0.1", "is no address"),
        ("http://", "is no address"),
        ("http://127.0.0.1:99999", "is no address"),
        ("http://10.1.2.3:8000", "in clear"),
        ("http://localhost.example.org", "in clear"),
    ],
)
def test_addresses_that_are_refused(monkeypatch: pytest.MonkeyPatch, api: str, said: str) -> None:
    monkeypatch.setenv("SUANLI_API", api)
    monkeypatch.setenv("SUANLI_TOKEN", "t")
    with pytest.raises(errors.BadInput, match=said):
        Client.from_env()


def test_the_homes_token_is_not_sent_elsewhere(shell: Shell, impostor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, handler = impostor
    monkeypatch.setenv("SUANLI_API", url)
    result = shell.run("queue")
    assert result.exit_code == 3
    assert "Set SUANLI_TOKEN_FILE" in result.stderr
    assert handler.asked == []


def test_the_environment_names_service_and_token(
    impostor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = impostor
    monkeypatch.setenv("SUANLI_API", url + "/")
    monkeypatch.setenv("SUANLI_TOKEN_FILE", str(write_private(tmp_path / "t", "from-file\n")))
    Client.from_env().get("/v1/jobs", state=None, limit=3)
    monkeypatch.setenv("SUANLI_TOKEN", "from-environment")
    Client.from_env().get("/v1/jobs")
    assert handler.asked == [("/v1/jobs?limit=3", "Bearer from-file"), ("/v1/jobs", "Bearer from-environment")]


def test_token_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUANLI_API", "http://127.0.0.1:1")
    cases = {"absent": errors.NotFound, "open": errors.Unauthenticated, "empty": errors.Unauthenticated}
    write_private(tmp_path / "open", "t").chmod(0o644)
    write_private(tmp_path / "empty", "\n")
    write_private(tmp_path / "two", "one\ntwo\n")
    for name, error in {**cases, "two": errors.Unauthenticated}.items():
        monkeypatch.setenv("SUANLI_TOKEN_FILE", str(tmp_path / name))
        with pytest.raises(error, match=name):
            Client.from_env()


# ---- what comes back ---------------------------------------------------------------------------------------------


def test_nobody_answers() -> None:
    url = free_url()
    with pytest.raises(errors.Unavailable, match=f"no Suanli service answers at {url}; start it with `suanli up`"):
        Client(url, "t").get("/v1/jobs")


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        ((200, b"<html>"), errors.Unavailable, "not as Suanli does"),
        ((200, b"[]"), errors.Unavailable, "not as Suanli does"),
        ((302, b""), errors.Unavailable, "not as Suanli does"),
        ((502, b"Bad Gateway"), errors.Unavailable, "HTTP 502"),
        ((404, b'{"error": "x"}'), errors.Unavailable, "HTTP 404"),
        ((404, b'{"error": {"message": "m", "field": null, "type": "not_found"}}'), errors.NotFound, "m"),
        ((409, b'{"error": {"message": "m", "field": "f", "type": "conflict"}}'), errors.Conflict, "m"),
        ((413, b'{"error": {"message": "m", "field": null, "type": "too_large"}}'), errors.BadInput, "m"),
        ((429, b'{"error": {"message": "m", "field": null, "type": "overloaded"}}'), errors.Overloaded, "m"),
        ((500, b'{"error": {"message": "m", "field": null, "type": "internal"}}'), errors.SuanliError, "m"),
        (None, errors.Unavailable, "could not be asked"),
    ],
)
def test_answers_become_failures(impostor: Any, reply: Any, error: type[Exception], said: str) -> None:
    url, handler = impostor
    handler.reply = reply
    with pytest.raises(error, match=said) as raised:
        Client(url, "t").get("/v1/jobs")
    assert type(raised.value) is error


def test_every_failure_of_the_service_comes_back_as_itself(shell: Shell) -> None:
    client = Client.from_home(shell.api.home)
    for family in (errors.BadInput, errors.Forbidden, errors.NotFound, errors.Conflict, errors.Overloaded):
        shell.control.broken = family("what happened", field="name")
        with pytest.raises(family, match="what happened") as raised:
            client.get("/v1/jobs")
        assert (type(raised.value), raised.value.field) == (family, "name")
    client.close()


def test_a_lost_answer_to_a_post_is_not_asked_for_twice(impostor: Any) -> None:
    url, handler = impostor
    client = Client(url, "t")
    client.get("/")
    handler.reply = None
    with pytest.raises(errors.Unavailable, match="may or may not have done"):
        client.post("/v1/jobs", {})
    assert [path for path, _ in handler.asked] == ["/", "/v1/jobs"]


def test_a_connection_that_was_closed_meanwhile_is_made_anew_for_a_get(impostor: Any) -> None:
    url, handler = impostor
    client = Client(url, "t")
    handler.script += [(200, b"{}"), None]  # the server hangs up on the kept connection, then works again
    client.get("/")
    assert client.get("/again") == {}
    assert [path for path, _ in handler.asked] == ["/", "/again", "/again"]
    client.close()


def test_a_silent_service_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(errors.Unavailable, match="did not answer in time"):
            Client(url, "t").get("/v1/jobs")


def test_waiting_outlives_a_service_that_is_away_for_a_moment(impostor: Any) -> None:
    url, handler = impostor
    starting = b'{"error": {"message": "starting", "field": null, "type": "unavailable"}}'
    handler.script += [(503, starting), (200, json.dumps(job_view("7", state="succeeded")).encode())]
    client = Client(url, "t")
    assert client.wait_for_job("last")["id"] == "7"
    handler.reply = (503, b"")
    with pytest.raises(errors.Unavailable):
        client.wait_for_job("7", patience_s=0.0)
    client.close()


def test_an_id_cannot_leave_its_place_in_the_path(impostor: Any) -> None:
    url, handler = impostor
    client = Client(url, "t")
    client.get(client_module.job_path("../nodes?x=1#y", "why"))
    client.close()
    assert handler.asked[0][0] == "/v1/jobs/..%2Fnodes%3Fx%3D1%23y/why"


def test_a_log_streams_to_its_end(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LOG_CHUNK_BYTES", 4)
    shell.control.put(job_view("1", state="running", attempt=1, workers=[worker_view()]))
    shell.control.write_log("1", b"0123456789")
    client = Client.from_home(shell.api.home)
    assert list(client.stream_log("1")) == [b"0123", b"4567", b"89"]
    follower = client.stream_log("1", follow=True, poll_s=0.01)
    assert b"".join(next(follower) for _ in range(3)) == b"0123456789"
    shell.control.write_log("1", b"ab")
    assert next(follower) == b"ab"
    shell.control.set_state("1", "succeeded")
    assert list(follower) == []
    client.close()
