"""What was found, as text: an agent that dies is started again, and must not forget what a driver says only once."""

from __future__ import annotations

import json
from typing import Any

from node_agent.health.judging import HealthState, Watch

VERSION = 1


def to_text(state: HealthState) -> str:
    """Of the readings themselves nothing is kept: signs that were under way are counted anew."""
    return json.dumps(
        {
            "version": VERSION,
            "now_s": state.now_s,
            "watches": [
                {
                    "device": device,
                    "rule": rule,
                    "since_s": watch.since_s,
                    "seen_s": watch.seen_s,
                    "signs": watch.signs,
                    "bursts": watch.bursts,
                    "resets": watch.resets,
                    "reason": watch.reason,
                    "mark": watch.mark,
                }
                for (device, rule), watch in sorted(state.watches.items())
            ],
        }
    )


def from_text(text: str) -> HealthState | None:
    """None: it is no such text, or of a version that is not known here."""
    try:
        kept = json.loads(text)
        if kept["version"] != VERSION:
            return None
        watches = {(str(each["device"]), str(each["rule"])): _watch(each) for each in kept["watches"]}
        return HealthState(watches, {}, float(kept["now_s"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _watch(kept: dict[str, Any]) -> Watch:
    since_s, mark = kept["since_s"], str(kept["mark"])
    return Watch(
        signs=_times(kept["signs"]),
        since_s=None if since_s is None else float(since_s),
        seen_s=float(kept["seen_s"]),
        bursts=_times(kept["bursts"]),
        resets=_times(kept["resets"]),
        reason=str(kept["reason"]),
        mark=mark if mark.count("\n") == 1 else "\n",
    )


def _times(values: list[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
