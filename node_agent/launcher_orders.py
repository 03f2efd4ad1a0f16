"""What is the launcher told, and what if it is not there to hear it? Nothing: its connection makes good for it.

When the launcher is back the agent and it agree on what runs, and what is due then is asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from node_agent.agent_runs import ForgetRun, RenewLaunchersLease, SignalRun
from node_agent.connection import LauncherConnection
from node_agent.execution.logs import paths_of
from node_agent.execution.order import key_text
from node_agent.launcher.client import LauncherGone, LauncherRefused
from node_agent.launcher.procfs import start_ticks, wait_gone
from node_agent.messages import RunKey

SHUTDOWN_TIMEOUT_S = 8.0


class LauncherOrders:
    """`refused` hears of the run (None: of no single one) and the epoch, where the launcher knows of a higher one."""

    def __init__(
        self, launcher: LauncherConnection, state_dir: Path, refused: Callable[[RunKey | None, int], object]
    ) -> None:
        self._launcher = launcher
        self._state_dir = state_dir
        self._refused = refused

    async def signal(self, request: SignalRun) -> None:
        key = request.key
        if request.ask:  # an acknowledgement from before it was asked for is none
            with contextlib.suppress(OSError):  # not there; or a directory, which is no acknowledgement either
                paths_of(self._state_dir, key).checkpoint_ack.unlink()
        with contextlib.suppress(LauncherGone):  # repeated when it is back
            try:
                await self._launcher.client().signal(request.epoch, key_text(key), request.number, ask=request.ask)
            except LauncherRefused as error:
                self.note_epoch(key, error)

    async def renew(self, request: RenewLaunchersLease) -> None:
        with contextlib.suppress(LauncherGone):  # a new launcher begins with a lease, and the service renews again
            try:
                await self._launcher.client().renew(request.epoch, request.lease_s, request.stamp_s)
            except LauncherRefused as error:
                self.note_epoch(None, error)

    async def forget(self, request: ForgetRun) -> None:
        with contextlib.suppress(LauncherGone):  # it is found again when reconciling, and its end told once more
            try:
                await self._launcher.client().forget(request.epoch, key_text(request.key))
            except LauncherRefused as error:
                self.note_epoch(request.key, error)

    def note_epoch(self, key: RunKey | None, error: LauncherRefused) -> None:
        if error.kind == "stale_epoch":
            self._refused(key, error.epoch)


async def end_launcher(pid_file: Path) -> None:
    """SIGTERM, and SIGKILL when that does not help in time. Returns when the launcher is gone."""
    with contextlib.suppress(OSError, ValueError, KeyError):  # no pid file: no launcher
        noted = json.loads(await asyncio.to_thread(pid_file.read_text))
        await _end_process(int(noted["pid"]), int(noted["start_ticks"]))


async def _end_process(pid: int, ticks: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if start_ticks(pid) != ticks:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if await asyncio.to_thread(wait_gone, pid, ticks, SHUTDOWN_TIMEOUT_S):
            return
