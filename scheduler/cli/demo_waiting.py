"""Is it so by now? How the demo waits for what its steps expect, and what it reads of jobs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scheduler.cli.demo import Stage

ENDED = ("succeeded", "failed", "cancelled")


class DemoFailed(Exception):
    """A step did not do what it says."""


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DemoFailed(otherwise)


def wait_for_end(
    stage: Stage,
    job_id: str,
    *,
    limit_s: float,
    label: str,
    total: float | None = None,
    progress: Callable[[], float] | None = None,
) -> dict[str, Any]:
    wait_until(
        lambda: stage.job(job_id)["state"] in ENDED, limit_s=limit_s, label=label, total=total, progress=progress
    )
    return stage.job(job_id)


def wait_until(
    condition: Callable[[], bool],
    *,
    limit_s: float,
    label: str,
    total: float | None = None,
    progress: Callable[[], float] | None = None,
) -> None:
    """Poll until it holds; past the limit the demo has failed. A bar on a terminal, silence in a pipe."""
    deadline = time.monotonic() + limit_s
    with _bar(label, total) as show:
        while not condition():
            if time.monotonic() > deadline:
                raise DemoFailed(f"{label}: not so within {limit_s:.0f} s")
            if progress is not None:
                show(progress())
            time.sleep(0.1)
        if total is not None:
            show(total)


@contextmanager
def _bar(label: str, total: float | None) -> Iterator[Callable[[float], None]]:
    if not sys.stdout.isatty():
        yield lambda _done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    if total is not None:
        columns[2:2] = [BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


def losses_of(stage: Stage, job_id: str) -> dict[int, float]:
    """`step N loss X` lines of worker 0 so far."""
    from scheduler.errors import SuanliError

    try:
        text = b"".join(stage.api().stream_log(job_id, worker=0)).decode(errors="replace")
    except SuanliError:
        return {}  # not started yet
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and words[0] == "step" and words[2] == "loss":
            found[int(words[1])] = float(words[3])
    return found


def first_result(job: dict[str, Any]) -> dict[str, Any]:
    """The result that worker 0 of the last attempt left."""
    of_first = [entry for entry in job["results"] if entry["worker"] == 0]
    require(bool(of_first), f"job {job['id']} left no result")
    result: dict[str, Any] = max(of_first, key=lambda entry: int(entry["attempt"]))["result"]
    return result
