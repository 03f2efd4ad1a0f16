"""Agreeing with the launcher on what runs: no end is lost and no run is mistaken, whatever comes at the same moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import node_agent.host as host_module
from node_agent.execution.order import RunContext, key_text
from node_agent.host import AgentHost
from node_agent.launcher.paths import SOCKET_NAME
from node_agent.messages import Exited, Started
from tests.fakes.agent_rig import CPU, Listener, alone, config, key, play, spec

Json = dict[str, Any]
TAG = RunContext("127.0.0.1", 29500, False, False, None, None, (0,)).to_tag()


def row(job_id: str, *, ended: int | None = None) -> Json:
    end = None if ended is None else {"how": "exit", "code": ended, "at_s": 5.0, "detail": ""}
    return {"key": key_text(key(job_id)), "tag": TAG, "pid": 40, "started_s": 1.0, "exit": end}


class FakeLauncher:
    """Speaks the launcher's language. `tables` are its answers to "table", one a connection; `pushes` go with them."""

    def __init__(self, tables: list[list[Json]], pushes: list[Json]) -> None:
        self._tables = iter(tables)
        self._pushes = pushes
        self.launches: list[str] = []
        self.gone = asyncio.Event()
        self.connections: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        while line := await reader.readline():
            request = json.loads(line)
            answer: Json = {"id": request["id"], "ok": True}
            if request["op"] == "table":
                answer |= {"pid": 1, "epoch": 1, "runs": next(self._tables)}
            elif request["op"] == "launch":
                self.launches.append(request["order"]["key"])
                answer["run"] = {**row("x"), "key": request["order"]["key"]}
            pushes = [{"push": "exit", "run": run} for run in self._pushes] if request["op"] == "table" else []
            writer.write(b"".join(json.dumps(each).encode() + b"\n" for each in (answer, *pushes)))
        writer.close()
        self.gone.set()


@asynccontextmanager
async def beside(launcher: FakeLauncher, place: Path) -> AsyncIterator[AgentHost]:
    (place / "r").mkdir(mode=0o700)
    server = await asyncio.start_unix_server(launcher.serve, str(place / "r" / SOCKET_NAME))
    host = AgentHost(config(place, [CPU]))
    try:
        await host.start()
        try:
            yield host
        finally:
            await host.close()
    finally:
        server.close()


def test_an_end_that_is_pushed_while_the_table_is_read_is_told(place: Path) -> None:
    async def scene() -> None:
        launcher = FakeLauncher([[row("1", ended=3), row("2")]], [row("2", ended=7)])
        async with beside(launcher, place) as host:
            listener = Listener(host)
            assert (await listener.until(Exited, key("1"))).code == 3
            assert (await listener.until(Exited, key("2"))).code == 7

    play(scene)


def test_a_run_launched_while_agreeing_is_not_called_unknown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading of what an ended run left takes as long as the other run needs to start."""
    real = host_module.exit_facts

    async def scene() -> None:
        began = asyncio.Event()

        async def slow_facts(*arguments: Any) -> Any:
            await asyncio.wait_for(began.wait(), 5.0)
            return await real(*arguments)

        monkeypatch.setattr(host_module, "exit_facts", slow_facts)
        launcher = FakeLauncher([[], [row("1", ended=3)]], [])
        async with beside(launcher, place) as host:
            listener = Listener(host)
            await listener.hello(1)
            launcher.connections[0].close()
            while host._launcher.connected.is_set():  # noqa: ASYNC110 (the loop's own turns are what is waited for)
                await asyncio.sleep(0)
            await listener.perform([alone(key("2"), spec("true"))])
            await listener.until(Started, key("2"))
            began.set()
            assert (await listener.until(Exited, key("1"))).code == 3
            assert listener.count(Exited, key("2")) == 0
            assert launcher.launches == [key_text(key("2"))]

    play(scene)


def test_a_launcher_that_breaks_off_again_and_again_is_reached_once(place: Path) -> None:
    """Every lost connection begins one attempt to connect, not one more each time."""

    async def scene() -> None:
        launcher = FakeLauncher([[] for _ in range(20)], [])
        async with beside(launcher, place) as host:
            for count in range(1, 6):
                assert len(launcher.connections) == count
                host._launcher.connected.clear()
                launcher.connections[-1].close()
                await host._launcher.connected.wait()

    play(scene)


def test_a_host_that_cannot_start_leaves_no_ghost(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries again makes another host: the first must neither go on nor connect again."""

    def broken(self: AgentHost, table: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(AgentHost, "_agree", broken)

    async def scene() -> None:
        launcher = FakeLauncher([[row("1")]], [])
        with pytest.raises(RuntimeError, match="a bug"):
            async with beside(launcher, place):
                pass
        assert len(launcher.connections) == 1
        assert await asyncio.wait_for(launcher.gone.wait(), 5.0)
        left = {task.get_name() for task in asyncio.all_tasks()}
        assert not left & {"launcher connection", "reconnect to the launcher"}

    play(scene)
