"""The scheduler under faults, in virtual time: hundreds of seeds without a broken promise, bugs that are found, and
what a finding is worth: it is shortened, and replays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scheduler.cli.root import root
from scheduler.simulation.faults.campaign import breach_of, run_part
from scheduler.simulation.faults.chance import story_of
from scheduler.simulation.faults.shrink import chosen, shrink
from scheduler.simulation.faults.story import CrashAgent, CutOff, KillNode, KillService
from scheduler.simulation.faults.world import World
from tests.simulation.planted import FOUND_BY, PLANTS, look_for

ROOT = Path(__file__).parents[2]
SEEDS = 300
# Stories that broke a promise once. What was mended is told in the messages of the commits that did.
ONCE_BROKEN = (755, 783, 1027, 1694, 1827, 2407, 2484, 2751, 3479, 3504, 3588, 3955, 3997, 20040, 24553, 203606, 204848)


def simulate_faults(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of the command, on all cores."""
    done = subprocess.run(
        [sys.executable, "-m", "scheduler.cli", "simulate", "faults", *arguments, "-o", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def in_this_process(*arguments: str) -> Result:
    """Of a few stories: they take less than loading the command anew."""
    return CliRunner().invoke(root, ["simulate", "faults", *arguments], prog_name="suanli")


def test_no_promise_is_broken() -> None:
    """`make nightly` plays 20,000."""
    code, answer = simulate_faults("--seeds", str(SEEDS))
    assert answer["violations"] == []
    assert (code, answer["seeds"], answer["broken"]) == (0, SEEDS, 0)
    assert answer["evidence"] == "simulated"
    assert answer["steps"] > 100 * SEEDS  # something happened


def test_rates_say_how_often_each_fault_comes() -> None:
    done = in_this_process("--seeds", "5", "--rate", "cut_off=4", "--rate", "crash_agent=0", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["broken"]) == (0, 0), done.output
    cuts = [
        sum(isinstance(step.what, CutOff) for step in story_of(seed, {"cut_off": 4.0}).steps) for seed in range(200)
    ]
    assert 3.5 < sum(cuts) / len(cuts) < 4.5
    kinds = {type(step.what) for seed in range(50) for step in story_of(seed, {"cut_off": 4.0}).steps}
    assert not kinds & {CrashAgent, KillNode, KillService}


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_what_was_broken_once_holds(seed: int) -> None:
    assert World(story_of(seed)).run().violation is None


def test_devices_that_go_bad_are_told_of_and_their_jobs_move() -> None:
    """Agents say which device is lost: nothing new goes there, what was there goes on elsewhere, and no promise breaks,
    whatever dies meanwhile."""
    moved = 0
    rates = {"break_device": 3.0, "crash_agent": 0.5, "kill_service": 0.5, "cut_off": 0.5}
    for seed in range(20):
        story = story_of(seed, rates)
        world = World(replace(story, setup=replace(story.setup, tells_health=True)))
        run = world.run()
        assert run.violation is None, (seed, run.violation)
        moved += sum(row.detail.get("cause") == "device unhealthy" for row in world.disk.kept.events)
    assert moved > 5


# ---- it can find bugs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found_by_its_seed(bug: str) -> None:
    seed, promise = FOUND_BY[bug]
    found = look_for(PLANTS[bug], [seed])
    assert found is not None, f"seed {seed} does not find it any more: python -m tests.simulation.planted {bug}"
    assert found.violation is not None
    assert found.violation.promise == promise
    assert World(story_of(seed)).run().violation is None  # without the bug it holds


@pytest.mark.nightly
@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found_within_2000_seeds(bug: str) -> None:
    assert look_for(PLANTS[bug], range(2000)) is not None


@pytest.mark.nightly
def test_no_promise_is_broken_in_20000_seeds() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "scheduler.cli",
            "simulate",
            "faults",
            "--seeds",
            "20000",
            "--from",
            "100000",
            "-o",
            "json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=3500,
    )
    answer = json.loads(done.stdout)
    assert answer["violations"] == []
    assert answer["seeds"] == 20_000


# ---- what a finding is worth ---------------------------------------------------------------------------------------


def test_a_finding_is_shortened_and_told_and_replays() -> None:
    seed, promise = FOUND_BY["no_fence"]
    whole = story_of(seed)
    with PLANTS["no_fence"]():
        shortest = shrink(whole, promise)
        breach = breach_of(shortest)
        assert 1 <= len(breach.history) < len(whole.steps) / 2
        again = World(chosen(whole, set(breach.numbers))).run()
        assert again.violation is not None
        assert again.violation.promise == promise
        for number in breach.numbers:  # no step of it can be left out
            without = World(chosen(whole, set(breach.numbers) - {number})).run()
            assert without.violation is None or without.violation.promise != promise
    assert (
        breach.command
        == f"suanli simulate faults --from {seed} --seeds 1 --only {','.join(map(str, breach.numbers))} --trace"
    )
    assert any("starts on devices" in line for line in breach.events)
    assert len(breach.text) > 20


def test_the_command_that_replays_plays_those_steps_alone() -> None:
    done = in_this_process("--from", "3", "--seeds", "1", "--only", "0,2", "-o", "json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["seeds"], answer["violations"]) == (0, 1, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "1", "--only", "0,999"], "has no step 999"),
        (["--seeds", "1", "--only", "a"], "expected numbers of steps"),
        (["--seeds", "2", "--only", "0"], "go with --seeds 1"),
        (["--seeds", "2", "--trace"], "go with --seeds 1"),
        (["--rate", "earthquake=1"], "there is no fault 'earthquake'"),
        (["--rate", "cut_off=often"], "expected cut_off=N"),
        (["--seeds", "0"], "0 is not in the range"),
        (["--from", "-1"], "-1 is not in the range"),
    ],
)
def test_bad_input_is_refused_in_words(arguments: list[str], said: str) -> None:
    done = in_this_process(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# ---- the same story, the same run ----------------------------------------------------------------------------------

DIGESTS = """
import sys
from scheduler.simulation.faults.chance import story_of
from scheduler.simulation.faults.world import World
print([World(story_of(seed)).run().digest for seed in range(int(sys.argv[1]))])
"""


@pytest.mark.parametrize("seeds", [10, pytest.param(200, marks=pytest.mark.nightly)])
def test_a_seed_gives_the_same_run_in_every_process(seeds: int) -> None:
    """Whatever the order of Python's sets: what replays on another machine is what was found on this one."""

    def digests(hash_seed: str) -> str:
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        argv = [sys.executable, "-c", DIGESTS, str(seeds)]
        done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=600)
        return done.stdout

    assert digests("1") == digests("2")


REAL_THINGS = """
import sys
from scheduler.simulation.faults.chance import story_of
from scheduler.simulation.faults.world import World
import time, threading
World(story_of(5)).run()
seen = []
watching = False
def hook(event, args):
    if watching and event.split(".")[0] in ("open", "socket", "subprocess", "os", "shutil", "signal", "tempfile"):
        seen.append((event, args))
sys.addaudithook(hook)
def never(*args):
    seen.append(("real time", args))
    raise AssertionError("real time was looked at")
threads = threading.Thread.start
threading.Thread.start = never
for name in ("time", "monotonic", "sleep", "perf_counter", "clock_gettime"):
    setattr(time, name, never)
import logging
logging.disable(logging.CRITICAL)  # a record of the log looks at the clock
watching = True
for seed in range(6):
    assert World(story_of(seed)).run().violation is None
watching = False
print(seen[:5])
"""


def test_nothing_real_is_touched() -> None:
    """No file, socket, process, thread or clock."""
    done = subprocess.run(
        [sys.executable, "-c", REAL_THINGS], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "[]\n", done.stdout


def test_a_part_counts_what_it_played() -> None:
    part = run_part(20, 3)
    assert (part.seeds, part.broken) == (3, ())
    assert part.jobs > 0
