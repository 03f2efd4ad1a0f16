"""The model that answers requests: what it counts, whether both ways to its scores agree, and what its check sees."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.arming import judge_facts
from benchmarks.history.store import HistoryStore
from benchmarks.protocol import Verdict
from benchmarks.raw_batches import append_lines
from benchmarks.raw_requests import RawRequests, requests_from_line, requests_line
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, cpu
from benchmarks.workloads.encoder import ACCELERATOR_SHAPE, CPU_SHAPE, EncoderShape, drawn_weights, numpy_scores
from benchmarks.workloads.serving import INPUTS, NumpyServing, Serving, TorchServing, make_serving, tolerance

RNG = np.random.default_rng(3)
SMALL = EncoderShape(layers=2, width=32, heads=4, length=16, classes=20)
CASES = [("numpy", "fp32"), ("torch", "fp32"), ("torch", "bf16"), ("torch", "fp16")]


def workload(library: str, precision: str) -> Serving:
    work: Serving = (
        NumpyServing(precision, seed=1, shape=SMALL, largest_batch=4)
        if library == "numpy"
        else TorchServing(torch, cpu(1), precision, seed=1, shape=SMALL, largest_batch=4)
    )
    work.prepare(RNG, 4)
    return work


@pytest.mark.parametrize(("library", "precision"), CASES)
def test_right_answers_pass_and_those_of_another_request_do_not(library: str, precision: str) -> None:
    work = workload(library, precision)
    assert (work.counts, work.amount_per_piece) == ("requests", 1)
    assert judge_facts(work.facts(RNG), precision) is None
    order = [(5, 0), (2, 0), (5, 0)]
    work.run_batch(order, 0)
    assert work.check_all(order) is None
    assert work.check(1, (2, 0), RNG) is None
    for wrong in (work.check(1, (3, 0), RNG), work.check_all([(5, 0), (2, 0), (6, 0)])):
        assert wrong is not None
        assert wrong.verdict is Verdict.WRONG_PRODUCT


@pytest.mark.parametrize(("library", "precision"), CASES)
def test_rounding_is_well_within_the_tolerance(library: str, precision: str) -> None:
    """Else a sound card would be refused one day; and an error of a thousandth in fp32 would be rounding."""
    work = workload(library, precision)
    order = [(which, 0) for which in range(4)]
    work.run_batch(order, 0)
    wanted = work._expected[:4]
    gap = float((np.abs(work._answers[:4] - wanted) / np.abs(wanted).max(axis=1, keepdims=True)).max())
    assert gap < tolerance(SMALL, precision) / 4
    assert tolerance(ACCELERATOR_SHAPE, "fp32") < 1e-4 < tolerance(ACCELERATOR_SHAPE, "bf16") < 0.04


def test_the_formula_is_what_is_multiplied() -> None:
    """Counted by hand, product by product."""
    for shape in (SMALL, CPU_SHAPE, ACCELERATOR_SHAPE):
        s, d = shape.length, shape.width
        each_layer = 2 * s * d * 3 * d + 2 * 2 * s * s * d + 2 * s * d * d + 2 * 2 * s * d * 4 * d
        assert shape.flop == 2 * s * d * d + shape.layers * each_layer + 2 * d * shape.classes


def test_one_number_that_is_none_is_in_every_score() -> None:
    weights = drawn_weights(SMALL, np.random.default_rng(1))
    x = np.ones((1, SMALL.length, SMALL.width), np.float32)
    x[0, 3, 5] = math.nan
    assert np.isnan(numpy_scores(SMALL, weights, x)).all()


def test_computing_in_16_bits_where_32_are_said_is_seen() -> None:
    class Narrow(TorchServing):
        def _scores(self, asked: Any) -> Any:
            weights = self._on_device
            self._on_device = [w.bfloat16() for w in weights]
            self._staged, wide = self._staged.bfloat16(), self._staged
            found, _ = super()._scores(asked)
            self._on_device, self._staged = weights, wide
            return found, "float32"

    work = Narrow(torch, cpu(1), "fp32", seed=1, shape=SMALL, largest_batch=4)
    work.prepare(RNG, 4)
    work.run_batch([(1, 0)], 0)
    fault = work.check_all([(1, 0)])
    assert fault is not None
    assert fault.verdict is Verdict.WRONG_DTYPE


def test_tf32_is_off_and_seen_where_somebody_turns_it_on() -> None:
    work = workload("torch", "fp32")
    try:
        torch.set_float32_matmul_precision("high")
        fault = judge_facts(work.facts(RNG), "fp32")
        assert fault is not None
        assert fault.verdict is Verdict.TF32_ON
    finally:
        torch.set_float32_matmul_precision("highest")


def test_it_says_what_it_has_not() -> None:
    with pytest.raises(UnsupportedPrecision, match="fp32, tf32, bf16, fp16"):
        make_serving(torch, cpu(1), "int8", seed=1)
    with pytest.raises(UnsupportedPrecision, match="NVIDIA"):
        make_serving(torch, cpu(1), "tf32", seed=1)
    with pytest.raises(UnsupportedPrecision, match="install torch"):
        make_serving(None, cpu(1), "bf16", seed=1)
    with pytest.raises((RuntimeError, AttributeError)):
        make_serving(torch, ComputeDevice("npu", 0, "n", "m", "Huawei"), "bf16", seed=1)


def test_every_request_draws_its_input_anew() -> None:
    drawn = [which for which, _ in workload("numpy", "fp32").draw(np.random.default_rng(1), 400)]
    assert set(drawn) == set(range(INPUTS))


def raw(run: str = "night") -> RawRequests:
    times = np.array([0, 10_000], np.uint32)
    sizes = np.array([1, 2], np.uint32)
    return RawRequests(run, "d", "serving", "fp32", 5.0, 1.0, 3, 50.0, times, times + 5_000, times * 0, sizes)


def test_requests_lie_beside_raw_batches_in_the_history_and_are_no_broken_lines(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append_raw([requests_line(raw())])
    (line,) = store.raw_lines("night")
    assert requests_from_line(line).answered == 3
    assert store.read_raw("night") == type(store.read_raw("night"))((), 0)


def test_a_line_behind_one_that_a_full_disk_tore_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_text('{"schema":"suanli/bench-req')
    append_lines(path, [requests_line(raw())])
    assert requests_from_line(path.read_text().splitlines()[1]).answered == 3
