"""Real products on this machine's CPU, in every precision, and their checks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.protocol import FREIVALDS_VECTORS, Signs, tolerance
from benchmarks.workloads.devices import ComputeDevice, accelerators, cpu, cpu_model
from benchmarks.workloads.gemm import MAX_PRODUCTS_PER_BATCH, NumpyGemm, TorchGemm, UnsupportedPrecision, make_gemm

SIDE = 128


def signs() -> Signs:
    return np.random.default_rng(3).choice([-1.0, 1.0], size=(SIDE, FREIVALDS_VECTORS))


def workload(precision: str) -> TorchGemm | NumpyGemm:
    return make_gemm(cpu(threads=1), precision, seed=1, side=SIDE)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16"])
def test_a_right_product_passes_and_a_wrong_pair_does_not(precision: str) -> None:
    gemm = workload(precision)
    assert gemm.shape.flop == 2 * SIDE**3
    allowed = tolerance(gemm.shape, precision)
    gemm.run_batch([(0, 1)])
    assert gemm.residual(0, (0, 1), signs()) <= allowed
    assert gemm.residual(0, (1, 0), signs()) > 2 * allowed


def test_numpy_is_the_floor() -> None:
    gemm = NumpyGemm("fp32", SIDE, 4, seed=1)
    gemm.run_batch([(2, 3)])
    assert gemm.residual(0, (2, 3), signs()) <= tolerance(gemm.shape, "fp32") < gemm.residual(0, (3, 2), signs())
    with pytest.raises(UnsupportedPrecision, match="install torch"):
        NumpyGemm("bf16", SIDE, 4, seed=1)


def test_nan_in_the_product_is_seen() -> None:
    gemm = workload("fp32")
    assert isinstance(gemm, TorchGemm)
    gemm.run_batch([(0, 0)])
    gemm._c[0][0, 0] = math.nan
    assert not math.isfinite(gemm.residual(0, (0, 0), signs()))


def test_operands_are_normal_and_many() -> None:
    gemm = workload("fp32")
    assert isinstance(gemm, TorchGemm)
    values = torch.stack(gemm._a)
    assert gemm.operand_sets >= 4
    assert 1 <= gemm.products_per_batch <= MAX_PRODUCTS_PER_BATCH
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1.0) < 0.02
    assert len({float(m[0, 0]) for m in (*gemm._a, *gemm._b)}) == 2 * gemm.operand_sets


def test_tf32_is_off_afterwards() -> None:
    torch.set_float32_matmul_precision("high")
    workload("fp32")
    assert torch.get_float32_matmul_precision() == "highest"


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnsupportedPrecision, match="fp4"):
        make_gemm(cpu(1), "fp4", seed=1, side=SIDE)


def test_a_cpu_is_never_an_accelerator() -> None:
    assert all(not device.is_cpu for device in accelerators())
    device = cpu()
    assert (device.vendor, device.is_cpu, device.default_precision) == ("cpu", True, "fp32")
    assert device.threads
    assert cpu_model()
    assert ComputeDevice("cuda", 0, "u", "m", "NVIDIA").default_precision == "bf16"
