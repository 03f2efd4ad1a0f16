"""Classes of requests side by side: each is counted alone, and a share that was counted says how sure it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.workloads.http_mix import GeneratorFailed, Mix, RequestClass, mix_elsewhere, mix_running, run_mix
from benchmarks.workloads.proportion import Proportion
from tests.fakes.fake_replica import FakeReplica, Request


@pytest.fixture
def server() -> Iterator[FakeReplica]:
    made = FakeReplica(Request.answer)
    yield made
    made.close()


def stream(server: FakeReplica, name: str, per_s: float | None = 100, **more: object) -> RequestClass:
    return RequestClass(name, f"http://{server.address}/{name}", "{}", per_s, **more)  # type: ignore[arg-type]


def test_each_class_has_its_rate_its_headers_and_its_own_counts(server: FakeReplica) -> None:
    server.then(lambda request: request.answer(503 if "slow" in request.path else 200))
    urgent = stream(server, "urgent", 60, headers=(("X-Class", "1"),), slo_ms=1_000.0)
    found = run_mix(Mix((urgent, stream(server, "slow", 120)), 0.5, "tok", seed=3))
    assert found["urgent"].load.ok == found["urgent"].good == found["urgent"].load.sent > 10
    assert found["urgent"].within.share == 1.0
    assert found["slow"].load.errors == {"503": found["slow"].load.sent}
    assert found["slow"].good == 0
    seen = next(each for each in server.seen if each.target == "/urgent")
    assert (seen.headers["x-class"], seen.headers["authorization"]) == ("1", "Bearer tok")


def test_a_refusal_is_explicit_where_it_says_when_to_come_back(server: FakeReplica) -> None:
    def behave(request: Request) -> None:
        if "broken" in request.path:
            request.break_off()
        elif "refused" in request.path:
            request.answer(429, headers=(("Retry-After", "1"),))
        else:
            request.answer(504)

    server.then(behave)
    found = run_mix(Mix(tuple(stream(server, name, 50) for name in ("refused", "silent", "broken")), 0.4))
    assert found["refused"].unexplained == 0
    assert found["refused"].load.explicit == found["refused"].load.sent > 0
    assert found["silent"].unexplained == found["silent"].load.sent > 0
    assert found["broken"].unexplained == found["broken"].load.sent > 0


def test_what_is_late_is_not_good(server: FakeReplica) -> None:
    def behave(request: Request) -> None:
        time.sleep(0.05)
        request.answer()

    server.then(behave)
    result = run_mix(Mix((stream(server, "a", 20, slo_ms=10.0),), 0.4))["a"]
    assert result.load.ok == result.load.sent > 0
    assert result.good == 0


def test_the_generator_is_no_queue_it_makes_connections_as_it_needs_them(server: FakeReplica) -> None:
    """Ten requests are held until ten are there: on the eight connections of the beginning they never would be."""
    ten_are_there = threading.Event()

    def behave(request: Request) -> None:
        if len(server.seen) >= 10:
            ten_are_there.set()
        if ten_are_there.wait(timeout=10):
            request.answer()

    server.then(behave)
    load = run_mix(Mix((stream(server, "a", 400, clients=8),), 0.1, seed=1))["a"].load
    assert load.ok == load.sent >= 10


def test_records_tell_each_request_in_the_order_of_their_ends(server: FakeReplica) -> None:
    before_s = time.monotonic()
    result = mix_elsewhere(Mix((stream(server, "a", 50),), 0.3, keep_records=True))["a"]
    assert len(result.records) == result.load.sent > 0
    for record in result.records:
        assert record.outcome == "ok"
        assert record.sent_s is not None
        assert before_s < record.due_s <= record.sent_s <= record.done_s < time.monotonic()  # one clock for both


def test_a_mix_runs_while_something_else_is_done(server: FakeReplica) -> None:
    with mix_running(Mix((stream(server, "a", None, clients=2),), 0.3)) as running:
        found = running.result()
    assert found["a"].load.ok > 0
    assert "closed loop" in found["a"].load.generator


def test_where_nobody_listens_the_generator_says_so(server: FakeReplica) -> None:
    gone = FakeReplica(Request.answer)
    gone.close()
    with pytest.raises(GeneratorFailed, match="no load was sent"):
        mix_elsewhere(Mix((stream(gone, "a"),), 0.1))


@pytest.mark.parametrize("wrong", [{"duration_s": 0.0}, {"classes": ()}])
def test_a_mix_without_sense_is_refused(server: FakeReplica, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"above 0|needs classes"):
        run_mix(Mix(**{"classes": (stream(server, "a"),), "duration_s": 1.0, **wrong}))  # type: ignore[arg-type]


def test_two_classes_of_one_name_are_refused(server: FakeReplica) -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        run_mix(Mix((stream(server, "a"), stream(server, "a")), 1.0))


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (9_990, 10_000, 0.99816, 0.99946)],
)
def test_wilsons_interval(hits: int, of: int, low: float, high: float) -> None:
    counted = Proportion(hits, of)
    assert counted.low == pytest.approx(low, abs=5e-5)
    assert counted.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(
    ("hits", "of", "decides"), [(300, 300, None), (280, 300, False), (5_000, 5_000, True), (0, 0, None)]
)
def test_few_requests_do_not_decide_a_high_share(hits: int, of: int, decides: bool | None) -> None:
    assert Proportion(hits, of).decides(0.999) is decides


def test_nothing_of_nothing_is_no_share() -> None:
    assert Proportion(0, 0).share is None
    with pytest.raises(ValueError, match="3 of 2"):
        Proportion(3, 2)
