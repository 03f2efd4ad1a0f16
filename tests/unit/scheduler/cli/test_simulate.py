"""`suanli simulate packing`: its answers for programs and for people, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scheduler.cli.root import root
from scheduler.simulation.packing import PackingExperiment

SLICE = Path(__file__).resolve().parents[3] / "data" / "openb"
LEVELS = ["80", "90", "100", "110", "120", "130"]
FILES = ("--nodes", str(SLICE / "nodes.csv"), "--pods", str(SLICE / "pods.csv"))


def simulate(*argv: str) -> Result:
    return CliRunner().invoke(root, ["simulate", "packing", *argv], prog_name="suanli")


def answer(*argv: str) -> dict[str, Any]:
    done = simulate(*FILES, *argv, "-o", "json")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_json_of_one_run() -> None:
    told = answer("--policy", "fgd", "--seed", "3")
    assert told["schema"] == "suanli/simulate-packing/1"
    assert told["evidence"] == "simulated"
    assert (told["policy"], told["seed"]) == ("fgd", 3)
    assert list(told["allocated_pct"]) == LEVELS
    assert all(0 < pct <= 100 for pct in told["allocated_pct"].values())
    assert told["final"]["arrived_pct"] == pytest.approx(129.9, abs=0.5)
    assert told["final"]["allocated_pct"] == pytest.approx(told["allocated_pct"]["130"], abs=0.5)
    assert told["placements"] > 0
    assert told["failed"] > 0
    assert told["placements_per_s"] > 0
    assert "partial" not in told


def test_the_default_policy_is_default_and_a_seed_repeats() -> None:
    told, again = answer(), answer("--policy", "default", "--seed", "0")
    assert told["policy"] == "default"
    assert {**told, "placements_per_s": 0} == {**again, "placements_per_s": 0}


def test_means_over_seeds_are_of_the_runs_shown() -> None:
    told = answer("--policy", "best-fit", "--seed", "2", "--seeds", "3")
    assert [each["seed"] for each in told["runs"]] == [2, 3, 4]
    assert told["seeds"] == 3
    for level, pct in told["allocated_pct"].items():
        each_of = [each["allocated_pct"][level] for each in told["runs"]]
        if pct is None:
            assert None in each_of
            continue
        assert pct == pytest.approx(sum(each["allocated_pct"][level] for each in told["runs"]) / 3, abs=1e-3)


def test_levels_that_were_not_reached_are_null() -> None:
    told = answer("--arrived-to", "1.0")
    assert list(told["allocated_pct"]) == LEVELS
    assert [level for level, pct in told["allocated_pct"].items() if pct is None] == ["110", "120", "130"]


def test_the_end_of_a_short_run_is_told() -> None:
    told = answer("--arrived-to", "0.5")
    assert set(told["allocated_pct"].values()) == {None}
    assert 45 < told["final"]["allocated_pct"] <= told["final"]["arrived_pct"] <= 50
    done = simulate(*FILES, "--arrived-to", "0.5")
    assert done.stdout.splitlines()[3].split()[:7] == ["default", *"------"]
    assert done.stdout.splitlines()[4:] == [
        "at the end, 49.42% arrived: 49.42% allocated by default",
        "- at 80%, 90%, 100%, 110%, 120%, 130%: --arrived-to 0.5 ends before",
    ]


def test_levels_between_two_arrivals_of_a_small_cluster_say_so(tmp_path: Path) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,4,T4\n")
    pods.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n" + "".join(f"p{i},1000,1,1,1000\n" for i in range(4))
    )
    done = simulate("--nodes", str(nodes), "--pods", str(pods), "--arrived-to", "1.25")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-3:] == [
        "at the end, 125.00% arrived: 100.00% allocated by default",
        "- at 80%, 90%, 110%, 120%: no arrival rounds to it, the cluster is so small",
        "- at 130%: --arrived-to 1.25 ends before",
    ]


@pytest.mark.parametrize("seed", ["9223372036854775808", "9" * 5000, "1.5"])
def test_a_seed_beyond_all_bounds_is_refused_in_few_words(seed: str) -> None:
    done = simulate(*FILES, "--seed", seed)
    assert done.exit_code == 2
    assert "--seed': expected a whole number from 0 to 9223372036854775807; got " in done.stderr
    assert len(done.stderr) < 300


def test_the_largest_seed_works() -> None:
    told = answer("--seed", str(2**63 - 1), "--seeds", "2")
    assert [each["seed"] for each in told["runs"]] == [2**63 - 1, 2**63]


@pytest.mark.parametrize(("argv", "code"), [((), 1), (("-o", "json"), 1), (("--seed", "x"), 2)])
def test_a_reader_that_goes_away_gets_no_traceback(argv: tuple[str, ...], code: int) -> None:
    """Of stdout; for a refusal, of stderr."""
    reading, writing = os.pipe()
    os.close(reading)
    gone, kept = ("stderr", "stdout") if code == 2 else ("stdout", "stderr")
    streams: dict[str, Any] = {gone: writing, kept: subprocess.PIPE}
    command = [sys.executable, "-m", "scheduler.cli", "simulate", "packing", *FILES, *argv]
    try:
        done = subprocess.run(command, text=True, timeout=60, check=False, **streams)
    finally:
        os.close(writing)
    assert (done.returncode, done.stdout or "", done.stderr or "") == (code, "", "")


def test_policies_beside_one_another() -> None:
    told = answer("--compare", "random, best-fit,fgd")
    assert list(told["policies"]) == ["random", "best-fit", "fgd"]
    done = simulate(*FILES, "--compare", "random,fgd", "--seeds", "2")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("simulated: 24 nodes,")
    assert "means over seeds 0 to 1" in lines[0]
    assert lines[2].split()[:3] == ["POLICY", "80%", "90%"]
    assert [line.split()[0] for line in lines[3:5]] == ["random", "fgd"]
    assert [line.rpartition(" ")[2] for line in lines[5:7]] == ["random", "fgd"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--policy", "tetris"), "--policy: packing policy 'tetris' is unknown; there are: default, fgd,"),
        (("--compare", "fgd,tetris"), "--compare: packing policy 'tetris' is unknown"),
        (("--compare", ","), "--compare names no policy"),
        (("--policy", "fgd", "--compare", "fgd"), "give --policy or --compare, not both"),
        (("--nodes", "nowhere.csv"), "nowhere.csv: No such file or directory"),
        (("--pods", str(SLICE / "nodes.csv")), "nodes.csv, line 1: there is no column name"),
        (("--arrived-to", "0"), "--arrived-to"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_message(argv: tuple[str, ...], said: str) -> None:
    done = simulate(*FILES, *argv)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_an_interrupt_shows_what_was_computed_as_partial(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    of = PackingExperiment.run
    finished = answer("--seed", "0")

    def second_is_interrupted(self: PackingExperiment, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < 2:
            return of(self, *args, **kwargs)

        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        return of(self, *args, **{**kwargs, "progress": interrupt})

    monkeypatch.setattr(PackingExperiment, "run", second_is_interrupted)
    done = simulate(*FILES, "--seeds", "3", "-o", "json")
    assert done.exit_code == 130
    told = json.loads(done.stdout)
    assert told["partial"] is True
    assert told["seed"] == 0
    assert told["allocated_pct"] == finished["allocated_pct"]  # of the seed that was finished


def test_it_loads_none_of_the_heavy_modules() -> None:
    script = """
import sys
from scheduler.cli.root import root
try:
    root(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0
print(*sorted({"ray", "torch", "sqlalchemy", "pydantic", "fastapi", "rich"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "simulate", "packing", *FILES],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == ""
