"""How fast does a device train? Steps of a small transformer, counted by formula, with a loss that must fall.

FLOP of a step: tokens x (6·N + 12·L·d·s), N the weights that are multiplied with (attention, MLP and the output
layer; tables that are looked up are not), L layers of width d on sequences of s (A. Chowdhery and others, "PaLM",
2022, appendix B: forward and backward, attention without a mask; nothing for recomputation). MFU = that rate / the
card's dense peak.

Weights and the optimiser (AdamW) are fp32; bf16 is autocast. The task is to continue arithmetic sequences, which is
learnt in some hundred steps. Verified: two trials from one seed give the same losses; sampled losses are finite;
weights have moved between one check and the next; the loss of the window's end is below that of the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.protocol import Fault, Verdict
from benchmarks.work import Generator, Pair
from benchmarks.workloads.devices import (
    ComputeDevice,
    UnsupportedPrecision,
    set_shortcuts,
    synchronise,
    torch_place,
)

PRECISIONS = ("fp32", "tf32", "bf16")
SLOTS = 64
TRIAL_STEPS = 3
# What two trials may differ by: gradients of looked-up tables are summed in any order on a GPU.
SAME_LOSS = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 3e-2}
LEARNING_RATE = 1e-3
SAMPLED = 256


@dataclass(frozen=True, slots=True)
class ModelShape:
    layers: int
    width: int
    heads: int
    length: int
    vocabulary: int
    sequences: int

    @property
    def weights(self) -> int:
        """Those that are multiplied with: 4·d² of attention and 8·d² of the MLP a layer, and the output layer."""
        return self.layers * 12 * self.width**2 + self.width * self.vocabulary

    @property
    def flop_per_step(self) -> int:
        tokens = self.sequences * self.length
        return tokens * (6 * self.weights + 12 * self.layers * self.width * self.length)


ACCELERATOR_MODEL = ModelShape(layers=12, width=2048, heads=16, length=1024, vocabulary=4096, sequences=8)
CPU_MODEL = ModelShape(layers=2, width=128, heads=4, length=64, vocabulary=128, sequences=8)


class Training:
    name = "training"
    counts: Literal["flop", "bytes"] = "flop"

    def __init__(
        self, torch: Any, device: ComputeDevice, precision: str, *, seed: int, model: ModelShape | None = None
    ) -> None:
        if torch is None:
            raise UnsupportedPrecision("training is measured with torch, and torch is not installed here")
        if precision not in PRECISIONS or (precision == "tf32" and device.kind != "cuda"):
            raise UnsupportedPrecision(
                f"training is measured in {', '.join(PRECISIONS)} (tf32: NVIDIA), not in {precision} on {device.model}"
            )
        self._torch = torch
        self._device = device
        self._seed = seed % 2**31
        self.precision = precision
        self._model_shape = model or (CPU_MODEL if device.is_cpu else ACCELERATOR_MODEL)
        self._where = torch_place(torch, device)
        set_shortcuts(torch, device, precision)
        if device.is_cpu and device.threads:
            torch.set_num_threads(device.threads)
        self._losses: list[Any] = []
        self._first_loss: float | None = None
        self._last_losses: list[float] = []
        self._unlike: float | None = None
        self._weights = b""
        self._model: Any = None
        self._optimiser: Any = None

    @property
    def amount_per_piece(self) -> int:
        return self._model_shape.flop_per_step

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, width, tokens a step)."""
        s = self._model_shape
        return s.layers, s.width, s.sequences * s.length

    @property
    def most_slots(self) -> int:
        return SLOTS

    def prepare(self, rng: Generator, slots: int) -> None:
        self._losses = [None] * slots
        if self._model is not None:
            return
        trials = []
        for _ in range(2):
            self._begin_anew()
            trials.append([float(self._step(step)) for step in range(TRIAL_STEPS)])
        gap = max(abs(a - b) / max(abs(a), 1e-9) for a, b in zip(*trials, strict=True))
        self._unlike = gap if not gap <= SAME_LOSS[self.precision] else None
        self._first_loss = trials[1][0]

    def _begin_anew(self) -> None:
        torch = self._torch
        torch.manual_seed(self._seed)
        self._model = _transformer(torch, self._model_shape).to(self._where)
        self._optimiser = torch.optim.AdamW(self._model.parameters(), lr=LEARNING_RATE)

    def _data(self, seed: int) -> tuple[Any, Any]:
        """Sequences t, t + step, t + 2·step, ... modulo the vocabulary; the next one is what is asked."""
        s, torch = self._model_shape, self._torch
        rng = np.random.default_rng((self._seed, seed))
        start = rng.integers(0, s.vocabulary, size=(s.sequences, 1))
        step = rng.integers(1, 4, size=(s.sequences, 1))
        tokens = torch.from_numpy((start + step * np.arange(s.length + 1)) % s.vocabulary).to(self._where)
        return tokens[:, :-1], tokens[:, 1:]

    def _loss(self, seed: int) -> Any:
        torch = self._torch
        given, asked = self._data(seed)
        with torch.autocast(self._device.kind, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            out = self._model(given)
        return torch.nn.functional.cross_entropy(out.float().reshape(-1, out.shape[-1]), asked.reshape(-1))

    def _step(self, seed: int) -> Any:
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(seed)
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        return [(int(seed), 0) for seed in rng.integers(0, 2**31, size=pieces)]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        for slot, (seed, _) in enumerate(order, first_slot):
            self._losses[slot] = self._step(seed)
        self.settle()

    def settle(self) -> None:
        synchronise(self._torch, self._device)

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        if self._unlike is not None:
            detail = f"two trials of {TRIAL_STEPS} steps from one seed differ by {self._unlike:.2g} in their losses"
            return Fault(Verdict.WRONG_PRODUCT, detail)
        loss = float(self._losses[slot])
        if not np.isfinite(loss):
            return Fault(Verdict.NOT_FINITE, "the loss is NaN or Inf")
        self._last_losses = [*self._last_losses[-19:], loss]
        weights = self._model.head.weight.detach().reshape(-1)[:SAMPLED].cpu().numpy().tobytes()
        if weights == self._weights:
            return Fault(Verdict.WRONG_PRODUCT, "the weights have not moved since the last check: no step was made")
        self._weights = weights
        return None

    def facts(self, rng: Generator) -> None:
        return None

    def golden(self) -> None:
        return None

    def closing(self) -> Fault | None:
        assert self._first_loss is not None
        now = float(np.median(self._last_losses))
        if now >= self._first_loss:
            return Fault(
                Verdict.WRONG_PRODUCT, f"the loss did not fall: {self._first_loss:.4g} at first, {now:.4g} now"
            )
        return None


def _transformer(torch: Any, shape: ModelShape) -> Any:
    """Pre-norm blocks (attention without a mask is counted; a mask is used, as the next token is asked for)."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
            self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
            self.out = nn.Linear(shape.width, shape.width, bias=False)
            self.mlp = nn.Sequential(
                nn.Linear(shape.width, 4 * shape.width, bias=False),
                nn.GELU(),
                nn.Linear(4 * shape.width, shape.width, bias=False),
            )

        def forward(self, x: Any) -> Any:
            sequences, length, width = x.shape
            parts = self.qkv(self.first(x)).view(sequences, length, 3, shape.heads, width // shape.heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(sequences, length, width))
            return x + self.mlp(self.second(x))

    class Model(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(shape.vocabulary, shape.width)
            self.places = nn.Embedding(shape.length, shape.width)
            self.blocks = nn.Sequential(*(Block() for _ in range(shape.layers)))
            self.last = nn.LayerNorm(shape.width)
            self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            return self.head(self.last(self.blocks(self.tokens(tokens) + self.places(places))))

    return Model()
