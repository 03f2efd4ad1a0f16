"""Which lines of the results log was a report made from, in one number that anybody can compute again?

The SHA-256 of the used lines, in the log's order, each with one newline: those that can be read and were recorded in
the report's period. A line changed, removed or put elsewhere gives another number. A catalogue and a goal list have
digests too, so that figures that rest on other peaks are told apart from figures that were measured differently.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.history.store import LINE_SCHEMA, History, StoredResult
from benchmarks.record import device_record
from scheduler.schema.model import Card

_RESULTS = re.compile(r"results(-\d{4}-\d{2})?\.jsonl")


@dataclass(frozen=True, slots=True)
class LogUsed:
    """`lines` were used, `unreadable_lines` of the whole file were not; `since_s` and `until_s` are the period."""

    sha256: str
    lines: int
    unreadable_lines: int
    since_s: float
    until_s: float


def log_files(place: Path) -> tuple[Path, ...]:
    """The file itself, or of a directory `results.jsonl` and then `results-YEAR-MONTH.jsonl`, the oldest first."""
    if place.is_dir():
        found = [path for path in place.iterdir() if _RESULTS.fullmatch(path.name) and path.is_file()]
        return tuple(sorted(found, key=lambda path: path.stem))  # "results" before "results-2026-11"
    return (place,) if place.exists() else ()


def read_log(place: Path, *, since_s: float, until_s: float) -> tuple[History, LogUsed]:
    """Results and the number that names their lines. No file is an empty log. Raises OSError."""
    used, results, unreadable = hashlib.sha256(), [], 0
    for path in log_files(place):
        with path.open("rb") as lines:
            for raw in lines:
                line = raw.rstrip(b"\r\n")
                if not line.strip():
                    continue
                try:
                    result = _parsed(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    unreadable += 1
                    continue
                if since_s <= result.recorded_at_s <= until_s:
                    used.update(line + b"\n")
                    results.append(result)
    log = LogUsed(used.hexdigest(), len(results), unreadable, since_s, until_s)
    return History(tuple(results), unreadable), log


def _parsed(data: Mapping[str, Any]) -> StoredResult:
    if data["schema"] != LINE_SCHEMA:
        raise ValueError(f"not a {LINE_SCHEMA} line")
    return StoredResult(str(data["run"]), float(data["recorded_at_s"]), data.get("commit"), device_record(data))


def canonical(document: Any) -> bytes:
    """One text for one value: sorted keys, no spaces, the shortest digits that give each number back."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def sha256_of(document: Any) -> str:
    return hashlib.sha256(canonical(document)).hexdigest()


def catalogue_rows(catalogue: Mapping[str, Card], models: Iterable[str]) -> dict[str, dict[str, float | None]]:
    """Peaks of these models in TFlops by the catalogue's columns; a model that it does not know has none."""
    rows: dict[str, dict[str, float | None]] = {}
    for model in sorted(set(models)):
        card = catalogue.get(model)
        rows[model] = {} if card is None else {k: v for k, v in sorted(card.peak_tflops.items()) if v is not None}
    return rows


def log_json(log: LogUsed | None) -> dict[str, Any] | None:
    return None if log is None else asdict(log)
