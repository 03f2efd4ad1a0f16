"""A simulated card's figure: near the published one, always the same, and never anything but simulated."""

from __future__ import annotations

import pytest

from benchmarks.catalogue import card_figures, goal_precisions
from benchmarks.protocol import Verdict
from benchmarks.workloads.simulated import ASSUMED_SHARE, CardFigures, SimulatedDevice, simulated_record
from tests.fakes.bench_records import CATALOGUE


def figure(card: CardFigures, uuid: str = "sim-0", seed: int = 0) -> float | None:
    return simulated_record(SimulatedDevice(uuid, "n", "s", "M", "v"), card, precision="bf16", seed=seed).gflops


@pytest.mark.parametrize(
    ("card", "around_gflops"),
    [
        (CardFigures(1000.0, 800.0), 800_000),
        (CardFigures(1000.0, None), 1_000_000 * ASSUMED_SHARE),
        (CardFigures(None, 304.3), 304_300),
    ],
)
def test_it_lies_around_what_is_published(card: CardFigures, around_gflops: float) -> None:
    figures = [figure(card, f"sim-{i}") for i in range(200)]
    known = [f for f in figures if f is not None]
    assert len(known) == 200
    assert sum(known) / 200 == pytest.approx(around_gflops, rel=0.01)
    assert len(set(known)) > 150


def test_it_never_beats_its_peak() -> None:
    assert max(figure(CardFigures(165.2, 173.0), f"sim-{i}") or 0 for i in range(100)) <= 165_200


def test_a_card_keeps_its_figure() -> None:
    card = CardFigures(1000.0, 800.0)
    assert figure(card) == figure(card)
    assert figure(card) != figure(card, "sim-1")


def test_a_card_nobody_knows_is_unavailable_not_zero() -> None:
    made = simulated_record(
        SimulatedDevice("sim-0", "n", "s", "Unknown One", "v"), CardFigures(None, None), precision="bf16", seed=0
    )
    assert (made.gflops, made.verdict) == (None, Verdict.UNAVAILABLE)
    assert "Unknown One" in (made.reason or "")


def test_every_record_says_that_it_is_simulated() -> None:
    made = simulated_record(
        SimulatedDevice("sim-0", "n", "s", "M", "v"), CardFigures(1000.0, 800.0), precision="bf16", seed=0
    )
    assert (made.evidence, made.on, made.verified, made.samples, made.flop) == ("simulated", "nothing", False, 0, 0)
    assert made.reason == "no product was run: the device is simulated"


@pytest.mark.parametrize(
    ("model", "precision", "expected"),
    [
        ("H100 SXM", "bf16", CardFigures(1000.0, 800.0)),
        ("H100 SXM", "fp16", CardFigures(1000.0, 800.0)),
        ("H100 SXM", "fp32", CardFigures(None, None)),
        ("Ascend 910B", "bf16", CardFigures(None, 304.3)),
        ("no such card", "bf16", CardFigures(None, None)),
    ],
)
def test_what_the_catalogue_gives(model: str, precision: str, expected: CardFigures) -> None:
    assert card_figures(CATALOGUE.get(model), precision) == expected


@pytest.mark.parametrize(
    ("text", "precisions"), [("dense 16-bit", ("bf16", "fp16")), ("fp64", ("fp64",)), ("something else", ())]
)
def test_which_precisions_stand_against_a_goal(text: str, precisions: tuple[str, ...]) -> None:
    assert goal_precisions(text) == precisions
