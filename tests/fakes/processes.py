"""For tests that start processes: a condition with a deadline, whether a process lives, and its sure end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from node_agent.launcher import procfs

Value = TypeVar("Value")


def eventually(ask: Callable[[], Value], what: str = "the condition", within_s: float = 15.0) -> Value:
    """The first true answer; fails the test when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what} did not come about in {within_s:g} s"
        time.sleep(0.005)
    return answer


def lives(pid: int) -> bool:
    found = procfs.process(pid)
    return found is not None and not found.ended


def number_in(path: Path) -> int:
    """A number that a process writes to a file; 0 while it is not there."""
    try:
        return int(path.read_text().strip() or "0")
    except (FileNotFoundError, ValueError):
        return 0


def carrying(mark: str) -> Iterator[int]:
    """Pids whose environment or command line holds `mark`."""
    for found in procfs.processes():
        if found.pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{found.pid}/environ").read_bytes() + Path(f"/proc/{found.pid}/cmdline").read_bytes()
            if mark.encode() in text:
                yield found.pid


def end_all(mark: str) -> None:
    """Kill what a test has left; its mark is the path of its own temporary directory."""
    for _ in range(100):
        pids = list(carrying(mark))
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    _remove_control_groups(Path(mark))


def _remove_control_groups(directory: Path) -> None:
    """Of launchers that were killed here and have no successor."""
    for notebook in directory.rglob("*.cgroups"):
        for parent in map(Path, json.loads(notebook.read_text())):
            with contextlib.suppress(OSError):
                for inner in [entry for entry in parent.iterdir() if entry.is_dir()]:
                    inner.rmdir()
                parent.rmdir()
