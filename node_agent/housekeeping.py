"""What does an agent tidy up beside its work? Logs that grow over their caps, and runs' files that are old enough.

Both touch a disk only, on a thread, one thing at a time; trouble is said once and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec

from node_agent.execution.capping import cap_log, may_be_over
from node_agent.execution.logs import RunPaths
from node_agent.execution.retention import Known, remove_old

CAP_PERIOD_S = 2.0
RETENTION_PERIOD_S = 3600.0
FIRST_RETENTION_S = 60.0  # an agent that has just started has heard of its runs by then

log = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")


class Housekeeping:
    """`capped` tells the runs that live, with their caps; `known` whether the agent knows a run."""

    def __init__(self, state_dir: Path, capped: Callable[[], Mapping[Path, int]], known: Known) -> None:
        self._state_dir = state_dir
        self._capped = capped
        self._known = known
        self._trouble = ""

    async def run(self) -> None:
        """Until it is cancelled."""
        clock = asyncio.get_running_loop().time
        retention_at = clock() + FIRST_RETENTION_S
        while True:
            await asyncio.sleep(CAP_PERIOD_S)
            await self._survive(self.cap, self._capped())
            if clock() >= retention_at:
                retention_at = clock() + RETENTION_PERIOD_S
                await self._survive(remove_old, self._state_dir, self._known, time.time())

    @staticmethod
    def cap(runs: Mapping[Path, int]) -> int:
        """Bytes given back. Runs by their directory, and how much each of their logs may take."""
        given = 0
        for directory, cap_bytes in runs.items():
            paths = RunPaths(directory)
            given += sum(cap_log(path, cap_bytes) for path in (paths.stdout, paths.stderr))
        return given

    @staticmethod
    def may_be_over(directory: Path, cap_bytes: int) -> bool:
        """Whether a run's logs are worth the thread that caps them. It waits for no file system but the agent's own."""
        paths = RunPaths(directory)
        return any(may_be_over(path, cap_bytes) for path in (paths.stdout, paths.stderr))

    async def _survive(self, work: Callable[Arguments, int], *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            await asyncio.to_thread(work, *args, **kwargs)
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("tidying up: %s", error)
