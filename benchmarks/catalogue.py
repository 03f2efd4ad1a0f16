"""What does the hardware catalogue say of a card in one precision? Dense figures in TFlops; None where nobody knows."""

from __future__ import annotations

from benchmarks.workloads.simulated import CardFigures
from scheduler.schema.model import Card

# Precisions that a goal in dense 16-bit accepts, and the catalogue's column for their peak.
SIXTEEN_BIT = ("bf16", "fp16")
_PEAK_COLUMN = {"bf16": "fp16_bf16", "fp16": "fp16_bf16", "fp64": "fp64"}


def card_figures(card: Card | None, precision: str) -> CardFigures:
    """Peak and best published achieved figure. Of the two 16-bit formats either stands in for the other."""
    if card is None:
        return CardFigures(None, None)
    column = _PEAK_COLUMN.get(precision)
    achieved = card.achieved_tflops.get(precision)
    if achieved is None and precision in SIXTEEN_BIT:
        achieved = next((card.achieved_tflops[p] for p in SIXTEEN_BIT if p in card.achieved_tflops), None)
    return CardFigures(card.peak_tflops.get(column) if column else None, achieved)


def goal_precisions(text: str) -> tuple[str, ...]:
    """Which measured precisions stand against a goal that says `dense 16-bit` (or names one, such as `fp64`)."""
    lowered = text.lower()
    if "16" in lowered:
        return SIXTEEN_BIT
    return tuple(p for p in ("fp64", "fp32", "fp8", "int8") if p in lowered)
