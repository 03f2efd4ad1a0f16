"""A real replica process of a model that a test writes, and ways to ask it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET = "between-us"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]  # names in lower case

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


@dataclass
class ModelServer:
    process: subprocess.Popen[bytes]
    ready: Path
    stderr: Path

    @property
    def address(self) -> str:
        return self.ready.read_text().split("\n")[0]

    @property
    def unix_path(self) -> str:
        return self.ready.read_text().split("\n")[1]

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=20)

    def ask(
        self,
        path: str = "/predict",
        body: bytes | None = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        over: http.client.HTTPConnection | None = None,
    ) -> Answer:
        connection = over or self.connection()
        connection.request(method, path, body, {"X-Suanli-Replica-Secret": SECRET, **(headers or {})})
        response = connection.getresponse()
        answer = Answer(
            response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}
        )
        if over is None:
            connection.close()
        return answer

    def get(self, path: str) -> Answer:
        return self.ask(path, method="GET")

    def predict(self, *inputs: object) -> Answer:
        return self.ask(body=json.dumps({"inputs": inputs}).encode())

    def wait_busy(self) -> None:
        """Until the model is at a turn."""
        deadline_s = time.monotonic() + 15
        while not self.get("/-/health").json["busy_s"]:
            assert time.monotonic() < deadline_s, "the model has nothing to do"
            time.sleep(0.005)


@contextmanager
def serving(directory: Path, code: str, class_name: str = "Model", **environment: str) -> Iterator[ModelServer]:
    """`code` is the model's file. The replica is killed at the end if it still lives."""
    model, ready, stderr = directory / f"{class_name.lower()}.py", directory / "ready", directory / "stderr"
    ready.unlink(missing_ok=True)
    model.write_text(code)
    command = [sys.executable, "-m", "node_agent.serving", "--model", str(model), "--class", class_name]
    env = {**os.environ, "SUANLI_READY_FILE": str(ready), "SUANLI_REPLICA_SECRET": SECRET, **environment}
    with stderr.open("wb") as output:
        process = subprocess.Popen(command, env=env, stderr=output)
    try:
        deadline_s = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, stderr.read_text()
            assert time.monotonic() < deadline_s, "the replica is not ready"
            time.sleep(0.01)
        yield ModelServer(process, ready, stderr)
    finally:
        process.kill()
        process.wait(10)
