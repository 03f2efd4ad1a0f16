"""Ray's keeper on processes that stand for Ray's: each is really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.cli.instance import processes_of_session
from scheduler.engine import keeper
from tests.fakes.processes import end_all, eventually, lives

OLD_NODE = "ab" * 28
QUICK_DEATHS = 3
"""Less than a keeper's own, each of which waits for longer than the one before."""
NAP = "import signal, sys, pathlib; {first}; signal.pause()"


class Kept:
    """A keeper in a session of its own. `ray start` is a script that leaves a GCS, a raylet and another process behind;
    the raylet has a worker, which outlives it.
    """

    def __init__(
        self, home: Path, *, gcs: bool = True, raylet: str = "pass", gcs_first: str = "pass", before_end: str = ""
    ) -> None:
        self.home = home
        self.temp_dir, self.gcs_dir = home / "r", home / "gcs"
        self.temp_dir.mkdir()
        for name in (keeper.GCS, keeper.RAYLET, "other"):
            (home / name).symlink_to(sys.executable)
        (self.temp_dir / keeper.LAST_CLUSTER).write_text("here:1")
        useless = [str(home / "other"), "-c", NAP.format(first="pass")]
        worker = f"import subprocess; subprocess.Popen({useless!r})"
        commands = [useless]
        if gcs:
            commands.append([str(home / keeper.GCS), "-c", NAP.format(first=gcs_first), "--port=1"])
        commands.append(
            [
                *(str(home / keeper.RAYLET), "-c", NAP.format(first=f"{worker}; {raylet}")),
                *(f"--node_id={OLD_NODE}", f"--agent=--node-id={OLD_NODE}", f"--raylet_socket_name={home / 'socket'}"),
            ]
        )
        start = f"import subprocess, pathlib\nstarted = [subprocess.Popen(c) for c in {commands!r}]\n{before_end}\n"
        start += f"assert not pathlib.Path({str(self.temp_dir / keeper.LAST_CLUSTER)!r}).exists()\n"
        start += f"pathlib.Path({str(self.gcs_dir)!r}).mkdir(exist_ok=True)\n"
        run = (
            "import sys; from pathlib import Path; from scheduler.engine import keeper; keeper.become_reaper()\n"
            f"keeper.QUICK_DEATHS = {QUICK_DEATHS}\n"
            f"sys.exit(keeper.Keeper(Path({str(self.temp_dir)!r}), Path({str(self.gcs_dir)!r}) if {gcs} else None,"
            f" [sys.executable, '-c', {start!r}]).run())"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", run], start_new_session=True, stderr=subprocess.PIPE, text=True
        )

    def pids(self, program: str) -> list[int]:
        found = []
        for pid in processes_of_session(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended since the session was listed
            if words[0] == str(self.home / program):
                found.append(pid)
        return found

    def pid(self, program: str, but: int = 0) -> int:
        """The process of that program, when there is one beside `but`."""
        return eventually(lambda: [pid for pid in self.pids(program) if pid != but], f"{program} runs")[0]

    def node(self) -> str:
        path = self.temp_dir / keeper.RAY_NODE_ID
        return eventually(lambda: path.exists() and path.read_text(), "the node's name in Ray")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(str(tmp_path))


def test_a_killed_gcs_is_started_again_as_it_was_and_the_raylet_lives_on(home: Path) -> None:
    kept = Kept(home)
    raylet, gcs = kept.pid(keeper.RAYLET), kept.pid(keeper.GCS)
    before = Path(f"/proc/{gcs}/cmdline").read_bytes()
    kept.node()
    os.kill(gcs, signal.SIGKILL)
    again = kept.pid(keeper.GCS, but=gcs)
    eventually(lambda: Path(f"/proc/{again}/cmdline").read_bytes() == before, "the same command line")
    assert lives(raylet)
    assert kept.process.poll() is None


def test_a_gcs_that_is_killed_again_and_again_is_started_each_time_and_keeps_its_state(home: Path) -> None:
    """It was once taken for one that cannot start, and the cluster was given up."""
    kept = Kept(home)
    kept.node()
    gcs = kept.pid(keeper.GCS)
    for _ in range(QUICK_DEATHS + 2):
        os.kill(gcs, signal.SIGKILL)
        gcs = kept.pid(keeper.GCS, but=gcs)
    assert kept.process.poll() is None
    assert kept.gcs_dir.exists()


def test_a_killed_raylet_comes_back_as_another_node_without_its_old_workers(home: Path) -> None:
    kept = Kept(home)
    raylet, gcs = kept.pid(keeper.RAYLET), kept.pid(keeper.GCS)
    assert kept.node() == OLD_NODE
    beside = eventually(lambda: len(kept.pids("other")) == 2 and kept.pids("other"), "its worker and a useless process")
    (home / "socket").write_text("")
    os.kill(raylet, signal.SIGKILL)
    again = kept.pid(keeper.RAYLET, but=raylet)
    eventually(lambda: kept.node() != OLD_NODE, "another node")
    words = Path(f"/proc/{again}/cmdline").read_text()
    assert OLD_NODE not in words
    assert words.count(kept.node()) == 2
    assert not (home / "socket").exists()
    assert lives(gcs)
    eventually(lambda: sum(map(lives, beside)) == 1, "the old worker is gone, and nothing else")
    assert kept.process.poll() is None


def test_a_raylet_that_dies_again_and_again_ends_all_and_says_so(home: Path) -> None:
    kept = Kept(home, raylet="sys.exit(3)")
    _, said = kept.process.communicate(timeout=60)
    assert kept.process.returncode == 1
    assert "raylet dies again and again" in said.splitlines()[-1]
    assert "exit code 3" in said
    assert processes_of_session(kept.process.pid) == []
    assert kept.gcs_dir.exists()  # the cluster goes on when the keeper is started again


def test_a_gcs_that_can_never_start_has_its_state_set_aside(home: Path) -> None:
    seen = home / "r" / keeper.RAY_NODE_ID  # written when the keeper has seen what was started
    until_seen = f"import time; [time.sleep(0.01) for _ in iter(lambda: pathlib.Path({str(seen)!r}).exists(), True)]"
    kept = Kept(home, gcs_first=f"{until_seen}; sys.exit(4)")
    _, said = kept.process.communicate(timeout=60)
    assert kept.process.returncode == 1
    assert "gcs_server dies again and again" in said.splitlines()[-1]
    assert not kept.gcs_dir.exists()
    assert (home / "gcs.unusable").is_dir()
    assert processes_of_session(kept.process.pid) == []


def test_a_gcs_that_died_before_it_was_seen_is_a_start_that_failed(home: Path) -> None:
    """The raylet was once kept without it, and the instance was neither up nor down."""
    kept = Kept(home, gcs_first="sys.exit(4)", before_end="started[1].wait()")
    kept.process.communicate(timeout=60)
    assert kept.process.returncode == 1
    assert processes_of_session(kept.process.pid) == []


def test_on_a_machine_that_joined_there_is_a_raylet_alone(home: Path) -> None:
    kept = Kept(home, gcs=False)
    raylet = kept.pid(keeper.RAYLET)
    kept.node()
    os.kill(raylet, signal.SIGKILL)
    kept.pid(keeper.RAYLET, but=raylet)
    assert kept.process.poll() is None


def test_a_start_that_fails_leaves_nothing_and_its_own_code(tmp_path: Path) -> None:
    nap = [sys.executable, "-c", NAP.format(first="pass"), str(tmp_path)]
    leave = f"import subprocess, sys; subprocess.Popen({nap!r}); sys.exit(7)"
    run = (
        "import sys; from pathlib import Path; from scheduler.engine import keeper; keeper.become_reaper()\n"
        f"keeper.QUICK_DEATHS = {QUICK_DEATHS}\n"
        f"sys.exit(keeper.Keeper(Path({str(tmp_path)!r}), None, [sys.executable, '-c', {leave!r}]).run())"
    )
    process = subprocess.Popen([sys.executable, "-c", run], start_new_session=True)
    assert process.wait(timeout=30) == 7
    assert processes_of_session(process.pid) == []
