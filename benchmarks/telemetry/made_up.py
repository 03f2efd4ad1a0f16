"""Cards that are made up, and whose readings change as those of cards at work do: some with every look, most never.

Drawn from a seed, and nobody's measurement. Three of four cards are at work. What is told of such a card changes with
every look in activity, power and energy, now and then in memory, heat and clocks; of its links every ten seconds, and
of its condition (read every thirty) next to never. An idle card changes in power and energy alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from node_agent.devices.quantities import MEANINGS, Group
from node_agent.devices.source import NOT_SUPPORTED, Measured, Quality, Quantity, Reading

INTERVALS_S = {Group.FAST: 1.0, Group.LINKS: 10.0, Group.CONDITION: 30.0, Group.EVENTS: 1.0}
# What NVML has not of a card as these are.
NEVER = frozenset({Quantity.VENDOR_HEALTH, Quantity.MEMORY_TEMPERATURE_CELSIUS, Quantity.LAST_FAULT})
WORK_EVERY = 4  # one of so many is idle
BYTES = 80 << 30


class MadeUpCards:
    """Of one node."""

    def __init__(self, node: int, count: int) -> None:
        self._random = random.Random(node)
        self._read_s = dict.fromkeys(Group, float("-inf"))
        self._cards = {f"GPU-{node:08x}-0000-4000-8000-{card:012x}": self._card(card) for card in range(count)}
        self._idle = {uuid for card, uuid in enumerate(self._cards) if card % WORK_EVERY == 0}

    def _card(self, card: int) -> dict[Quantity, float]:
        values = dict.fromkeys(Quantity, 0.0)
        return values | {
            Quantity.MEMORY_TOTAL_BYTES: float(BYTES),
            Quantity.MEMORY_USED_BYTES: float(BYTES // 2 + (card << 20)),
            Quantity.MEMORY_RESERVED_BYTES: float(512 << 20),
            Quantity.POWER_WATTS: 90.0,
            Quantity.POWER_LIMIT_WATTS: 700.0,
            Quantity.TEMPERATURE_CELSIUS: 34.0,
            Quantity.CLOCK_MEGAHERTZ: 345.0,
            Quantity.MEMORY_CLOCK_MEGAHERTZ: 2619.0,
            Quantity.LINKS_UP: 18.0,
        }

    def read(self, now_s: float) -> Mapping[str, Mapping[Quantity, Measured]]:
        for group, interval_s in INTERVALS_S.items():
            if now_s >= self._read_s[group] + interval_s:
                passed_s = min(interval_s, now_s - self._read_s[group])
                self._read_s[group] = now_s
                for uuid, values in self._cards.items():
                    self._change(group, values, passed_s, idle=uuid in self._idle)
        return {
            uuid: {
                quantity: NOT_SUPPORTED
                if quantity in NEVER
                else Reading(values[quantity], meaning.unit, self._read_s[meaning.group], Quality.SIMULATED)
                for quantity, meaning in MEANINGS.items()
            }
            for uuid, values in self._cards.items()
        }

    def _change(self, group: Group, values: dict[Quantity, float], passed_s: float, *, idle: bool) -> None:
        draw = self._random.random
        if group is Group.FAST:
            values[Quantity.POWER_WATTS] = round((88 if idle else 610) + 20 * draw(), 3)
            values[Quantity.ENERGY_JOULES] += round(values[Quantity.POWER_WATTS] * passed_s, 3)
            if idle:
                return
            values[Quantity.UTILISATION_PERCENT] = float(90 + int(11 * draw()))
            for quantity, least in (
                (Quantity.SM_ACTIVITY_PERCENT, 70),
                (Quantity.TENSOR_ACTIVITY_PERCENT, 40),
                (Quantity.MEMORY_ACTIVITY_PERCENT, 30),
            ):
                values[quantity] = round(least + 10 * draw(), 2)
            if draw() < 0.2:
                values[Quantity.MEMORY_USED_BYTES] = float(BYTES // 2 + int(1024 * draw()) * (2 << 20))
            if draw() < 0.4:
                values[Quantity.TEMPERATURE_CELSIUS] = float(60 + int(8 * draw()))
            if draw() < 0.3:
                values[Quantity.CLOCK_MEGAHERTZ] = float(1755 - 15 * int(8 * draw()))
            if draw() < 0.05:
                values[Quantity.HELD_BY_POWER_CAP] = 1.0 - values[Quantity.HELD_BY_POWER_CAP]
        elif group is Group.LINKS and not idle:
            for quantity in (
                Quantity.PCIE_SENT_BYTES,
                Quantity.PCIE_RECEIVED_BYTES,
                Quantity.LINK_SENT_BYTES,
                Quantity.LINK_RECEIVED_BYTES,
            ):
                values[quantity] += float(int(1e10 * draw()))
        elif group is Group.CONDITION and draw() < 0.01:
            values[Quantity.ECC_CORRECTED_VOLATILE] += 1.0
