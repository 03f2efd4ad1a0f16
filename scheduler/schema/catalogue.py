"""The hardware catalogue: a CSV of cards with dense peaks, each with its source; empty where no vendor figure is known.

Columns are fixed; those of FLOP per clock may be missing (they came later). Rates are TFlops (int8: Tops), bandwidth
TB/s, memory GB of 10^9 bytes. A sparse figure, or one derived by dividing somebody's total, has no place in a number
column: it goes into `note`. `vendor` is the word that device sources use (nvidia, huawei, ...): a demand for a vendor
is matched against what a node's source reports.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scheduler.errors import BadInput
from scheduler.schema.model import Card
from scheduler.schema.problems import Problems, nearest
from scheduler.schema.yaml_source import MAX_FILE_BYTES

PEAKS: Final = {
    "fp16_bf16": "fp16_bf16_dense_tflops",
    "fp8": "fp8_dense_tflops",
    "fp64": "fp64_dense_tflops",
    "int8": "int8_dense_tops",
}
ACHIEVED: Final = {
    "bf16": "achieved_bf16_tflops",
    "fp16": "achieved_fp16_tflops",
    "fp8": "achieved_fp8_tflops",
    "fp64": "achieved_fp64_tflops",
    "fp32": "achieved_fp32_tflops",
    "int8": "achieved_int8_tops",
}
# Of the whole card in one clock, dense: FLOP per clock of one multiprocessor x multiprocessors, as the vendor's
# architecture paper gives them. Times the clock behind the vendor's peak that is the peak.
PER_CLOCK: Final = {
    "fp16_bf16": "flop_per_clock_fp16_bf16",
    "fp8": "flop_per_clock_fp8",
    "fp64": "flop_per_clock_fp64",
    "fp32": "flop_per_clock_fp32",
    "tf32": "flop_per_clock_tf32",
    "int8": "flop_per_clock_int8",
}
COLUMNS: Final = (
    "model",
    "vendor",
    "memory_gb",
    *PEAKS.values(),
    "memory_bandwidth_tbps",
    *ACHIEVED.values(),
    *PER_CLOCK.values(),
    "confidence",
    "source",
    "note",
)
RESERVED_MODELS: Final = frozenset({"any", "none", "cpu"})  # words of a demand's `device`


def read_catalogue(path: Path, problems: Problems) -> dict[str, Card]:
    """Cards by model, in the file's order. Faults go into `problems` with their line; what is sound is returned."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"{problems.source}: cannot be read as UTF-8 text: {error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise BadInput(f"{problems.source}: is larger than {MAX_FILE_BYTES} bytes")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    cards: dict[str, Card] = {}
    try:
        header = next(reader, [])
        if not _check_header(header, problems):
            return cards
        for row in reader:
            if row:
                if len(row) != len(header):
                    problems.add(
                        "",
                        f"expected {len(header)} columns; got {len(row)} (is a comma in a text without quotes?)",
                        line=reader.line_num,
                    )
                    continue
                _add_row(dict(zip(header, row, strict=True)), reader.line_num, cards, problems)
    except csv.Error as error:
        problems.add("", f"is not valid CSV: {error}", line=reader.line_num)
    if not cards and not problems:
        problems.add("", "expected at least one card, and there is none", line=1)
    return cards


def _check_header(header: list[str], problems: Problems) -> bool:
    for name in header:
        if name not in COLUMNS:
            problems.expected(
                name, f"one of the columns {', '.join(COLUMNS)}", name, names=nearest(name, COLUMNS), line=1
            )
        elif header.count(name) > 1:
            problems.add(name, "is a column twice; keep one", line=1)
    for name in COLUMNS:
        if name not in header and name not in PER_CLOCK.values():
            problems.add(name, "required column, and not in the first line", line=1)
    return not problems


def _add_row(row: Mapping[str, str], line: int, cards: dict[str, Card], problems: Problems) -> None:
    model = row["model"].strip()
    where = model or "model"
    for column in ("model", "vendor", "confidence", "source"):
        if not row[column].strip():
            problems.add(f"{where}.{column}", "required, and empty", line=line)
    if model.lower() in RESERVED_MODELS:
        problems.add(where, "any, none and cpu are words of a demand, not names of cards", line=line)
    if model.lower() in {known.lower() for known in cards}:
        problems.add(where, "is listed twice; keep one row", line=line)
        return
    memory_gb = _positive(row, "memory_gb", where, line, problems)
    achieved = {key: _positive(row, column, where, line, problems) for key, column in ACHIEVED.items()}
    per_clock = {key: _positive(row, column, where, line, problems) for key, column in PER_CLOCK.items()}
    cards[model] = Card(
        model=model,
        vendor=row["vendor"].strip(),
        memory_bytes=None if memory_gb is None else round(memory_gb * 10**9),
        peak_tflops={key: _positive(row, column, where, line, problems) for key, column in PEAKS.items()},
        memory_bandwidth_tbps=_positive(row, "memory_bandwidth_tbps", where, line, problems),
        achieved_tflops={key: value for key, value in achieved.items() if value is not None},
        confidence=row["confidence"].strip(),
        source=row["source"].strip(),
        note=row["note"].strip(),
        flop_per_clock={key: value for key, value in per_clock.items() if value is not None},
    )


def _positive(row: Mapping[str, str], column: str, where: str, line: int, problems: Problems) -> float | None:
    """A number above 0, or None for an empty cell: unknown is never 0."""
    cell = row.get(column, "").strip()
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        problems.expected(f"{where}.{column}", "a number above 0, or nothing where it is unknown", cell, line=line)
        return None
    return value
