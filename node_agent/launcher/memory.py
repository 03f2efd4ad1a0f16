"""Which runs use more memory than they may? Of those that the kernel does not hold to it, and of those that it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from node_agent.launcher.ends import killed_at_limit
from node_agent.launcher.journal import Run
from node_agent.launcher.ports import Processes


def over_limit(processes: Processes, by_session: Mapping[int, Run]) -> Iterator[Run]:
    """Where the kernel has killed a process of a run, the rest is to go too. Elsewhere somebody has to count.

    RSS first: it is cheap, and never less than PSS, so only a run over its limit by RSS is looked at closely.
    """
    watched = False
    for run in by_session.values():
        watched = watched or (run.memory_bytes > 0 and not run.held)
        if run.stopped_for is None and killed_at_limit(processes, run):
            yield run
    if watched:
        yield from _over_by_count(processes, by_session)


def _over_by_count(processes: Processes, by_session: Mapping[int, Run]) -> Iterator[Run]:
    members: dict[int, list[int]] = {}
    for found in processes.living():
        if found.session in by_session:
            members.setdefault(found.session, []).append(found.pid)
    for session, pids in members.items():
        run = by_session[session]
        if not run.memory_bytes or run.held or run.stopped_for is not None:
            continue
        if sum(map(processes.rss_bytes, pids)) <= run.memory_bytes:
            continue
        if sum(map(processes.pss_bytes, pids)) > run.memory_bytes:
            yield run
