"""What does a vendor's file say: which command is run, what it prints, and which of that is which reading?

Strict: a key that is not known, a unit that does not fit, a quantity that there is none of is an error that names the
file, the place in it, what was expected and the nearest valid name. See docs/telemetry.md for how to write one.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from node_agent.devices.quantities import MEANINGS, Group, Quantity, VendorHealth
from node_agent.devices.source import DeviceSourceError
from node_agent.devices.tool_values import UNITS, unit_of

FILE_BYTES = 64 << 10
KEY = "$key"  # in JSON: the name under which a device stands

Names = tuple[str, ...]  # spellings of one column, or paths in JSON; the first that is there counts


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """Where a reading stands, in which unit where the tool prints none, and which part of `a/b` it is."""

    names: Names
    unit: str
    part: int | None = None


@dataclass(frozen=True, slots=True)
class HealthSpec:
    names: Names
    words: Mapping[str, VendorHealth]


@dataclass(frozen=True, slots=True)
class VendorSpec:
    """`tool` names the versions whose output it was written for; `seen_on` the hardware on which it was run, if any."""

    vendor: str
    tool: str
    command: tuple[str, ...]
    format: Literal["json", "table"]
    fields: Mapping[Quantity, FieldSpec]
    device: Mapping[str, Names]
    header: tuple[tuple[Names, ...], ...] = ()
    wide: Names = ()
    names_with_blanks: Names = ()
    each: Names = ("",)
    models: Mapping[str, str] = field(default_factory=dict)
    health: HealthSpec | None = None
    deadline_s: float = 10.0
    interval_s: float = 10.0
    seen_on: str = ""


DEVICE_KEYS = ("index", "chip", "uuid", "model", "bus_id")
ALWAYS = ("vendor", "tool", "command", "format", "device", "fields")
OPTIONAL = ("models", "health", "deadline_s", "interval_s", "seen_on")
OF_FORMAT = {"json": ("each",), "table": ("header", "wide", "names_with_blanks")}


def read_vendor_file(path: Path) -> VendorSpec:
    """Raises DeviceSourceError."""
    import yaml  # only where such a file is used

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DeviceSourceError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES:
        raise DeviceSourceError(f"{path}: is larger than {FILE_BYTES >> 10} KiB")
    try:
        text = data.decode("utf-8")
        loaded = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise DeviceSourceError(f"{path}: is no UTF-8 text") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DeviceSourceError(f"{path}: is no YAML: {' '.join(str(error).split())[:300]}") from None
    return _Reader(str(path)).spec(loaded)


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source

    def _bad(self, place: str, what: str) -> NoReturn:
        raise DeviceSourceError(f"{self._source}: {place + ': ' if place else ''}{what}")

    def spec(self, loaded: object) -> VendorSpec:
        top = self._mapping("", loaded)
        kind = self._one_of("format", top.get("format"), ("json", "table"))
        self._keys("", top, (*ALWAYS, *OPTIONAL, *OF_FORMAT[kind]))
        missing = [key for key in (*ALWAYS, *(("header",) if kind == "table" else ())) if key not in top]
        if missing:
            self._bad(missing[0], "is missing")
        fields = self._mapping("fields", top["fields"])
        if not fields:
            self._bad("fields", "names no reading")
        return VendorSpec(
            vendor=self._text("vendor", top["vendor"]),
            tool=self._text("tool", top["tool"]),
            command=self._names("command", top["command"]),
            format="json" if kind == "json" else "table",
            fields=dict(self._field(name, found) for name, found in fields.items()),
            device=self._device(top["device"]),
            header=self._header(top["header"]) if kind == "table" else (),
            wide=self._names("wide", top.get("wide", []), empty=True),
            names_with_blanks=self._names("names_with_blanks", top.get("names_with_blanks", []), empty=True),
            each=self._names("each", top.get("each", [""]), blank=True),
            models=self._texts("models", top.get("models", {})),
            health=self._health(top["health"]) if "health" in top else None,
            deadline_s=self._seconds("deadline_s", top.get("deadline_s", 10), 1, 60),
            interval_s=self._seconds("interval_s", top.get("interval_s", 10), 1, 600),
            seen_on=self._text("seen_on", top.get("seen_on", ""), blank=True),
        )

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _field(self, name: object, found: object) -> tuple[Quantity, FieldSpec]:
        place = f"fields.{name}"
        known = [quantity.value for quantity in Quantity if MEANINGS[quantity].group is not Group.EVENTS]
        known.remove(Quantity.VENDOR_HEALTH.value)
        quantity = Quantity(self._one_of("fields", name, known))
        spec = self._mapping(place, found)
        self._keys(place, spec, ("from", "unit", "part"))
        for key in ("from", "unit"):
            if key not in spec:
                self._bad(f"{place}.{key}", "is missing")
        unit = self._text(f"{place}.unit", spec["unit"])
        means = unit_of(unit)
        if means is None or means[0] != MEANINGS[quantity].unit:
            fit = ", ".join(sorted(name for name, (of, _) in UNITS.items() if of == MEANINGS[quantity].unit))
            self._bad(f"{place}.unit", f"{unit!r} is no unit of {MEANINGS[quantity].unit}; expected one of {fit}")
        part = spec.get("part")
        if part is not None and (type(part) is not int or part not in (1, 2)):
            self._bad(f"{place}.part", f"expected 1 or 2, not {part!r}")
        return quantity, FieldSpec(self._spellings(f"{place}.from", spec["from"]), unit, part)

    def _device(self, found: object) -> dict[str, Names]:
        device = self._mapping("device", found)
        self._keys("device", device, DEVICE_KEYS)
        return {name: self._spellings(f"device.{name}", each) for name, each in device.items()}

    def _header(self, found: object) -> tuple[tuple[Names, ...], ...]:
        if not isinstance(found, list) or not 0 < len(found) <= 8:
            self._bad("header", "expected a list of the header's rows, each a list of names")
        rows = []
        for number, row in enumerate(found, 1):
            if not isinstance(row, list) or not row:
                self._bad(f"header row {number}", "expected a list of names, with at least one")
            rows.append(tuple(self._spellings(f"header row {number}", each) for each in row))
        return tuple(rows)

    def _health(self, found: object) -> HealthSpec:
        spec = self._mapping("health", found)
        self._keys("health", spec, ("from", "words"))
        for key in ("from", "words"):
            if key not in spec:
                self._bad(f"health.{key}", "is missing")
        known = [each.name.lower() for each in VendorHealth]
        words = {
            word.lower(): VendorHealth[self._one_of(f"health.words.{word}", meaning, known).upper()]
            for word, meaning in self._texts("health.words", spec["words"]).items()
        }
        return HealthSpec(self._spellings("health.from", spec["from"]), words)

    # ---- shapes ------------------------------------------------------------------------------------------------------

    def _mapping(self, place: str, found: object) -> Mapping[str, Any]:
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            self._bad(place, f"expected names with values, not {str(found)[:60]!r}")
        return found

    def _keys(self, place: str, found: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in found:
            self._one_of(place, key, known)

    def _one_of(self, place: str, found: object, known: Collection[str]) -> str:
        if isinstance(found, str) and found in known:
            return found
        near = difflib.get_close_matches(str(found)[:60], known, n=1)
        meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
        self._bad(place, f"{str(found)[:60]!r} is not known{meant}")

    def _text(self, place: str, found: object, *, blank: bool = False) -> str:
        if not isinstance(found, str) or not (found or blank):
            self._bad(place, f"expected a word, not {str(found)[:60]!r}")
        return found

    def _texts(self, place: str, found: object) -> dict[str, str]:
        return {name: self._text(f"{place}.{name}", each) for name, each in self._mapping(place, found).items()}

    def _names(self, place: str, found: object, *, empty: bool = False, blank: bool = False) -> Names:
        if not isinstance(found, list) or not (found or empty):
            self._bad(place, f"expected a list of words, not {str(found)[:60]!r}")
        return tuple(self._text(place, each, blank=blank) for each in found)

    def _spellings(self, place: str, found: object) -> Names:
        return (found,) if isinstance(found, str) and found else self._names(place, found)

    def _seconds(self, place: str, found: object, least: float, most: float) -> float:
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            self._bad(place, f"expected {least:g} to {most:g} seconds, not {str(found)[:60]!r}")
        return float(found)
