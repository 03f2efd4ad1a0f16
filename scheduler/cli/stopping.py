"""Ending an instance: supervisor, service and gateway, then Ray with the agents, then jobs through their launchers,
then strays.

Only processes that this instance started are touched: those in instance.json (pid and start time), those that launchers
name, the session of the Ray head that `up` started, and whatever carries the instance's mark.
"""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass

from scheduler.cli.instance import (
    Home,
    ProcessId,
    Started,
    end_session,
    pid_file_process,
    session_is_ours,
    strays,
)

SUPERVISOR_GRACE_S = 3.0
SERVICE_GRACE_S = 8.0
LAUNCHER_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What was ended, by name, and what could not be (pids), which is then the operator's to look at."""

    names: tuple[str, ...]
    left: tuple[int, ...]


def stop_instance(home: Home, started: Started) -> Ended:
    """End everything and remove the runtime directory. Safe to call at any point of a half-done `up`, and twice."""
    names: list[str] = []
    # The supervisor goes first, or it would start again what ends here; the service next, or it would start again what
    # the launchers end.
    supervisor = started.living().get("supervisor")
    if supervisor is not None:
        supervisor.signal(signal.SIGTERM)
        _end(supervisor, SUPERVISOR_GRACE_S)
        names.append("supervisor")
        started = home.started() or started  # with what it started last
    living = started.living()
    for name in ("service", "gateway"):
        if name in living:
            living[name].signal(signal.SIGTERM)
    for name in ("service", "gateway"):
        if name in living:
            _end(living[name], SERVICE_GRACE_S)
            names.append(name)
    # Agents next: an agent that outlives its launcher would start another. They are Ray's workers; Ray holds nothing of
    # ours. A gentle stop of Ray waits up to 30 s for detached actors, so its session is ended. The leader may be gone
    # while its children live on, so the session is swept whether or not it still lives.
    ray = started.processes.get("ray")
    if ray is not None and (ray.alive() or session_is_ours(home, ray)):
        end_session(ray.pid)
        names.append("ray")
    launchers = [
        process
        for path in sorted(home.runtime_dir.glob("**/launcher.pid"))
        if (process := pid_file_process(path)) is not None
    ]
    for launcher in launchers:
        launcher.signal(signal.SIGTERM)
    for launcher in launchers:
        _end(launcher, LAUNCHER_GRACE_S)
    if launchers:
        names.append(f"{len(launchers)} launcher{'s' if len(launchers) > 1 else ''}")
    _end_strays(home)
    home.remove_runtime_dir()
    shutil.rmtree(home.ray_state, ignore_errors=True)  # the next Ray is another cluster
    return Ended(tuple(names), tuple(process.pid for process in strays(home.identity)))


def _end_strays(home: Home, timeout_s: float = 5.0) -> None:
    """Whatever else carries our mark: a launcher that was just starting, jobs whose launcher was killed."""
    deadline = time.monotonic() + timeout_s
    while (left := strays(home.identity)) and time.monotonic() < deadline:
        for stray in left:
            stray.signal(signal.SIGKILL)
            stray.wait_gone(1.0)


def _end(process: ProcessId, grace_s: float) -> None:
    if not process.wait_gone(grace_s):
        process.signal(signal.SIGKILL)
        process.wait_gone(2.0)
