"""What does the catalogue know of a card, where there is neither pydantic nor a service? The shipped CSV, read plainly.

`scheduler.schema.catalogue` is the reader that checks every cell; this one takes what it can use and leaves the rest.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

SHIPPED = Path(__file__).resolve().parent.parent / "configs" / "hardware_catalogue.csv"
PEAK_COLUMNS = {
    "bf16": "fp16_bf16_dense_tflops",
    "fp16": "fp16_bf16_dense_tflops",
    "fp8": "fp8_dense_tflops",
    "fp64": "fp64_dense_tflops",
    "int8": "int8_dense_tops",
}
PER_CLOCK_COLUMNS = {
    "bf16": "flop_per_clock_fp16_bf16",
    "fp16": "flop_per_clock_fp16_bf16",
    "tf32": "flop_per_clock_tf32",
    "fp32": "flop_per_clock_fp32",
    "fp8": "flop_per_clock_fp8",
    "fp64": "flop_per_clock_fp64",
    "int8": "flop_per_clock_int8",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """By precision: dense peak in TFLOP/s (int8: TOP/s), and FLOP of the whole card in one clock."""

    peak_tflops: dict[str, float] = field(default_factory=dict)
    flop_per_clock: dict[str, float] = field(default_factory=dict)


def shipped_cards(path: Path = SHIPPED) -> dict[str, CardFacts]:
    """By the catalogue's model names; empty where the file is not there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return {row["model"]: _facts(row) for row in csv.DictReader(file) if row.get("model")}
    except (OSError, ValueError, csv.Error):
        return {}


def _facts(row: dict[str, str]) -> CardFacts:
    def numbers(columns: dict[str, str]) -> dict[str, float]:
        return {precision: float(cell) for precision, column in columns.items() if (cell := row.get(column) or "")}

    return CardFacts(numbers(PEAK_COLUMNS), numbers(PER_CLOCK_COLUMNS))
