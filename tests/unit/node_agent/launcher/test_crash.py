"""The launcher is killed, or there are two: what is known afterwards, and that nothing runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from node_agent.launcher.journal import TOMBSTONES, Journal, Run
from node_agent.launcher.os_journal import OsJournal
from node_agent.launcher.paths import make_private
from node_agent.launcher.records import ExitRecord
from tests.fakes.launcher_rig import ROOT, LauncherRig
from tests.fakes.processes import eventually, lives


def test_what_still_runs_is_watched_on_and_its_end_is_unknown(rig: LauncherRig) -> None:
    pid = rig.start().launch("a", "while [ ! -e go ]; do sleep 0.02; done; exit 7")
    rig.kill()
    assert lives(pid)
    rig.start()
    assert rig.table()["a"].exit is None
    assert rig.table()["a"].pid == pid
    (rig.directory / "go").touch()
    assert rig.outcome("a") == ("unknown", None)


def test_what_ended_unseen_is_unknown(rig: LauncherRig) -> None:
    pid = rig.start().launch("a", "while [ ! -e go ]; do sleep 0.02; done; exit 7")
    rig.kill()
    (rig.directory / "go").touch()
    eventually(lambda: not lives(pid))
    rig.start()
    end = rig.table()["a"].exit
    assert end is not None
    assert (end.how, end.code) == ("unknown", None)


def test_what_had_ended_before_is_still_known(rig: LauncherRig) -> None:
    rig.start().launch("a", "exit 7")
    rig.ended("a")
    rig.kill()
    end = rig.start().table()["a"].exit
    assert end is not None
    assert (end.how, end.code) == ("exit", 7)


def test_nothing_is_started_twice(rig: LauncherRig) -> None:
    pid = rig.start().launch("a", "echo x >>count; exec sleep 300")
    eventually((rig.directory / "count").exists)
    rig.kill()
    rig.start()
    assert rig.launch("a", "echo x >>count; exec sleep 300") == pid
    assert (rig.directory / "count").read_text() == "x\n"


def test_a_process_whose_pid_was_never_noted_is_found_by_its_mark(rig: LauncherRig) -> None:
    """Killed between the fork and the journal's line: as if that line had never been written."""
    pid = rig.start().launch("a", "echo x >>count; exec sleep 300")
    rig.kill()
    lines = [line for line in rig.journal.read_text().splitlines() if json.loads(line)["t"] != "pid"]
    rig.journal.write_text("\n".join(lines) + "\n")
    rig.start()
    assert rig.table()["a"].pid == pid
    assert rig.launch("a", "echo x >>count") == pid
    os.kill(pid, signal.SIGKILL)
    assert rig.outcome("a") == ("unknown", None)


def test_an_intent_without_a_process_is_unknown_and_stays_so(rig: LauncherRig) -> None:
    pid = rig.start().launch("a", "exec sleep 300")
    rig.kill()
    os.kill(pid, signal.SIGKILL)
    lines = [line for line in rig.journal.read_text().splitlines() if json.loads(line)["t"] != "pid"]
    rig.journal.write_text("\n".join(lines) + "\n" + '{"t": "pid", "key": "a", "pi')  # a torn last line
    rig.start()
    end = rig.table()["a"].exit
    assert end is not None
    assert end.how == "unknown"
    answer = rig.ask("launch", order=rig.order("a", "true").to_json())
    assert answer["ok"]
    assert answer["run"]["exit"]["how"] == "unknown"


def test_a_pid_that_went_to_a_stranger_is_not_ours(rig: LauncherRig) -> None:
    pid = rig.start().launch("a", "exec sleep 300")
    rig.kill()
    text = rig.journal.read_text()
    ticks = next(json.loads(line)["ticks"] for line in text.splitlines() if json.loads(line)["t"] == "pid")
    forged = text.replace(f'"ticks":{ticks}', '"ticks":1').replace("a.result", "b.result")
    rig.journal.write_text(forged)
    rig.start()
    end = rig.table()["a"].exit
    assert end is not None
    assert end.how == "unknown"
    assert lives(pid), "a stranger was killed"
    os.kill(pid, signal.SIGKILL)


def test_adopted_runs_are_signalled_and_ended_with_the_launcher(rig: LauncherRig) -> None:
    first = rig.start().launch("a", "exec sleep 300")
    second = rig.launch("b", "exec sleep 300")
    rig.kill()
    rig.start()
    assert rig.ask("signal", key="a", signal=int(signal.SIGTERM))["delivered"]
    assert rig.outcome("a") == ("unknown", None)
    assert not lives(first)
    assert rig.stop() == 0
    assert not lives(second)


def test_only_one_launcher_a_socket(rig: LauncherRig) -> None:
    rig.start()
    second = subprocess.run(rig.command(), cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)
    assert second.returncode == 3
    assert "another launcher" in second.stderr
    assert rig.table() == {}
    rig.stop()
    rig.start()


def test_a_socket_path_too_long_is_said(rig: LauncherRig) -> None:
    argv = rig.command()
    argv[argv.index("--socket") + 1] = str(rig.directory / ("x" * 100) / "launcher.sock")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)
    assert done.returncode == 2
    assert "Unix allows 107" in done.stderr
    assert "shorter runtime directory" in done.stderr


def test_a_shared_directory_is_not_taken() -> None:
    with pytest.raises(PermissionError, match="belongs to others too"):
        make_private(Path("/tmp"))


def test_the_launcher_loads_little(rig: LauncherRig) -> None:
    """It forks for the whole node: nothing heavy may be in it."""
    script = (
        "import sys, node_agent.launcher.__main__; print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'asyncio', 'numpy', 'ray', 'torch', 'pydantic', 'aiohttp'}), 'node_agent.messages' in sys.modules)"
    )
    argv = [rig.command()[0], "-c", script]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout.split() == ["[]", "False"]


# ---- the journal -----------------------------------------------------------------------------------------------------


def run(key: str) -> Run:
    return Run(key, "0" * 64, "M=1", 0, 1.0, True, "t", pid=5, start_ticks=6, started_s=7.0, started_boot_s=2.0)


def journal(directory: Path) -> Journal:
    return Journal(OsJournal(directory / "j"), boot_id="this boot", say=print)


def test_the_journal_remembers(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.epoch(9)
    runs = [run("a"), run("b"), run("c")]
    first.intents(runs)
    for each in runs:
        first.started(each)
    runs[1].exit = ExitRecord("exit", 3, 8.0)
    first.ended(runs[1])
    runs[2].exit = ExitRecord("exit", 0, 8.0)
    first.ended(runs[2])
    first.forget("c")
    first.close()
    second = journal(tmp_path)
    assert second.kept.epoch == 9
    assert list(second.kept.runs) == ["a", "b"]
    assert second.kept.runs["a"].pid == 5
    assert second.kept.runs["b"].exit == ExitRecord("exit", 3, 8.0)
    assert list(second.kept.forgotten) == ["c"]
    second.close()


def test_another_boots_pids_are_dropped(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.intents([run("a")])
    first.started(run("a"))
    first.lease(5.0, 1.0, now=4.5)
    first.close()
    lines = (tmp_path / "j").read_text().splitlines()
    lines[0] = json.dumps({"t": "boot", "boot_id": "another"})
    (tmp_path / "j").write_text("\n".join(lines))
    second = journal(tmp_path)
    assert second.kept.runs["a"].pid is None
    # The times of that boot's clock are gone with it, but not what they said: how long the run is known to have lived.
    assert (second.kept.lease_until, second.kept.lease_stamp_s, second.kept.seen_s) == (None, None, None)
    assert second.kept.runs["a"].lived_s == 2.5
    second.close()


def test_tombstones_are_bounded(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    for number in range(TOMBSTONES + 5):
        kept.forget(str(number))
    assert len(kept.kept.forgotten) == TOMBSTONES
    assert "0" not in kept.kept.forgotten
    kept.close()
