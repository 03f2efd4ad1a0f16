"""What does Freivalds' check of one product cost? The part inside the window, C·x against sides known before, and the
part before it. Run: `make bench`."""

from __future__ import annotations

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.products import draw_signs, expected_sides, judge, set_columns
from benchmarks.protocol import Fault, Shape

SIZE, PRECISION = 1024, "fp32"


def test_one_product_checked(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    c = a @ b
    signs = draw_signs(rng, SIZE)
    sides = expected_sides(a, b, signs)
    shape, columns = Shape(SIZE, SIZE, SIZE), set_columns(3)

    def checked() -> Fault | None:
        stored = c.astype(np.float64)
        return judge(stored @ signs[:, columns] - sides[:, columns], stored[0], shape, PRECISION)

    assert benchmark(checked) is None


def test_sides_of_one_pair_of_operands(benchmark: BenchmarkFixture) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIZE, SIZE), np.float32) for _ in range(2))
    signs = draw_signs(rng, SIZE)
    assert benchmark(expected_sides, a, b, signs).shape == signs.shape
