"""The agent's end of the launcher's socket, and how an agent starts a launcher. The launcher itself never imports this.

Requests do not wait for each other's answers: a burst of launches is one write. When the connection breaks, every
unanswered request ends in LauncherGone and `on_lost` is called once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from node_agent.execution.environment import INHERITED
from node_agent.launcher.paths import LauncherPaths
from node_agent.launcher.ports import Limits
from node_agent.launcher.records import Json, LaunchOrder, RunRecord

LINE_BYTES = 64 << 20
START_TIMEOUT_S = 15.0
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class LauncherGone(Exception):
    """The connection broke before the answer came: the request may or may not have been carried out."""


class LauncherRefused(Exception):
    """The launcher said no. `kind` is stale_epoch, never_started, refused, alive or bad_request."""

    def __init__(self, kind: str, message: str, epoch: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class LauncherTable:
    pid: int
    epoch: int
    runs: tuple[RunRecord, ...]
    limits: Limits


class LauncherClient:
    """One connection. Make it with `connect`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_exit: Callable[[RunRecord], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._closed = False
        self._listening = asyncio.create_task(self._listen(), name="launcher connection")

    @staticmethod
    async def connect(
        paths: LauncherPaths, on_exit: Callable[[RunRecord], None], on_lost: Callable[[], None]
    ) -> LauncherClient:
        """Raises OSError when nobody listens."""
        reader, writer = await asyncio.open_unix_connection(str(paths.socket), limit=LINE_BYTES)
        return LauncherClient(reader, writer, on_exit, on_lost)

    @property
    def closed(self) -> bool:
        return self._closed

    async def table(self) -> LauncherTable:
        answer = await self._ask("table")
        runs = tuple(RunRecord.from_json(run) for run in answer["runs"])
        said = answer.get("limits") or {"memory": False, "cpus": False, "why": "its launcher is of an older version"}
        limits = Limits(bool(said["memory"]), bool(said["cpus"]), str(said["why"]))
        return LauncherTable(int(answer["pid"]), int(answer["epoch"]), runs, limits)

    async def launch(self, epoch: int, order: LaunchOrder) -> RunRecord:
        return RunRecord.from_json((await self._ask("launch", epoch=epoch, order=order.to_json()))["run"])

    async def signal(self, epoch: int, key: str, number: int, *, ask: bool = False) -> bool:
        """`ask`: as in Supervisor.send_signal. False when the run was not alive any more."""
        answer = await self._ask("signal", epoch=epoch, key=key, signal=int(number), ask=ask)
        return bool(answer["delivered"])

    async def renew(self, epoch: int, lease_s: float, stamp_s: float) -> None:
        """The lease runs until `lease_s` after the node's CLOCK_BOOTTIME stood at `stamp_s`."""
        await self._ask("renew", epoch=epoch, lease_s=lease_s, stamp_s=stamp_s)

    async def forget(self, epoch: int, key: str) -> None:
        await self._ask("forget", epoch=epoch, key=key)

    async def _ask(self, op: str, **fields: Any) -> Json:
        if self._closed:
            raise LauncherGone("the launcher's connection is closed")
        number = next(self._numbers)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._writer.write(_line({"id": number, "op": op, **fields}))
        return await answer

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                self._on_message(_read(line))
        except (OSError, ValueError):
            pass  # broken off, or not our launcher's language: both end the connection
        finally:
            self._end()

    def _on_message(self, message: Json) -> None:
        if message.get("push") == "exit":
            self._on_exit(RunRecord.from_json(message["run"]))
            return
        answer = self._waiting.pop(message["id"], None)
        if answer is None or answer.done():
            return
        if message["ok"]:
            answer.set_result(message)
        else:
            answer.set_exception(LauncherRefused(message["kind"], message["error"], message["epoch"]))

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LauncherGone("the launcher's connection broke"))
        self._waiting.clear()
        self._on_lost()

    async def close(self) -> None:
        """Leave the launcher to its runs. `on_lost` is not called."""
        self._on_lost = _nothing
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._end()


def _line(message: Json) -> bytes:
    try:
        return msgspec.json.encode(message) + b"\n"
    except UnicodeEncodeError:  # a path or a variable that is no UTF-8: JSON can say it, msgspec does not
        return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _read(line: bytes) -> Any:
    """Raises ValueError for what is no JSON."""
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        return json.loads(line)


def _nothing() -> None:
    """Nobody is to be told."""


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of our own environment may reach the launcher: no RAY_*, no PYTHON*, nothing but the few."""
    return {name: environ[name] for name in INHERITED if name in environ}


async def start_launcher(paths: LauncherPaths, journal: Path, lease_s: float, log: Path) -> None:
    """Start a launcher that is nobody's child, in its own session, and return when it listens.

    When another one listens already, that is as good. Raises RuntimeError with the launcher's own words otherwise.
    """
    argv = [sys.executable, "-m", "node_agent.launcher", "--detach", "--lease-s", repr(lease_s)]
    argv += ["--socket", str(paths.socket), "--journal", str(journal)]
    code = await asyncio.to_thread(_run_detached, argv, log)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_TIMEOUT_S
    while code == 0 and loop.time() < deadline:
        try:
            _, writer = await asyncio.open_unix_connection(str(paths.socket))
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return
    raise RuntimeError(f"the node's launcher did not start: {_last_words(log) or f'see {log}'}")


def _last_words(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-3:])


def _run_detached(argv: list[str], log: Path) -> int:
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        return subprocess.run(
            argv,
            cwd=PACKAGE_ROOT,
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            check=False,
        ).returncode
