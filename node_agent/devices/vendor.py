"""Cards of any vendor through the command that its file names (configs/vendors/NAME.yaml): a new vendor is a file.

One output answers for all groups until it is older than the file's interval. A tool that fails, hangs or prints what
nobody understands makes the devices that were there before Unavailable, with what it said; it never raises from `read`.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from node_agent.devices.quantities import Group, Quantity, asked_for
from node_agent.devices.source import (
    NOT_SUPPORTED,
    Device,
    DeviceEvent,
    DeviceSourceError,
    Measured,
    Quality,
    Reading,
    Topology,
    Unavailable,
    reading,
)
from node_agent.devices.tool_run import ToolFailed, ToolRun
from node_agent.devices.tool_table import CARDS_AT_MOST, cards_in
from node_agent.devices.tool_values import NONE_WORDS, measured
from node_agent.devices.vendor_file import KEY, Names, VendorSpec, read_vendor_file
from node_agent.devices.visibility import visible

NAME_CHARACTERS = 80
PATH_SIGN = " > "
BUS_ID = re.compile(r"^(?:[0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]$")

Card = Mapping[str, Any]  # what the tool prints of one card: cells by name, or JSON


class Tool(Protocol):
    """Gives its output, or raises ToolFailed."""

    def output(self) -> str: ...

    def close(self) -> None: ...


def cards_of(spec: VendorSpec, text: str) -> list[Card]:
    """What the output says of each card. Raises ToolFailed when it has no card in it that can be understood."""
    if spec.format == "table":
        found: list[Card] = list(cards_in(text, spec.header, spec.wide, spec.names_with_blanks))
    else:
        found = _json_cards(spec, text)
    found = [card for card in found if _number(_cell(spec, card, spec.device.get("index", ()))) is not None]
    if not found:
        raise ToolFailed(f"{spec.command[0]} prints no card that {spec.tool} would print")
    return found[:CARDS_AT_MOST]


def _json_cards(spec: VendorSpec, text: str) -> list[Card]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ToolFailed(f"{spec.command[0]} prints no JSON: {' '.join(str(error).split())[:200]}") from None
    for path in spec.each:
        there = _at(whole, path)
        if isinstance(there, dict):
            return [{KEY: key, **card} for key, card in there.items() if isinstance(card, dict)]
        if isinstance(there, list):
            return [{KEY: str(place), **card} for place, card in enumerate(there) if isinstance(card, dict)]
    return []


def _at(found: object, path: str) -> object:
    for name in path.split(PATH_SIGN) if path else ():
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _cell(spec: VendorSpec, card: Card, names: Names) -> object:
    for name in names:
        there = card.get(name.lower()) if spec.format == "table" else _at(card, name)
        if there is not None:
            return there
    return None


def _number(cell: object) -> int | None:
    """The last number in it: `card0`, `0`, 0."""
    digits = re.findall(r"\d{1,6}", str(cell)[:NAME_CHARACTERS], re.ASCII)
    return int(digits[-1]) if digits and not isinstance(cell, bool | float | dict | list) else None


def _word(cell: object) -> str | None:
    if not isinstance(cell, str | int) or isinstance(cell, bool):
        return None
    text = " ".join(str(cell)[:NAME_CHARACTERS].split())
    return None if text.lower() in NONE_WORDS or not text.isprintable() else text


def readings_of(spec: VendorSpec, card: Card, at_s: float) -> dict[Quantity, Measured]:
    """Every quantity that the file names, for one card."""
    found: dict[Quantity, Measured] = {}
    for quantity, each in spec.fields.items():
        cell = _cell(spec, card, each.names)
        if cell is None:
            found[quantity] = Unavailable(f"this version of {spec.command[0]} does not print it", lasting=True)
        else:
            found[quantity] = measured(quantity, cell, each.unit, at_s, part=each.part, quality=Quality.MEASURED)
    if spec.health is not None:
        word = _word(_cell(spec, card, spec.health.names))
        meaning = None if word is None else spec.health.words.get(word.lower())
        found[Quantity.VENDOR_HEALTH] = (
            Unavailable(f"the tool prints {word!r}, which is not in the vendor's file")
            if meaning is None
            else reading(Quantity.VENDOR_HEALTH, float(meaning), at_s)
        )
    return found


@dataclass(frozen=True, slots=True)
class _Look:
    """One output, understood. `failed`: why there is none; then `cards` are those of before."""

    at_s: float
    cards: Mapping[str, tuple[Device, Mapping[Quantity, Measured]]]
    failed: str = ""


class VendorDevices:
    """A device source over a vendor's file. `tool` and `clock` are for tests."""

    def __init__(self, path: str | Path, *, tool: Tool | None = None, host: str | None = None) -> None:
        self._spec = read_vendor_file(Path(path))
        self._tool = tool or ToolRun(self._spec.command, self._spec.deadline_s)
        self._host = host or socket.gethostname()
        self._look = _Look(float("-inf"), {})
        self._most = 0

    @property
    def vendor(self) -> str:
        return self._spec.vendor

    @property
    def spec(self) -> VendorSpec:
        return self._spec

    def enumerate(self) -> Sequence[Device]:
        look = self._looked(time.time(), fresh=True)
        if look.failed and not look.cards:
            raise DeviceSourceError(f"{look.failed}; is the driver of {self._spec.vendor} running?")
        return [] if look.failed else [device for device, _ in look.cards.values()]

    def read(self, now_s: float, groups: Collection[Group] | None = None) -> Mapping[str, Mapping[Quantity, Measured]]:
        quantities = asked_for(groups)
        look = self._looked(now_s)
        if look.failed:
            silent = Unavailable(look.failed)
            return {uuid: dict.fromkeys(quantities, silent) for uuid in look.cards}
        return {
            uuid: {quantity: fields.get(quantity, NOT_SUPPORTED) for quantity in quantities}
            for uuid, (_, fields) in look.cards.items()
        }

    def _looked(self, now_s: float, *, fresh: bool = False) -> _Look:
        """The last output, or a new one where that is too old (or from after a clock that was set back)."""
        if not fresh and 0 <= now_s - self._look.at_s < self._spec.interval_s / 2:
            return self._look
        try:
            cards = cards_of(self._spec, self._tool.output())
        except ToolFailed as failed:
            self._look = _Look(now_s, self._look.cards, str(failed))
            return self._look
        found: dict[str, tuple[Device, Mapping[Quantity, Measured]]] = {}
        for place, card in enumerate(cards):
            fields = readings_of(self._spec, card, now_s)
            device = self._device(place, card, fields)
            found.setdefault(device.uuid, (device, fields))
        lost = {uuid: before for uuid, before in self._look.cards.items() if uuid not in found}
        gone = Unavailable(f"{self._spec.command[0]} does not list this card any more")
        found |= {uuid: (device, dict.fromkeys(Quantity, gone)) for uuid, (device, _) in lost.items()}
        self._most = max(self._most, len(cards))
        self._look = _Look(now_s, found)
        return self._look

    def _device(self, place: int, card: Card, fields: Mapping[Quantity, Measured]) -> Device:
        spec = self._spec
        bus_id = _word(_cell(spec, card, spec.device.get("bus_id", ())))
        if bus_id is None or not BUS_ID.match(bus_id):
            bus_id = None
        number = _number(_cell(spec, card, spec.device.get("index", ())))
        chip = _number(_cell(spec, card, spec.device.get("chip", ())))
        own = _word(_cell(spec, card, spec.device.get("uuid", ())))
        where = bus_id or (f"{number}" if chip is None else f"{number}-{chip}")
        model = _word(_cell(spec, card, spec.device.get("model", ()))) or spec.vendor
        total = fields.get(Quantity.MEMORY_TOTAL_BYTES)
        return Device(
            # Where a card has several chips, the vendor's number is the card's: what is visible is counted by chips.
            index=place,
            uuid=own or f"{spec.vendor}-{self._host}-{where}",
            model=spec.models.get(model, model),
            vendor=spec.vendor,
            memory_bytes=int(total.value) if isinstance(total, Reading) else 0,
            simulated=False,
            visible_id=str(place if chip is not None or number is None else number),
            bus_id=bus_id.lower() if bus_id else None,
        )

    def events(self, now_s: float) -> Sequence[DeviceEvent]:
        return ()

    def topology(self) -> Topology:
        gone = [uuid for uuid, (_, fields) in self._look.cards.items() if _all_gone(fields)]
        found = 0 if self._look.failed else len(self._look.cards) - len(gone)
        notes: tuple[str, ...] = (self._look.failed,) if self._look.failed else ()
        if not self._spec.seen_on:
            notes += (never_run(self._spec),)
        return Topology(found, max(self._most, found), tuple(gone), {"tool": self._spec.tool}, notes=notes)

    def visibility(self, devices: Sequence[Device]) -> Mapping[str, str]:
        return visible(self._spec.vendor, [device.visible_id for device in devices])

    def close(self) -> None:
        self._tool.close()


def _all_gone(fields: Mapping[Quantity, Measured]) -> bool:
    return all(isinstance(each, Unavailable) and "does not list" in each.reason for each in fields.values())


def never_run(spec: VendorSpec) -> str:
    return (
        f"the adapter for {spec.vendor} was never run on its hardware: it was written from what {spec.tool} is seen to"
        " print; check its readings against the tool's own"
    )
