"""How fast do the devices of one node sum over all of them? All-reduce through torch.distributed, one process a device.

Backends: nccl on cuda, hccl on npu, gloo on a CPU (two processes, so that there is somebody to talk to). A piece sums
one message; algorithm bandwidth is its bytes over the time, bus bandwidth that times 2·(n-1)/n, which is what each
device must send and receive whatever the algorithm (NVIDIA nccl-tests, doc/PERFORMANCE.md). What is counted are bus
bytes.

This process is rank 0 and runs the window; the others do what it says. Every rank fills its message from the piece's
number with small integers, whose sum over the ranks is known and exact in fp32: it is checked at random places.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

import benchmarks
from benchmarks.protocol import Fault, Verdict
from benchmarks.work import Generator, Pair
from benchmarks.workloads.devices import ComputeDevice, UnsupportedPrecision, synchronise, torch_place

CHECKOUT = Path(next(iter(benchmarks.__path__))).resolve().parent
CPU_RANKS = 2
CPU_MESSAGE_BYTES = 4 * 2**20
ACCELERATOR_MESSAGE_BYTES = 256 * 2**20
ELEMENT_BYTES = 4
JOIN_TIMEOUT_S = 60
PRECISIONS = ("fp32",)
BACKENDS = {"cuda": "nccl", "npu": "hccl", "cpu": "gloo"}
STOP = -1
SAMPLED = 256
# Values are below this, so that sums over thousands of ranks stay exact.
LARGEST = 509


def fill_value(rank: int, seed: int) -> int:
    """What this rank's message begins with; element i adds i modulo 7."""
    return (seed * 31 + rank * 97) % LARGEST


class Collective:
    """`devices`: one a rank; of the CPU, one stands for CPU_RANKS. `close` ends the other ranks."""

    name = "collective"
    precision = "fp32"
    counts: Literal["flop", "bytes"] = "bytes"
    shape = None
    most_slots = 1

    def __init__(self, torch: Any, devices: Sequence[ComputeDevice], *, message_bytes: int | None = None) -> None:
        if torch is None or not torch.distributed.is_available():
            raise UnsupportedPrecision("collectives are measured with torch.distributed, which is not installed here")
        first = devices[0]
        if first.kind not in BACKENDS:
            raise UnsupportedPrecision(f"collectives on {first.kind} are not known here; {', '.join(BACKENDS)} are")
        self.ranks = CPU_RANKS if first.is_cpu else len(devices)
        if self.ranks < 2:
            raise UnsupportedPrecision("a collective needs two devices on the node, and there is one")
        self._torch = torch
        self._device = first
        size = message_bytes or (CPU_MESSAGE_BYTES if first.is_cpu else ACCELERATOR_MESSAGE_BYTES)
        self._length = size // ELEMENT_BYTES
        port = _free_port()
        self._others = [
            _start_rank(rank, self.ranks, port, first if first.is_cpu else devices[rank], self._length)
            for rank in range(1, self.ranks)
        ]
        try:
            self._rank = Rank(torch, first, 0, self.ranks, port, self._length)
        except BaseException:
            self.close()
            raise

    @property
    def amount_per_piece(self) -> int:
        return round(self._length * ELEMENT_BYTES * 2 * (self.ranks - 1) / self.ranks)

    def prepare(self, rng: Generator, slots: int) -> None:
        pass

    def draw(self, rng: Generator, pieces: int) -> list[Pair]:
        return [(int(seed), 0) for seed in rng.integers(0, 2**20, size=pieces)]

    def run_batch(self, order: Sequence[Pair], first_slot: int) -> None:
        for seed, _ in order:
            self._rank.tell(seed)
            self._rank.sum(seed)
        self.settle()

    def settle(self) -> None:
        synchronise(self._torch, self._device)

    def check(self, slot: int, pair: Pair, rng: Generator) -> Fault | None:
        places = rng.integers(0, self._length, size=SAMPLED)
        message = self._rank.message
        found = message[self._torch.from_numpy(places).to(message.device)].cpu().numpy().astype(np.float64)
        wanted = sum(fill_value(rank, pair[0]) for rank in range(self.ranks)) + self.ranks * (places % 7)
        if not np.isfinite(found).all():
            return Fault(Verdict.NOT_FINITE, "a sum over the devices is NaN or Inf")
        if (found != wanted).any():
            return Fault(Verdict.WRONG_PRODUCT, f"{int((found != wanted).sum())} of {SAMPLED} sums are wrong")
        return None

    def facts(self, rng: Generator) -> None:
        return None

    def golden(self) -> None:
        return None

    def closing(self) -> Fault | None:
        return None

    def close(self) -> None:
        rank = getattr(self, "_rank", None)
        if rank is not None and all(other.poll() is None for other in self._others):
            rank.tell(STOP)
        if rank is not None:
            rank.leave()
        for other in self._others:
            try:
                other.wait(5 if rank is not None else 0)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()


class Rank:
    """One member. Rank 0 tells the number of each piece; the others wait for it."""

    def __init__(self, torch: Any, device: ComputeDevice, rank: int, ranks: int, port: int, length: int) -> None:
        from datetime import timedelta

        self._torch = torch
        self._number = rank
        self._where = torch_place(torch, device)
        if not device.is_cpu:
            if device.kind == "npu":
                importlib.import_module("torch_npu")
            getattr(torch, device.kind).set_device(device.index)
        torch.distributed.init_process_group(
            BACKENDS[device.kind],
            init_method=f"tcp://127.0.0.1:{port}",
            rank=rank,
            world_size=ranks,
            timeout=timedelta(seconds=JOIN_TIMEOUT_S),
        )
        self._steps = torch.arange(length, device=self._where).remainder(7).to(torch.float32)
        self.message = torch.zeros(length, dtype=torch.float32, device=self._where)
        self._word = torch.zeros(1, dtype=torch.int64, device=self._where)

    def tell(self, word: int) -> None:
        self._word.fill_(word)
        self._torch.distributed.broadcast(self._word, 0)

    def hear(self) -> int:
        self._torch.distributed.broadcast(self._word, 0)
        return int(self._word.item())

    def sum(self, seed: int) -> None:
        self._torch.add(self._steps, float(fill_value(self._number, seed)), out=self.message)
        self._torch.distributed.all_reduce(self.message)

    def leave(self) -> None:
        if self._torch.distributed.is_initialized():
            self._torch.distributed.destroy_process_group()


def other_rank(rank: int, ranks: int, port: int, kind: str, index: int, length: int) -> None:
    """The life of every rank but the first."""
    torch = importlib.import_module("torch")
    if kind == "cpu":
        torch.set_num_threads(1)
    device = ComputeDevice(kind, index, f"rank-{rank}", "", "")  # type: ignore[arg-type]
    member = Rank(torch, device, rank, ranks, port, length)
    while (seed := member.hear()) != STOP:
        member.sum(seed)
    member.leave()


def _start_rank(rank: int, ranks: int, port: int, device: ComputeDevice, length: int) -> subprocess.Popen[bytes]:
    code = "import sys; from benchmarks.workloads.collective import other_rank as r; a = sys.argv[1:]; "
    code += "r(int(a[0]), int(a[1]), int(a[2]), a[3], int(a[4]), int(a[5]))"
    told = [str(value) for value in (rank, ranks, port, device.kind, device.index, length)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path[1:]])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *told], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
