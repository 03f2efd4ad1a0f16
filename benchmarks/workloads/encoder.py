"""What model answers the requests of the serving workload? A small transformer encoder, as of images.

A request is `length` vectors of `width` numbers (an image's patches, a recording's frames) from N(0,1); its answer are
`classes` scores. A projection, then pre-norm blocks of attention without a mask and an MLP of four times the width
(GELU in its tanh form), a last norm, the mean over the vectors, a linear head. Norms have no weights of their own.

FLOP of a request: length x (2·N + 4·L·d·s) + 2·d·classes, with N = d² + L·12·d² the weights that each vector is
multiplied with: the forward third of A. Chowdhery and others, "PaLM" (2022), appendix B, and the head, which is applied
once. Softmax, norms and GELU are not counted.

Two ways to the same scores: with NumPy in the type that is given (in float64 it is what answers are held against; in
float32 the floor where there is no torch), and with torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.work import Array, Generator

EPSILON = 1e-5
GELU_INNER, GELU_CUBIC = math.sqrt(2.0 / math.pi), 0.044715


@dataclass(frozen=True, slots=True)
class EncoderShape:
    layers: int
    width: int
    heads: int
    length: int
    classes: int

    @property
    def flop(self) -> int:
        """Of one request."""
        each = 2 * self.width**2 * (1 + 12 * self.layers) + 4 * self.layers * self.width * self.length
        return self.length * each + 2 * self.width * self.classes

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each weight matrix: projection; by layer qkv, out, up, down; head."""
        d = self.width
        block = ((d, 3 * d), (d, d), (d, 4 * d), (4 * d, d))
        return ((d, d), *(block * self.layers), (d, self.classes))


# Width, layers and heads as of ViT-Base (A. Dosovitskiy and others, "An Image is Worth 16x16 Words", 2021, table 1).
ACCELERATOR_SHAPE = EncoderShape(layers=12, width=768, heads=12, length=256, classes=1000)
CPU_SHAPE = EncoderShape(layers=2, width=128, heads=4, length=64, classes=100)


def drawn_weights(shape: EncoderShape, rng: Generator) -> list[Array]:
    """float32, N(0, 1/rows), so that sums keep their size."""
    return [
        rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(math.sqrt(rows))
        for rows, columns in shape.matrices
    ]


def numpy_scores(shape: EncoderShape, weights: Sequence[Array], x: Array) -> Array:
    """[n, classes] of [n, length, width], in the type of what is given."""
    first, *blocks, head = weights
    n, s, d = x.shape
    x = x @ first
    for layer in range(shape.layers):
        qkv, out, up, down = blocks[4 * layer : 4 * layer + 4]
        parts = (_normed(x) @ qkv).reshape(n, s, 3, shape.heads, d // shape.heads)
        q, k, v = parts.transpose(2, 0, 3, 1, 4)
        logits = q @ k.transpose(0, 1, 3, 2) * x.dtype.type(1.0 / math.sqrt(d // shape.heads))
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        x = x + (shares @ v).transpose(0, 2, 1, 3).reshape(n, s, d) @ out
        x = x + _gelu(_normed(x) @ up) @ down
    answer: Array = _normed(x).mean(axis=1) @ head
    return answer


def _normed(x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    answer: Array = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + x.dtype.type(EPSILON))
    return answer


def _gelu(x: Array) -> Array:
    kind = x.dtype.type
    answer: Array = kind(0.5) * x * (kind(1.0) + np.tanh(kind(GELU_INNER) * (x + kind(GELU_CUBIC) * x * x * x)))
    return answer


def torch_scores(torch: Any, shape: EncoderShape, weights: Sequence[Any], x: Any) -> Any:
    """The same with torch, on the device and in the type of what is given."""
    functional = torch.nn.functional
    first, *blocks, head = weights
    n, s, d = x.shape

    def normed(values: Any) -> Any:
        return functional.layer_norm(values, (d,), eps=EPSILON)

    x = x @ first
    for layer in range(shape.layers):
        qkv, out, up, down = blocks[4 * layer : 4 * layer + 4]
        q, k, v = (normed(x) @ qkv).view(n, s, 3, shape.heads, d // shape.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + mixed.transpose(1, 2).reshape(n, s, d) @ out
        x = x + functional.gelu(normed(x) @ up, approximate="tanh") @ down
    return normed(x).mean(dim=1) @ head
