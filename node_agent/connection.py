"""The agent's connection to its launcher: found or started, and made again whenever it breaks.

Whoever connects is first told what runs (`agree`), then of the ends that were pushed meanwhile, and only then may
anything be asked of the launcher. So no end falls between the launcher's table and the agent's, and no run that the
agent has just launched is missing in a table that was read before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from node_agent.launcher.client import LauncherClient, LauncherGone, LauncherTable, start_launcher
from node_agent.launcher.paths import LauncherPaths
from node_agent.launcher.ports import Limits
from node_agent.launcher.records import RunRecord

RESTART_PAUSE_S = 1.0

log = logging.getLogger(__name__)


class LauncherConnection:
    """`agree` and `on_exit` are called in the event loop and wait for nothing. `lease_s` is for a launcher to start."""

    def __init__(
        self,
        paths: LauncherPaths,
        state_dir: Path,
        lease_s: float,
        agree: Callable[[LauncherTable], None],
        on_exit: Callable[[RunRecord], None],
    ) -> None:
        self._paths = paths
        self._state_dir = state_dir
        self._agree = agree
        self._on_exit = on_exit
        self._client: LauncherClient | None = None
        self._early: list[RunRecord] = []
        self._reconnecting: asyncio.Task[None] | None = None
        self._given_up = False
        self.lease_s = lease_s
        self.launcher_pid = 0
        self.limits = Limits(False, False)  # what its launcher's kernel enforces
        self.trouble = ""  # a sentence while there is no launcher
        self.connected = asyncio.Event()

    def client(self) -> LauncherClient:
        """Raises LauncherGone while there is none."""
        if self._client is None:
            raise LauncherGone("the launcher is being restarted")
        return self._client

    async def open(self) -> None:
        """To a living launcher, or to one started now. Raises OSError, RuntimeError or LauncherGone."""
        self._early = []
        client = await self._reach()
        try:
            table = await client.table()
            if client.closed:
                raise LauncherGone("the launcher's connection broke")
            self._agree(table)  # from here on nothing waits
        except BaseException:
            await client.close()
            raise
        self._client, self.launcher_pid, self.trouble, self.limits = client, table.pid, "", table.limits
        early, self._early = self._early, []
        for record in early:
            self._on_exit(record)
        self.connected.set()

    async def _reach(self) -> LauncherClient:
        try:
            return await LauncherClient.connect(self._paths, self._hear, self._lost)
        except OSError:
            journal, said = self._state_dir / "launcher.journal", self._state_dir / "launcher.log"
            await start_launcher(self._paths, journal, self.lease_s, said)
            return await LauncherClient.connect(self._paths, self._hear, self._lost)

    def _hear(self, record: RunRecord) -> None:
        if self._client is None:  # the table is on its way: this may be the end of a run that nobody here knows yet
            self._early.append(record)
        else:
            self._on_exit(record)

    def _lost(self) -> None:
        if self._client is None:
            return  # still connecting: `open` finds out
        self._client = None
        self.connected.clear()
        if not self._given_up:
            self._reconnecting = asyncio.create_task(self._reconnect(), name="reconnect to the launcher")

    async def _reconnect(self) -> None:
        while not self._given_up:
            try:
                await self.open()
                return
            except (OSError, RuntimeError, LauncherGone) as error:
                self.trouble = f"no job can be started here: {error}"
            except Exception as error:  # without a launcher this node is of no use: whatever it is, try again
                self.trouble = f"no job can be started here: {error!r}"
                log.exception("connecting to the launcher")
            await asyncio.sleep(RESTART_PAUSE_S)

    async def give_up(self, within_s: float) -> None:
        """A lost launcher is replaced no more. Waits so long for one that is just being started."""
        self._given_up = True
        if self._reconnecting is not None:
            await asyncio.wait({self._reconnecting}, timeout=within_s)

    async def close(self) -> None:
        """Leave the launcher to its runs."""
        self._given_up = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await client.close()
