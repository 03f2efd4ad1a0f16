"""Results over nights, append-only: what was measured on which device, when, under which protocol and commit.

One JSON line a device record in `results.jsonl`, durable (fsync) when `append` returns; a line is never changed. The
directory is 0700 and the file 0600. A line that cannot be read (a torn write at power loss, another hand) is counted
and skipped, never guessed. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import BadRecord, DeviceRecord, device_record

LINE_SCHEMA = "suanli/bench-result/1"
RESULTS_FILE = "results.jsonl"


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A device record with what identifies its run. `run` is the same for all devices of one shared window."""

    run: str
    recorded_at_s: float
    commit: str | None
    record: DeviceRecord


@dataclass(frozen=True, slots=True)
class History:
    """What was read: results in the order in which they were written, and how many lines could not be read."""

    results: tuple[StoredResult, ...]
    unreadable_lines: int


class HistoryStore:
    """The append-only record in one directory. Several processes may append; each line is whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / RESULTS_FILE

    @property
    def path(self) -> Path:
        return self._path

    def append(self, results: Iterable[StoredResult]) -> None:
        """Durable when it returns. Raises OSError when it cannot be; then at most a torn last line was left."""
        text = "".join(_line(result) for result in results)
        if not text:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                text = "\n" + text  # an earlier writer died in mid-line: its torn line stays one line
            data = text.encode()
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def read(self, *, since_s: float = 0.0, until_s: float = float("inf")) -> History:
        """Results recorded in [since_s, until_s]. No file yet is an empty history."""
        results, unreadable = [], 0
        try:
            with self._path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    if not line.strip():
                        continue
                    try:
                        result = _parsed(line)
                    except (ValueError, KeyError, TypeError):
                        unreadable += 1
                        continue
                    if since_s <= result.recorded_at_s <= until_s:
                        results.append(result)
        except FileNotFoundError:
            pass  # nothing was measured yet
        return History(tuple(results), unreadable)


def latest_by_device(results: Sequence[StoredResult]) -> tuple[StoredResult, ...]:
    """The newest result of every device and precision. A group's older result goes when any member has a newer one."""
    newest: list[StoredResult] = []
    seen: set[tuple[str, str]] = set()
    for result in sorted(results, key=lambda r: r.recorded_at_s, reverse=True):
        keys = {(uuid, result.record.precision) for uuid in result.record.covers}
        if not keys & seen:
            newest.append(result)
        seen |= keys
    return tuple(reversed(newest))


def _line(result: StoredResult) -> str:
    body: dict[str, Any] = {
        "schema": LINE_SCHEMA,
        "run": result.run,
        "recorded_at_s": result.recorded_at_s,
        "commit": result.commit,
    } | result.record.to_json()
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _parsed(line: str) -> StoredResult:
    data = json.loads(line)
    if not isinstance(data, dict) or data.get("schema") != LINE_SCHEMA:
        raise BadRecord(f"not a {LINE_SCHEMA} line")
    return StoredResult(str(data["run"]), float(data["recorded_at_s"]), data.get("commit"), device_record(data))
