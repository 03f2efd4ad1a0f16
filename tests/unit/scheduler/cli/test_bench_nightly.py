"""`suanli bench nightly` and `bench changes` against a fake cluster: what is run, recorded, told and returned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.history.store import HistoryStore, StoredResult
from benchmarks.protocol import Verdict
from benchmarks.record import Answer, cases_of
from scheduler.cli.bench_nightly import Flagged, NightAnswer
from scheduler.cli.root import root
from scheduler.errors import Forbidden, NotFound, SuanliError
from tests.fakes.bench_records import cpu, failed, record, simulated
from tests.fakes.fake_cluster import FakeCluster, FakeTimer, Worker, as_result, device, node, simulated_worker

CARDS = 16
NIGHTS = 40
DAY_S = 86_400.0
NOW_S = 1_800_000_000.0


class FlagTaker(FakeCluster):
    """A cluster whose service takes flags, or answers with `refusal`."""

    refusal: SuanliError | None = None

    def post(self, path: str, body: Mapping[str, Any], /) -> dict[str, Any]:
        if path != "/v1/health/flags":
            return super().post(path, body)
        if self.refusal is not None:
            raise self.refusal
        self.told = dict(body)
        return {}


def rate_of(card: int, night: int) -> float:
    return float(800_000 * (1 + 0.004 * np.random.default_rng([card, night]).normal()))


def earlier(home: Path, *, slow: int | None = None, make: Any = record) -> None:
    """The nights before; card `slow` is 6% slower on the last ten of them."""
    store = HistoryStore(home / "bench")
    for night in range(NIGHTS):
        at_s = NOW_S - (NIGHTS - night) * DAY_S
        store.append(
            StoredResult(
                f"night-{night}",
                at_s,
                "abc",
                make(
                    f"gpu-{card}",
                    rate_of(card, night) * (0.94 if card == slow and night >= NIGHTS - 10 else 1.0),
                    window_s=4.0,
                    node=f"edge-{card // 8}",
                ),
            )
            for card in range(CARDS)
        )


def cluster(
    *,
    slow: int | None = None,
    last: Verdict | None = None,
    only: tuple[str, ...] = ("edge-0", "edge-1"),
    at_s: float = NOW_S,
    **more: Any,
) -> FlagTaker:
    nodes, workers = [], {}
    for place in range(CARDS // 8):
        name = f"edge-{place}"
        cards = range(8 * place, 8 * place + 8)
        nodes.append(node(name, *(device(f"gpu-{card}") for card in cards), rack=f"r{place}"))
        records = [
            record(f"gpu-{card}", rate_of(card, NIGHTS) * (0.94 if card == slow else 1.0), node=name) for card in cards
        ]
        if last is not None and place == 0:
            records[0] = replace(failed("gpu-0", last, "broken"), node=name)
        workers[name] = as_result(*records)
    found: dict[str, Worker | None] = dict(workers)
    return FlagTaker(*(n for n in nodes if n["name"] in only), workers=found, timer=FakeTimer(at_s), **more)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, served: FakeCluster, *argv: str) -> Result:
    monkeypatch.setattr("scheduler.cli.client.Client.from_env", classmethod(lambda cls: served))
    monkeypatch.setattr("benchmarks.system.cluster_run.WallTimer", lambda: served.timer)
    monkeypatch.setattr("time.time", lambda: served.timer.time_s)
    return CliRunner().invoke(root, ["bench", *argv], prog_name="suanli")


def nightly(monkeypatch: pytest.MonkeyPatch, served: FakeCluster, *argv: str) -> Any:
    result = run(monkeypatch, served, "nightly", "--window", "4", "-o", "json", *argv)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_night_is_recorded_compared_and_told_to_health(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(home, slow=5)
    served = cluster(slow=5)
    answer = nightly(monkeypatch, served)
    cases = {c["case"]: c["value"] for c in answer["cases"]}
    assert answer["schema"] == "suanli/bench/1"
    assert (cases["nights"], cases["recent_changes"], cases["flags_sent"]) == (NIGHTS + 1, 1, 2)
    assert cases["measured_accelerator_pflops"] == pytest.approx(0.8 * CARDS, rel=0.01)
    (found,) = answer["findings"]
    (change,) = [c for c in found["changes"] if c["device"]]
    assert (change["device"], change["nights_after"]) == ("gpu-5", 11)
    assert served.told["run"] == answer["provenance"]["run"]
    flag, like = served.told["flags"]
    assert (like["device"], like["rule"]) == ("gpu-5", "slow_than_like")
    assert (flag["device"], flag["rule"]) == ("gpu-5", "slow_than_before")
    assert flag["since_s"] == change["at_s"]
    assert set(flag) == {"device", "rule", "value", "expected", "unit", "text", "since_s"}
    assert len(HistoryStore(home / "bench").read(run=answer["provenance"]["run"]).results) == CARDS


def test_the_table_names_the_card(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(home, slow=5)
    result = run(monkeypatch, cluster(slow=5), "nightly", "--window", "4")
    assert result.exit_code == 0, result.output
    assert "card gpu-5, gemm bf16" in result.stdout
    assert "-6." in result.stdout or "-5.9%" in result.stdout


@pytest.mark.parametrize(
    ("refusal", "told"),
    [(NotFound("/v1/health/flags"), "does not take flags"), (Forbidden("operators only"), "operators only")],
)
def test_a_service_that_takes_no_flags_is_no_failure(
    home: Path, monkeypatch: pytest.MonkeyPatch, refusal: SuanliError, told: str
) -> None:
    served = cluster()
    served.refusal = refusal
    result = run(monkeypatch, served, "nightly", "--window", "4")
    assert result.exit_code == 0, result.output
    assert result.stderr.count(told) == 1


def test_no_trouble_replaces_the_earlier_set_with_an_empty_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(home)
    served = cluster()
    nightly(monkeypatch, served)
    assert served.told["flags"] == []


def test_simulated_cards_are_compared_and_never_flagged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(home, slow=5, make=simulated)
    nodes = [node(f"edge-{p}", *(device(f"gpu-{8 * p + c}") for c in range(8)), simulated=True) for p in range(2)]
    served = FlagTaker(*nodes, workers={n["name"]: simulated_worker for n in nodes}, timer=FakeTimer(NOW_S))
    answer = nightly(monkeypatch, served)
    assert not hasattr(served, "told")
    assert {f["evidence"] for f in answer["findings"]} == {"simulated"}
    assert {c["case"]: c["value"] for c in answer["cases"]}["flags_sent"] is None


def test_an_invalid_accelerator_fails_the_night(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, cluster(last=Verdict.WRONG_PRODUCT), "nightly", "--window", "4")
    assert result.exit_code == 1


def test_ctrl_c_records_what_there_is_and_tells_health_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = cluster(interrupt_at_s=NOW_S + 13)
    result = run(monkeypatch, served, "nightly", "--window", "4", "--precisions", "bf16,fp16")
    assert result.exit_code == 130
    assert not hasattr(served, "told")


def test_several_precisions_are_several_windows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = nightly(monkeypatch, cluster(), "--precisions", "bf16,fp16")
    assert len(answer["provenance"]["runs"]) == 2
    assert len(answer["devices"]) == 2 * CARDS


def test_a_precision_stands_once_in_the_name_of_a_case() -> None:
    answers = tuple(
        Answer({"run": f"r-{name}"}, cases_of(devices), devices)
        for name, devices in (
            ("fp32", (cpu(), cpu(workload="bandwidth", gflops=None, value=40.0, unit="GB/s"))),
            ("bf16", (cpu(precision="bf16"),)),
        )
    )
    made = NightAnswer(answers, False, (), {}, False, Flagged(None, ()))
    names = [case.case for case in made.cases]
    assert {"cpu_gemm_fp32", "cpu_bandwidth_fp32", "cpu_gflops_fp32", "cpu_gflops_bf16"} <= set(names)
    assert len(names) == len(set(names))
    assert not any(name.endswith(("fp32_fp32", "bf16_bf16")) for name in names)


def test_two_nightlies_of_one_night_are_one_night_and_the_later_one_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier(home)
    nightly(monkeypatch, cluster())
    served = cluster(slow=5, at_s=NOW_S + 3600.0)
    answer = nightly(monkeypatch, served)
    (found,) = answer["findings"]
    assert (found["nights"], found["cards"], found["run"]) == (NIGHTS + 1, CARDS, answer["provenance"]["run"])
    assert {flag["device"] for flag in served.told["flags"]} == {"gpu-5"}


def test_a_smaller_window_of_the_same_night_takes_no_flag_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run of this night had all cards and stands; what health was told of it stands too."""
    earlier(home)
    nightly(monkeypatch, cluster(slow=5))
    served = cluster(only=("edge-0",), at_s=NOW_S + 3600.0)
    result = run(monkeypatch, served, "nightly", "--window", "4", "-o", "json")
    assert not hasattr(served, "told")
    assert json.loads(result.stdout)["flags"]["sent"] is None
    assert "another window of this night has more cards" in result.stderr


def test_a_sample_runs_some_nodes_and_estimates_the_rest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node(f"edge-{p}", *(device(f"gpu-{8 * p + c}") for c in range(8)), rack=f"r{p // 4}") for p in range(8)]
    workers: dict[str, Worker | None] = {
        n["name"]: as_result(*(record(d["uuid"], rate_of(i, 1), node=n["name"]) for i, d in enumerate(n["devices"])))
        for n in nodes
    }
    served = FlagTaker(*nodes, workers=workers, timer=FakeTimer(NOW_S))
    answer = nightly(monkeypatch, served, "--sample", "30", "--seed", "3")
    assert len(served.jobs) == 4
    made = answer["estimates"]["bf16"]
    assert (made["evidence"], made["sampled"], made["cards"]) == ("extrapolated", 32, 64)
    assert made["low_pflops"] <= made["pflops"] <= made["high_pflops"]
    assert made["pflops"] == pytest.approx(0.8 * 64, rel=0.01)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--precisions", "fp7"], "fp7 is not one of"),
        (["--precisions", ","], "name one or more"),
        (["--sample", "0"], "0"),
        (["--days", "0"], "--days"),
        (["--window", "nan"], "nan is no number"),
        (["--lead", "nan"], "nan is no number"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_flag(
    home: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], told: str
) -> None:
    result = run(monkeypatch, cluster(), "nightly", *argv)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_sample_smaller_than_the_models_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node(f"n{m}-{p}", device(f"g{m}-{p}", f"model-{m}")) for m in range(3) for p in range(3)]
    served = FlagTaker(*nodes, workers={}, timer=FakeTimer(NOW_S))
    result = run(monkeypatch, served, "nightly", "--sample", "2")
    assert result.exit_code == 2
    assert "ask for 3 or more" in result.stderr


def test_changes_are_told_again_from_the_record(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(home, slow=5)
    served = cluster()
    answer = json.loads(run(monkeypatch, served, "changes", "-o", "json").stdout)
    assert answer["schema"] == "suanli/bench-changes/1"
    assert [c["device"] for c in answer["findings"][0]["changes"] if c["device"]] == ["gpu-5"]
    shown = run(monkeypatch, served, "changes", "--since", "60d").stdout
    assert "card gpu-5" in shown
    assert f"nights of 4 s windows: {NIGHTS}; cards: {CARDS}, groups: 2, series: {CARDS + 2};" in shown
    assert run(monkeypatch, served, "changes", "--since", "1h").stderr.count("nothing was recorded") == 1
    assert run(monkeypatch, served, "changes", "--since", "soon").exit_code == 2
