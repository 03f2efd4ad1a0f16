"""Real products on this machine's CPU, in every precision that it has, and their checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.arming import judge_facts
from benchmarks.protocol import Shape, Verdict
from benchmarks.suite import Measurement, make_work
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, accelerators, cpu, cpu_model
from benchmarks.workloads.gemm import TorchGemm, torch_gemm
from benchmarks.workloads.numpy_floor import NumpyGemm

SIDE = 128
SHAPE = Shape(SIDE, SIDE, SIDE)
RNG = np.random.default_rng(3)
ON_CPU = ["fp64", "fp32", "bf16", "fp16", "int8"]


def workload(precision: str, kind: str = "torch") -> Any:
    work: Any = (
        torch_gemm(torch, cpu(threads=1), precision, seed=1, shape=SHAPE)
        if kind == "torch"
        else NumpyGemm(precision, SHAPE, 4, seed=1)
    )
    work.prepare(np.random.default_rng(5), 2)
    return work


CASES = [("torch", p) for p in ON_CPU] + [("numpy", p) for p in ("fp32", "fp64", "int8")]


@pytest.mark.parametrize(("kind", "precision"), CASES)
def test_a_right_product_passes_and_a_wrong_pair_does_not(kind: str, precision: str) -> None:
    gemm = workload(precision, kind)
    assert gemm.amount_per_piece == 2 * SIDE**3
    assert judge_facts(gemm.facts(RNG), precision) is None
    gemm.run_batch([(0, 1)], 1)
    for _ in range(8):
        assert gemm.check(1, (0, 1), RNG) is None
    fault = gemm.check(1, (1, 0), RNG)
    assert fault is not None
    assert fault.verdict is Verdict.WRONG_PRODUCT


@pytest.mark.parametrize(("kind", "precision"), CASES)
def test_a_fixed_product_has_the_same_bits_whoever_computes_it(kind: str, precision: str) -> None:
    """Torch and NumPy, one thread or two: sums of small integers are exact in any order."""
    one = workload(precision, kind)
    assert one.golden() == one.golden()
    if precision in ("fp32", "fp64", "int8"):
        assert one.golden() == workload(precision, "numpy" if kind == "torch" else "torch").golden()


@pytest.mark.parametrize("precision", ["fp8", "tf32"])
def test_what_a_cpu_has_not_is_refused_with_what_has_it(precision: str) -> None:
    with pytest.raises(UnsupportedPrecision, match="NVIDIA cards"):
        workload(precision)


def test_numpy_is_the_floor() -> None:
    with pytest.raises(UnsupportedPrecision, match="install torch"):
        NumpyGemm("bf16", SHAPE, 4, seed=1)


def test_nan_in_the_product_is_seen() -> None:
    gemm = workload("fp32")
    gemm.run_batch([(0, 0)], 0)
    gemm._c[0][0, 0] = math.nan
    fault = gemm.check(0, (0, 0), RNG)
    assert fault is not None
    assert fault.verdict is Verdict.NOT_FINITE


def test_a_product_computed_in_another_type_is_told_as_that() -> None:
    gemm = workload("fp32")
    gemm._c[0].copy_((gemm._a[0].to(torch.bfloat16) @ gemm._b[0].to(torch.bfloat16)).to(torch.float32))
    fault = gemm.check(0, (0, 0), RNG)
    assert fault is not None
    assert fault.verdict is Verdict.WRONG_DTYPE


def test_operands_that_are_constant_or_of_another_type_are_refused() -> None:
    gemm = workload("fp32")
    gemm._a[1].fill_(1.0)
    fault = judge_facts(gemm.facts(RNG), "fp32")
    assert fault is not None
    assert fault.verdict is Verdict.CONSTANT_INPUTS
    gemm._a[1] = gemm._a[2].to(torch.bfloat16)
    fault = judge_facts(gemm.facts(RNG), "fp32")
    assert fault is not None
    assert fault.verdict is Verdict.WRONG_DTYPE


def test_tf32_is_off_and_seen_where_somebody_turns_it_on() -> None:
    torch.set_float32_matmul_precision("high")
    gemm = workload("fp32")
    assert torch.get_float32_matmul_precision() == "highest"
    try:
        torch.set_float32_matmul_precision("high")
        fault = judge_facts(gemm.facts(RNG), "fp32")
        assert fault is not None
        assert fault.verdict is Verdict.TF32_ON
    finally:
        torch.set_float32_matmul_precision("highest")


def test_operands_are_normal_and_many() -> None:
    gemm = workload("fp32")
    assert isinstance(gemm, TorchGemm)
    values = torch.stack(gemm._a)
    assert gemm.operand_sets >= 4
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1.0) < 0.02
    assert len({float(m[0, 0]) for m in (*gemm._a, *gemm._b)}) == 2 * gemm.operand_sets


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnsupportedPrecision, match="fp4"):
        make_work(Measurement("gemm", "fp4"), [cpu(1)], seed=1)


def test_a_cpu_is_never_an_accelerator() -> None:
    assert all(not device.is_cpu for device in accelerators())
    device = cpu()
    assert (device.vendor, device.is_cpu, device.default_precision) == ("cpu", True, "fp32")
    assert device.threads
    assert cpu_model()
    assert ComputeDevice("cuda", 0, "u", "m", "NVIDIA").default_precision == "bf16"
