"""Bandwidth, attention, training and collectives on this machine's CPU: what they count, and what their checks see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.arming import judge_facts
from benchmarks.protocol import Fault, Verdict
from benchmarks.workloads.attention import Attention, AttentionShape
from benchmarks.workloads.bandwidth import Bandwidth, scales_of
from benchmarks.workloads.collective import Collective, fill_value
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, cpu
from benchmarks.workloads.training import ModelShape, Training

RNG = np.random.default_rng(11)
CPU = cpu(1)


def verdict(fault: Fault | None) -> Verdict | None:
    return fault and fault.verdict


# ---- bandwidth -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[("torch", "fp32"), ("numpy", "fp32"), ("torch", "fp64"), ("numpy", "fp64")])
def moving(request: pytest.FixtureRequest) -> Bandwidth:
    library, precision = request.param
    work = Bandwidth(torch if library == "torch" else None, CPU, precision, seed=1, array_bytes=1 << 14)
    work._rounds = 3
    return work


def test_a_round_moves_ten_arrays_and_every_one_of_them_is_looked_at(moving: Bandwidth) -> None:
    assert moving.amount_per_piece == 3 * 10 * (1 << 14)
    assert judge_facts(moving.facts(RNG), moving.precision) is None
    moving.run_batch([(5, 0)], 0)
    assert moving.check(0, (5, 0), RNG) is None
    for part, what in enumerate(("copy", "scale", "add", "triad")):
        moving.run_batch([(5, 0)], 0)
        moving._parts[part][:] = moving._parts[part] * 1.01
        fault = moving.check(0, (5, 0), RNG)
        assert verdict(fault) is Verdict.WRONG_PRODUCT
        assert what in (fault.detail if fault else "")
    moving._parts[2][:] = float("nan")
    assert verdict(moving.check(0, (5, 0), RNG)) in (Verdict.NOT_FINITE, Verdict.WRONG_PRODUCT)


def test_a_round_that_is_left_out_shows(moving: Bandwidth) -> None:
    seed = next(s for s in range(100) if np.prod([1 + 2 * q for q in scales_of(s, 3)]) != 1.0)
    moving.run_batch([(seed, 0)], 0)
    left_out = next(s for s in range(100) if np.prod([1 + 2 * q for q in scales_of(s, 3)]) != _factor(seed))
    assert verdict(moving.check(0, (left_out, 0), RNG)) is Verdict.WRONG_PRODUCT


def _factor(seed: int) -> float:
    return float(np.prod([1 + 2 * q for q in scales_of(seed, 3)]))


def test_what_rounds_multiply_by_stays_small() -> None:
    for seed in range(50):
        factors = np.cumprod([1 + 2 * q for q in scales_of(seed, 64)])
        assert factors.min() >= 2.0**-5
        assert factors.max() <= 2.0**4


# ---- attention -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_attention_is_checked_against_float64(precision: str) -> None:
    work = Attention(torch, CPU, precision, seed=1, shape=AttentionShape(1, 2, 64, 16))
    assert work.amount_per_piece == 4 * 1 * 2 * 64 * 64 * 16
    work.prepare(RNG, 2)
    work.run_batch([(0, 1)], 1)
    assert work.check(1, (0, 1), RNG) is None
    assert verdict(work.check(1, (0, 2), RNG)) is Verdict.WRONG_PRODUCT
    work._results[1] = work._results[1] * float("nan")
    assert verdict(work.check(1, (0, 1), RNG)) is Verdict.NOT_FINITE


def test_attention_says_what_it_has_not() -> None:
    with pytest.raises(UnsupportedPrecision, match="bf16, fp16, not in int8"):
        Attention(torch, CPU, "int8", seed=1)
    with pytest.raises(UnsupportedPrecision, match="torch"):
        Attention(None, CPU, "fp32", seed=1)


# ---- training ------------------------------------------------------------------------------------------------------

SMALL = ModelShape(layers=1, width=32, heads=2, length=16, vocabulary=32, sequences=4)


def test_a_step_is_counted_by_the_formula() -> None:
    weights = 12 * 32 * 32 + 32 * 32
    assert SMALL.flop_per_step == 4 * 16 * (6 * weights + 12 * 1 * 32 * 16)


def test_a_model_that_learns_is_sound_and_one_that_does_not_is_not() -> None:
    work = Training(torch, CPU, "fp32", seed=1, model=SMALL)
    work.prepare(RNG, 4)
    multiplied = [
        p for name, p in work._model.named_parameters() if p.ndim == 2 and name.split(".")[0] in ("blocks", "head")
    ]
    assert sum(p.numel() for p in multiplied) == SMALL.weights
    for step in range(40):
        work.run_batch([(step, 0)], 0)
        assert work.check(0, (step, 0), RNG) is None
    assert work.closing() is None
    stale = work.check(0, (39, 0), RNG)  # no step since the last check
    assert verdict(stale) is Verdict.WRONG_PRODUCT
    assert "have not moved" in (stale.detail if stale else "")
    work._last_losses = [1e9]
    assert verdict(work.closing()) is Verdict.WRONG_PRODUCT
    work._losses[0] = torch.tensor(float("nan"))
    assert verdict(work.check(0, (0, 0), RNG)) is Verdict.NOT_FINITE


def test_two_trials_that_differ_are_seen() -> None:
    class Restless(Training):
        drift = 0.0

        def _step(self, seed: int) -> Any:
            self.drift += 0.1
            return super()._step(seed) + self.drift

    work = Restless(torch, CPU, "fp32", seed=1, model=SMALL)
    work.prepare(RNG, 1)
    work.run_batch([(0, 0)], 0)
    fault = work.check(0, (0, 0), RNG)
    assert verdict(fault) is Verdict.WRONG_PRODUCT
    assert "two trials" in (fault.detail if fault else "")


def test_training_says_what_it_has_not() -> None:
    with pytest.raises(UnsupportedPrecision, match="not in int8"):
        Training(torch, CPU, "int8", seed=1)


# ---- collectives ---------------------------------------------------------------------------------------------------


@pytest.fixture
def summing() -> Iterator[Collective]:
    work = Collective(torch, [CPU], message_bytes=4096)
    yield work
    work.close()
    assert all(other.poll() is not None for other in work._others)


def test_two_ranks_sum_and_every_sum_is_known(summing: Collective) -> None:
    assert summing.amount_per_piece == 4096 * 2 * 1 // 2
    summing.run_batch([(3, 0), (4, 0)], 0)
    assert summing.check(0, (4, 0), RNG) is None
    assert float(summing._rank.message[1]) == fill_value(0, 4) + fill_value(1, 4) + 2
    assert verdict(summing.check(0, (3, 0), RNG)) is Verdict.WRONG_PRODUCT


def test_a_collective_needs_two() -> None:
    with pytest.raises(UnsupportedPrecision, match="two devices"):
        Collective(torch, [ComputeDevice("cuda", 0, "u", "m", "NVIDIA")])
    with pytest.raises(UnsupportedPrecision, match=r"torch\.distributed"):
        Collective(None, [CPU])
