"""Results over nights, append-only: what was measured on which device, when, under which protocol and commit.

One JSON line a device record, in a file a month (UTC, of when it was recorded): `results-2026-11.jsonl`, durable
(fsync) when `append` returns; a line is never changed. Lines of before there were months, in `results.jsonl`, are read
as well. Raw batches stand beside them, a file a run: `raw/RUN.jsonl` (benchmarks.raw_batches). The directories are 0700
and the files 0600. A line that cannot be read (a torn write at power loss, another hand) is counted and skipped, never
guessed.

A field that is null and may be left out is left out. Here is what writes and what reads whole records; who wants one
figure of ten thousand cards over a year reads columns (`benchmarks.history.columns`). Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.history.appending import append_lines
from benchmarks.raw_batches import RAW_SCHEMA, RawBatches, from_line
from benchmarks.raw_requests import REQUESTS_SCHEMA, is_requests_line
from benchmarks.record import BadRecord, DeviceRecord, device_record

LINE_SCHEMA = "suanli/bench-result/1"
OLDEST_FILE = "results.jsonl"
RAW_DIRECTORY = "raw"
RAW_SCHEMAS = (RAW_SCHEMA, REQUESTS_SCHEMA)
_MONTH_FILE = re.compile(r"results-(\d{4})-(\d{2})\.jsonl")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAY_BE_LEFT_OUT = frozenset(f.name for f in fields(DeviceRecord) if f.default is None and f.default is not MISSING)


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


@dataclass(frozen=True, slots=True)
class RawRun:
    """One run's raw batches, a line a device and precision, and how many lines could not be read."""

    batches: tuple[RawBatches, ...]
    unreadable_lines: int


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Of the first `size_bytes` of a file of the record. Lines are only ever added, so it stays true of these."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LogDigest:
    """Of the whole record at one moment. `sha256` is of the lines `SHA256  SIZE  NAME` of its files, by name."""

    files: tuple[FileDigest, ...]

    @property
    def sha256(self) -> str:
        lines = (f"{each.sha256}  {each.size_bytes}  {each.name}\n" for each in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class HistoryStore:
    """The append-only record in one directory. Several processes may append; each line is whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        """The newest file of results; the one of before there were months where there is none yet."""
        found = self.files()
        return found[-1] if found else self._directory / OLDEST_FILE

    def files(self, *, since_s: float = 0.0, until_s: float = float("inf")) -> tuple[Path, ...]:
        """Files that may hold results of [since_s, until_s], the oldest first."""
        found = [self._directory / OLDEST_FILE] if (self._directory / OLDEST_FILE).is_file() else []
        try:
            names = sorted(entry.name for entry in os.scandir(self._directory) if _MONTH_FILE.fullmatch(entry.name))
        except FileNotFoundError:
            return ()  # nothing was measured yet
        first, last = _month(since_s), _month(until_s)
        return (*found, *(self._directory / name for name in names if first <= name <= last))

    def month_path(self, at_s: float) -> Path:
        """The file that holds what was recorded then."""
        return self._directory / _month(at_s)

    def append(self, results: Iterable[StoredResult]) -> None:
        """Durable when it returns. Raises OSError when it cannot be; then at most a torn last line was left."""
        by_month: dict[str, list[str]] = {}
        for result in results:
            by_month.setdefault(_month(result.recorded_at_s), []).append(result_line(result))
        for name in sorted(by_month):
            append_lines(self._directory / name, by_month[name])

    def read(self, *, since_s: float = 0.0, until_s: float = float("inf"), run: str | None = None) -> History:
        """Results recorded in [since_s, until_s], of one run where it is named. No file yet is an empty history."""
        results, unreadable = [], 0
        mark = None if run is None else json.dumps(run, ensure_ascii=False)
        for path in self.files(since_s=since_s, until_s=until_s):
            for line in _lines(path):
                if mark is not None and mark not in line:
                    continue  # a line of another run is not worth parsing
                try:
                    result = _parsed(line)
                except (ValueError, KeyError, TypeError):
                    unreadable += 1
                    continue
                if since_s <= result.recorded_at_s <= until_s and run in (None, result.run):
                    results.append(result)
        return History(tuple(results), unreadable)

    # -- raw batches -----------------------------------------------------------------------------------------------

    def append_raw(self, lines: Iterable[str]) -> None:
        """Lines of `raw_batches.to_line`, into the file of their run. Durable when it returns.

        Raises BadRecord, with nothing written, where one is no such line, and OSError.
        """
        by_path: dict[Path, list[str]] = {}
        for line in lines:
            by_path.setdefault(self.raw_path(_run_of(line)), []).append(line)
        for path, mine in by_path.items():
            append_lines(path, mine)

    def read_raw(self, run: str) -> RawRun:
        """Every line of the run but those of served requests; none where nothing raw was kept of it. Raises BadRecord
        for what is no run's name."""
        batches, unreadable = [], 0
        for line in self.raw_lines(run):
            if is_requests_line(line):
                continue
            try:
                batches.append(from_line(line))
            except BadRecord:
                unreadable += 1
        return RawRun(tuple(batches), unreadable)

    def raw_lines(self, run: str) -> Iterator[str]:
        """As they were written, one by one: ten thousand unpacked cards need not be held together."""
        yield from _lines(self.raw_path(run))

    def raw_path(self, run: str) -> Path:
        if not _RUN_NAME.fullmatch(run):
            raise BadRecord(f"a run is named by letters, digits, dots, dashes and underscores, not {run[:60]!r}")
        return self._directory / RAW_DIRECTORY / f"{run}.jsonl"

    # -- what stands on a report -----------------------------------------------------------------------------------

    def log_digest(self, *, runs: Sequence[str] = ()) -> LogDigest:
        """Of every file of results, and of the raw batches of these runs where they were kept."""
        raw = [self.raw_path(run) for run in runs]
        paths = [*self.files(), *(path for path in raw if path.is_file())]
        return LogDigest(tuple(sorted((self._digest(path, None) for path in paths), key=lambda d: d.name)))

    def prefix_digest(self, name: str, size_bytes: int) -> FileDigest | None:
        """Of the first so many bytes of a file that `log_digest` named; None where it is gone or shorter than that."""
        path = self._directory / name
        if not path.resolve().is_relative_to(self._directory.resolve()) or not path.is_file():
            return None
        found = self._digest(path, size_bytes)
        return found if found.size_bytes == size_bytes else None

    def _digest(self, path: Path, size_bytes: int | None) -> FileDigest:
        digest, left, seen = hashlib.sha256(), size_bytes, 0
        with path.open("rb") as file:
            while part := file.read(2**20 if left is None else min(2**20, left)):
                digest.update(part)
                seen += len(part)
                left = None if left is None else left - len(part)
        return FileDigest(str(path.relative_to(self._directory)), seen, digest.hexdigest())


def latest_by_device(results: Sequence[StoredResult]) -> tuple[StoredResult, ...]:
    """The newest result of every device, workload and precision; of a group, where no member has a newer one."""
    newest: list[StoredResult] = []
    seen: set[tuple[str, str, str]] = set()
    for result in sorted(results, key=lambda r: r.recorded_at_s, reverse=True):
        keys = {(uuid, result.record.workload, result.record.precision) for uuid in result.record.covers}
        if not keys & seen:
            newest.append(result)
        seen |= keys
    return tuple(reversed(newest))


def result_line(result: StoredResult) -> str:
    """As it stands in the file, with its newline."""
    body: dict[str, Any] = {
        "schema": LINE_SCHEMA,
        "run": result.run,
        "recorded_at_s": result.recorded_at_s,
        "commit": result.commit,
    }
    for name, value in result.record.to_json().items():
        if value is not None or name not in _MAY_BE_LEFT_OUT:
            body[name] = value
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _parsed(line: str) -> StoredResult:
    data = json.loads(line)
    if not isinstance(data, dict) or data.get("schema") != LINE_SCHEMA:
        raise BadRecord(f"not a {LINE_SCHEMA} line")
    return StoredResult(str(data["run"]), float(data["recorded_at_s"]), data.get("commit"), device_record(data))


def _lines(path: Path) -> Iterator[str]:
    """Lines that are not blank; none where there is no file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from (line for line in lines if line.strip())
    except FileNotFoundError:
        return


def _month(at_s: float) -> str:
    """The name of the file that holds what was recorded then. Before 1970 and after 9999 count as these."""
    moment = datetime.fromtimestamp(min(max(at_s, 0.0), 253_402_300_799.0), UTC)
    return f"results-{moment.year:04d}-{moment.month:02d}.jsonl"


def _run_of(line: str) -> str:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise BadRecord(f"raw batches: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("schema") not in RAW_SCHEMAS or not isinstance(data.get("run"), str):
        raise BadRecord(f"not a {' or '.join(RAW_SCHEMAS)} line")
    if line.count("\n") != 1 or not line.endswith("\n"):
        raise BadRecord("raw batches: a line ends with its newline and has no other")
    run: str = data["run"]
    return run
