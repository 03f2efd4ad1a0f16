"""The network between the head and the nodes: messages take a moment, and may be lost, late, doubled or overtaken.

A message is something that is done where it arrives. Nothing is promised of order: each takes a time of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from scheduler.simulation.faults.story import CutOff, Direction, Tamper, Tampering, Weather
from scheduler.simulation.faults.timeline import Timeline

FASTEST_S, SLOWEST_S = 0.0003, 0.002


@dataclass(slots=True)
class _Spoilt:
    how: Tampering
    left: int
    by_s: float


class Network:
    """Links are (node, "to" or "from" it)."""

    def __init__(self, timeline: Timeline, seed: int) -> None:
        self._timeline = timeline
        self._seed = seed
        self._chance: dict[tuple[str, str], random.Random] = {}
        self._cut: dict[tuple[str, str], int] = {}
        self._spoilt: dict[tuple[str, str], list[_Spoilt]] = {}
        self._weather: list[tuple[float, Weather]] = []
        self._calm = False
        """The faults are over."""

    def send(self, node: str, direction: Direction, arrive: Callable[[], None]) -> None:
        link = (node, direction)
        chance = self._chance.get(link)
        if chance is None:
            chance = self._chance[link] = random.Random(f"{self._seed} {node} {direction}")
        takes_s = chance.uniform(FASTEST_S, SLOWEST_S)
        copies = 1
        if not self._calm:
            copies, late_s = self._fate(link, chance)
            takes_s += late_s
        if self._cut.get(link):
            return
        for copy in range(copies):
            self._timeline.after(takes_s + copy * chance.uniform(0, 2.0), lambda: self._arrive(link, arrive))

    def _arrive(self, link: tuple[str, str], arrive: Callable[[], None]) -> None:
        if not self._cut.get(link):
            arrive()

    def _fate(self, link: tuple[str, str], chance: random.Random) -> tuple[int, float]:
        """(copies, delay)"""
        copies, late_s = 1, 0.0
        for spoilt in self._spoilt.get(link, ())[:1]:
            spoilt.left -= 1
            if not spoilt.left:
                self._spoilt[link].remove(spoilt)
            match spoilt.how:
                case "lose":
                    copies = 0
                case "delay":
                    late_s += spoilt.by_s
                case "double":
                    copies = 2
                case _:
                    assert_never(spoilt.how)
        now_s = self._timeline.now_s
        for until_s, weather in self._weather:
            if now_s < until_s:
                drawn = (chance.random(), chance.random(), chance.random(), chance.uniform(0, weather.by_s))
                copies = 0 if drawn[0] < weather.lose else copies
                late_s += drawn[3] if drawn[1] < weather.delay else 0.0
                copies = 2 if copies and drawn[2] < weather.double else copies
        return copies, late_s

    # ---- trouble ---------------------------------------------------------------------------------------------------

    def cut(self, what: CutOff) -> None:
        for link in _links(what.node, what.direction):
            self._cut[link] = self._cut.get(link, 0) + 1

    def join(self, what: CutOff) -> None:
        for link in _links(what.node, what.direction):
            self._cut[link] = max(0, self._cut.get(link, 0) - 1)

    def passes(self, node: str) -> bool:
        """Both ways."""
        return not any(self._cut.get(link) for link in _links(node, "both"))

    def tamper(self, what: Tamper) -> None:
        for link in _links(what.node, what.direction):
            self._spoilt.setdefault(link, []).append(_Spoilt(what.how, what.count, what.by_s))

    def weather(self, what: Weather) -> None:
        self._weather.append((self._timeline.now_s + what.for_s, what))

    def heal(self) -> None:
        """From now on every message arrives, once and soon."""
        self._calm = True
        self._cut.clear()
        self._spoilt.clear()
        self._weather.clear()


def _links(node: str, direction: Direction) -> list[tuple[str, str]]:
    return [(node, each) for each in (("to", "from") if direction == "both" else (direction,))]
