"""What `suanli bench serving` makes of what it saw: cases, ratios, shares that few requests do not decide, peers that
are not there, and what is left when it is interrupted."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.system.serving import peers, rates
from benchmarks.system.serving.answer import (
    DEMANDS,
    GROUPS,
    ClosedLoop,
    PeerFigures,
    ServingAnswer,
    demand_of,
    rate_case,
    with_ratios,
)
from benchmarks.system.serving.bench import Bench, Measured, Plan
from benchmarks.system.serving.deaths import was_in_flight
from benchmarks.system.serving.generators import Call, by_http_load, by_wrk, lua_script
from benchmarks.system.serving.run import run_serving
from benchmarks.system.serving.site import Asking, marked_and_below, until
from benchmarks.workloads.http_load import Record
from benchmarks.workloads.http_mix import GeneratorFailed
from benchmarks.workloads.proportion import Proportion
from scheduler.cli.bench_serving import serving, show_serving
from scheduler.errors import BadInput, Unavailable
from tests.fakes.fake_replica import FakeReplica, Request

PLAN = Plan(1.0, (1, 32), GROUPS)


def loop(clients: int, per_s: float, p50_ms: float) -> ClosedLoop:
    return ClosedLoop(clients, per_s, p50_ms, 2 * p50_ms, 0, "fake")


def generate(call: Call, clients: int, duration_s: float) -> ClosedLoop:
    return loop(clients, 100.0 * clients, 0.5)


@contextlib.contextmanager
def no_site(client_of: Any) -> Iterator[Any]:
    yield None


def run(plan: Plan = PLAN, **runs: Any) -> ServingAnswer:
    groups = dict.fromkeys(GROUPS, lambda bench: None) | {name.replace("_", "-"): each for name, each in runs.items()}
    return run_serving(
        lambda home: None,  # type: ignore[arg-type,return-value]
        plan,
        lambda what, share: None,
        site_of=no_site,
        generator=("fake", generate),
        runs=groups,
    )


def puts(case: str, value: float) -> Any:
    return lambda bench: bench.measured.values.__setitem__(case, value)


# ---- the answer ----------------------------------------------------------------------------------------------------


def test_cases_are_told_by_group_with_what_each_includes() -> None:
    answer = run(
        noop=lambda bench: rates._keep(bench, "noop", [loop(1, 900, 0.3), loop(64, 9_000, 7)], direct=False),
        kills=puts("kill_agent_failed", 0.0),
    )
    document = answer.to_json()
    assert [case["case"] for case in document["cases"]] == [
        "noop_1_client_p50_ms",
        "noop_1_client_per_s",
        "noop_64_clients_p50_ms",
        "noop_64_clients_per_s",
        "kill_agent_failed",
    ]
    assert document["cases"][0] == {
        **{"case": "noop_1_client_p50_ms", "value": 0.3, "unit": "ms", "must": 0.4, "aim": None, "ok": True}
    }
    assert document["provenance"]["measures"]["noop_64_clients_per_s"] == "gateway"
    assert set(document["provenance"]["includes"]) == set(answer.values)
    assert document["provenance"]["generator"] == "fake"
    assert document["provenance"]["devices_measured"] == 0
    assert answer.exit_code == 0


def test_every_demand_belongs_to_a_group_and_every_group_has_some() -> None:
    assert {demand.group for demand in DEMANDS.values()} == set(GROUPS)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("clients", [1, 8, 500])
def test_any_number_of_clients_has_a_case(clients: int, direct: bool) -> None:
    demand = demand_of(rate_case("mlp", clients, "per_s", direct=direct))
    assert (demand.group, demand.measures) == ("mlp", "direct" if direct else "gateway")


def test_few_requests_leave_a_share_undecided_and_do_not_fail_the_run() -> None:
    answer = run(overload=lambda bench: bench.share("overload_urgent_within_slo", Proportion(299, 300)))
    assert answer.ok("overload_urgent_within_slo") is None
    assert answer.exit_code == 0
    told = answer.to_json()["provenance"]["intervals_95"]["overload_urgent_within_slo"]
    assert (told["hits"], told["of"]) == (299, 300)
    assert 0.98 < told["low"] < 0.9967 < told["high"] < 1


@pytest.mark.parametrize(("hits", "of", "ok"), [(200, 300, False), (9_995, 10_000, True), (9_985, 10_000, False)])
def test_many_requests_or_a_clear_share_decide(hits: int, of: int, ok: bool) -> None:
    answer = run(overload=lambda bench: bench.share("overload_urgent_within_slo", Proportion(hits, of)))
    assert answer.ok("overload_urgent_within_slo") is ok
    assert answer.exit_code == (0 if ok else 1)


def test_peers_are_set_against_ours_of_the_same_run() -> None:
    ours = {"noop_1_client_p50_ms": 0.25, "noop_32_clients_per_s": 12_000.0, "mlp_32_clients_per_s": 2_000.0}
    others = (
        PeerFigures("ray-serve", "2", {"noop": (loop(1, 100, 5.0), loop(32, 300, 90))}),
        PeerFigures("ray-serve-best", "2", {"noop": (loop(32, 3_000, 9),), "mlp": (loop(32, 1_000, 9),)}),
        PeerFigures("mosec", "1", {"mlp": (loop(32, 2_500, 9),)}),
        PeerFigures("uvicorn", "1", {"noop": (loop(1, 8_000, 0.125), loop(32, 24_000, 1))}),
    )
    found = with_ratios(ours, others)
    assert found["noop_1_client_against_ray_serve"] == 20
    assert found["noop_1_client_against_uvicorn"] == 2
    assert found["noop_32_clients_against_ray_serve_best"] == 4
    assert found["noop_32_clients_against_uvicorn"] == 0.5
    assert found["mlp_32_clients_against_mosec"] == 0.8
    assert found["mlp_32_clients_against_ray_serve_best"] == 2


def test_a_peer_that_was_skipped_makes_no_ratio() -> None:
    ours = {"noop_1_client_p50_ms": 0.25, "noop_32_clients_per_s": 12_000.0}
    assert with_ratios(ours, (PeerFigures("uvicorn", skipped="it failed"),)) == ours


def test_ctrl_c_keeps_what_was_measured() -> None:
    def interrupt(bench: Bench) -> None:
        raise KeyboardInterrupt

    answer = run(noop=puts("noop_1_client_p50_ms", 0.2), overload=interrupt, kills=puts("kill_agent_failed", 0.0))
    assert answer.partial
    assert answer.exit_code == 130
    assert list(answer.values) == ["noop_1_client_p50_ms"]
    assert answer.to_json()["partial"] is True


@pytest.mark.parametrize("error", [Unavailable("nobody answers"), GeneratorFailed("nobody answers")])
def test_a_group_that_fails_is_named_and_the_others_are_run(error: Exception) -> None:
    def fail(bench: Bench) -> None:
        raise error

    answer = run(noop=fail, kills=puts("kill_agent_failed", 0.0))
    assert answer.missing == {"noop": "nobody answers"}
    assert list(answer.values) == ["kill_agent_failed"]
    assert answer.exit_code == 1


def test_only_the_groups_that_were_chosen_are_run() -> None:
    answer = run(
        Plan(1.0, (1,), ("kills",)), noop=puts("noop_1_client_p50_ms", 1.0), kills=puts("kill_agent_failed", 0)
    )
    assert list(answer.values) == ["kill_agent_failed"]


@pytest.mark.parametrize(
    ("sent_s", "done_s", "inside"), [(1.0, 3.0, True), (2.5, 3.0, False), (1.0, 1.5, False), (None, 3.0, False)]
)
def test_in_flight_is_what_was_sent_before_and_not_answered_yet(
    sent_s: float | None, done_s: float, inside: bool
) -> None:
    assert was_in_flight(Record(1.0, sent_s, done_s, "broken"), 2.0) is inside


# ---- peers ---------------------------------------------------------------------------------------------------------


def bench_against(*names: str) -> Bench:
    return Bench(None, Plan(1.0, (1,), GROUPS, names), Measured(), generate, lambda what, share: None)  # type: ignore[arg-type]


def test_a_peer_that_is_not_installed_is_skipped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS", {"mosec": peers.Peer("no_such_package_here", "", lambda *_: None)})
    monkeypatch.setattr(rates, "PEERS", peers.PEERS)
    bench = bench_against("mosec")
    rates._peers(bench, "noop")
    (skipped,) = bench.measured.peers
    assert skipped.to_json() == {"skipped": "no_such_package_here is not installed: pip install 'suanli[peers]'"}


def test_a_peer_that_does_not_start_is_skipped_with_its_last_words() -> None:
    bench = bench_against("uvicorn")
    rates._peers(bench, "no-such-model")
    (skipped,) = bench.measured.peers
    assert "ended while starting: KeyError: 'no-such-model'" in skipped.skipped


@pytest.mark.parametrize("name", ["uvicorn", "replica-alone"])
def test_a_peer_serves_and_nothing_of_it_is_left(name: str) -> None:
    with peers.peer_serving(name, "noop") as call:
        caller = Asking(Call(call.url, peers.body_of("noop")))
        answer = caller.ask()
        caller.close()
        assert answer is not None
        assert (answer.status, answer.outputs) == (200, [1])
    caller = Asking(Call(call.url, peers.body_of("noop")))
    assert caller.ask() is None


def test_figures_of_two_models_of_one_peer_come_together() -> None:
    found = [PeerFigures("uvicorn", "1", {"noop": (loop(1, 1, 1),)})]
    rates._add(found, PeerFigures("uvicorn", "1", {"mlp": (loop(1, 2, 2),)}), "mlp")
    rates._add(found, PeerFigures("mosec", skipped="gone"), "mlp")
    assert [sorted(each.loops) for each in found] == [["mlp", "noop"], []]


# ---- generators ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FakeReplica]:
    made = FakeReplica(Request.answer)
    yield made
    made.close()


@pytest.mark.parametrize("by", [by_http_load, by_wrk])
def test_both_generators_send_the_same_request(server: FakeReplica, by: Any) -> None:
    if by is by_wrk and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed here")
    body = '{"inputs": ["\\u00e9\\n\\"%s"]}'
    found = by(Call(f"http://{server.address}/a?b=1", body, "tok", (("X-Suanli-Priority", "100"),)), 2, 1.0)
    assert found.clients == 2
    assert found.errors == 0
    assert found.per_s > 0
    assert found.p50_ms is not None
    seen = server.seen[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/a?b=1", body.encode())
    assert seen.headers["authorization"] == "Bearer tok"
    assert (seen.headers["content-type"], seen.headers["x-suanli-priority"]) == ("application/json", "100")


def test_wrk_counts_what_was_not_answered_well(server: FakeReplica) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed here")
    server.then(lambda request: request.answer(503))
    found = by_wrk(Call(f"http://{server.address}/", "{}"), 1, 1.0)
    assert found.errors > 0
    assert (found.per_s, found.p50_ms) == (0.0, None)


def test_text_in_the_script_of_wrk_cannot_break_out_of_it() -> None:
    script = lua_script(Call("http://x/", 'a"]]\n--%d', "t\\"))
    assert 'wrk.body = "a\\034]]\\010--%d"' in script
    assert 'wrk.headers["Authorization"] = "Bearer t\\092"' in script


# ---- the instance --------------------------------------------------------------------------------------------------


def test_a_node_is_what_carries_its_mark_and_what_descends_from_that() -> None:
    """As a launcher starts a tenant's process: with an environment of its own."""
    child = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], env={}).wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", child], env={**os.environ, "BENCH_TEST": "a-mark"}, stdin=subprocess.PIPE
    )
    try:
        until(lambda: len(marked_and_below("BENCH_TEST", "a-mark")) == 2, within_s=20, what="parent and child live")
        assert parent.pid in marked_and_below("BENCH_TEST", "a-mark")
    finally:
        parent.communicate()
    assert marked_and_below("BENCH_TEST", "a-mark") == []


def test_waiting_has_an_end_that_says_what_was_waited_for() -> None:
    with pytest.raises(Unavailable, match="not within 0 s: the sun rises"):
        until(lambda: False, within_s=0, what="the sun rises")


def test_without_an_instance_nothing_is_measured() -> None:
    @contextlib.contextmanager
    def no_room(client_of: Any) -> Iterator[Any]:
        raise Unavailable("`suanli up` failed")
        yield

    with pytest.raises(Unavailable, match="suanli up"):
        run_serving(lambda home: None, PLAN, lambda what, share: None, site_of=no_room, generator=("fake", generate))  # type: ignore[arg-type,return-value]


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--clients", "0"], "expected numbers from 1 to 512"),
        (["--clients", "1,,8"], "expected numbers from 1 to 512"),
        (["--clients", "many"], "expected numbers from 1 to 512"),
        (["--against", "uvicorn,nobody"], "there is no peer 'nobody'; there are: ray-serve, ray-serve-best"),
        (["--against", "replica-alone"], "there is no peer 'replica-alone'"),
        (["--cases", "noise"], "there is no group of cases 'noise'; there are: noop, mlp"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_started(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(serving, arguments)
    assert isinstance(result.exception, BadInput)
    assert says in result.exception.message


def test_the_table_shows_intervals_peers_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(bench: Bench) -> None:
        bench.share("overload_urgent_within_slo", Proportion(300, 300))
        bench.measured.missing["scale"] = "no autoscaler"
        bench.measured.peers += [
            PeerFigures("uvicorn", "1", {"noop": (loop(1, 8_000, 0.125),)}),
            PeerFigures("mosec", skipped="it is not installed"),
        ]

    show_serving(run(overload=measure))
    shown = capsys.readouterr().out
    assert "0.9874-1.0000 of 300" in shown
    assert "not measured: scale: no autoscaler" in shown
    assert "uvicorn 1" in shown
    assert "skipped: it is not installed" in shown
    assert "no device was measured" in shown


def test_models_whose_time_is_known_answer_with_their_pid(tmp_path: Path) -> None:
    from benchmarks.system.serving.models.batch_ms import TenMillisecondBatch
    from benchmarks.system.serving.models.ten_ms import TenMilliseconds

    assert TenMilliseconds().predict([1, 2]) == [os.getpid()] * 2
    assert TenMillisecondBatch().predict([1, 2]) == [os.getpid()] * 2
