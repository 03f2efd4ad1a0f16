"""How did a run end? What the kernel says of its main process, and of its control group."""

from __future__ import annotations

import signal

from node_agent.launcher.journal import Run
from node_agent.launcher.ports import ChildEnd, Processes
from node_agent.launcher.records import How


def how_it_ended(processes: Processes, run: Run, ended: ChildEnd) -> tuple[How, int | None, str]:
    """(how, code, detail) as in records.ExitRecord, where the launcher saw the end of its child."""
    well = ended.exited and ended.status == 0
    if not well and not run.asked and killed_at_limit(processes, run):
        return "out_of_memory", ended.status, over_limit_text(run)
    if ended.exited:
        return "exit", ended.status, ""
    killed = ended.status == signal.SIGKILL and not run.kill_sent
    if killed and processes.out_of_memory_kills() > run.kills_before:
        return "out_of_memory", ended.status, "the kernel killed it: the node was out of memory"
    return "signal", ended.status, ""


def how_it_ended_unseen(processes: Processes, run: Run, detail: str) -> tuple[How, int | None, str]:
    """The same where nobody saw it: unknown, with `detail`, unless its control group tells."""
    if killed_at_limit(processes, run):
        return "out_of_memory", None, over_limit_text(run)
    return "unknown", None, detail


def killed_at_limit(processes: Processes, run: Run) -> bool:
    """Whether the kernel has killed a process of it for the run's own limit of memory."""
    return run.held and processes.groups.memory_kills(run.control_group) > 0


def over_limit_text(run: Run) -> str:
    return f"it used more than its {run.memory_bytes / 2**20:.4g} MiB of memory"
