"""What do the readings of a whole site cost the service? 1,250 agents' connections on this machine, told over sockets.

Counted is the processor time of this process, which has the service's end of the connections, the feed and the store
of readings as the engine has them, and does nothing else; the made-up agents are a process of their own and not
counted. The peer is told the same by the same connections as it was before: all readings as dictionaries, one message
a node, kept by node. What a Ray call takes beside (about 0.6 ms, and there was one a node) is not in the peer's figure.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_agent.messages import Lane
from scheduler.engine.gathering import DRAIN_S, LOOK_S, ReadingsGathering, _Agent
from scheduler.engine.lane import LaneBroken
from scheduler.service.device_views import DEFAULT_FIELDS

NODES, CARDS, EVERY_S = 1250, 8, 2.0
SETTLE_S = 6.0
AT_ONCE = 8
TRIES = 3
MIB = 1 << 20
CHECKOUT = Path(__file__).parents[2]
TOLD_AT_LEAST = 0.9  # of what is asked for; with less the figure is of another load


class SendersTooSlow(Exception):
    """The made-up agents could not be reached, or did not tell as often as they were asked to."""


@dataclass(slots=True)
class Heard:
    """What came meanwhile."""

    batches: int = 0
    bytes: int = 0


class _Senders:
    """The process of the made-up agents: its doors, by agent."""

    def __init__(self, nodes: int, cards: int, how: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.telemetry.senders", str(nodes), str(cards), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )

    async def doors(self) -> dict[str, Lane]:
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            raise SendersTooSlow(f"the made-up agents did not start (above is why; files that may be open: {files:,})")
        told = json.loads(line)
        return {name: Lane(host, port, bytes.fromhex(key)) for name, host, port, key in told}

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def ingestion(
    *, window_s: float, nodes: int = NODES, cards: int = CARDS, every_s: float = EVERY_S, settle_s: float = SETTLE_S
) -> tuple[dict[str, float], dict[str, float]]:
    """The values of the cases, and the peer's. Raises SendersTooSlow."""
    _allow_files(2 * nodes + 200)
    ours = asyncio.run(_run(ReadingsGathering(every_s), "changes", window_s, nodes, cards, every_s, settle_s))
    theirs = asyncio.run(_run(_Dictionaries(every_s), "dicts", window_s, nodes, cards, every_s, settle_s))
    ours["ratio"] = theirs["core_percent"] / max(ours["core_percent"], 1e-9)
    return {f"ingestion_{name}": value for name, value in ours.items()}, {
        f"ingestion_{name}": value for name, value in theirs.items()
    }


class _Dictionaries(ReadingsGathering):
    """The peer: what comes is kept as it is, by node."""

    def __init__(self, every_s: float) -> None:
        super().__init__(every_s)
        self.kept: dict[str, Any] = {}

    def _take(self, agent: _Agent, batch: bytes, now_s: float) -> None:
        # What the processes of this benchmark tell each other: nothing that comes from elsewhere is unpickled.
        self.kept.update(pickle.loads(batch))  # noqa: S301
        agent.feed.heard(now_s, whole=True, refused=False)


async def _run(
    gathering: ReadingsGathering, how: str, window_s: float, nodes: int, cards: int, every_s: float, settle_s: float
) -> dict[str, float]:
    heard = _counted(gathering)
    senders = _Senders(nodes, cards, how)
    gc.collect()
    before = _resident_bytes()
    turning: asyncio.Task[None] | None = None
    try:
        doors = await senders.doors()
        for name, offer in doors.items():
            gathering.attend(name, (name,), offer)
        names = list(doors)
        for begin in range(0, nodes, AT_ONCE):
            await asyncio.gather(*(_reach(gathering, name) for name in names[begin : begin + AT_ONCE]))
        turning = asyncio.create_task(_turn(gathering, names))
        await asyncio.sleep(settle_s)
        heard.batches = heard.bytes = 0
        begun_s, spent_s = time.monotonic(), time.process_time()
        await asyncio.sleep(window_s)
        passed_s, spent_s = time.monotonic() - begun_s, time.process_time() - spent_s
        told_per_s, wanted_per_s = heard.batches / passed_s, nodes / every_s
        if told_per_s < TOLD_AT_LEAST * wanted_per_s:
            raise SendersTooSlow(f"{told_per_s:.0f} batches a second were told where {wanted_per_s:.0f} were asked for")
        values = {
            "core_percent": 100.0 * spent_s / passed_s,
            "batches_per_s": told_per_s,
            "bytes_per_s": heard.bytes / passed_s,
            "memory_mib": max(0.0, _resident_bytes() - before) / MIB,
        }
        if isinstance(gathering, _Dictionaries):
            assert len(gathering.kept) == nodes
            return values
        begun_s = time.process_time()
        told = gathering.store.rows(names, DEFAULT_FIELDS)
        values["look_ms"] = 1e3 * (time.process_time() - begun_s)
        assert sum(len(of) for of in told.values()) == nodes * cards
        return values | {"columns_mib": gathering.store.bytes_kept() / MIB}
    finally:
        if turning is not None:
            turning.cancel()
        gathering.close()
        senders.close()


async def _reach(gathering: ReadingsGathering, name: str) -> None:
    """A machine that is busy with something else answers late: no fault of ours, but no place to measure either."""
    for left in reversed(range(TRIES)):
        try:
            await gathering.connect(name, asyncio.get_running_loop().time())
            return
        except LaneBroken as error:
            if not left:
                why = f"made-up agent {name}: {error}; is this machine busy with something else?"
                raise SendersTooSlow(why) from error


def _counted(gathering: ReadingsGathering) -> Heard:
    """What it takes is counted."""
    heard, take = Heard(), gathering._take

    def counting(agent: _Agent, batch: bytes, now_s: float) -> None:
        heard.batches += 1
        heard.bytes += len(batch)
        take(agent, batch, now_s)

    gathering._take = counting  # type: ignore[method-assign]
    return heard


async def _turn(gathering: ReadingsGathering, names: Sequence[str]) -> None:
    """As the engine does."""
    loop = asyncio.get_running_loop()
    look_s = 0.0
    while True:
        now_s = loop.time()
        more = gathering.drain(now_s)
        if now_s >= look_s:
            look_s = now_s + LOOK_S
            for name in names:
                gathering.look(name, now_s)
        await asyncio.sleep(0 if more else DRAIN_S)


def _allow_files(count: int) -> None:
    """Each agent's connection is one, here and (with its door) two there; the child has this process's limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
