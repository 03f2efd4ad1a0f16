"""How much of a body is taken before it is refused, and what an answer that broke half-way does: the bare ASGI side."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from scheduler.api import door
from scheduler.api.door import MAX_BODY_BYTES, MAX_LARGE_BODIES_BYTES, MAX_SUBMISSION_BYTES, Door
from tests.fakes.fake_control import OPERATOR

CHUNK = 65536


class Connection:
    """One request whose body never ends, and what came back."""

    def __init__(
        self, *headers: tuple[bytes, bytes], chunk_delay_s: float = 0.0, path: str = "/v1/jobs/cancel"
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"authorization", b"Bearer t"), *headers],
        }
        self.taken = 0
        self.sent: list[Message] = []
        self._delay_s = chunk_delay_s

    async def receive(self) -> Message:
        await asyncio.sleep(self._delay_s)
        self.taken += CHUNK
        return {"type": "http.request", "body": b"x" * CHUNK, "more_body": True}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def through(self, app: Any, *, known: bool = True) -> int:
        entrance = Door(app, principal_of=lambda token: OPERATOR if known else None)
        asyncio.run(entrance(self.scope, self.receive, self.send))
        return int(self.sent[0].get("status", 0))


async def unreached(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("the application was reached")


def test_an_endless_body_is_refused_at_the_limit() -> None:
    connection = Connection()
    assert connection.through(unreached) == 413
    assert connection.taken == MAX_BODY_BYTES + CHUNK


@pytest.mark.parametrize("length", [b"1048577", b"-1", b"1e3", b"99999999999999999999999"])
def test_a_body_announced_as_too_long_is_not_read_at_all(length: bytes) -> None:
    connection = Connection((b"content-length", length))
    assert connection.through(unreached) == 413
    assert connection.taken == 0


def test_a_short_announcement_does_not_let_a_long_body_in() -> None:
    connection = Connection((b"content-length", b"10"))
    assert connection.through(unreached) == 413


def test_as_many_jobs_as_may_be_submitted_at_once_come_through_the_door_and_no_more() -> None:
    connection = Connection(path="/v1/jobs")
    assert connection.through(unreached) == 413
    assert connection.taken == MAX_SUBMISSION_BYTES + CHUNK
    assert MAX_SUBMISSION_BYTES / 10_000 > 1_500
    announced = Connection((b"content-length", str(MAX_SUBMISSION_BYTES + 1).encode()), path="/v1/jobs")
    assert announced.through(unreached) == 413
    assert announced.taken == 0


@pytest.mark.parametrize("announced", [True, False])
def test_large_submissions_are_few_at_a_time(announced: bool) -> None:
    """Each is held in memory until it is answered; those beyond are told to come again, small ones come in."""
    statuses: list[int] = []
    most = MAX_LARGE_BODIES_BYTES // MAX_SUBMISSION_BYTES

    async def play() -> None:
        answered = asyncio.Event()
        inside = 0

        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal inside
            inside += 1
            await answered.wait()
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body"})

        entrance = Door(app, principal_of=lambda token: OPERATOR)

        async def submit(size: int) -> None:
            length = [(b"content-length", str(size).encode())] if announced else []
            one = Connection(*length, path="/v1/jobs")

            async def receive() -> Message:
                await asyncio.sleep(0)
                return {"type": "http.request", "body": b"x" * size, "more_body": False}

            await entrance(one.scope, receive, one.send)
            statuses.append(int(one.sent[0]["status"]))

        large = [asyncio.create_task(submit(2 * MAX_BODY_BYTES)) for _ in range(most)]
        while inside < most:  # noqa: ASYNC110 - each turn of the loop brings one further
            await asyncio.sleep(0)
        await submit(2 * MAX_BODY_BYTES)
        assert statuses == [429]
        small = asyncio.create_task(submit(10))
        answered.set()
        await asyncio.gather(*large, small)
        await submit(2 * MAX_BODY_BYTES)  # there is room again

    asyncio.run(play())
    assert statuses == [429, *[201] * (most + 2)]


def test_nothing_of_a_strangers_body_is_read() -> None:
    connection = Connection()
    assert connection.through(unreached, known=False) == 401
    assert connection.taken == 0


def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BODY_TIMEOUT_S", 0.05)
    connection = Connection(chunk_delay_s=0.02)
    assert connection.through(unreached) == 408


def test_an_answer_that_breaks_half_way_is_left_to_the_server() -> None:
    """A second response may not follow a first that has begun: the server has to cut the connection."""

    async def breaks(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    connection = Connection()
    connection.scope |= {"method": "GET", "path": "/docs"}
    with pytest.raises(ZeroDivisionError):
        connection.through(breaks)
    assert [message["type"] for message in connection.sent] == ["http.response.start"]


def test_websockets_are_closed() -> None:
    connection = Connection()
    connection.scope["type"] = "websocket"
    connection.through(unreached)
    assert connection.sent == [{"type": "websocket.close", "code": 1008}]
