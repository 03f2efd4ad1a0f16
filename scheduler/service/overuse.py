"""Does a card show more memory in use than the shares of it that were given out? Readings and shares in, sentences out.

A share is a part of a card's memory as of its processors; where no daemon holds jobs to it, nothing but this shows that
one takes more. Only what was measured on a card counts: the memory of a CPU device is the whole node's, and a simulated
one uses what its seed says. What a process needs of memory before it computes anything (its context) is let pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WHOLE_MILLI = 1000
CONTEXT_BYTES = 512 << 20  # of each job: what the driver takes for it on a large card
GIB = 1 << 30
OVERUSE_FIELDS = ("memory_used_bytes", "memory_total_bytes")


@dataclass(frozen=True, slots=True)
class SharedDevice:
    """A device of which only parts are held: `used_milli` thousandths, by `jobs` jobs, all of them since `since_s`."""

    index: int
    uuid: str
    used_milli: int
    jobs: int
    since_s: float


def overuse_notes(
    devices: Sequence[SharedDevice], readings: Mapping[str, Mapping[str, Mapping[str, Any]]], *, held: bool
) -> list[str]:
    """`readings` as node_agent.nodes.readings_json gives them. `held`: something holds the jobs to their shares."""
    notes = []
    for device in devices:
        fields = readings.get(device.uuid, {})
        used, total = (_bytes(fields.get(f"memory_{name}_bytes"), device.since_s) for name in ("used", "total"))
        if used is None or total is None:
            continue
        given = total * device.used_milli / WHOLE_MILLI
        if used > given + CONTEXT_BYTES * device.jobs:
            why = "although a daemon holds jobs to theirs" if held else "and nothing holds jobs to theirs"
            notes.append(
                f"device {device.index} has {used / GIB:.1f} GiB of memory in use, more than the {given / GIB:.1f} GiB"
                f" of the shares that were given out of it, {why}"
            )
    return notes


def _bytes(reading: Mapping[str, Any] | None, since_s: float) -> float | None:
    """None where it is missing, was not measured, or is from before the present jobs had the device."""
    if reading is None or reading.get("quality") != "measured" or reading["at_s"] < since_s:
        return None
    return float(reading["value"])
