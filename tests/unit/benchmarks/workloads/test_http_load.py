"""The load generator counts what happened, and charges a stall to all whom it delayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.workloads.http_answer import parse_answer
from benchmarks.workloads.http_load import quantile, run_load
from tests.fakes.fake_replica import FakeReplica, Request


@pytest.fixture
def server() -> Iterator[FakeReplica]:
    made = FakeReplica(Request.answer)
    yield made
    made.close()


def test_closed_loop_sends_exactly_what_was_asked_for(server: FakeReplica) -> None:
    progress: list[int] = []
    result = run_load(
        f"http://{server.address}/p?q=1", "tok", b'{"a": 1}', requests=50, clients=4, on_progress=progress.append
    )
    assert (result.sent, result.ok, result.errors) == (50, 50, {})
    assert len(server.seen) == 50
    seen = server.seen[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/p?q=1", b'{"a": 1}')
    assert seen.headers["authorization"] == "Bearer tok"
    assert 0 < (result.p50_ms or 0) <= (result.p95_ms or 0) <= (result.p99_ms or 0) <= (result.max_ms or 0)
    assert result.requests_per_s == pytest.approx(50 / result.elapsed_s)
    assert "closed loop" in result.generator
    assert progress[-1] == 50


def test_without_a_body_it_gets(server: FakeReplica) -> None:
    assert run_load(f"http://{server.address}/", None, b"", requests=2).ok == 2
    assert server.seen[0].method == "GET"
    assert "authorization" not in server.seen[0].headers


def test_errors_are_counted_by_status(server: FakeReplica) -> None:
    server.then(lambda request: request.answer(503 if len(server.seen) % 2 else 200))
    result = run_load(f"http://{server.address}/", None, b"", requests=20)
    assert (result.ok, result.errors) == (10, {"503": 10})


@pytest.mark.parametrize(
    ("behave", "errors"),
    [
        (Request.break_off, {"broken": 5}),
        (lambda request: time.sleep(0.5), {"timeout": 5}),
    ],
    ids=["broken", "timeout"],
)
def test_what_is_never_answered_is_counted_too(
    server: FakeReplica, behave: Callable[[Request], None], errors: dict[str, int]
) -> None:
    server.then(behave)
    result = run_load(f"http://{server.address}/", None, b"", requests=5, clients=5, timeout_s=0.1)
    assert (result.sent, result.ok, result.p50_ms, result.errors) == (5, 0, None, errors)


def test_open_loop_keeps_its_schedule_and_the_same_seed_gives_the_same(server: FakeReplica) -> None:
    first, second = (
        run_load(f"http://{server.address}/", None, b"", duration_s=0.5, rate_per_s=200, clients=8, seed=4)
        for _ in range(2)
    )
    assert first.sent == second.sent == first.ok == second.ok
    assert 60 <= first.sent <= 140
    assert "open loop" in first.generator


def test_a_stall_is_charged_to_every_request_that_it_delayed(server: FakeReplica) -> None:
    """One answer in the first takes 400 ms, on one connection. Of 100 requests due in half a second, most wait for it:
    measured from when each was sent, all but one would look fast."""

    def behave(request: Request) -> None:
        if len(server.seen) == 1:
            time.sleep(0.4)
        request.answer()

    server.then(behave)
    result = run_load(f"http://{server.address}/", None, b"", requests=100, rate_per_s=200, clients=1)
    assert result.ok == 100
    assert (result.p50_ms or 0) > 100


def test_a_server_that_is_away_is_told_at_once() -> None:
    gone = FakeReplica()
    gone.close()
    with pytest.raises(OSError, match=r"refused|Connect"):
        run_load(f"http://{gone.address}/", None, b"", requests=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": None},
        {"requests": 1, "duration_s": 1.0},
        {"requests": 1, "clients": 0},
        {"requests": 1, "rate_per_s": 0.0},
    ],
)
def test_numbers_without_sense(wrong: dict[str, float | None]) -> None:
    with pytest.raises(ValueError, match=r"give either|must be"):
        run_load("http://127.0.0.1:1/", None, b"", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\n", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxy", (200, True)),
        (b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", (503, False)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n0\r\r\n0\r\n\r\n", (200, True)),
    ],
)
def test_answers_are_complete_when_they_are(data: bytes, answer: tuple[int, bool] | None) -> None:
    assert parse_answer(data) == answer


@pytest.mark.parametrize(("q", "value"), [(0.5, 5.0), (0.51, 6.0), (0.99, 10.0), (1.0, 10.0), (0.0, 1.0)])
def test_quantiles_are_nearest_rank(q: float, value: float) -> None:
    assert quantile([float(n) for n in range(1, 11)], q) == value
    assert quantile([], q) is None
