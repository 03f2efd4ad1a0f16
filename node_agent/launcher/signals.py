"""How is a run signalled? Its group, its whole session, or those of its processes that await the signal."""

from __future__ import annotations

import functools
import os
import signal
import sys

from node_agent.clock import boottime_s
from node_agent.launcher import procfs
from node_agent.launcher.journal import Run

ASK_AGAIN_S = 0.1


def send(run: Run, number: signal.Signals) -> None:
    """To the run's process group; SIGKILL to its whole session. The pid is its own until it is reaped."""
    assert run.pid is not None, run
    if number == signal.SIGKILL:
        run.kill_sent = True
        for found in procfs.processes():
            if found.session == run.pid:
                kill(found.pid, number)
    kill_group(run.pid, number)


def ask(run: Run) -> None:
    """A process that catches SIGUSR1 is asked at once. One that blocks it may do so for a moment only (a shell that is
    just starting a command does) and then die of it, so it is asked when it blocks it at the next look too.
    """
    members = [found.pid for found in procfs.processes() if found.session == run.pid]
    awaited = {pid: procfs.awaits(pid, signal.SIGUSR1) for pid in members}
    blocking = {pid for pid, how in awaited.items() if how == "blocked"}
    ready = [pid for pid, how in awaited.items() if how == "caught"] or sorted(blocking & run.blocking)
    for pid in ready:
        kill(pid, signal.SIGUSR1)
    run.blocking = blocking
    run.asks_at = None if ready else boottime_s() + ASK_AGAIN_S


def kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has gone by itself
    except PermissionError as error:
        _say_once(f"a process of a run could not be signalled, for it has changed its user: {error}")


def kill_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass  # as above
    except PermissionError as error:
        _say_once(f"no process of a run's group could be signalled, for they have changed their user: {error}")


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
