"""What does the hardware catalogue say of a card in one precision? Dense figures in TFlops; None where nobody knows."""

from __future__ import annotations

from benchmarks.card_facts import CardFacts
from benchmarks.workloads.simulated import CardFigures
from scheduler.schema.model import Card

# Precisions that a goal in dense 16-bit accepts, and the catalogue's column for their peak.
SIXTEEN_BIT = ("bf16", "fp16")
_PEAK_COLUMN = {"bf16": "fp16_bf16", "fp16": "fp16_bf16", "fp64": "fp64", "fp8": "fp8", "int8": "int8"}
_PER_CLOCK = {"bf16": "fp16_bf16", "fp16": "fp16_bf16"} | {p: p for p in ("fp8", "fp64", "fp32", "tf32", "int8")}


def card_figures(card: Card | None, precision: str) -> CardFigures:
    """Peak and best published achieved figure. Of the two 16-bit formats either stands in for the other."""
    if card is None:
        return CardFigures(None, None)
    column = _PEAK_COLUMN.get(precision)
    achieved = card.achieved_tflops.get(precision)
    if achieved is None and precision in SIXTEEN_BIT:
        achieved = next((card.achieved_tflops[p] for p in SIXTEEN_BIT if p in card.achieved_tflops), None)
    return CardFigures(card.peak_tflops.get(column) if column else None, achieved)


def card_facts(card: Card) -> CardFacts:
    """What holds a measured rate to what is possible, by precision."""
    peaks = {p: peak for p, column in _PEAK_COLUMN.items() if (peak := card.peak_tflops.get(column)) is not None}
    per_clock = {p: card.flop_per_clock[column] for p, column in _PER_CLOCK.items() if column in card.flop_per_clock}
    return CardFacts(peaks, per_clock)


def goal_precisions(text: str) -> tuple[str, ...]:
    """Which measured precisions stand against a goal that says `dense 16-bit` (or names one, such as `fp64`)."""
    lowered = text.lower()
    if "16" in lowered:
        return SIXTEEN_BIT
    return tuple(p for p in ("fp64", "fp32", "fp8", "int8") if p in lowered)
