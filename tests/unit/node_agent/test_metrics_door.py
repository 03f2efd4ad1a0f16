"""The node's door for Prometheus: shut unless it is told, and opened by a token alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from node_agent.metrics_door import DoorConfig, DoorError, MetricsDoor, door_config, read_token

TOKEN = "suanli_0123456789abcdef"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


async def shown() -> str:
    return "suanli_up 1\n"


def asked(
    token_file: Path,
    raw: bytes,
    text: Callable[[], Awaitable[str]] = shown,
    before: Callable[[], object] = lambda: None,
) -> tuple[str, str]:
    """(status line, body) of one request to an open door."""

    async def talk() -> bytes:
        door = MetricsDoor(DoorConfig("127.0.0.1", 0, token_file), text)
        await door.open()
        try:
            before()
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(raw)
            await writer.drain()
            if not raw.endswith(b"\r\n\r\n"):
                writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            return answer
        finally:
            await door.close()

    head, _, body = asyncio.run(talk()).decode().partition("\r\n\r\n")
    return head.split("\r\n")[0], body


def request(path: str = "/metrics", method: str = "GET", token: str | None = TOKEN, scheme: str = "Bearer") -> bytes:
    held = f"Authorization: {scheme} {token}\r\n" if token is not None else ""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{held}\r\n".encode()


def test_with_the_token_metrics_are_shown(token_file: Path) -> None:
    assert asked(token_file, request()) == ("HTTP/1.1 200 OK", "suanli_up 1\n")
    assert asked(token_file, request("/metrics?x=1", scheme="bearer"))[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(token=None), "HTTP/1.1 401 Unauthorized"),
        (request(token="suanli_0123456789abcdeF"), "HTTP/1.1 401 Unauthorized"),
        (request(token=""), "HTTP/1.1 401 Unauthorized"),
        (request(scheme="Basic"), "HTTP/1.1 401 Unauthorized"),
        (request("/secret", token=None), "HTTP/1.1 401 Unauthorized"),  # nobody learns what else there is
        (request("/other"), "HTTP/1.1 404 Not Found"),
        (request(method="POST"), "HTTP/1.1 405 Method Not Allowed"),
    ],
)
def test_without_it_or_elsewhere_nothing_is(raw: bytes, status: str, token_file: Path) -> None:
    found, body = asked(token_file, raw)
    assert found == status
    assert "suanli_up" not in body


@pytest.mark.parametrize("raw", [b"", b"hello", b"\xff" * 100, b"GET /metrics HTTP/1.1\r\n" + b"x: y\r\n" * 3000])
def test_what_is_no_request_gets_no_answer(raw: bytes, token_file: Path) -> None:
    assert asked(token_file, raw) == ("", "")


def test_a_token_is_changed_without_a_restart(token_file: Path) -> None:
    def change() -> None:
        token_file.write_text("suanli_another_token_00")

    assert asked(token_file, request(), before=change)[0] == "HTTP/1.1 401 Unauthorized"
    assert asked(token_file, request(token="suanli_another_token_00"))[0] == "HTTP/1.1 200 OK"


def test_a_token_that_others_may_read_shuts_the_door(token_file: Path) -> None:
    assert asked(token_file, request(), before=lambda: token_file.chmod(0o644))[0] == "HTTP/1.1 503 Service Unavailable"
    with pytest.raises(DoorError, match="chmod 600"):
        read_token(token_file)


def test_a_bug_in_what_is_shown_ends_one_request(token_file: Path) -> None:
    async def broken() -> str:
        raise RuntimeError("a bug")

    assert asked(token_file, request(), broken) == ("", "")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SUANLI_NODE_METRICS": "here"}, "expected PORT or ADDRESS:PORT"),
        ({"SUANLI_NODE_METRICS": "70000"}, "expected PORT or ADDRESS:PORT"),
        ({"SUANLI_NODE_METRICS": "10.0.0.1:"}, "expected PORT or ADDRESS:PORT"),
        ({"SUANLI_NODE_METRICS": "9400"}, "needs a token"),
    ],
)
def test_a_mistake_in_what_is_configured_is_told(environ: dict[str, str], said: str) -> None:
    with pytest.raises(DoorError, match=said):
        door_config(environ, "10.0.0.7")


def test_it_is_shut_unless_it_is_told_and_opens_at_the_nodes_address() -> None:
    assert door_config({}, "10.0.0.7") is None
    told = {"SUANLI_NODE_METRICS": "9400", "SUANLI_NODE_METRICS_TOKEN": "/t"}
    assert door_config(told, "10.0.0.7") == DoorConfig("10.0.0.7", 9400, Path("/t"))
    other = told | {"SUANLI_NODE_METRICS": "[::1]:9400", "SUANLI_NODE_METRICS_DCGM": "1"}
    assert door_config(other, "10.0.0.7") == DoorConfig("::1", 9400, Path("/t"), dcgm=True)


def test_no_token_or_no_port_is_an_error_that_says_so(tmp_path: Path, token_file: Path) -> None:
    async def both() -> None:
        with pytest.raises(DoorError, match="the token cannot be read"):
            await MetricsDoor(DoorConfig("127.0.0.1", 0, tmp_path / "none"), shown).open()
        first = MetricsDoor(DoorConfig("127.0.0.1", 0, token_file), shown)
        await first.open()
        with pytest.raises(DoorError, match="cannot be listened at"):
            await MetricsDoor(DoorConfig("127.0.0.1", first.port, token_file), shown).open()
        await first.close()

    asyncio.run(both())
    short = tmp_path / "short"
    short.write_text("abc")
    short.chmod(0o600)
    with pytest.raises(DoorError, match="a token of 16 to 256 characters"):
        read_token(short)
