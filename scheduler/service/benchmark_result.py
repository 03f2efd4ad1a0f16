"""What did a benchmark achieve, by the result that it left? Read from the one shape of every benchmark's answer: under
`devices` of "suanli/bench/1" each has `workload`, `precision`, `evidence`, `on`, `gflops`, `verified` and `covers`.

The evidence is the result's own word, and where it contradicts what the service knows (it ran on simulated devices)
the weaker of the two. A result that cannot be read says nothing, rather than 0. Nothing here is trusted further than
that: it goes beside the bill, never into it. Pure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from scheduler.core.usage_records import Achieved

SCHEMA = "suanli/bench/1"
MOST_DEVICES = 100_000
MOST_GROUPS = 64
_LONGEST_NAME = 60

On = Literal["accelerator", "cpu", "simulated"]


def achieved(result: str, *, simulated: bool) -> tuple[Achieved, ...]:
    """By workload, precision and evidence. () where the result is none, or none that can be read."""
    try:
        answer = json.loads(result)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(answer, dict) or answer.get("schema") != SCHEMA:
        return ()
    devices = answer.get("devices")
    if not isinstance(devices, list) or len(devices) > MOST_DEVICES:
        return ()
    sums: dict[tuple[str, str, On], list[tuple[float | None, int, bool]]] = {}
    for device in devices:
        told = _told(device, simulated)
        if told is None:
            return ()  # half of a result would be taken for all of it
        key, figure = told
        sums.setdefault(key, []).append(figure)
    if len(sums) > MOST_GROUPS:
        return ()
    return tuple(
        Achieved(
            workload,
            precision,
            on,
            _sum([gflops for gflops, _, _ in figures]),
            sum(count for _, count, _ in figures),
            sum(count for _, count, verified in figures if verified),
        )
        for (workload, precision, on), figures in sorted(sums.items())
    )


def _told(device: Any, simulated: bool) -> tuple[tuple[str, str, On], tuple[float | None, int, bool]] | None:
    if not isinstance(device, Mapping):
        return None
    workload, precision, gflops = device.get("workload"), device.get("precision"), device.get("gflops")
    names = (workload, precision)
    if not all(isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME for name in names):
        return None
    if gflops is not None and not (_is_number(gflops) and math.isfinite(gflops) and gflops >= 0):
        return None
    verified, covers = device.get("verified"), device.get("covers")
    if not isinstance(verified, bool):
        return None
    on: On
    match device.get("evidence"), device.get("on"):
        case "simulated", _:
            on = "simulated"
        case "measured", "cpu" if not simulated:
            on = "cpu"
        case "measured", "accelerator" if not simulated:
            on = "accelerator"
        case "measured", "cpu" | "accelerator":
            on = "simulated"
        case _:
            return None
    counted = None if gflops is None else float(gflops) if verified or on == "simulated" else 0.0
    count = len(covers) if isinstance(covers, list) and covers else 1
    return (str(workload), str(precision), on), (counted, count, verified)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if known else None
