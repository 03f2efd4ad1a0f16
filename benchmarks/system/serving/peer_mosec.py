"""mosec with one of our models. Its workers are started by `spawn`, so their classes stand in a module of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mosec

from benchmarks.system.serving.peers import MAX_BATCH, plain, predict_of

MAX_WAIT_MS = 1


class Noop(mosec.Worker):  # type: ignore[misc]
    def __init__(self) -> None:
        self._predict = predict_of("noop")

    def forward(self, data: Any) -> Any:
        return {"outputs": plain(self._predict(data["inputs"]))}


class Mlp(mosec.Worker):  # type: ignore[misc]
    """Batches come as a list of what callers sent, one input each."""

    def __init__(self) -> None:
        self._predict = predict_of("mlp")

    def forward(self, data: Any) -> Any:
        return [{"outputs": [output]} for output in plain(self._predict([each["inputs"][0] for each in data]))]


def run(model: str, port: int, directory: Path) -> None:
    sys.argv = [
        "mosec",
        *("--address", "127.0.0.1", "--port", str(port)),
        *("--path", str(directory / "m"), "--timeout", "30000", "--log-level", "error"),
    ]
    os.environ["MOSEC_PORT"] = str(port)
    server = mosec.Server()
    if model == "mlp":
        server.append_worker(Mlp, num=1, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS)
    else:
        server.append_worker(Noop, num=1)
    server.run()
