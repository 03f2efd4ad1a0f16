"""Serves the model that train_bytes trained: `model: examples/serve_bytes.py:ByteModel` in a job file.

CHECKPOINT_DIR names the directory with its checkpoints, of one attempt or of all (attempt-1, attempt-2, ...); the
newest complete one is served. An input is a prompt, as text or as {"prompt": text, "tokens": at most 32}; its output is
{"completion": text, "loss": nats a byte of the prompt}.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:  # served from a checkout
    sys.path.insert(0, root)

from examples.byte_transformer import ByteTransformer, FlatParameters, TrainingState
from node_agent.checkpointing import newest_whole

MOST_TOKENS = 32
DEFAULT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Ask:
    """`prompt` is at least one byte: a model of next bytes needs one to start from."""

    prompt: bytes
    tokens: int


def parse(value: object) -> Ask:
    """Raises ValueError, whose text the caller reads."""
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise ValueError('an input is a text, or {"prompt": text, "tokens": number}')
    tokens = value.get("tokens", DEFAULT_TOKENS)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens <= MOST_TOKENS:
        raise ValueError(f"tokens must be a whole number from 0 to {MOST_TOKENS}")
    return Ask(value["prompt"].encode("utf-8", "replace") or b"\n", tokens)


def newest_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint of the last attempt that has one."""
    attempts = [path for path in directory.glob("attempt-*") if path.name[8:].isdigit()]
    attempts.sort(key=lambda path: int(path.name[8:]), reverse=True)
    return next((whole for place in (directory, *attempts) if (whole := newest_whole(place)) is not None), None)


class ByteModel:
    def __init__(self) -> None:
        self._model = ByteTransformer()

    def load(self) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
        directory = os.environ.get("CHECKPOINT_DIR")
        if not directory:
            raise ValueError("set CHECKPOINT_DIR to the directory of train_bytes' checkpoints")
        newest = newest_checkpoint(Path(directory))
        if newest is None:
            raise ValueError(f"there is no complete checkpoint in {directory}")
        state = TrainingState.read(newest)
        self._model = ByteTransformer(state.shape)
        FlatParameters(self._model).values.copy_(state.values)
        self._model.eval()

    def warm_up_inputs(self) -> list[object]:
        return ["import "]

    @torch.inference_mode()
    def predict(self, batch: list[object]) -> list[dict[str, object]]:
        """All prompts advance together: one forward a token for the whole batch, each row at its own length."""
        asks = [parse(value) for value in batch]
        losses = self._losses([ask.prompt for ask in asks])
        texts = [bytearray(ask.prompt) for ask in asks]
        for done in range(max(ask.tokens for ask in asks)):
            rows = [index for index, ask in enumerate(asks) if ask.tokens > done]
            for index, byte in zip(rows, self._next_bytes([texts[index] for index in rows]), strict=True):
                texts[index].append(byte)
        return [
            {"completion": bytes(text[len(ask.prompt) :]).decode("utf-8", "replace"), "loss": loss}
            for ask, text, loss in zip(asks, texts, losses, strict=True)
        ]

    def _padded(self, texts: list[bytes]) -> torch.Tensor:
        """Rows of one length, shorter ones filled up behind: causal attention never looks there."""
        longest = max(len(text) for text in texts)
        return torch.tensor([list(text) + [0] * (longest - len(text)) for text in texts])

    def _next_bytes(self, texts: list[bytearray]) -> list[int]:
        """The likeliest next byte of each text."""
        windows = [bytes(text[-self._model.shape.context :]) for text in texts]
        logits = self._model(self._padded(windows))
        last = torch.tensor([len(window) - 1 for window in windows])
        best: list[int] = logits[torch.arange(len(windows)), last].argmax(-1).tolist()
        return best

    def _losses(self, prompts: list[bytes]) -> list[float]:
        """Mean cross-entropy of each prompt's bytes given those before, over its last window; 0 for a single byte."""
        windows = [prompt[-self._model.shape.context - 1 :] for prompt in prompts]
        tokens = self._padded(windows)
        if tokens.shape[1] < 2:
            return [0.0] * len(prompts)
        logits = self._model(tokens[:, :-1])
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
        sums = [float(row[: len(window) - 1].sum()) for row, window in zip(each, windows, strict=True)]
        return [total / max(1, len(window) - 1) for total, window in zip(sums, windows, strict=True)]
