"""What model do the examples train and serve? A small decoder-only transformer over bytes, in plain torch.

Pre-norm blocks, learned positions, causal attention, tied input and output embeddings; about 120,000 parameters. All
parameters can be laid in one flat vector (`FlatParameters`), so that a gang needs one all-reduce a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 256
CONTEXT = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model. The checkpoint carries them, so that whoever loads it builds the same model."""

    width: int = 64
    heads: int = 4
    layers: int = 2
    context: int = CONTEXT


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm_attention = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.project = nn.Linear(shape.width, shape.width, bias=False)
        self.norm_mlp = nn.LayerNorm(shape.width)
        self.expand = nn.Linear(shape.width, 4 * shape.width)
        self.contract = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) -> the same shape."""
        batch, length, width = x.shape
        qkv = self.query_key_value(self.norm_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(attended.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x + self.contract(functional.gelu(self.expand(self.norm_mlp(x))))
        return out


class ByteTransformer(nn.Module):
    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        self.embed = nn.Embedding(VOCABULARY, self.shape.width)
        self.position = nn.Parameter(torch.zeros(self.shape.context, self.shape.width))
        self.blocks = nn.ModuleList(Block(self.shape) for _ in range(self.shape.layers))
        self.norm = nn.LayerNorm(self.shape.width)
        # Small enough that the untrained model is close to uniform: a first loss near ln 256 = 5.55.
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.position, std=0.02)
        for block in self.blocks:
            assert isinstance(block, Block)
            for linear in (block.project, block.contract):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * self.shape.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Byte values (batch, length <= context), int64 -> logits (batch, length, 256) of each next byte."""
        x = self.embed(tokens) + self.position[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.embed.weight)

    def loss(self, tokens: Tensor) -> Tensor:
        """Mean cross-entropy, in nats a byte, of predicting tokens[:, 1:] from tokens[:, :-1]."""
        logits = self(tokens[:, :-1])
        return functional.cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))


class FlatParameters:
    """A model's parameters and gradients as views into two flat vectors, updated by Adam.

    Adam as in Kingma and Ba (2015), algorithm 1, with bias correction. Written out because importing torch.optim also
    imports torch's compiler, which takes longer than this whole training run.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters = list(model.parameters())
        total = sum(p.numel() for p in parameters)
        self.values = torch.empty(total)
        # One element more than the parameters have: a gang's vote on a checkpoint travels with its gradients.
        self.gradients_and_vote = torch.zeros(total + 1)
        self.gradients = self.gradients_and_vote[:total]
        self.first_moment = torch.zeros(total)
        self.second_moment = torch.zeros(total)
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            view = self.values[start:end].view_as(parameter)
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = self.gradients[start:end].view_as(parameter)
            start = end

    def adam(self, step: int, learning_rate: float) -> None:
        """One update from `gradients`; `step` counts from 1."""
        beta1, beta2, epsilon = 0.9, 0.95, 1e-8
        self.first_moment.lerp_(self.gradients, 1 - beta1)
        self.second_moment.mul_(beta2).addcmul_(self.gradients, self.gradients, value=1 - beta2)
        scale = self.second_moment.div(1 - beta2**step).sqrt_().add_(epsilon)
        self.values.addcdiv_(self.first_moment, scale, value=-learning_rate / (1 - beta1**step))


CHECKPOINT_FILE = "byte_transformer.pt"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a checkpoint holds. `step` steps are done; `first_loss` is that of the untrained model."""

    shape: Shape
    step: int
    first_loss: float
    bytes_seen: int
    values: Tensor
    first_moment: Tensor
    second_moment: Tensor

    def write(self, directory: Path) -> None:
        contents = {name: getattr(self, name) for name in ("step", "first_loss", "bytes_seen")}
        tensors = {name: getattr(self, name) for name in ("values", "first_moment", "second_moment")}
        sizes = {name: getattr(self.shape, name) for name in ("width", "heads", "layers", "context")}
        torch.save({"shape": sizes, **contents, **tensors}, directory / CHECKPOINT_FILE)

    @staticmethod
    def read(directory: Path) -> TrainingState:
        """Raises OSError where there is no file; weights_only keeps a foreign file from running code."""
        held = torch.load(directory / CHECKPOINT_FILE, map_location="cpu", weights_only=True)
        return TrainingState(
            Shape(**held["shape"]),
            *(held[name] for name in ("step", "first_loss", "bytes_seen", "values", "first_moment", "second_moment")),
        )
