"""What does a serving window say beside its requests a second? How many came, and how long they waited."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

QUANTILES = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a serving window adds: how many requests came and were answered (and verified) inside it, and how long they
    waited, from coming to answered; None where so many of the window's requests were not answered inside it.

    They came at `offered_per_s`, which is `load_share` of the `capacity_per_s` of full batches, as found while arming.
    """

    came: int
    answered: int
    capacity_per_s: float
    load_share: float
    offered_per_s: float
    largest_batch: int
    mean_batch: float | None
    busy_share: float
    flop_per_request: int
    arrivals_seed: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None


_MAY_BE_NULL = ("mean_batch", *(f"latency_{q}_ms" for q in QUANTILES))
_COUNTS = ("came", "answered", "largest_batch", "flop_per_request", "arrivals_seed")


def served_of(told: Any) -> Served | None:
    """From JSON; unknown fields are left aside. Raises ValueError."""
    if told is None:
        return None
    if not isinstance(told, Mapping):
        raise ValueError("not an object")
    values = {each.name: told.get(each.name) for each in fields(Served)}
    for name, value in values.items():
        kind = int if name in _COUNTS else (int, float)
        is_number = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
        if not is_number and not (value is None and name in _MAY_BE_NULL):
            raise ValueError(f"{name} is missing or no number")
    return Served(**values)  # type: ignore[arg-type]


def longest_waits(served: Sequence[Served]) -> Iterator[tuple[str, float | None]]:
    """By quantile, on the device where it is longest; None where one of them does not know its own."""
    for q in QUANTILES if served else ():
        each: list[float | None] = [getattr(s, f"latency_{q}_ms") for s in served]
        known = [ms for ms in each if ms is not None]
        yield q, max(known) if len(known) == len(each) else None
