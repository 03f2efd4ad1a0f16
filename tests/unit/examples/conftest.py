"""Runs an example as an agent would: own environment, files for its result, its acknowledgement and its checkpoints."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Run:
    process: subprocess.Popen[str]
    result_file: Path
    ack: Path
    lines: list[str] = field(default_factory=list)

    def read_until(self, start: str) -> str:
        """The first line that begins so; what came before is kept in `lines`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith(start):
                return line.rstrip()
        raise AssertionError(f"{start!r} never came; exit code {self.process.wait(10)}: {self.lines}")

    def end(self, timeout_s: float = 30.0) -> int:
        out, _ = self.process.communicate(timeout=timeout_s)
        self.lines += out.splitlines()
        return self.process.returncode

    @property
    def result(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.result_file.read_text())
        return told

    def ask_for_checkpoint(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def wait_ack(self, timeout_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self.ack.exists():
            assert self.process.poll() is None, self.lines
            assert time.monotonic() < deadline_s, "no acknowledgement"
            time.sleep(0.01)


class Runs:
    """`attempt()` starts workers of one attempt; whatever is left when the test ends is killed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runs: list[Run] = []

    def attempt(self, number: int, *command: str, workers: int = 1, resume_from: int | None = None) -> list[Run]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return [self._start(number, worker, command, workers, port, resume_from) for worker in range(workers)]

    def checkpoint_dir(self, number: int) -> Path:
        return self._directory / f"attempt-{number}"

    def _start(
        self, number: int, worker: int, command: tuple[str, ...], workers: int, port: int, resume_from: int | None
    ) -> Run:
        result_file = self._directory / f"result-{number}-{worker}"
        ack = self._directory / f"ack-{number}-{worker}"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "SUANLI_RESULT_FILE": str(result_file),
            "SUANLI_CHECKPOINT_ACK": str(ack),
            "SUANLI_CHECKPOINT_DIR": str(self.checkpoint_dir(number)),
            "RANK": str(worker),
            "WORLD_SIZE": str(workers),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        if resume_from is not None:
            environment["SUANLI_RESUME_FROM"] = str(self.checkpoint_dir(resume_from))
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        self._runs.append(Run(process, result_file, ack))
        return self._runs[-1]

    def close(self) -> None:
        for run in self._runs:
            run.process.kill()
            run.process.communicate(timeout=10)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)
    yield made
    made.close()
