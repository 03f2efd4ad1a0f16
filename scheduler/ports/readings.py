"""What do devices read, as far as anybody has heard?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from scheduler.ports.edge import Json


class ReadingRow(NamedTuple):
    """One device's last readings of the fields that were asked for. `values` in their order; where one is None,
    `unavailable` has the reason. `quality` is that of the least real of them (measured, simulated, replayed),
    `read_at_s` the time of the newest; None: there is no value.
    """

    values: list[float | None]
    unavailable: Mapping[str, str]
    quality: str | None
    read_at_s: float | None


class Readings(Protocol):
    """The last readings of all devices that are heard of. From any thread; an answer is of one moment for each node."""

    def node(self, node: str, fields: Sequence[str] | None = None) -> Json:
        """By device uuid and quantity: {"value", "unit", "at_s", "quality"} or {"unavailable": reason}; {} for a node
        that was not heard. What a device never has is left out, unless it is among what is told of every device.
        `fields` None: all."""
        ...

    def rows(self, nodes: Sequence[str], fields: Sequence[str]) -> Mapping[str, Mapping[str, ReadingRow]]:
        """By node and device uuid; nodes that were not heard are left out. `fields` are quantities of the schema."""
        ...


class NoReadings:
    """Readings where nobody reads."""

    def node(self, node: str, fields: Sequence[str] | None = None) -> Json:
        return {}

    def rows(self, nodes: Sequence[str], fields: Sequence[str]) -> Mapping[str, Mapping[str, ReadingRow]]:
        return {}
