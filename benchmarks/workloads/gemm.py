"""How fast does a device multiply dense matrices? The product that the protocol counts: 2·m·n·k FLOP, from the formula.

Operands are N(0,1) (int8: N(0,1)·32, rounded), several sets that together exceed a last-level cache, so that no flush
is needed. TF32 is on where tf32 is said and nowhere else; reduced-precision reductions are off. 8192^3 on an
accelerator; on a CPU the side is chosen so that a product takes some milliseconds.

| precision | operands | product stored as | how |
|---|---|---|---|
| fp64, fp32, bf16, fp16 | the same | the same | torch.mm |
| tf32 | fp32 | fp32 | torch.mm with TF32 allowed; NVIDIA from A100 on |
| fp8 | e4m3, scales of 1 | bf16 | torch._scaled_mm without fast accumulation; NVIDIA from L40S and H100 on |
| int8 | int8 | int32, exact | torch._int_mm |

NumPy without torch: `numpy_floor.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.arming import DTYPES
from benchmarks.products import Signs, draw_signs, expected_sides, golden_operands, judge, set_columns
from benchmarks.protocol import FREIVALDS_SETS, Fault, Shape
from benchmarks.work import Facts, Generator, Pair
from benchmarks.workloads.devices import (
    CHECKED_ON_HOST,
    ComputeDevice,
    UnsupportedPrecision,
    free_memory_bytes,
    set_shortcuts,
    shortcuts_on,
    synchronise,
    torch_place,
)

ACCELERATOR_SIDE = 8192
CPU_SIDES = (512, 768, 1024)
# A CPU's operands together: more than the last-level cache of the machines this runs on, little enough for a laptop.
CPU_OPERAND_BYTES = 64 * 2**20
CPU_RESULT_BYTES = 256 * 2**20
ACCELERATOR_OPERAND_SETS = 4
MOST_SLOTS = 512
# What of a product each thread widens at once for its check: half of a core's second-level cache. All threads wait for
# each other at each block, so that on a disturbed machine more of them cost more.
CPU_BLOCK_BYTES = 2**20
INT8_SPREAD = 32.0
CPU_PRODUCT_S = 0.006
CPU_TRIALS = 12
SAMPLED = 4096

BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}
STORED_AS = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"} | {
    "fp8": "bfloat16",
    "int8": "int32",
}


class TorchGemm:
    """Products on a torch device. Also the CPU's, with as many threads as it was given."""

    name = "gemm"
    counts: Literal["flop", "bytes"] = "flop"

    def __init__(
        self, torch: Any, device: ComputeDevice, precision: str, shape: Shape, operand_sets: int, seed: int
    ) -> None:
        self._torch = torch
        self._device = device
        self._precision = precision
        self._shape = shape
        self._where = torch_place(torch, device)
        self._dtype = getattr(torch, DTYPES[precision])
        self._stored = getattr(torch, STORED_AS[precision])
        self._on_host = device.kind in CHECKED_ON_HOST
        set_shortcuts(torch, device, precision)
        generator = torch.Generator(device="cpu" if self._on_host else self._where).manual_seed(seed)
        self._a = [self._drawn(generator, shape.m, shape.k) for _ in range(operand_sets)]
        self._b = [self._right(self._drawn(generator, shape.k, shape.n)) for _ in range(operand_sets)]
        self._one = torch.ones((), device=self._where)
        self._c: list[Any] = []
        self._wide: Any = None
        self._narrow: Any = None
        self._signs: Any = None
        self._rows: Any = None
        self._block_bytes = CPU_BLOCK_BYTES * (device.threads or 1)
        self._sides: list[list[Any]] = []

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def amount_per_piece(self) -> int:
        return self._shape.flop

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape.m, self._shape.n, self._shape.k

    @property
    def operand_sets(self) -> int:
        return len(self._a)

    @property
    def most_slots(self) -> int:
        """A quarter of what memory is free, and on a CPU a fixed sum."""
        each = self._shape.m * self._shape.n * self._stored.itemsize
        free = free_memory_bytes(self._torch, self._device)
        if self._device.is_cpu:
            free = 4 * CPU_RESULT_BYTES
        return 64 if free is None else max(1, min(MOST_SLOTS, free // 4 // each))

    # -- the work --------------------------------------------------------------------------------------------------

    def prepare(self, rng: Generator, slots: int) -> None:
        torch = self._torch
        del self._c[slots:]
        while len(self._c) < slots:
            self._c.append(torch.zeros((self._shape.m, self._shape.n), dtype=self._stored, device=self._where))
        if not self._sides:
            self._draw_checks(draw_signs(rng, self._shape.n))

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        drawn = rng.integers(0, len(self._a), size=(pieces, 2)).tolist()
        return [(a, b) for a, b in drawn]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        for slot, (a, b) in enumerate(order, first_slot):
            self._multiply(self._a[a], self._b[b], self._c[slot])
        self.settle()

    def settle(self) -> None:
        synchronise(self._torch, self._device)

    def _multiply(self, a: Any, b: Any, c: Any) -> None:
        torch = self._torch
        if self._precision == "int8":
            torch._int_mm(a, b, out=c)
        elif self._precision == "fp8":
            torch._scaled_mm(a, b, scale_a=self._one, scale_b=self._one, out_dtype=self._stored, out=c)
        else:
            torch.mm(a, b, out=c)

    # -- its verification ------------------------------------------------------------------------------------------

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        torch = self._torch
        chosen = set_columns(int(rng.integers(FREIVALDS_SETS)))
        side = self._sides[pair[0]][pair[1]][:, chosen]
        c = self._c[slot]
        if self._on_host:
            gaps = c.cpu().to(torch.float64).numpy() @ self._signs[:, chosen] - side
        else:
            gaps = (self._times_signs(c, self._rows[chosen]) - side).cpu().numpy()
        start = int(rng.integers(max(1, c.numel() - SAMPLED)))
        return judge(gaps, self._sample(c, start), self._shape, self._precision)

    def _draw_checks(self, signs: Signs) -> None:
        """A·(B·x) for all pairs and sign vectors, in float64; on the host where the device has none."""
        torch = self._torch
        if self._on_host:
            self._signs = signs
            rights = [self._in_float64(b.cpu()).numpy() for b in self._b]
            lefts = [self._in_float64(a.cpu()).numpy() for a in self._a]
            self._sides = [[expected_sides(a, b, signs) for b in rights] for a in lefts]
            return
        self._signs = torch.from_numpy(signs).to(self._where)
        self._rows = self._signs.T.contiguous()
        products = torch.cat([self._in_float64(b) @ self._signs for b in self._b], dim=1)
        self._sides = [list((self._in_float64(a) @ products).split(signs.shape[1], dim=1)) for a in self._a]

    def _in_float64(self, values: Any) -> Any:
        """What is narrower than 16 bits goes by way of fp32, which holds it exactly: not all conversions are there."""
        torch = self._torch
        return (values.to(torch.float32) if values.element_size() == 1 else values).to(torch.float64)

    def _times_signs(self, matrix: Any, rows: Any) -> Any:
        """matrix · rows^T in float64. On a CPU by blocks of rows, whose float64 copy stays in a core's cache. One
        vector at a time, as matrix-vector products run at memory speed where thin matrix products do not."""
        height = matrix.shape[0]
        at_once = max(1, self._block_bytes // (8 * matrix.shape[1])) if self._device.is_cpu else height
        left = self._torch.empty((len(rows), height), dtype=self._torch.float64, device=self._where)
        for first in range(0, height, at_once):
            wide = self._widened(matrix[first : first + at_once], at_once)
            for vector, found in zip(rows, left, strict=True):
                self._torch.mv(wide, vector, out=found[first : first + at_once])
        return left.T

    def _widened(self, matrix: Any, at_once: int) -> Any:
        """In float64, in a kept buffer: a fresh one costs more in page faults than the sums. 16-bit values go by way
        of fp32, which holds them exactly and is converted faster."""
        torch = self._torch
        height, width = matrix.shape
        if self._wide is None:
            self._wide = torch.empty((at_once, width), dtype=torch.float64, device=self._where)
            if matrix.element_size() == 2:
                self._narrow = torch.empty((at_once, width), dtype=torch.float32, device=self._where)
        if self._narrow is not None:
            matrix = self._narrow[:height].copy_(matrix)
        return self._wide[:height].copy_(matrix)

    def facts(self, rng: Generator) -> Facts:
        operands = [*self._a, *self._b]
        dtypes = {str(matrix.dtype).removeprefix("torch.") for matrix in operands}
        return Facts(
            input_dtype="/".join(sorted(dtypes)),
            inputs=tuple(self._sample(matrix, 0) for matrix in operands),
            spread=INT8_SPREAD if self._precision == "int8" else 1.0,
            shortcuts=shortcuts_on(self._torch, self._device),
        )

    def _sample(self, matrix: Any, start: int) -> Any:
        flat = matrix.t().reshape(-1) if not matrix.is_contiguous() else matrix.view(-1)
        return self._in_float64(flat[start : start + SAMPLED].cpu()).numpy()

    def golden(self) -> str:
        torch, shape = self._torch, self._shape
        left, right = golden_operands(shape.m, shape.n, shape.k, largest=1 if self._precision == "fp8" else 7)
        a = torch.from_numpy(left).to(self._where).to(torch.float32).to(self._dtype)
        b = self._right(torch.from_numpy(right).to(self._where).to(torch.float32).to(self._dtype))
        c = torch.zeros((shape.m, shape.n), dtype=self._stored, device=self._where)
        self._multiply(a, b, c)
        self.settle()
        return hashlib.sha256(c.cpu().view(torch.uint8).numpy()).hexdigest()

    def closing(self) -> Fault | None:
        return None

    # -- operands --------------------------------------------------------------------------------------------------

    def _drawn(self, generator: Any, rows: int, columns: int) -> Any:
        torch = self._torch
        drawn = torch.randn((rows, columns), generator=generator, device=generator.device)
        if self._precision == "int8":
            drawn = (drawn * INT8_SPREAD).round_().clamp_(-127, 127)
        return drawn.to(device=self._where, dtype=self._dtype)

    def _right(self, matrix: Any) -> Any:
        """fp8 units want the right-hand operand column by column, and a GPU's for int8 work best on it."""
        by_column = self._precision == "fp8" or (self._precision == "int8" and not self._device.is_cpu)
        return matrix.t().contiguous().t() if by_column else matrix


def torch_gemm(
    torch: Any, device: ComputeDevice, precision: str, *, seed: int, shape: Shape | None = None
) -> TorchGemm:
    """The workload for this device, its operands in memory. `shape` None: 8192^3, or sized to the CPU.

    Raises UnsupportedPrecision; what the library raises for want of memory or of a device passes through.
    """
    refuse_unsupported(torch, device, precision)
    if not device.is_cpu:
        side = Shape(ACCELERATOR_SIDE, ACCELERATOR_SIDE, ACCELERATOR_SIDE)
        return TorchGemm(torch, device, precision, shape or side, ACCELERATOR_OPERAND_SETS, seed)
    if device.threads:
        torch.set_num_threads(device.threads)
    if shape is None:
        side_length = _cpu_side(torch, device, precision)
        shape = Shape(side_length, side_length, side_length)
    return TorchGemm(torch, device, precision, shape, cpu_sets(shape, precision), seed)


def refuse_unsupported(torch: Any, device: ComputeDevice, precision: str) -> None:
    """Raises UnsupportedPrecision."""
    if precision not in BYTES:
        raise UnsupportedPrecision(f"precision {precision} is not known here; one of {', '.join(BYTES)}")
    if precision in ("tf32", "fp8"):
        needed = (8, 0) if precision == "tf32" else (8, 9)
        is_nvidia = device.kind == "cuda" and not getattr(torch.version, "hip", None)
        if not is_nvidia or torch.cuda.get_device_capability(device.index) < needed:
            what = "A100 and later" if precision == "tf32" else "L40S, H100 and later"
            raise UnsupportedPrecision(
                f"{precision} is measured on NVIDIA cards ({what}), not on {device.model}; leave it out of --precision"
            )


def cpu_sets(shape: Shape, precision: str) -> int:
    each = (shape.m * shape.k + shape.k * shape.n) * BYTES[precision]
    return max(4, min(16, CPU_OPERAND_BYTES // each))


def _cpu_side(torch: Any, device: ComputeDevice, precision: str) -> int:
    """The largest side whose product is still short; the smallest where none is. By the fastest of some trials, so
    that a machine that hesitates has the same shape in the next window."""
    small = CPU_SIDES[0]
    trial = TorchGemm(torch, device, precision, Shape(small, small, small), 1, seed=0)
    trial.prepare(np.random.default_rng(0), 1)
    trial.run_batch([(0, 0)], 0)
    spent_s = []
    for _ in range(CPU_TRIALS):
        begun = time.perf_counter()
        trial.run_batch([(0, 0)], 0)
        spent_s.append(time.perf_counter() - begun)
    product_s = min(spent_s)
    fitting = [s for s in CPU_SIDES if product_s * (s / small) ** 3 <= CPU_PRODUCT_S]
    return max(fitting, default=small)
