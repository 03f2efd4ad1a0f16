"""Devices as a recording has them: a recorded incident becomes a node that has it again, at its own pace.

They are simulated devices: every one and every reading says so, and a run on them is shown no real one. What the
recording says of a moment is answered at the same distance from the beginning; after its end it stands still at the
last word, or begins again (`loop`). Readings keep the age that they had.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from node_agent.devices.packed import unpacked_device, unpacked_event, unpacked_row, unpacked_topology
from node_agent.devices.quantities import Group, Quantity, asked_for
from node_agent.devices.recording import VERSION
from node_agent.devices.source import (
    Device,
    DeviceEvent,
    DeviceSourceError,
    Measured,
    Quality,
    Topology,
    Unavailable,
)
from node_agent.devices.visibility import hidden

FILE_BYTES = 256 << 20
LINE_CHARACTERS = 4 << 20
NOT_RECORDED = Unavailable("not in the recording", lasting=True)


T = TypeVar("T")


class _Track(Generic[T]):
    """Values by time; `at` gives the last one up to a moment."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._values: list[T] = []

    def add(self, at_s: float, value: T) -> None:
        self._times.append(max(at_s, self._times[-1]) if self._times else at_s)
        self._values.append(value)

    def at(self, at_s: float) -> tuple[float, T] | None:
        place = bisect_right(self._times, at_s) - 1
        return None if place < 0 else (self._times[place], self._values[place])

    def between(self, after_s: float, to_s: float) -> Iterator[tuple[float, T]]:
        first, last = bisect_right(self._times, after_s), bisect_right(self._times, to_s)
        yield from zip(self._times[first:last], self._values[first:last], strict=True)


class ReplayDevices:
    """A device source over a recording. Raises DeviceSourceError where the file is none, with line and reason.

    The time of the first question is the recording's beginning; `clock` says when the questions without a time are.
    """

    def __init__(self, path: str | Path, *, loop: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._loop = loop
        self._clock = clock
        self._vendor = ""
        self._orders: dict[Group, tuple[Quantity | None, ...]] = {}
        self._devices: _Track[tuple[Device, ...]] = _Track()
        self._topologies: _Track[Topology] = _Track()
        self._rows: dict[tuple[str, Group], _Track[dict[Quantity, Measured]]] = {}
        self._events: _Track[tuple[DeviceEvent, ...]] = _Track()
        self._from_s, self._to_s = float("inf"), float("-inf")
        self._began_s: float | None = None
        self._heard_s: float | None = None
        self._load()

    @property
    def vendor(self) -> str:
        return self._vendor

    @property
    def lasts_s(self) -> float:
        return self._to_s - self._from_s

    # ---- the file ----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            if self._path.stat().st_size > FILE_BYTES:
                raise DeviceSourceError(f"{self._path}: is larger than {FILE_BYTES >> 20} MiB")
            with self._path.open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(iter(lambda: file.readline(LINE_CHARACTERS), ""), 1):
                    if line.endswith("\n") or number == 1:  # the last may be cut off
                        self._take(number, line)
        except OSError as error:
            raise DeviceSourceError(f"{self._path}: cannot be read: {error.strerror}") from None
        if self._devices.at(self._to_s) is None:
            raise DeviceSourceError(f"{self._path}: has no device in it")

    def _take(self, number: int, line: str) -> None:
        try:
            said = json.loads(line)
            if not isinstance(said, dict):
                raise ValueError("a JSON object was expected")
            if number == 1:
                self._take_head(said)
            else:
                self._take_said(said)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            why = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError) else str(error)
            raise DeviceSourceError(f"{self._path}, line {number}: no recording: {why[:200]}") from None

    def _take_head(self, said: Mapping[str, Any]) -> None:
        if said.get("recording") != VERSION:
            raise ValueError(f"version {VERSION} was expected, not {str(said.get('recording'))[:20]!r}")
        self._vendor = str(said["vendor"])
        known = {quantity.value: quantity for quantity in Quantity}
        groups = {group.value: group for group in Group}
        for name, order in said["groups"].items():
            if name in groups:
                self._orders[groups[name]] = tuple(known.get(str(each)) for each in order)

    def _take_said(self, said: Mapping[str, Any]) -> None:
        at_s = float(said["at_s"])
        if not 0 <= at_s < 1e12:
            raise ValueError(f"a time of {at_s} cannot be")
        self._from_s, self._to_s = min(self._from_s, at_s), max(self._to_s, at_s)
        if "devices" in said:
            found = [unpacked_device(each) for each in said["devices"]]
            self._devices.add(at_s, tuple(replace(device, simulated=True) for device in found))
        elif "topology" in said:
            self._topologies.add(at_s, unpacked_topology(said["topology"]))
        elif "events" in said:
            self._events.add(at_s, tuple(unpacked_event(each) for each in said["events"]))
        elif "read" in said and said["read"] in self._orders:
            group = Group(said["read"])
            order = self._orders[group]
            for uuid, row in said["of"].items():
                self._rows.setdefault((str(uuid), group), _Track()).add(at_s, _known(row, order, at_s))

    # ---- the play ----------------------------------------------------------------------------------------------------

    def _moment(self, now_s: float) -> float:
        """Where in the recording that is."""
        if self._began_s is None:
            self._began_s = now_s
        passed_s = max(0.0, now_s - self._began_s)
        if self._loop and self.lasts_s > 0:
            passed_s %= self.lasts_s
        return min(self._from_s + passed_s, self._to_s)

    def enumerate(self) -> Sequence[Device]:
        there = self._devices.at(self._moment(self._clock())) or self._devices.at(self._to_s)
        return () if there is None else there[1]

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        moment_s = self._moment(now_s)
        quantities = asked_for(groups)
        uuids = dict.fromkeys(uuid for uuid, _ in self._rows)
        found: dict[str, Mapping[Quantity, Measured]] = {}
        for uuid in (*uuids, *(device.uuid for device in self.enumerate() if device.uuid not in uuids)):
            fields: dict[Quantity, Measured] = {}
            for group in Group:
                track = self._rows.get((uuid, group))
                there = track.at(moment_s) if track is not None else None
                if there is not None:
                    age_s = 0.0 if moment_s >= self._to_s and not self._loop else moment_s - there[0]
                    fields |= {q: _aged(each, now_s - age_s) for q, each in there[1].items()}
            found[uuid] = {quantity: fields.get(quantity, NOT_RECORDED) for quantity in quantities}
        return found

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        """Those of the time since this was last asked; each is told with the time at which it comes again."""
        moment_s = self._moment(now_s)
        after_s = self._from_s - 1.0 if self._heard_s is None else self._heard_s
        self._heard_s = moment_s
        if moment_s < after_s:  # begun again
            after_s = self._from_s - 1.0
        return [
            replace(event, at_s=now_s - (moment_s - at_s))
            for at_s, events in self._events.between(after_s, moment_s)
            for event in events
        ]

    def topology(self) -> Topology:
        there = self._topologies.at(self._moment(self._clock()))
        if there is None:
            count = len(self.enumerate())
            return Topology(found=count, expected=count)
        return replace(there[1], notes=(f"played back from {self._path.name}", *there[1].notes))

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        """A run on what was recorded touches no real card."""
        return hidden()

    def close(self) -> None:
        """Nothing is held open."""


def _known(row: object, order: Sequence[Quantity | None], at_s: float) -> dict[Quantity, Measured]:
    """The quantities that this version still has."""
    if not isinstance(row, list) or len(row) != len(order):
        raise ValueError(f"{len(order)} values were expected, not {str(row)[:60]}")
    cells = [(quantity, cell) for quantity, cell in zip(order, row, strict=True) if quantity is not None]
    return unpacked_row([cell for _, cell in cells], [q for q, _ in cells], at_s, Quality.REPLAYED)


def _aged(found: Measured, at_s: float) -> Measured:
    return found if isinstance(found, Unavailable) else replace(found, at_s=at_s)
