"""Data-parallel training of a small byte-level transformer on real text: the Python standard library's sources.

    python -m examples.train_bytes --steps 60 --checkpoint-every 20

One process, or a gang through torch.distributed (gloo) when WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT are set. Each
worker computes the gradients of its own batch, one all-reduce averages them, every worker makes the same step. A
request for a checkpoint (SIGUSR1) that reaches any worker travels with the gradients, so that all stop after the same
step: worker 0 saves, all acknowledge, nobody computes on. The next attempt goes on from there, and its data too.

Leaves {"first_loss", "last_loss", "steps", "resumed_from_step", "bytes_seen"} in SUANLI_RESULT_FILE (worker 0). Losses
are means over one fixed held-out slice, in nats a byte. Exit code 1 when the loss did not fall.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import sysconfig
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

if not __package__:  # run as a file from a checkout: the checkout's root holds examples and node_agent
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
from torch import Tensor

from examples.byte_transformer import ByteTransformer, FlatParameters, TrainingState
from node_agent.checkpointing import Checkpoints, checkpoints

SEED = 20260316
CORPUS_BYTES = 4_000_000
HELD_OUT_BYTES = 200_000
HELD_OUT_SEQUENCES = 64
BATCH = 24  # sequences, a worker and step
LEARNING_RATE = 6e-3
WARM_UP_STEPS = 10
REPORT_EVERY = 10


@dataclass(frozen=True, slots=True)
class Gang:
    """This worker's place. With WORLD_SIZE 1, or without the variables, there is nobody to talk to."""

    rank: int
    size: int

    @staticmethod
    def join() -> Gang:
        gang = Gang(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        if gang.size > 1:
            if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
                # Else gloo asks for the machine's name, which need not resolve to where the others listen.
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            dist.init_process_group("gloo", rank=gang.rank, world_size=gang.size, timeout=timedelta(seconds=60))
        return gang

    def add_up(self, values: Tensor) -> None:
        """`values` becomes the sum over all workers, in place."""
        if self.size > 1:
            dist.all_reduce(values)

    def wait_for_all(self) -> None:
        if self.size > 1:
            dist.barrier()


def read_corpus() -> Tensor:
    """The top-level modules of the standard library in order of their names, as one row of bytes (uint8)."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_bytes()
        if len(text) >= CORPUS_BYTES:
            break
    if len(text) < 2 * HELD_OUT_BYTES:
        raise SystemExit(
            f"only {len(text)} bytes of Python sources in {sysconfig.get_path('stdlib')}: too few to train"
        )
    return torch.frombuffer(text, dtype=torch.uint8)


def sequences(text: Tensor, starts: Tensor, length: int) -> Tensor:
    return text[starts[:, None] + torch.arange(length)].long()


class Training:
    """The model, its optimiser and its data; `step` steps are done."""

    def __init__(self, gang: Gang, resumed: Path | None) -> None:
        self._gang = gang
        state = TrainingState.read(resumed) if resumed is not None else None
        torch.manual_seed(SEED)
        self._model = ByteTransformer(state.shape if state is not None else None)
        self._flat = FlatParameters(self._model)
        text = read_corpus()
        self._text, held_out = text[:-HELD_OUT_BYTES], text[-HELD_OUT_BYTES:]
        self._length = self._model.shape.context + 1
        starts = torch.linspace(0, HELD_OUT_BYTES - self._length, HELD_OUT_SEQUENCES).long()
        self._held_out = sequences(held_out, starts, self._length)
        if state is None:
            self.step, self.bytes_seen = 0, 0
            self.first_loss = self.held_out_loss()
        else:
            self.step, self.bytes_seen, self.first_loss = state.step, state.bytes_seen, state.first_loss
            self._flat.values.copy_(state.values)
            self._flat.first_moment.copy_(state.first_moment)
            self._flat.second_moment.copy_(state.second_moment)

    def held_out_loss(self) -> float:
        with torch.no_grad():
            return float(self._model.loss(self._held_out))

    def train_step(self, vote: bool) -> tuple[float, bool]:
        """One step of the whole gang: this worker's loss, and whether any worker voted for a checkpoint."""
        # Each step and rank draws from its own seed, so that a resumed run sees the data that it would have seen.
        generator = torch.Generator().manual_seed(SEED + self.step * self._gang.size + self._gang.rank)
        starts = torch.randint(0, len(self._text) - self._length, (BATCH,), generator=generator)
        self._flat.gradients_and_vote.zero_()
        loss = self._model.loss(sequences(self._text, starts, self._length))
        loss.backward()  # type: ignore[no-untyped-call]
        self._flat.gradients_and_vote[-1] = float(vote)
        self._gang.add_up(self._flat.gradients_and_vote)
        self._flat.gradients.div_(self._gang.size)
        self.step += 1
        self.bytes_seen += BATCH * (self._length - 1) * self._gang.size
        self._flat.adam(self.step, LEARNING_RATE * min(1.0, self.step / WARM_UP_STEPS))
        return loss.item(), bool(self._flat.gradients_and_vote[-1] > 0)

    def write(self, directory: Path) -> None:
        flat = self._flat
        state = (self._model.shape, self.step, self.first_loss, self.bytes_seen)
        TrainingState(*state, flat.values, flat.first_moment, flat.second_moment).write(directory)


def agree_on_start(gang: Gang, step: int) -> None:
    """All workers must have resumed from the same checkpoint; one that saw another must not average with them."""
    steps = torch.zeros(gang.size)
    steps[gang.rank] = step
    gang.add_up(steps)
    if len(set(steps.tolist())) > 1:
        raise SystemExit(f"workers resumed from different steps {steps.tolist()}: is the checkpoint directory shared?")


def save(checkpoint: Checkpoints, gang: Gang, training: Training) -> None:
    """Worker 0 writes; the others acknowledge, if they were asked, only when that is on disk."""
    if gang.rank == 0:
        checkpoint.save(training.write, training.step)
    gang.wait_for_all()
    if gang.rank != 0:
        checkpoint.save(training.write, training.step)


def wait_for_the_end(checkpoint: Checkpoints, training: Training) -> NoReturn:
    """The work is safe, and computing on would only be lost: SIGTERM follows. A worker that was asked later than the
    one whose vote stopped the gang acknowledges from here."""
    while True:
        if checkpoint.requested:
            checkpoint.save(training.write, training.step)
        time.sleep(0.02)


def train(checkpoint: Checkpoints, gang: Gang, arguments: argparse.Namespace) -> int:
    training = Training(gang, checkpoint.resume())
    resumed_from_step = training.step
    agree_on_start(gang, training.step)
    chief = gang.rank == 0
    if chief:
        print(f"starting at step {training.step} of {arguments.steps}, {gang.size} workers", flush=True)
    saved_step = training.step
    while training.step < arguments.steps:
        # A request that came during a periodic save was acknowledged by it: that too is a vote to stop.
        loss, asked = training.train_step(checkpoint.requested or checkpoint.should_exit)
        if chief and (training.step % REPORT_EVERY == 0 or training.step == arguments.steps):
            print(f"step {training.step} loss {loss:.2f}", flush=True)
        if asked or training.step % arguments.checkpoint_every == 0:
            save(checkpoint, gang, training)
            saved_step = training.step
            if chief:
                print(f"saved at step {training.step}", flush=True)
        if asked:
            wait_for_the_end(checkpoint, training)
        if arguments.step_delay_s:
            time.sleep(arguments.step_delay_s)
    if saved_step != training.step:
        save(checkpoint, gang, training)
    last_loss = training.held_out_loss()
    fell = last_loss < training.first_loss
    if chief:
        print(f"held-out loss {training.first_loss:.3f} -> {last_loss:.3f} after {training.step} steps", flush=True)
        result = {
            "first_loss": training.first_loss,
            "last_loss": last_loss,
            "steps": training.step,
            "resumed_from_step": resumed_from_step,
            "bytes_seen": training.bytes_seen,
        }
        if result_file := os.environ.get("SUANLI_RESULT_FILE"):
            Path(result_file).write_text(json.dumps(result), encoding="utf-8")
        if not fell:
            print("the loss did not fall", file=sys.stderr, flush=True)
    return 0 if fell else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a byte-level transformer on Python's own sources.")
    parser.add_argument("--steps", type=int, default=60, help="steps in all, over all attempts (default 60)")
    parser.add_argument("--checkpoint-every", type=int, default=20, help="steps between checkpoints (default 20)")
    parser.add_argument("--step-delay-s", type=float, default=0.0, help="wait after each step, to have time to watch")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.checkpoint_every < 1 or arguments.step_delay_s < 0:
        parser.error("--steps and --checkpoint-every must be at least 1, --step-delay-s at least 0")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    with checkpoints() as checkpoint:
        gang = Gang.join()
        try:
            return train(checkpoint, gang, arguments)
        finally:
            if gang.size > 1:
                dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
