"""Does what one device sends to another arrive, and how fast? Copies between two of them, looked at where they arrive.

The one that sends holds a pattern, the one that receives compares every element with what it makes itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.checking.pattern import torch_pattern
from benchmarks.checking.triad import ELEMENT_BYTES, Stop, Wrong
from benchmarks.workloads.devices import ComputeDevice, synchronise

COPY_BYTES = 256 << 20


def pairs(count: int) -> Iterator[tuple[int, int]]:
    """Each device sends once and receives once: a ring; of two, there and back."""
    if count >= 2:
        yield from ((i, (i + 1) % count) for i in range(count))


def copy_rate(torch: Any, one: ComputeDevice, other: ComputeDevice, seconds: float, stop: Stop) -> float:
    """Bytes a second from `one` to `other`. Raises Wrong; what the library raises passes through."""
    places = [torch.device("cpu") if each.is_cpu else torch.device(each.kind, each.index) for each in (one, other)]
    count = COPY_BYTES // ELEMENT_BYTES
    source = torch_pattern(torch, count, places[0])
    target = torch.zeros(count, dtype=torch.float32, device=places[1])
    spent_s: list[float] = []
    ends_s = time.perf_counter() + seconds
    while len(spent_s) < 2 or (time.perf_counter() < ends_s and not stop()):
        begun = time.perf_counter()
        target.copy_(source)
        for each in (one, other):
            synchronise(torch, each)
        spent_s.append(max(1e-9, time.perf_counter() - begun))
    bad = (target != torch_pattern(torch, count, places[1])).nonzero()
    if bad.numel():
        raise Wrong(f"{int(bad.numel())} of {count} elements arrive changed, the first is {int(bad[0].item())}")
    return count * ELEMENT_BYTES / median(spent_s[1:])  # the first opens the way


def can_reach(torch: Any, devices: Sequence[ComputeDevice]) -> str:
    """Why links cannot be checked; empty where they can."""
    if torch is None:
        return "torch is not installed here"
    if any(each.is_cpu for each in devices):
        return "a CPU has no links to check"
    return "" if len(devices) >= 2 else "one device has nobody to send to"
