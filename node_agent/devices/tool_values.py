"""What does a cell that a vendor's tool printed mean? A number in the schema's unit, or the reason why it is none.

Any text gives one or the other: "91.3" or "91W" or "3197/65536" or "-" or "N/A" or nothing at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from node_agent.devices.quantities import MEANINGS, Quantity
from node_agent.devices.source import Measured, Quality, Unavailable, reading

SHOWN = 40
CELL_CHARACTERS = 200
NUMBER = re.compile(r"^\s*([-+]?\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z%°/]{0,8})\s*$", re.ASCII)
DEGREES = re.compile("[°℃]")
# What tools print for "none". A card that is asked and has none is no fault of the tool's, and no number either.
NONE_WORDS = frozenset(
    {"", "-", "--", "/", "na", "n/a", "[n/a]", "none", "null", "unknown", "not supported", "[not supported]", "err!"}
)

# By unit as tools write it: of what it is, and how much of the schema's unit it is.
UNITS: Mapping[str, tuple[str, float]] = {
    "%": ("percent", 1.0),
    "w": ("watts", 1.0),
    "mw": ("watts", 1e-3),
    "j": ("joules", 1.0),
    "mj": ("joules", 1e-3),
    "c": ("celsius", 1.0),
    "mhz": ("megahertz", 1.0),
    "ghz": ("megahertz", 1e3),
    "b": ("bytes", 1.0),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "kib": ("bytes", 1024.0),
    "mib": ("bytes", 1024.0**2),
    "gib": ("bytes", 1024.0**3),
    "count": ("count", 1.0),
    "flag": ("flag", 1.0),
}


def unit_of(text: str) -> tuple[str, float] | None:
    return UNITS.get(DEGREES.sub("", text).strip().lower())


def _same_but_binary(printed: str, declared: str) -> bool:
    """Tools print MB and mean MiB; which of them it is, the file says."""
    return printed.lower().replace("i", "") == declared.lower().replace("i", "")


def part_of(text: str, part: int | None) -> str:
    """`a / b`: the first or second; without a slash, the first is all of it."""
    if part is None:
        return text
    pieces = re.sub("n/a", "-", text, flags=re.IGNORECASE).split("/")  # the slash of "N/A" divides nothing
    return pieces[part - 1].strip() if part <= len(pieces) else ""


def measured(
    quantity: Quantity, cell: object, unit: str, at_s: float, *, part: int | None = None, quality: Quality
) -> Measured:
    """`unit` is the declared one, for cells that print none. `cell` is text, or what JSON has."""
    if isinstance(cell, bool) or cell is None:
        return Unavailable(f"the tool prints {str(cell).lower()}")
    if isinstance(cell, int | float):
        cell = repr(cell)
    if not isinstance(cell, str):
        return Unavailable("the tool prints a list where a number was expected")
    text = cell[:CELL_CHARACTERS]
    if text.strip().lower() in NONE_WORDS:
        return Unavailable(f"the tool prints {text.strip()!r}")
    text = part_of(text, part)
    if text.strip().lower() in NONE_WORDS:
        return Unavailable(f"the tool prints {cell[:SHOWN].strip()!r}")
    found = NUMBER.match(DEGREES.sub("", text))
    if found is None:
        return Unavailable(f"the tool prints {text[:SHOWN].strip()!r}, which is no number")
    printed = found[2]
    if printed and not _same_but_binary(printed, unit):
        told = unit_of(printed)
    else:
        told = unit_of(unit)
    if told is None or told[0] != MEANINGS[quantity].unit:
        return Unavailable(f"the tool prints {text[:SHOWN].strip()!r}, which is not in {MEANINGS[quantity].unit}")
    value = float(found[1]) * told[1]
    if not math.isfinite(value) or (value < 0 and told[0] != "celsius"):
        return Unavailable(f"the tool prints {text[:SHOWN].strip()!r}, which cannot be")
    if told[0] == "percent" and value > 100.0:
        return Unavailable(f"the tool prints {text[:SHOWN].strip()!r}, which is more than all of it")
    return reading(quantity, value, at_s, quality)
