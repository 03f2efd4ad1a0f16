"""Do the raw batches that the results name give the figures that the results state?

From batches to PFlops: a result's `raw_sha256` names one line of raw batches; F is computed from that line, and F / W
is the result's rate. Only results that count in a window of the report are looked at. Raw batches that were not kept
are counted as missing, which is no contradiction; a line that says something else than its result is one, and so is a
line of the same window that is not the one that is named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence import FLOPS_PER_GFLOPS
from benchmarks.history.store import StoredResult
from benchmarks.raw_batches import RawBatches, from_line, sha256_of
from benchmarks.record import BadRecord

# A rate is a float that went through JSON; F is a whole number and must be equal.
RELATIVE = 1e-9


@dataclass(frozen=True, slots=True)
class RawChecked:
    """`named`: results of the report's windows that name raw batches; `found` of them are there; `told` contradict."""

    named: int
    found: int
    told: tuple[str, ...]


def check_raw(results: Sequence[StoredResult], directory: Path) -> RawChecked:
    """`directory` is the log's: raw batches stand in its `raw/*.jsonl` or beside the log in `raw_batches*.jsonl`."""
    named = {r.record.raw_sha256: r for r in results if r.record.verified and r.record.raw_sha256}
    found, told = 0, []
    others: list[str] = []
    if named:
        for line in _lines(directory, {r.run for r in named.values()}):
            result = named.pop(sha256_of(line), None)
            if result is None:
                others.append(line)
                continue
            found += 1
            told += _contradictions(result, line)
            if not named:
                break
    if named:
        told += _changed(named.values(), others)
    return RawChecked(found + len(named), found, tuple(told))


def _changed(missing: Iterable[StoredResult], lines: Sequence[str]) -> list[str]:
    """Of results whose line is not there: those of which another line says that it is of their window."""
    wanted = {(r.run, r.record.device, r.record.workload, r.record.precision): r for r in missing}
    told = []
    for line in lines:
        try:
            raw = from_line(line)
        except BadRecord:
            continue
        result = wanted.pop((raw.run, raw.device, raw.workload, raw.precision), None)
        if result is not None:
            told.append(
                f"{result.record.device}: the raw batches of its window in {result.run} are not those that the log "
                "names: they were changed, or written anew"
            )
    return told


def _lines(directory: Path, runs: set[str]) -> Iterator[str]:
    raw = directory / "raw"
    mine = [raw / f"{run}.jsonl" for run in sorted(runs) if "/" not in run]
    for path in (*mine, *sorted(raw.glob("*.jsonl")), *sorted(directory.glob("raw_batches*.jsonl"))):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
                yield from lines


def _contradictions(result: StoredResult, line: str) -> list[str]:
    record = result.record
    try:
        raw = from_line(line)
    except BadRecord as error:
        return [f"{record.device}: its raw batches cannot be read: {error}"]
    stated: Mapping[str, tuple[object, object]] = {
        "device": (record.device, raw.device),
        "run": (result.run, raw.run),
        "workload": (record.workload, raw.workload),
        "precision": (record.precision, raw.precision),
        "window_s": (record.window_s, raw.window_s),
        "flop": (record.flop, raw.flop),
    }
    told = [
        f"{record.device}: {name} is {said} in the log and {there} in its raw batches"
        for name, (said, there) in stated.items()
        if said != there
    ]
    return told + _rate(result, raw)


def _rate(result: StoredResult, raw: RawBatches) -> list[str]:
    stated, computed = result.record.gflops or 0.0, raw.flop / raw.window_s / FLOPS_PER_GFLOPS
    if math.isclose(stated, computed, rel_tol=RELATIVE):
        return []
    return [f"{result.record.device}: {stated:.6g} GFLOP/s in the log, {computed:.6g} from its raw batches"]
