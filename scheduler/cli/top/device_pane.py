"""The pane of devices. Real and simulated ones stand in one list, each with its kind in a column that is never shed."""

from __future__ import annotations

import re
from typing import Any

from scheduler.cli import words
from scheduler.cli.device_listing import (
    Device,
    DeviceListing,
    age_s,
    jobs_text,
    natural,
    power_text,
    use_word,
    used_milli,
    value_text,
)
from scheduler.cli.top.pane import Field, Pane, state_style

# What is asked for; the rest of a device's readings is in its details.
FIELDS = (
    "utilisation_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "power_watts",
    "temperature_celsius",
    "clock_megahertz",
    "ecc_uncorrected_volatile",
    "faults",
)
UTIL, MEMORY_USED, MEMORY_TOTAL, POWER, TEMPERATURE, CLOCK, ECC, FAULTS = range(len(FIELDS))
_UNIT = re.compile(r"_(percent|bytes|watts|celsius|megahertz)$")
HOT_C = 85.0  # where health begins to look (docs/health.md)


def kind_word(device: Device) -> str:
    if not device.is_simulated:
        return "real"
    return "replay" if device.quality == "replayed" else "sim"


def kind_style(_row: object, text: str) -> str:
    return "" if text == "real" else "magenta"


def device_pane() -> Pane[Device]:
    return Pane(
        "devices",
        "Devices",
        [
            Field("NODE", lambda d: d.node, lambda d: (natural(d.node), d.index), 6, most=26),
            Field("DEV", lambda d: str(d.index), lambda d: d.index, 3, right=True),
            Field("KIND", kind_word, kind_word, 4, most=6, style=kind_style),
            Field("SITE", lambda d: d.site, lambda d: d.site, 4, most=20, shed=9),
            Field("RACK", lambda d: d.rack or "", lambda d: natural(d.rack) if d.rack else None, 4, most=12, shed=8),
            Field("MODEL", lambda d: d.model, lambda d: d.model, 5, most=28, shed=3),
            Field("USE", use_word, use_word, 11, most=15, style=state_style),
            Field("JOBS", jobs_text, used_milli, 6, most=14, falling=True),
            Field("UTIL", _told(UTIL), _value(UTIL), 5, right=True, falling=True, style=_busy),
            Field("MEM%", _memory_share, _memory_part, 5, right=True, falling=True),
            Field("MEMORY", _memory, _value(MEMORY_USED), 16, right=True, falling=True, shed=5),
            Field("POWER", _told(POWER), _value(POWER), 6, right=True, falling=True),
            Field("TEMP", _told(TEMPERATURE), _value(TEMPERATURE), 5, right=True, falling=True, style=_heat),
            Field("CLOCK", _told(CLOCK), _value(CLOCK), 8, right=True, falling=True, shed=6),
            Field("NOTE", note, lambda d: note(d) or None, 10, rest=True, shed=7),
        ],
        none="no device is known yet: they come with their nodes",
        identity=lambda d: (d.node, d.uuid),
        text=device_words,
    )


def device_words(device: Device) -> str:
    jobs = " ".join(f"{job.id} {job.tenant}" for job in device.jobs)
    said = f"{device.node}:{device.index} {device.site} {device.rack or ''} {device.model} {use_word(device)}"
    return f"{said} {kind_word(device)} {jobs} {device.uuid} {device.reason}".lower()


def _value(at: int) -> Any:
    def value(device: Device) -> float | None:
        return device.values[at]

    return value


def _told(at: int) -> Any:
    field = FIELDS[at]

    def told(device: Device) -> str:
        return value_text(field, device.values[at])

    return told


def _memory_part(device: Device) -> float | None:
    used, total = device.values[MEMORY_USED], device.values[MEMORY_TOTAL]
    return None if used is None or not total else used / total


def _memory_share(device: Device) -> str:
    part = _memory_part(device)
    return "" if part is None else f"{part:.0%}"


def _memory(device: Device) -> str:
    used, total = device.values[MEMORY_USED], device.values[MEMORY_TOTAL]
    if used is None and total is None:
        return ""
    return f"{'-' if used is None else words.size(used)}/{'-' if total is None else words.size(total)}"


def _busy(device: Device, _text: str) -> str:
    value = device.values[UTIL]
    return "" if value is None else "green" if value >= 80 else "yellow" if value >= 20 else "dim"


def _heat(device: Device, _text: str) -> str:
    value = device.values[TEMPERATURE]
    return "bold red" if value is not None and value >= HOT_C else ""


def note(device: Device) -> str:
    said = [device.reason] if device.reason else []
    ecc, faults = device.values[ECC], device.values[FAULTS]
    if ecc:
        said.append(f"{ecc:g} memory errors")
    if faults:
        said.append(f"{faults:g} faults")
    return "; ".join(said)


def read_long_ago(listing: DeviceListing) -> str:
    """How many devices have had nothing new for long; nothing where all have."""
    old = sum(1 for device in listing.devices if age_s(listing, device) is not None)
    return f"{old:,} not read lately" if old else ""


def details(listing: DeviceListing, device: Device) -> list[tuple[str, object]]:
    """What the list knows of one device, each silence with its reason."""
    age = age_s(listing, device)
    told: list[tuple[str, object]] = [
        ("device", f"{device.index} of node {device.node}"),
        ("kind", {"real": "real", "sim": "simulated: nothing here is measured"}.get(kind_word(device), "a recording")),
        ("model", device.model),
        ("uuid", device.uuid),
        ("site, rack", f"{device.site}, {device.rack or '-'}"),
        ("node is", device.node_state),
        ("use", use_word(device)),
        ("reason", device.reason),
        ("jobs", ", ".join(f"{job.id} ({job.tenant})" for job in device.jobs) or "none"),
        ("read", "never" if device.read_at_s is None else words.moment(device.read_at_s) + (" (old)" if age else "")),
    ]
    for field, value in zip(listing.fields, device.values, strict=True):
        name = _UNIT.sub("", field).replace("_", " ")
        if value is None:
            told.append((name, f"- ({device.unavailable.get(field, 'not told')})"))
        elif field == "power_watts":
            told.append((name, power_text(value)))
        else:
            told.append((name, value_text(field, value)))
    return told
