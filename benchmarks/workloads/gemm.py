"""How fast does a device multiply dense matrices? The product that the protocol counts: 2·m·n·k FLOP, from the formula.

torch where it can be imported, NumPy otherwise (fp32 and fp64). Operands are N(0,1), several sets that together exceed
a last-level cache, so that no flush is needed. TF32 and reduced-precision reductions are off; a product with them on
fails the protocol's tolerance. 8192^3 on an accelerator; on a CPU the side is chosen so that a product takes some
milliseconds, and a batch tens of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import Pair, Shape, Signs
from benchmarks.workloads.devices import ComputeDevice, synchronise, torch_or_none

ACCELERATOR_SIDE = 8192
CPU_SIDES = (512, 768, 1024)
TARGET_BATCH_S = 0.05
MAX_PRODUCTS_PER_BATCH = 32
# A CPU's operands together: more than the last-level cache of the machines this runs on, little enough for a laptop.
CPU_OPERAND_BYTES = 64 * 2**20
ACCELERATOR_OPERAND_SETS = 4


class UnsupportedPrecision(ValueError):
    """The device or library at hand cannot multiply in this precision. The message says which it can."""


class TorchGemm:
    """Products on a torch device. Also the CPU's, with as many threads as it was given."""

    def __init__(
        self, torch: Any, device: ComputeDevice, precision: str, side: int, operand_sets: int, seed: int
    ) -> None:
        self._torch = torch
        self._device = device
        self._precision = precision
        self._side = side
        self._where = torch.device(device.kind, device.index) if not device.is_cpu else torch.device("cpu")
        self._dtype = _torch_dtype(torch, precision)
        _no_shortcuts(torch, device)
        generator = torch.Generator(device="cpu" if device.kind == "npu" else self._where).manual_seed(seed)
        self._a = [self._normal(generator) for _ in range(operand_sets)]
        self._b = [self._normal(generator) for _ in range(operand_sets)]
        self._c = [torch.zeros((side, side), dtype=self._dtype, device=self._where)]
        on_host = device.kind == "npu"
        self._wide: Any = None if on_host else torch.zeros((side, side), dtype=torch.float64, device=self._where)
        is_16_bit = precision in ("bf16", "fp16")
        self._narrow: Any = torch.zeros((side, side), device=self._where) if is_16_bit and not on_host else None
        self._settle()

    def _normal(self, generator: Any) -> Any:
        drawn = self._torch.randn((self._side, self._side), generator=generator, device=generator.device)
        return drawn.to(device=self._where, dtype=self._dtype)

    def _settle(self) -> None:
        """Give a batch as many products as fill TARGET_BATCH_S, from a first timing of some."""
        self.run_batch([(0, 0)])
        spent_s = []
        for _ in range(3):
            begun = time.perf_counter()
            self.run_batch([(0, 0)])
            spent_s.append(time.perf_counter() - begun)
        count = _products_for(sorted(spent_s)[1])
        self._c = [self._torch.zeros_like(self._c[0]) for _ in range(count)]

    @property
    def shape(self) -> Shape:
        return Shape(self._side, self._side, self._side)

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def products_per_batch(self) -> int:
        return len(self._c)

    @property
    def operand_sets(self) -> int:
        return len(self._a)

    def run_batch(self, pairs: Sequence[Pair]) -> None:
        multiply = self._torch.mm
        for slot, (a, b) in enumerate(pairs):
            multiply(self._a[a], self._b[b], out=self._c[slot])
        synchronise(self._torch, self._device)

    def residual(self, slot: int, pair: Pair, signs: Signs) -> float:
        torch = self._torch
        if self._device.kind == "npu":  # has no float64: the check is done on the host
            operands = [t.to("cpu").to(torch.float64).numpy() for t in self._operands(slot, pair)]
            return host_residual(operands[0], operands[1], operands[2], signs)
        a, b, c = self._operands(slot, pair)
        vectors = list(torch.from_numpy(signs).to(self._where).T.contiguous())
        right = self._times(a, self._times(b, vectors))
        gaps = [left - r for left, r in zip(self._times(c, vectors), right, strict=True)]
        return float(torch.stack(gaps).abs().max().item())

    def _times(self, matrix: Any, vectors: list[Any]) -> list[Any]:
        """matrix · x in float64 for each x, in kept buffers: fresh ones cost more in page faults than the sums.

        16-bit values go by way of fp32, which holds them exactly and is converted faster. One vector at a time:
        matrix-vector products run at memory speed where thin matrix products do not.
        """
        if self._narrow is not None:
            matrix = self._narrow.copy_(matrix)
        wide = self._wide.copy_(matrix)
        return [wide.mv(x) for x in vectors]

    def _operands(self, slot: int, pair: Pair) -> tuple[Any, Any, Any]:
        return self._a[pair[0]], self._b[pair[1]], self._c[slot]


class NumpyGemm:
    """Products on the CPU without torch. NumPy's own threads; fp32 or fp64."""

    def __init__(self, precision: str, side: int, operand_sets: int, seed: int) -> None:
        if precision not in ("fp32", "fp64"):
            raise UnsupportedPrecision(f"NumPy multiplies in fp32 and fp64, not in {precision}; install torch for it")
        self._precision = precision
        self._side = side
        dtype = np.float32 if precision == "fp32" else np.float64
        rng = np.random.default_rng(seed)
        self._a = [rng.standard_normal((side, side)).astype(dtype) for _ in range(operand_sets)]
        self._b = [rng.standard_normal((side, side)).astype(dtype) for _ in range(operand_sets)]
        self._c = [np.zeros((side, side), dtype)]
        self.run_batch([(0, 0)])
        begun = time.perf_counter()
        self.run_batch([(0, 0)])
        count = _products_for(time.perf_counter() - begun)
        self._c = [np.zeros((side, side), dtype) for _ in range(count)]

    @property
    def shape(self) -> Shape:
        return Shape(self._side, self._side, self._side)

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def products_per_batch(self) -> int:
        return len(self._c)

    @property
    def operand_sets(self) -> int:
        return len(self._a)

    def run_batch(self, pairs: Sequence[Pair]) -> None:
        for slot, (a, b) in enumerate(pairs):
            np.matmul(self._a[a], self._b[b], out=self._c[slot])

    def residual(self, slot: int, pair: Pair, signs: Signs) -> float:
        return host_residual(self._a[pair[0]], self._b[pair[1]], self._c[slot], signs)


def host_residual(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], signs: Signs) -> float:
    """Freivalds' residual in float64 on the host: largest |C·x - A·(B·x)|. NaN where anything is not finite."""
    left = c.astype(np.float64) @ signs
    right = a.astype(np.float64) @ (b.astype(np.float64) @ signs)
    return float(np.max(np.abs(left - right)))


def make_gemm(device: ComputeDevice, precision: str, *, seed: int, side: int | None = None) -> TorchGemm | NumpyGemm:
    """The workload for this device, allocated and tried once. `side` None: sized to the device.

    Raises UnsupportedPrecision; what the device's library raises for want of memory or of a device passes through.
    """
    torch = torch_or_none()
    if torch is None:
        return NumpyGemm(precision, side or CPU_SIDES[0], _cpu_sets(side or CPU_SIDES[0], precision), seed)
    if not device.is_cpu:
        return TorchGemm(torch, device, precision, side or ACCELERATOR_SIDE, ACCELERATOR_OPERAND_SETS, seed)
    if device.threads:
        torch.set_num_threads(device.threads)
    side = side or _cpu_side(torch, precision)
    return TorchGemm(torch, device, precision, side, _cpu_sets(side, precision), seed)


def _products_for(product_s: float) -> int:
    return max(1, min(MAX_PRODUCTS_PER_BATCH, round(TARGET_BATCH_S / max(product_s, 1e-6))))


def _cpu_side(torch: Any, precision: str) -> int:
    """The largest side whose product still fits eight times into a batch; the smallest where none does."""
    dtype = _torch_dtype(torch, precision)
    probe = torch.ones((CPU_SIDES[0], CPU_SIDES[0]), dtype=dtype)
    torch.mm(probe, probe)
    begun = time.perf_counter()
    torch.mm(probe, probe)
    product_s = time.perf_counter() - begun
    fitting = [s for s in CPU_SIDES if 8 * product_s * (s / CPU_SIDES[0]) ** 3 <= TARGET_BATCH_S]
    return max(fitting, default=CPU_SIDES[0])


def _cpu_sets(side: int, precision: str) -> int:
    element_bytes = {"fp64": 8, "fp32": 4}.get(precision, 2)
    return max(4, CPU_OPERAND_BYTES // (2 * side * side * element_bytes))


def _torch_dtype(torch: Any, precision: str) -> Any:
    dtypes = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in dtypes:
        raise UnsupportedPrecision(f"precision {precision} is not known here; one of {', '.join(dtypes)}")
    return dtypes[precision]


def _no_shortcuts(torch: Any, device: ComputeDevice) -> None:
    """Full fp32 where fp32 is said, and fp32 accumulation where 16 bit is said."""
    torch.set_float32_matmul_precision("highest")
    if device.kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    elif device.kind == "npu" and hasattr(torch.npu, "matmul"):
        torch.npu.matmul.allow_hf32 = False
