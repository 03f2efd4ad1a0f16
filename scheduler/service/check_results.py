"""What a check's program has left as its result (benchmarks/check.py), as values. It ran on a node that may be broken,
so nothing is taken for granted: what does not fit says so, and counts as not run.

    {"check": 1, "devices": {UUID: {"products": PART, "memory": PART}}, "links": [{"between": [UUID, UUID], ...PART}]}
    PART: {"came": "right" | "wrong" | "not run", "rate": ..., "unit": ..., "why": ...}
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from scheduler.core.device_checks import Came, Part, PartResult

VERSION = 1
MOST_CHARACTERS = 300
_OF_DEVICE = (Part.PRODUCTS, Part.MEMORY)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`parts` by device: of a link both devices have what came of it. `trouble`: why there is nothing to be judged."""

    parts: Mapping[str, tuple[PartResult, ...]] = field(default_factory=dict)
    trouble: str = ""


def read_result(text: str, devices: Collection[str]) -> CheckResult:
    """Of these devices alone: a check has nothing to say of others."""
    try:
        said = json.loads(text)
        if not isinstance(said, dict) or said.get("check") != VERSION:
            raise ValueError(f"version {VERSION} of a check's result was expected")
        parts: dict[str, list[PartResult]] = {}
        of_devices = said.get("devices") or {}
        for uuid in devices:
            mine = of_devices.get(uuid) or {}
            parts[uuid] = [_part(part, mine[part]) for part in _OF_DEVICE if part in mine]
        for link in said.get("links") or ():
            between = [str(each) for each in link["between"]]
            result = _part(Part.LINKS, link)
            for uuid in between:
                if uuid in parts and len(between) == 2:
                    parts[uuid].append(_worse(parts[uuid], result))
        return CheckResult({uuid: _one_a_part(results) for uuid, results in parts.items()}, _text(said.get("trouble")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return CheckResult(trouble=f"its result is not understood: {_text(error)}")


def _part(part: Part, said: Mapping[str, Any]) -> PartResult:
    came = Came(said["came"])
    return PartResult(part, came, _rate(said.get("rate")), _text(said.get("unit")), _text(said.get("why")))


def _rate(said: Any) -> float | None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return float(said) if math.isfinite(said) and said > 0 else None


def _worse(before: list[PartResult], new: PartResult) -> PartResult:
    """Of a device's links the worst stands for all."""
    return max([*(each for each in before if each.part is new.part), new], key=_badness)


def _badness(result: PartResult) -> tuple[int, float]:
    order = {Came.NOT_RUN: 0, Came.RIGHT: 1, Came.WRONG: 2}
    return order[result.came], -(result.rate or math.inf)


def _one_a_part(results: list[PartResult]) -> tuple[PartResult, ...]:
    return tuple({result.part: result for result in results}.values())


def _text(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text[:MOST_CHARACTERS]
