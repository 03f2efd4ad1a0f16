"""How fast does a device read and write its memory, and does it find there what it wrote? STREAM's triad, verified.

a = b + s·c over arrays that no cache holds; two are read and one is written, so a pass moves three times their size
(J. McCalpin, "Memory bandwidth and machine balance in current high performance computers", IEEE TCCA 1995). The rate is
the median pass's. Afterwards every element of `a` is compared with what its place must hold, without a tolerance, by
another way than it came about (`pattern`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from benchmarks.checking.pattern import MODULUS, SCALE, SHIFT, numpy_pattern, torch_pattern
from benchmarks.workloads.devices import ComputeDevice, synchronise

ACCELERATOR_BYTES = 1 << 30
CPU_BYTES = 64 << 20
ELEMENT_BYTES = 4
ARRAYS_MOVED = 3
# Of what is free: an idle device may still have a little in use, and a pattern takes twice its size while it is made.
FREE_SHARE = 12
LOOKED_AT_ONCE = 1 << 24


def array_bytes(free_bytes: int | None, *, is_cpu: bool) -> int:
    """Of each of the three arrays."""
    wanted = CPU_BYTES if is_cpu else ACCELERATOR_BYTES
    return wanted if free_bytes is None else min(wanted, free_bytes // FREE_SHARE)


class Wrong(Exception):
    """Something did not hold what it must. The message says how much of it, and where first."""


Stop = Callable[[], bool]
Spoil = Callable[[Any], None]


def triad(torch: Any | None, device: ComputeDevice, seconds: float, stop: Stop, *, spoil: Spoil | None = None) -> float:
    """Bytes a second. Raises Wrong; what the device's library raises passes through. `stop` ends it early. `spoil`: for
    tests, done to `a` before it is looked at."""
    if torch is None:
        return _numpy_triad(seconds, stop, spoil)
    where = torch.device("cpu") if device.is_cpu else torch.device(device.kind, device.index)
    count = array_bytes(_free_bytes(torch, device), is_cpu=device.is_cpu) // ELEMENT_BYTES
    b, c = torch_pattern(torch, count, where), torch_pattern(torch, count, where, SHIFT)
    a = torch.empty_like(b)

    def once() -> None:
        torch.add(b, c, alpha=SCALE, out=a)
        synchronise(torch, device)

    rate = _rate(once, count, seconds, stop)
    if spoil is not None:
        spoil(a)
    bad, first = 0, 0
    for begin in range(0, count, LOOKED_AT_ONCE):
        end = min(count, begin + LOOKED_AT_ONCE)
        places = torch.arange(begin, end, dtype=torch.int64, device=where)
        wrong = (a[begin:end] != _expected(places).to(torch.float32)).nonzero()
        if wrong.numel():
            first = begin + int(wrong[0].item()) if not bad else first
            bad += int(wrong.numel())
    _complain(bad, count, first)
    return rate


def _expected(places: Any) -> Any:
    """What the triad leaves there, in whole numbers: another unit's work than the multiply-add in floating point."""
    return places % MODULUS + int(SCALE) * ((places * SHIFT) % MODULUS)


def _numpy_triad(seconds: float, stop: Stop, spoil: Spoil | None) -> float:
    count = CPU_BYTES // ELEMENT_BYTES
    b, c = numpy_pattern(count), numpy_pattern(count, SHIFT)
    a, scaled = np.empty_like(b), np.empty_like(b)

    def once() -> None:  # in two steps, as NumPy has no triad: the middle one is not counted
        np.multiply(c, np.float32(SCALE), out=scaled)
        np.add(b, scaled, out=a)

    rate = _rate(once, count, seconds, stop)
    if spoil is not None:
        spoil(a)
    bad = np.flatnonzero(a != _expected(np.arange(count, dtype=np.int64)).astype(np.float32))
    _complain(len(bad), count, int(bad[0]) if len(bad) else 0)
    return rate


def _rate(once: Callable[[], None], count: int, seconds: float, stop: Stop) -> float:
    once()
    spent_s: list[float] = []
    ends_s = time.perf_counter() + seconds
    while not spent_s or (time.perf_counter() < ends_s and not stop()):
        begun = time.perf_counter()
        once()
        spent_s.append(max(1e-9, time.perf_counter() - begun))
    return ARRAYS_MOVED * count * ELEMENT_BYTES / median(spent_s)


def _complain(bad: int, count: int, first: int) -> None:
    if bad:
        raise Wrong(f"{bad} of {count} elements of its memory do not hold what was written, the first is {first}")


def _free_bytes(torch: Any, device: ComputeDevice) -> int | None:
    if device.kind == "cuda":
        return int(torch.cuda.mem_get_info(device.index)[0])
    if device.kind == "npu" and hasattr(torch.npu, "mem_get_info"):
        return int(torch.npu.mem_get_info(device.index)[0])
    return None
