"""When did requests come, and when was each answered? What an auditor computes a serving window's figures from.

Requests come as they would without us: gaps between them are exponential (a Poisson process) from a seed, whoever is
slow. They are answered in the order in which they came, some at a time; so a line need not hold them: the process
(seed and rate) says when each came, and of every batch it is kept when it began, how long it was worked on, how long
its answers were checked, and how many they were. A batch counts if all its answers passed and its check ended inside
the window. Arrays are packed as in `raw_batches`; times are whole microseconds from the window's start.

    requests/s = sum of counted sizes / window_s;  latency = began + busy of its batch - when it came

A request that came inside the window and was not answered inside it was slower than any that was: quantiles are over
all that came, by nearest rank, and one that falls on such a request is not known (None).

Standard library and NumPy only.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.raw_batches import MAX_BATCHES, MICROSECONDS, Microseconds, packed, unpacked
from benchmarks.record import BadRecord

REQUESTS_SCHEMA = "suanli/bench-requests/1"
# Drawn at once, always so many: sums of floats depend on how they are grouped.
CHUNK = 4096
MOST_REQUESTS = 100_000_000
# What the arrivals' generator is seeded with beside the window's own seed.
ARRIVALS = 0xA221


class Arrivals:
    """When requests come, in microseconds from the start of the window: a Poisson process of `per_s` from `seed`."""

    def __init__(self, seed: int, per_s: float) -> None:
        if not (math.isfinite(per_s) and per_s > 0):
            raise ValueError(f"requests come at some rate, not at {per_s} a second")
        self._rng = np.random.default_rng((seed, ARRIVALS))
        self._per_s = per_s
        self._ends_s = 0.0
        self._drawn = 0
        self._due_us: NDArray[np.int64] = np.empty(CHUNK, np.int64)  # doubled when it is full

    def due_us(self, number: int) -> int:
        """Of the request of this number, from 0."""
        return int(self.first(number + 1)[number])

    def come_by(self, at_us: int) -> int:
        """How many have come until then."""
        while self._drawn == 0 or int(self._due_us[self._drawn - 1]) <= at_us:
            self._draw()
        return int(np.searchsorted(self._due_us[: self._drawn], at_us, side="right"))

    def first(self, count: int) -> NDArray[np.int64]:
        while self._drawn < count:
            self._draw()
        return self._due_us[:count]

    def _draw(self) -> None:
        at_s = self._ends_s + np.cumsum(-np.log1p(-self._rng.random(CHUNK)) / self._per_s)
        self._ends_s = float(at_s[-1])
        if self._drawn + CHUNK > len(self._due_us):
            self._due_us = np.concatenate([self._due_us, np.empty_like(self._due_us)])
        self._due_us[self._drawn : self._drawn + CHUNK] = np.rint(at_s * MICROSECONDS)
        self._drawn += CHUNK


@dataclass(frozen=True, slots=True, eq=False)
class RawRequests:
    """One device's serving window. `sizes` and the times have one entry a batch, in order."""

    run: str
    device: str
    workload: str
    precision: str
    window_start_s: float
    window_s: float
    seed: int
    offered_per_s: float
    began_us: Microseconds
    busy_us: Microseconds
    check_us: Microseconds
    sizes: Microseconds

    @property
    def batches(self) -> int:
        """Those that count."""
        return int(np.count_nonzero(self._counted()))

    @property
    def answered(self) -> int:
        """Requests that count."""
        return int(self.sizes.astype(np.int64)[self._counted()].sum())

    @property
    def per_s(self) -> float:
        return self.answered / self.window_s

    def came(self) -> int:
        """Requests that came inside the window."""
        return Arrivals(self.seed, self.offered_per_s).come_by(round(self.window_s * MICROSECONDS) - 1)

    def latencies_us(self) -> NDArray[np.int64]:
        """Of those that count, in the order in which they came."""
        counted = self._counted()
        ended = self.began_us.astype(np.int64) + self.busy_us.astype(np.int64)
        answered_us = np.repeat(ended, self.sizes.astype(np.int64))
        which = np.repeat(counted, self.sizes.astype(np.int64))
        came_us = Arrivals(self.seed, self.offered_per_s).first(len(answered_us))
        return np.asarray((answered_us - came_us)[which], np.int64)

    def quantiles_ms(self, *qs: float) -> list[float | None]:
        """Nearest rank over all that came; None where it falls on one that was not answered inside the window."""
        latencies, came = np.sort(self.latencies_us()), self.came()
        ranks = [max(1, math.ceil(q * came)) for q in qs]
        return [float(latencies[rank - 1]) / 1e3 if rank <= len(latencies) else None for rank in ranks]

    def gives_quantiles(self, told_ms: Sequence[float | None], qs: Sequence[float]) -> bool:
        """Within two microseconds: another machine's logarithm may round an arrival to the next one."""
        found = self.quantiles_ms(*qs)
        return all(
            (one is None and other is None) or (one is not None and other is not None and abs(one - other) <= 0.002)
            for one, other in zip(told_ms, found, strict=True)
        )

    def _counted(self) -> NDArray[np.bool_]:
        ended = self.began_us.astype(np.int64) + self.busy_us.astype(np.int64) + self.check_us.astype(np.int64)
        return ended <= round(self.window_s * MICROSECONDS)


def requests_line(raw: RawRequests) -> str:
    body = {
        "schema": REQUESTS_SCHEMA,
        "run": raw.run,
        "device": raw.device,
        "workload": raw.workload,
        "precision": raw.precision,
        "window_start_s": raw.window_start_s,
        "window_s": raw.window_s,
        "seed": raw.seed,
        "offered_per_s": raw.offered_per_s,
        "batches": len(raw.began_us),
        "began_us": packed(raw.began_us),
        "busy_us": packed(raw.busy_us),
        "check_us": packed(raw.check_us),
        "sizes": packed(raw.sizes),
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def is_requests_line(line: str) -> bool:
    """Whether it says that it is one; that it can be read is another question."""
    return f'"schema":"{REQUESTS_SCHEMA}"' in line[:100]


def requests_from_line(line: str) -> RawRequests:
    """Raises BadRecord. What is unpacked and drawn is bounded."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise BadRecord(f"raw requests: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != REQUESTS_SCHEMA:
        raise BadRecord(f"not a {REQUESTS_SCHEMA} line")
    count = data.get("batches")
    if not isinstance(count, int) or not 0 <= count <= MAX_BATCHES:
        raise BadRecord(f"raw requests: batches must be 0 to {MAX_BATCHES}, not {str(count)[:40]}")
    try:
        raw = RawRequests(
            run=str(data["run"]),
            device=str(data["device"]),
            workload=str(data["workload"]),
            precision=str(data["precision"]),
            window_start_s=float(data["window_start_s"]),
            window_s=float(data["window_s"]),
            seed=int(data["seed"]),
            offered_per_s=float(data["offered_per_s"]),
            began_us=unpacked(data["began_us"], count),
            busy_us=unpacked(data["busy_us"], count),
            check_us=unpacked(data["check_us"], count),
            sizes=unpacked(data["sizes"], count),
        )
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise BadRecord(f"raw requests: {type(error).__name__}: {error}") from None
    if not (math.isfinite(raw.window_s) and raw.window_s > 0 and raw.seed >= 0):
        raise BadRecord("raw requests: window_s and seed must be positive")
    if (
        not 0 < raw.offered_per_s * raw.window_s < MOST_REQUESTS
        or int(raw.sizes.astype(np.int64).sum()) > MOST_REQUESTS
    ):
        raise BadRecord(f"raw requests: more than {MOST_REQUESTS} requests, or none")
    return raw
