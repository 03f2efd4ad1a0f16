"""Serves a small network of three layers: `model: examples/serve_mlp.py:Mlp` in a job file.

512 -> 1024 -> 1024 -> 128 with ReLU between, 32-bit, seeded weights, NumPy alone. An input is 512 numbers, its output
128. It learnt nothing; it is there to measure what dynamic batching is worth (`suanli bench serving`): a batch of 32
is a few matrix products instead of 32 times as many products of a matrix and a vector, which read all weights each.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

SIZES = (512, 1024, 1024, 128)
SEED = 20260101


class Mlp:
    # Many callers who wait for their answers come back in a burst: worth a moment. One alone is not held back.
    batching: ClassVar[dict[str, float]] = {"max": 32, "max_wait": 0.002}

    def __init__(self) -> None:
        self._layers: list[NDArray[np.float32]] = []

    def load(self) -> None:
        rng = np.random.default_rng(SEED)
        # Scaled after He et al. 2015 (arXiv:1502.01852), so that values stay of one size from layer to layer.
        self._layers = [
            (rng.standard_normal((wide, narrow)) * np.sqrt(2 / wide)).astype(np.float32)
            for wide, narrow in pairwise(SIZES)
        ]

    def warm_up_inputs(self) -> list[object]:
        return [[0.0] * SIZES[0]]

    def predict(self, batch: list[object]) -> NDArray[np.float32]:
        """Of shape (inputs, 128). Raises ValueError, whose text the caller reads."""
        values = np.asarray(batch, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != SIZES[0]:
            raise ValueError(f"an input is a list of {SIZES[0]} numbers")
        *hidden, last = self._layers
        for layer in hidden:
            values = np.maximum(values @ layer, 0)
        return values @ last
