"""What was found, as text: an agent that dies is started again, and must not forget what a driver says only once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from node_agent.health.judging import HealthState, Watch
from node_agent.health.resets import Counted
from node_agent.health.rules import SOURCES
from node_agent.health.verdicts import Finding, Jobs, Lifts, Use

VERSION = 1

NotedBy = Mapping[str, tuple[Finding, ...]]
"""What others found, by source."""


def to_text(state: HealthState, noted: NotedBy | None = None, counts: Mapping[str, Counted] | None = None) -> str:
    """Of the readings themselves nothing is kept but counters: signs that were under way are counted anew. `noted`:
    what others found of this node; `counts`: by device."""
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
            "noted": {source: [asdict(each) for each in found] for source, found in (noted or {}).items()},
            "counts": {
                device: {"top": dict(count.top), "resets": count.resets} for device, count in (counts or {}).items()
            },
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


def noted_from_text(text: str) -> NotedBy:
    """What others found. Empty where it is no such text, or of a version that had none."""
    try:
        kept = json.loads(text)["noted"]
        return {source: tuple(_finding(each) for each in kept[source]) for source in SOURCES if source in kept}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def counts_from_text(text: str) -> Mapping[str, Counted]:
    try:
        kept = json.loads(text)["counts"]
        return {
            str(device): Counted(
                {str(name): float(value) for name, value in each["top"].items()}, resets=int(each["resets"])
            )
            for device, each in kept.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _finding(kept: dict[str, Any]) -> Finding:
    return Finding(
        str(kept["device"]),
        str(kept["rule"]),
        Use(kept["use"]),
        Jobs(kept["jobs"]),
        Lifts(kept["lifts"]),
        str(kept["reason"]),
        str(kept["advice"]),
        float(kept["since_s"]),
    )


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
