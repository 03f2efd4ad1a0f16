"""What has changed of the readings since the service last heard of them? Cells are numbered by their last change.

`turn` gives the next number, `update` takes a node's readings as they are now, `since` tells what changed after some
number. A cell that changed and changed back is told too, so what is told may be laid over the state of `since` or
of any later moment, once or twice, and gives the state of now.

The book has a number of its own, drawn at random: what another agent, or this one before it was started again, has said
is never continued. Where devices come, go or change places, the node's layout is a new one, and all of it is told.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from math import isfinite, nan
from typing import NamedTuple

from node_agent.devices.quantities import MEANINGS
from node_agent.devices.source import Measured, Quality, Quantity, Reading, Unavailable
from node_agent.readings_wire import (
    LATEST_S,
    MOST_DEVICES,
    MOST_REASONS,
    NAME_CHARACTERS,
    REASON_CHARACTERS,
    Head,
    Section,
    Stamp,
)

COLUMNS: tuple[Quantity, ...] = tuple(MEANINGS)
QUALITIES: tuple[Quality, ...] = tuple(Quality)
NOT_TOLD = Unavailable("not sampled here", lasting=True)
TOO_MANY = "there are too many different reasons at once to tell this one"

_WIDTH = len(COLUMNS)
_QUALITY = {quality: number for number, quality in enumerate(QUALITIES)}

NodeReadings = Mapping[str, Mapping[Quantity, Measured]]
"""By device uuid."""


class _Run(NamedTuple):
    """Neighbouring cells of a row that were read together. What lies between them has no value, and no time."""

    columns: int
    at_s: float
    quality: int
    changed: int


class ReadingsBook:
    """Of all nodes of one agent."""

    def __init__(self) -> None:
        self.book = secrets.randbits(62) + 1
        self.number = 0
        self._nodes: dict[str, _NodeBook] = {}

    def turn(self) -> None:
        """A new number: what `update` is given from now on changed with it. Nobody may ask `since` in between."""
        self.number += 1

    def update(self, name: str, readings: NodeReadings) -> None:
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _NodeBook(name)
        node.update(readings, self.number)

    def since(self, book: int, base: int) -> list[Section]:
        """A section for each node; `book` other than this one: of everything."""
        known = base if book == self.book and 0 <= base <= self.number else 0
        return [node.since(known, self.number) for node in self._nodes.values()]


class _NodeBook:
    def __init__(self, name: str) -> None:
        self._name = name
        self._layout = 0
        """The number with which the devices became what they are."""
        self._uuids: tuple[str, ...] = ()
        self._told: frozenset[str] = frozenset()
        self._cells: list[Measured] = []
        self._changed: list[int] = []
        self._runs: list[dict[int, _Run]] = []

    def update(self, readings: NodeReadings, number: int) -> None:
        if not self._layout or readings.keys() != self._told:
            self._lay_out(readings, number)
        for row, uuid in enumerate(self._uuids):
            self._update_row(row, readings[uuid], number)

    def _lay_out(self, readings: NodeReadings, number: int) -> None:
        """What no name of which can be told, and what is beyond all measure, is left out."""
        self._layout, self._told = number, frozenset(readings)
        self._uuids = tuple(uuid for uuid in readings if _is_name(uuid))[:MOST_DEVICES]
        cells = _WIDTH * len(self._uuids)
        self._cells, self._changed = [NOT_TOLD] * cells, [number] * cells
        self._runs = [{} for _ in self._uuids]

    def _update_row(self, row: int, fields: Mapping[Quantity, Measured], number: int) -> None:
        cells, changed, at = self._cells, self._changed, row * _WIDTH
        runs: dict[int, _Run] = {}
        begun, last, at_s, quality = -1, -1, 0.0, Quality.MEASURED
        for column, quantity in enumerate(COLUMNS):
            new = fields.get(quantity, NOT_TOLD)
            old = cells[at]
            if isinstance(new, Reading) and (
                new.value.__class__ is not float or not isfinite(new.value) or not 0 <= new.at_s < LATEST_S
            ):
                new = _as_float(new)
            if isinstance(new, Reading):
                if not isinstance(old, Reading) or old.value != new.value:
                    changed[at] = number
                if begun >= 0 and (at_s != new.at_s or quality is not new.quality):
                    runs[begun] = _Run(last - begun + 1, at_s, _QUALITY[quality], number)
                    begun = -1
                if begun < 0:
                    begun, at_s, quality = column, new.at_s, new.quality
                last = column
            elif new is not old and (
                not isinstance(old, Unavailable) or old.reason != new.reason or old.lasting != new.lasting
            ):
                changed[at] = number
            cells[at] = new
            at += 1
        if begun >= 0:
            runs[begun] = _Run(last - begun + 1, at_s, _QUALITY[quality], number)
        before = self._runs[row]
        for column, run in runs.items():
            known = before.get(column)
            if known is not None and known[:3] == run[:3]:
                runs[column] = known
        self._runs[row] = runs

    def since(self, base: int, number: int) -> Section:
        whole = base < self._layout
        base = 0 if whole else base
        places: list[int] = []
        values: list[float] = []
        reasons: dict[tuple[str, bool], list[int]] = {}
        cells = self._cells
        for place, changed in enumerate(self._changed):
            if changed > base:
                cell = cells[place]
                if isinstance(cell, Reading):
                    places.append(place)
                    values.append(cell.value)
                else:
                    of = (_sentence(cell.reason), cell.lasting)
                    if of not in reasons and len(reasons) >= MOST_REASONS:
                        of = (TOO_MANY, False)
                    reasons.setdefault(of, []).append(place)
        return Section(
            self._name,
            self._layout,
            number,
            base,
            struct.pack(f"<{len(places)}H", *places),
            struct.pack(f"<{len(values)}d", *values),
            self._stamps(base),
            tuple((text, lasting, struct.pack(f"<{len(of)}H", *of)) for (text, lasting), of in reasons.items()),
            _head(self._uuids) if whole else None,
        )

    def _stamps(self, base: int) -> tuple[Stamp, ...]:
        """Those that changed, those of rows below each other as one where they are the same."""
        found: list[list[float]] = []
        above: dict[tuple[int, int, float, int], list[float]] = {}
        for row, runs in enumerate(self._runs):
            here: dict[tuple[int, int, float, int], list[float]] = {}
            for column, run in runs.items():
                if run.changed > base:
                    of = (column, run.columns, run.at_s, run.quality)
                    stamp = above.get(of)
                    if stamp is None:
                        stamp = [row, 0, *of]
                        found.append(stamp)
                    stamp[1] += 1
                    here[of] = stamp
            above = here
        return tuple((int(a), int(b), int(c), int(d), at_s, int(q)) for a, b, c, d, at_s, q in found)


def _head(uuids: tuple[str, ...]) -> Head:
    return Head(uuids, tuple(each.value for each in COLUMNS), tuple(each.value for each in QUALITIES))


def _as_float(found: Reading) -> Measured:
    """Values and times are finite numbers; what is none of these was no reading."""
    try:
        value, at_s = float(found.value), float(found.at_s)
    except (OverflowError, TypeError, ValueError):
        value = at_s = nan
    if isfinite(value) and 0 <= at_s < LATEST_S:
        return Reading(value, found.unit, at_s, found.quality)
    return Unavailable(f"it read {str(found.value)[:40]}, which is no number that can be")


def _sentence(reason: str) -> str:
    """As text that can be told: cut, and without halves of characters."""
    return reason[:REASON_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def _is_name(uuid: str) -> bool:
    try:
        return len(uuid.encode("utf-8")) <= NAME_CHARACTERS
    except UnicodeEncodeError:
        return False
