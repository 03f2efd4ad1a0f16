"""Files of runs are removed when they are old enough and nobody knows the run any more, and not before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node_agent.execution.logs import RunPaths, run_paths
from node_agent.execution.retention import keep_note, note_keep, remove_old
from node_agent.messages import LOG_KEEP_S

NOW_S = 2e9
DAY_S = 86_400.0


def run(state_dir: Path, job: str, worker: int = 0, *, age_s: float, keep_s: float = LOG_KEEP_S) -> RunPaths:
    """A run whose files were last written so long ago."""
    paths = run_paths(state_dir, job, 1, worker)
    paths.make()
    note_keep(paths, keep_s)
    paths.stdout.write_text("hello\n")
    for path in (paths.stdout, paths.directory):
        os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return paths


def remove(state_dir: Path, *known: tuple[str, int, int]) -> int:
    return remove_old(state_dir, lambda *name: name in known, NOW_S)


@pytest.mark.parametrize(
    ("age_s", "keep_s", "gone"),
    [
        (15 * DAY_S, LOG_KEEP_S, True),
        (13 * DAY_S, LOG_KEEP_S, False),
        (13 * DAY_S, 12 * DAY_S, True),
        (15 * DAY_S, 16 * DAY_S, False),
        (-DAY_S, 60.0, False),  # the clock was set back since
    ],
)
def test_each_run_says_for_how_long(tmp_path: Path, age_s: float, keep_s: float, gone: bool) -> None:
    paths = run(tmp_path, "7", age_s=age_s, keep_s=keep_s)
    assert remove(tmp_path) == int(gone)
    assert paths.stdout.exists() != gone
    assert not gone or list((tmp_path / "runs").iterdir()) == [], "nor is there anything left of its job"


def test_what_the_agent_knows_stays_however_old(tmp_path: Path) -> None:
    old = run(tmp_path, "7", age_s=99 * DAY_S)
    assert remove(tmp_path, ("7", 1, 0)) == 0
    assert old.stdout.exists()


def test_one_that_still_writes_stays(tmp_path: Path) -> None:
    """Nobody here knows it; its node's launcher may."""
    paths = run(tmp_path, "7", age_s=99 * DAY_S)
    os.utime(paths.stdout, (NOW_S, NOW_S))
    assert remove(tmp_path) == 0


def test_neighbours_stay(tmp_path: Path) -> None:
    old, young = run(tmp_path, "7", 0, age_s=99 * DAY_S, keep_s=DAY_S), run(tmp_path, "7", 1, age_s=DAY_S)
    other = run(tmp_path, "8", age_s=99 * DAY_S, keep_s=100 * DAY_S)
    assert remove(tmp_path) == 1
    assert not old.directory.exists()
    assert not keep_note(old).exists()
    assert young.stdout.exists()
    assert other.stdout.exists()


def test_strange_things_are_passed_over(tmp_path: Path) -> None:
    assert remove(tmp_path) == 0
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "worker-0").mkdir()
    (tmp_path / "runs" / "7").mkdir(parents=True)
    (tmp_path / "runs" / "7" / "attempt-1").symlink_to(outside)
    (tmp_path / "runs" / "7" / "notes").mkdir()
    (tmp_path / "runs" / "file").touch()
    assert remove(tmp_path) == 0
    assert (outside / "worker-0").exists()
    spoilt = run(tmp_path, "9", age_s=99 * DAY_S)
    keep_note(spoilt).write_text("for ever")
    assert remove(tmp_path) == 1
