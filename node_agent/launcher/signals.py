"""How is a run signalled? Its group, its whole session or control group, or those of its processes that await it."""

from __future__ import annotations

import signal

from node_agent.launcher.journal import Run
from node_agent.launcher.ports import Processes

ASK_AGAIN_S = 0.1


def send(processes: Processes, run: Run, number: signal.Signals) -> None:
    """To the run's process group; SIGKILL to its whole session and control group. The pid is its own until it is
    reaped.
    """
    assert run.pid is not None, run
    if number == signal.SIGKILL:
        run.kill_sent = True
        processes.groups.kill(run.control_group)
        for found in processes.living():
            if found.session == run.pid:
                processes.signal(found.pid, number)
    processes.signal_group(run.pid, number)


def ask_for_checkpoint(processes: Processes, run: Run, now: float) -> None:
    """By the signal `run.asks_with`. A process that catches it is asked at once. One that blocks it may do so for a
    moment only (a shell that is just starting a command does) and then die of it, so it is asked when it blocks it at
    the next look too.
    """
    members = [found.pid for found in processes.living() if found.session == run.pid]
    awaited = {pid: processes.awaits(pid, run.asks_with) for pid in members}
    blocking = {pid for pid, how in awaited.items() if how == "blocked"}
    ready = [pid for pid, how in awaited.items() if how == "caught"] or sorted(blocking & run.blocking)
    for pid in ready:
        processes.signal(pid, run.asks_with)
    run.blocking = blocking
    run.asks_at = None if ready else now + ASK_AGAIN_S
