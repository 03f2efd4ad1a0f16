"""For how long are the files of a run kept that nobody knows of any more?

Each run brings along how long that is to be (messages.LaunchSpec.log_keep_s), counted from the last change of any of
its files. Runs that the agent knows, ended ones that the service has not committed yet among them, are not touched.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from node_agent.execution.logs import RunPaths
from node_agent.messages import LOG_KEEP_S
from node_agent.regular_files import read_bounded

NOTE_BYTES = 32
ATTEMPT = re.compile(r"attempt-([0-9]{1,9})")
WORKER = re.compile(r"worker-([0-9]{1,9})")

Known = Callable[[str, int, int], bool]


def keep_note(paths: RunPaths) -> Path:
    """Beside the run's directory, where no tenant can write."""
    return paths.directory.with_name(paths.directory.name + ".keep")


def note_keep(paths: RunPaths, keep_s: float) -> None:
    """Nothing is written for what holds without a note."""
    if keep_s != LOG_KEEP_S:
        keep_note(paths).write_text(f"{keep_s:.3f}")


def remove_old(state_dir: Path, known: Known, now_s: float) -> int:
    """`known`: whether the agent knows the run of (job, attempt, worker). `now_s`: the time of day, as files have it.

    How many runs were removed. What cannot be removed is passed over, and tried again next time.
    """
    removed = 0
    for job in _directories(state_dir / "runs"):
        for attempt in _directories(job, ATTEMPT):
            for worker in _directories(attempt, WORKER):
                name = (job.name, _number(ATTEMPT, attempt), _number(WORKER, worker))
                if not known(*name) and _is_old(worker, now_s):
                    shutil.rmtree(worker, ignore_errors=True)
                    if not worker.exists():
                        keep_note(RunPaths(worker)).unlink(missing_ok=True)
                        removed += 1
            _remove_empty(attempt)
        _remove_empty(job)
    return removed


def _is_old(directory: Path, now_s: float) -> bool:
    try:
        changed_s = [entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(directory)]
        changed_s.append(directory.stat().st_mtime)
    except OSError:  # it cannot be read, or is just going
        return False
    return now_s - max(changed_s) > _keep_s(RunPaths(directory))


def _keep_s(paths: RunPaths) -> float:
    try:
        return float(read_bounded(keep_note(paths), NOTE_BYTES))
    except (OSError, ValueError):
        return LOG_KEEP_S


def _directories(parent: Path, name: re.Pattern[str] | None = None) -> Iterator[Path]:
    """A list is made first: some of them will be removed."""
    try:
        entries = [entry for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        if name is None or name.fullmatch(entry.name):
            yield Path(entry.path)


def _number(name: re.Pattern[str], directory: Path) -> int:
    found = name.fullmatch(directory.name)
    assert found is not None, directory
    return int(found[1])


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        pass  # another run is in it, or is just being prepared
