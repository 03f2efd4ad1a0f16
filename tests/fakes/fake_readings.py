"""Readings that a test writes down as JSON; what is written of nothing is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scheduler.ports import Json, ReadingRow

UNREAL = ("measured", "simulated", "replayed")


class FakeReadings:
    """Implements scheduler.ports.Readings over {node: {uuid: {quantity: reading}}}."""

    def __init__(self, shown: Mapping[str, Json]) -> None:
        self._shown = shown

    def node(self, node: str, fields: Sequence[str] | None = None) -> Json:
        return {
            uuid: {name: each for name, each in of.items() if fields is None or name in fields}
            for uuid, of in self._shown.get(node, {}).items()
        }

    def rows(self, nodes: Sequence[str], fields: Sequence[str]) -> Mapping[str, Mapping[str, ReadingRow]]:
        return {
            node: {uuid: _row(of, fields) for uuid, of in self._shown[node].items()}
            for node in nodes
            if node in self._shown
        }


def _row(of: Mapping[str, Mapping[str, Any]], fields: Sequence[str]) -> ReadingRow:
    cells = [of.get(name, {"unavailable": "not written down"}) for name in fields]
    there = [cell for cell in cells if "value" in cell]
    return ReadingRow(
        [cell.get("value") for cell in cells],
        {name: cell["unavailable"] for name, cell in zip(fields, cells, strict=True) if "unavailable" in cell},
        max((cell["quality"] for cell in there), key=UNREAL.index, default=None),
        max((cell["at_s"] for cell in there), default=None),
    )
