"""How much did a counter gain between two readings of it? Also when it was set back in between.

Energy, traffic and error counters run since the driver was loaded. A driver that is loaded anew, or a card that is
reset, begins again at 0; then what the counter shows is what was certainly gained since, and the rest is not known.
"""

from __future__ import annotations

from typing import NamedTuple

from node_agent.devices.source import Measured, Reading, Unavailable


class Gained(NamedTuple):
    """`at_least`: the counter was set back, so that the true gain may be more."""

    value: float
    over_s: float
    at_least: bool


def gained(before: Measured, after: Measured) -> Gained | Unavailable:
    """Between two readings of one counter of one device, the older first."""
    if not isinstance(before, Reading):
        return before
    if not isinstance(after, Reading):
        return after
    if before.quality is not after.quality or before.unit != after.unit:
        return Unavailable(f"{before.quality} {before.unit} and {after.quality} {after.unit} cannot be subtracted")
    over_s = after.at_s - before.at_s
    if over_s <= 0:
        return Unavailable("no time has passed since the last reading")
    if after.value < before.value:
        return Gained(after.value, over_s, True)
    return Gained(after.value - before.value, over_s, False)
