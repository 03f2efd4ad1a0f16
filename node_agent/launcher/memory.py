"""Which runs use more memory than they may?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from node_agent.launcher.journal import Run
from node_agent.launcher.ports import Processes


def over_limit(processes: Processes, by_session: Mapping[int, Run]) -> Iterator[Run]:
    """RSS first: it is cheap, and never less than PSS, so only a run over its limit by RSS is looked at closely."""
    members: dict[int, list[int]] = {}
    for found in processes.living():
        if found.session in by_session:
            members.setdefault(found.session, []).append(found.pid)
    for session, pids in members.items():
        run = by_session[session]
        if not run.memory_bytes or run.stopped_for is not None:
            continue
        if sum(map(processes.rss_bytes, pids)) <= run.memory_bytes:
            continue
        if sum(map(processes.pss_bytes, pids)) > run.memory_bytes:
            yield run
