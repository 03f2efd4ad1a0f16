"""Was a device reset, or its driver loaded anew? Its counters tell: they run since then, and one that fell began again.

A finding that a reset lifts is taken back on this word, so one reading is not believed: a counter must stay below what
it had shown in two readings. What is not known counts for nothing. What was seen last is kept with the findings, so
that a reset for which the agent had to be stopped is seen by the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from node_agent.devices.source import Measured, Reading

# Those that begin anew with the driver or the device and that nobody can clear. (ECC counters can be cleared.)
COUNTERS = ("energy_joules", "pcie_replays")


@dataclass(frozen=True, slots=True)
class Counted:
    """One device. `top`: what each counter showed; `doubted`: when those that were lower since were read so. `resets`:
    how many were seen."""

    top: Mapping[str, float] = field(default_factory=dict)
    doubted: Mapping[str, float] = field(default_factory=dict)
    resets: int = 0

    @property
    def mark(self) -> str:
        """What `judge` compares: another one after each reset. Empty: the device has no such counter."""
        return f"reset {self.resets}" if self.top else ""


def counted(before: Counted, fields: Mapping[str, Measured]) -> Counted:
    """After one more look."""
    top, doubted = dict(before.top), dict(before.doubted)
    now: dict[str, float] = {}
    fell = False
    for name in COUNTERS:
        seen = fields.get(name)
        if not isinstance(seen, Reading) or not math.isfinite(seen.value):
            continue
        now[name] = seen.value
        if seen.value >= top.get(name, -math.inf):
            top[name] = seen.value
            doubted.pop(name, None)
        elif name not in doubted:
            doubted[name] = seen.at_s
        elif seen.at_s > doubted[name]:  # not the same reading once more
            fell = True
    if fell:
        return Counted(now, resets=before.resets + 1)
    return replace(before, top=top, doubted=doubted)
