"""When does the agent look at its devices' health, and what does it tell? A round every few seconds; changes alone.

What was found is kept in a file of the state directory: a driver tells of a fault once, and an agent that is started
again must still know of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from node_agent.devices.source import Measured
from node_agent.health import Finding, HealthRules, HealthState, cleared, judge
from node_agent.health.judging import findings
from node_agent.health.keeping import counts_from_text, from_text, noted_from_text, to_text
from node_agent.health.mapping import round_of
from node_agent.health.resets import Counted, counted
from node_agent.health.rules import SOURCES
from node_agent.messages import Event, HealthChanged
from node_agent.nodes import NodeAgent

EVERY_S = 5.0
PLAYED_BACK = "simulated: played back from a recording"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger(__name__)


class HealthRounds:
    """Of all nodes of an agent but those whose devices are made up, which are never unhealthy; what a recording plays
    back is judged like a real device, and what is found of it says so. `nodes` may fill up later.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeAgent],
        state_dir: Path,
        rules: HealthRules,
        tell: Callable[[Event], object],
        *,
        boot: str | None = None,
    ) -> None:
        self._nodes = nodes
        self._state_dir = state_dir
        self._rules = rules
        self._tell = tell
        self._boot = _boot_id() if boot is None else boot
        self._turn = asyncio.Lock()
        self._states: dict[str, HealthState] = {}
        self._expected: dict[str, dict[str, None]] = {}
        self._told: dict[str, tuple[Finding, ...]] = {}
        self._noted: dict[str, dict[str, tuple[Finding, ...]]] = {}
        self._counts: dict[str, dict[str, Counted]] = {}

    def remember(self) -> None:
        """What an agent before this one found. A file that cannot be used is told of, and left out."""
        for name in self._nodes:
            path = self._path(name)
            try:
                text = path.read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                log.warning("what was found of the health of %s cannot be read: %s", name, error)
                continue
            state = from_text(text)
            if state is None:
                log.warning("%s is not understood: what was found before is not known any more", path)
            else:
                self._states[name] = state
                self._noted[name] = dict(noted_from_text(text))
                self._counts[name] = dict(counts_from_text(text))
                self._told[name] = self._found(name, findings(state, self._rules))

    def findings(self, node: str) -> tuple[Finding, ...]:
        """The agent's own, and what others told it to keep."""
        return self._told.get(node, ())

    def _found(self, name: str, own: tuple[Finding, ...]) -> tuple[Finding, ...]:
        node = self._nodes.get(name)
        if node is not None and node.simulated:
            own = tuple(replace(each, reason=f"{each.reason} ({PLAYED_BACK})") for each in own)
        return own + tuple(each for _, found in sorted(self._noted.get(name, {}).items()) for each in found)

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            await asyncio.sleep(EVERY_S)
            for name, node in list(self._nodes.items()):
                if node.made_up:
                    continue
                try:
                    await self.look(name, node, time.time())
                except Exception:  # a driver may raise anything; its devices are looked at again in the next round
                    log.exception("the health of %s could not be looked at", name)

    async def look(self, name: str, node: NodeAgent, now_s: float) -> None:
        """One round of one node."""
        async with self._turn:
            await self._look(name, node, now_s)

    async def _look(self, name: str, node: NodeAgent, now_s: float) -> None:
        readings = await node.readings()
        expected = self._expected.setdefault(name, {})
        expected.update(dict.fromkeys(node.uuids))
        by_name = {
            uuid: {str(quantity): value for quantity, value in fields.items()} for uuid, fields in readings.items()
        }
        # Each is told once: nobody else asks for them.
        count = node.facts().expected or None
        seen = round_of(
            by_name,
            tuple(expected),
            node.events(now_s),
            expected_count=count,
            boot=self._boot,
            marks=self._marks(name, node, by_name),
        )
        state, own = judge(self._states.get(name, HealthState()), seen, now_s, self._rules)
        self._states[name] = state
        await self._settle(name, self._found(name, own), now_s)

    def _marks(self, name: str, node: NodeAgent, readings: Mapping[str, Mapping[str, Measured]]) -> Mapping[str, str]:
        """A recording that begins again was not reset."""
        if node.simulated:
            return {}
        counts = self._counts.setdefault(name, {})
        for uuid, fields in readings.items():
            counts[uuid] = counted(counts.get(uuid, Counted()), fields)
        return {uuid: count.mark for uuid, count in counts.items()}

    async def _settle(self, name: str, found: tuple[Finding, ...], now_s: float) -> None:
        if found != self._told.get(name, ()):
            await asyncio.to_thread(self._keep, name)  # before it is told: else it could be told and forgotten
            self._say(name, found, now_s)

    async def note(self, name: str, source: str, found: tuple[Finding, ...]) -> None:
        """What others hold against the node's devices: all that this source does."""
        if name not in self._nodes or source not in SOURCES:
            return
        async with self._turn:
            self._noted.setdefault(name, {})[source] = found
            own = findings(self._states.get(name, HealthState()), self._rules)
            await self._settle(name, self._found(name, own), time.time())

    async def mended(self, name: str) -> None:
        """An operator says so: nothing of what was found is held against the node or its devices any more."""
        async with self._turn:
            self._expected.pop(name, None)
            self._states[name] = cleared(self._states.get(name, HealthState()))
            self._noted.pop(name, None)
            await asyncio.to_thread(self._keep, name)
            if self._told.get(name):
                self._say(name, (), time.time())

    def _say(self, name: str, found: tuple[Finding, ...], now_s: float) -> None:
        self._told[name] = found
        self._tell(HealthChanged(name, found, now_s))

    def _keep(self, name: str) -> None:
        state = self._states.get(name, HealthState())
        path = self._path(name)
        fresh = path.with_suffix(".new")
        try:
            with open(fresh, "w", encoding="utf-8") as file:
                file.write(to_text(state, self._noted.get(name), self._counts.get(name)))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            log.warning("what was found of the health of %s cannot be kept: %s", name, error)

    def _path(self, name: str) -> Path:
        return self._state_dir / f"health-{name.replace('/', '_')}.json"


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""
