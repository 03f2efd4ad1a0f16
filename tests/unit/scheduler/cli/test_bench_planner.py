"""`suanli bench planner`: what is shown, and the exit codes, on sites too small to be measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.planner.answer import BOUNDS, Bound
from benchmarks.planner.cases import Sizes
from scheduler.cli.root import root

SMALL = Sizes(nodes=6, pending=50, urgent_workers=2, gangs=2, preemptions=2, fills=1, passes=2)
NODES_CSV = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,8,T4\nn1,64000,262144,2,T4\nbare,64000,262144,0,\n"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.planner.cases.FULL", SMALL)
    monkeypatch.setattr("benchmarks.planner.cases.QUICK", SMALL)
    monkeypatch.setattr("benchmarks.planner.timing.REFERENCE_STEPS", 10)


def run(*argv: str) -> Result:
    return CliRunner().invoke(root, ["bench", "planner", *argv], prog_name="suanli")


def demand(monkeypatch: pytest.MonkeyPatch, case: str, bound: Bound) -> None:
    bounds = dict(BOUNDS) | {case: bound}
    monkeypatch.setattr("benchmarks.planner.answer.BOUNDS", bounds)


@pytest.mark.parametrize(("must", "code"), [(1e9, 0), (1e-9, 1)])
def test_json_has_one_shape_and_the_exit_code_says_whether_all_musts_are_met(
    must: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    demand(monkeypatch, "gang_1250x8_ms", Bound("ms", must, 1e-9))
    result = run("--case", "gang_1250x8_ms", "--seed", "5", "--quick", "-o", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (code, "")
    assert list(document) == ["schema", "provenance", "cases", "peers"]
    assert (document["schema"], document["peers"]) == ("suanli/bench/1", {})
    (case,) = document["cases"]
    assert list(case) == ["case", "value", "unit", "must", "aim", "ok"]
    assert (case["case"], case["ok"]) == ("gang_1250x8_ms", code == 0)
    about = document["provenance"]
    assert (about["seed"], about["label"], about["on"], about["devices_measured"]) == (5, "quick", "cpu", 0)
    assert about["repeats"] == {"gang_1250x8_ms": 2}


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    demand(monkeypatch, "preemption_10k_running_ms", Bound("ms", 1e9, 1e-9))
    result = run("--case", "preemption_10k_running_ms", "--case", "preemption_gang_10k_running_ms")
    lines = result.stdout.splitlines()
    assert "\x1b" not in result.stdout
    assert "no device was measured" in lines[1]
    assert lines[2].split()[:4] == ["CASE", "VALUE", "UNIT", "MUST"]
    assert lines[3].split()[0] == "preemption_10k_running_ms"
    assert lines[3].split()[2:] == ["ms", "<=", "1e+09", "ok", "<=", "1e-09", "no", "2"]
    assert lines[4].split()[0] == "preemption_gang_10k_running_ms"


def test_an_interrupt_shows_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.planner.cases.measure_in_child", interrupted)
    shown = ("--case", "gang_1250x8_ms", "--case", "memory_mib")
    result = run(*shown, "-o", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["partial"]) == (130, True)
    assert [case["case"] for case in document["cases"]] == ["gang_1250x8_ms"]
    assert "partial" in run(*shown).stdout


def test_a_case_that_does_not_exist_is_bad_input() -> None:
    result = run("--case", "arrival")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no case 'arrival'; there are: arrival_p99_ms" in result.stderr


def test_the_openb_cluster_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "nodes.csv"
    file.write_text(NODES_CSV)
    result = run("--case", "fill_openb_placements_per_s", "--openb-nodes", str(file), "-o", "json")
    about = json.loads(result.stdout)["provenance"]
    assert about["openb"] == "read from nodes.csv"
    assert about["details"]["fill_openb_placements_per_s"]["placements"] == 10


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    result = run("--openb-nodes", str(tmp_path / "none.csv"))
    assert result.exit_code == 2
    assert "none.csv" in result.stderr
