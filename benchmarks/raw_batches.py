"""What did one device do, batch by batch? What an auditor computes its figure from, as one JSON line of raw times.

A batch begins, its work ends, its check ends. Times are whole microseconds, unsigned in 32 bits (so a window lasts at
most 4,294 s): when it began, counted from the window's start, how long its work took and how long its check. Arrays
travel as zlib-compressed little-endian bytes in base64. A batch counts if its check passed and ended inside the
window; where several batches share a check, its time stands with the last of them, and none of them is here unless
all count. Checks that failed are not here (they void the window), so F = flop_per_batch x batches whose check ended
by window_s. For a workload that counts bytes, `flop_per_batch` holds bytes. Standard library and NumPy only.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import BadRecord

RAW_SCHEMA = "suanli/bench-batches/1"
MAX_BATCHES = 1_000_000
MICROSECONDS = 1e6

Microseconds = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class RawBatches:
    """One device's window. `began_us`, `busy_us` and `check_us` have one entry a batch, in order."""

    run: str
    device: str
    workload: str
    precision: str
    window_start_s: float
    window_s: float
    flop_per_batch: int
    began_us: Microseconds
    busy_us: Microseconds
    check_us: Microseconds

    @property
    def batches(self) -> int:
        """Those that count."""
        ended = self.began_us.astype(np.int64) + self.busy_us.astype(np.int64) + self.check_us.astype(np.int64)
        return int(np.count_nonzero(ended <= round(self.window_s * MICROSECONDS)))

    @property
    def flop(self) -> int:
        """Verified inside the window."""
        return self.flop_per_batch * self.batches

    @property
    def rates_flops(self) -> NDArray[np.float64]:
        """FLOP/s of each batch's work, without its check."""
        return self.flop_per_batch * MICROSECONDS / np.maximum(self.busy_us, 1).astype(np.float64)


def to_line(raw: RawBatches) -> str:
    body = {
        "schema": RAW_SCHEMA,
        "run": raw.run,
        "device": raw.device,
        "workload": raw.workload,
        "precision": raw.precision,
        "window_start_s": raw.window_start_s,
        "window_s": raw.window_s,
        "flop_per_batch": raw.flop_per_batch,
        "batches": len(raw.began_us),
        "began_us": packed(raw.began_us),
        "busy_us": packed(raw.busy_us),
        "check_us": packed(raw.check_us),
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Durable when it returns. Several processes may append; each line stays whole, also behind one that a full disk
    tore. Raises OSError."""
    if not lines:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        data = ("\n" * torn + "".join(lines)).encode()
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(line: str) -> str:
    """What a record's `raw_sha256` holds: of the line with its newline."""
    return hashlib.sha256(line.encode()).hexdigest()


def from_line(line: str) -> RawBatches:
    """Raises BadRecord. What is unpacked is bounded by MAX_BATCHES."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise BadRecord(f"raw batches: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != RAW_SCHEMA:
        raise BadRecord(f"not a {RAW_SCHEMA} line")
    count = data.get("batches")
    if not isinstance(count, int) or not 0 <= count <= MAX_BATCHES:
        raise BadRecord(f"raw batches: batches must be 0 to {MAX_BATCHES}, not {str(count)[:40]}")
    try:
        return RawBatches(
            run=str(data["run"]),
            device=str(data["device"]),
            workload=str(data["workload"]),
            precision=str(data["precision"]),
            window_start_s=float(data["window_start_s"]),
            window_s=float(data["window_s"]),
            flop_per_batch=int(data["flop_per_batch"]),
            began_us=unpacked(data["began_us"], count),
            busy_us=unpacked(data["busy_us"], count),
            check_us=unpacked(data["check_us"], count),
        )
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise BadRecord(f"raw batches: {type(error).__name__}: {error}") from None


def packed(values: Microseconds) -> str:
    return base64.b64encode(zlib.compress(values.astype("<u4").tobytes(), 6)).decode()


def unpacked(text: Any, count: int) -> Microseconds:
    whole = 4 * count
    unpacking = zlib.decompressobj()
    found = unpacking.decompress(base64.b64decode(text, validate=True), whole + 1)
    if len(found) != whole:
        raise ValueError(f"{count} times were announced, {len(found) / 4:g} or more are there")
    return np.frombuffer(found, "<u4").astype(np.uint32)
