"""A real AgentHost with a real launcher, in a directory of its own, and the events that it tells.

Run as a module (`python -m tests.fakes.agent_rig DIRECTORY SCRIPT`) it is an agent that starts SCRIPT as job 1 and
waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from node_agent.clock import boottime_s
from node_agent.devices.simulated import SimulatedSpec
from node_agent.host import AgentConfig, AgentHost
from node_agent.messages import AgentHello, Command, Event, Exited, LaunchSpec, Prepare, RenewLease, RunKey, Started
from node_agent.nodes import NodeConfig
from tests.fakes.processes import eventually

Told = TypeVar("Told")

CPU = NodeConfig("n1", "lab", "127.0.0.1", ("cpu",), cpus_milli=2000, memory_bytes=4 << 30)
SIMULATED = NodeConfig("s1", "lab", "127.0.0.1", SimulatedSpec("H100 SXM", "nvidia", 2, 80 << 30))


def config(directory: Path, nodes: Sequence[NodeConfig] = (CPU, SIMULATED), lease_s: float = 60.0) -> AgentConfig:
    return AgentConfig("host", tuple(nodes), directory / "state", directory / "r", lease_s)


def key(job_id: str = "1", worker: int = 0, attempt: int = 1, node: str = "n1") -> RunKey:
    return RunKey(job_id, attempt, worker, node)


def spec(*argv: str, **changes: Any) -> LaunchSpec:
    """A shell script when there is one argument, a command when there are more, a model when there is none."""
    command = ("/bin/sh", "-c", *argv) if len(argv) == 1 else argv or None
    fields: dict[str, Any] = {
        "argv": command,
        "model_path": None,
        "model_class": None,
        "env": (),
        "working_dir": None,
        "checkpoint_dir": None,
        "resume_from": None,
        "device_indices": (0,),
        "share_milli": 0,
        "cpus_milli": 1000,
        "memory_bytes": 0,
        "world_size": 1,
        "grace_s": 5.0,
        "lease_bound": True,
        "serves": False,
        "job_name": "job",
        "tenant": "studio",
        "kind": "training",
    }
    return LaunchSpec(**{**fields, **changes})


def alone(run: RunKey, what: LaunchSpec, epoch: int = 1) -> Prepare:
    return Prepare(epoch, run, what, release=True)


class Listener:
    """Reads an agent's events as the service would, and keeps them."""

    def __init__(self, host: AgentHost) -> None:
        self.host = host
        self.events: list[Event] = []
        self.seq = 0
        self.session = 0
        self.number = 0

    async def hello(self, epoch: int) -> AgentHello:
        """Opens the next session of commands."""
        self.session, self.number = self.session + 1, 0
        return await self.host.hello(epoch, self.session)

    async def perform(self, commands: Sequence[Command]) -> None:
        """In a session that is opened when the first commands are sent without one."""
        if not self.session:
            await self.hello(max((command.epoch for command in commands), default=1))
        self.number += 1
        filled = [replace(c, stamp_s=boottime_s()) if isinstance(c, RenewLease) else c for c in commands]
        await self.host.perform(self.session, self.number, filled)

    async def until(self, kind: type[Told], run: RunKey | None = None, within_s: float = 15.0) -> Told:
        """The first event of this kind (and run), waiting for it when it has not come yet."""
        deadline = asyncio.get_running_loop().time() + within_s
        seen = 0
        while True:
            for event in self.events[seen:]:
                if isinstance(event, kind) and (run is None or event.key == run):  # type: ignore[attr-defined]
                    return event
            seen = len(self.events)
            left_s = deadline - asyncio.get_running_loop().time()
            assert left_s > 0, f"no {kind.__name__} among {self.events}"
            batch = await self.host.events(self.seq, left_s)
            for numbered in batch.events:
                assert numbered.seq > self.seq
                self.seq = numbered.seq
                self.events.append(numbered.event)

    def count(self, kind: type[Event], run: RunKey) -> int:
        return sum(isinstance(event, kind) and event.key == run for event in self.events)

    async def run(self, what: LaunchSpec, run: RunKey | None = None) -> Exited:
        """Start it, and its end."""
        run = run or key()
        await self.perform([alone(run, what)])
        return await self.until(Exited, run)


@asynccontextmanager
async def agent(settings: AgentConfig, *, end: bool = True) -> AsyncIterator[Listener]:
    """`end=False` leaves launcher and runs alive."""
    host = AgentHost(settings)
    await host.start()
    try:
        yield Listener(host)
    finally:
        await (host.shutdown() if end else host.close())


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scene(), 60.0)

    asyncio.run(bounded())


def on_agent(place: Path, scene: Callable[[Listener], Awaitable[None]]) -> None:
    async def with_agent() -> None:
        async with agent(config(place)) as listener:
            await scene(listener)

    play(with_agent)


async def condition(ask: Callable[[], object], what: str = "the condition") -> None:
    await asyncio.to_thread(eventually, ask, what)


async def _main(directory: Path, script: str) -> None:
    host = AgentHost(config(directory))
    await host.start()
    listener = Listener(host)
    await listener.perform([alone(key(), spec(script, working_dir=str(directory)))])
    started = await listener.until(Started)
    print(started.pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2]))
