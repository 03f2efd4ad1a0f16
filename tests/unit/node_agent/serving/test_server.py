"""`python -m node_agent.serving` as its gateway, its agent and its tenant meet it: a real process on loopback."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODEL = """
import threading, time
from dataclasses import dataclass
from neighbour import FACTOR

@dataclass
class Row:
    tolist = lambda self: [1, 2]

class Model:
    def load(self):
        self.threads = set()
    def warm_up_inputs(self):
        return [1]
    def predict(self, batch):
        self.threads.add(threading.current_thread().name)
        if "boom" in batch:
            raise ValueError("no " + "boom")
        if "few" in batch:
            return []
        if "slow" in batch:
            time.sleep(0.4)
        known = {"nan": float("nan"), "set": {1}, "row": Row(), "threads": sorted(self.threads)}
        return [known.get(one, one * FACTOR) if isinstance(one, str) else one * FACTOR for one in batch]

class LoadRaises:
    def load(self):
        raise FileNotFoundError("weights.pt is not there")
    def predict(self, batch):
        return batch

class WarmUpRaises(Model):
    def warm_up_inputs(self):
        return ["boom"]

class NoPredict:
    pass
"""
SECRET = "between-us"


@dataclass
class Replica:
    process: subprocess.Popen[str]
    address: str

    def ask(
        self, path: str = "/predict", body: bytes | None = None, *, method: str = "POST", secret: str | None = SECRET
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        connection.request(method, path, body, {"X-Suanli-Replica-Secret": secret} if secret is not None else {})
        response = connection.getresponse()
        told = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        connection.close()
        return response.status, json.loads(told), headers

    def predict(self, *inputs: object) -> tuple[int, Any]:
        return self.ask(body=json.dumps({"inputs": inputs}).encode())[:2]


def command(path: Path, class_name: str) -> list[str]:
    return [sys.executable, "-m", "node_agent.serving", "--model", str(path), "--class", class_name]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.py"
    path.write_text(MODEL)
    path.with_name("neighbour.py").write_text("FACTOR = 2\n")
    return path


def start(model_file: Path, directory: Path) -> Replica:
    ready = directory / "ready"
    environment = {**os.environ, "SUANLI_READY_FILE": str(ready), "SUANLI_REPLICA_SECRET": SECRET}
    process = subprocess.Popen(command(model_file, "Model"), env=environment, text=True)
    deadline_s = time.monotonic() + 20
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            process.kill()
            raise AssertionError(f"the replica is not ready; exit code {process.wait()}")
        time.sleep(0.01)
    return Replica(process, ready.read_text())


@pytest.fixture(scope="module")
def replica(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    one = start(model_file, tmp_path_factory.mktemp("replica"))
    yield one
    one.process.terminate()
    assert one.process.wait(10) == 0


def test_predict(replica: Replica) -> None:
    assert replica.predict(1, 2.5, "ab") == (200, {"outputs": [2, 5.0, "abab"]})
    assert replica.predict() == (200, {"outputs": []})
    assert replica.predict("row") == (200, {"outputs": [[1, 2]]})
    assert replica.predict("threads") == (200, {"outputs": [["predict"]]})


@pytest.mark.parametrize(
    ("inputs", "status", "says"),
    [
        (["boom"], 500, "the model failed: ValueError: no boom"),
        (["few"], 500, "predict answered 0 outputs for 1 inputs"),
        (["nan"], 500, "cannot be written as JSON"),
        (["set"], 500, "an output holds a set"),
    ],
)
def test_a_model_that_fails_is_a_500_of_one_line(replica: Replica, inputs: list[str], status: int, says: str) -> None:
    got, answer = replica.predict(*inputs)
    assert (got, says in answer["error"]["message"]) == (status, True), answer
    assert "\n" not in answer["error"]["message"]
    assert replica.predict(1) == (200, {"outputs": [2]})


def test_a_failure_touches_nobody_else_of_its_batch(replica: Replica) -> None:
    with ThreadPoolExecutor(9) as pool:
        slow = pool.submit(replica.predict, "slow")  # while it runs, the others collect
        answers = [pool.submit(replica.predict, "boom" if n == 4 else n) for n in range(8)]
        assert slow.result()[0] == 200
        assert [answer.result()[0] for answer in answers] == [500 if n == 4 else 200 for n in range(8)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"[1]", 400),
        (b'{"inputs": 1}', 400),
        (b'{"input": [1]}', 400),
        (b"[" * 200_000, 400),
        (b'{"inputs": ["' + b"x" * (8 << 20) + b'"]}', 413),
    ],
    ids=["text", "list", "number", "misspelt", "deep", "large"],
)
def test_bad_bodies(replica: Replica, body: bytes, status: int) -> None:
    assert replica.ask(body=body)[0] == status


@pytest.mark.parametrize(
    ("method", "path", "secret", "status"),
    [
        ("GET", "/-/ready", SECRET, 200),
        ("GET", "/-/stats", SECRET, 200),
        ("GET", "/-/ready", None, 403),
        ("GET", "/-/ready", "between-u", 403),
        ("POST", "/predict", None, 403),
        ("POST", "/-/ready", SECRET, 405),
        ("GET", "/predict", SECRET, 405),
        ("GET", "/elsewhere", SECRET, 404),
    ],
)
def test_doors(replica: Replica, method: str, path: str, secret: str | None, status: int) -> None:
    got, answer, headers = replica.ask(
        path, b'{"inputs": [1]}' if method == "POST" else None, method=method, secret=secret
    )
    assert got == status, answer
    assert headers["x-suanli-resend"] == "safe"


def test_stats_count(replica: Replica) -> None:
    before = replica.ask("/-/stats", method="GET")[1]
    replica.predict(1, 2, 3)
    after = replica.ask("/-/stats", method="GET")[1]
    assert (after["inputs"] - before["inputs"], after["batches"] - before["batches"]) == (3, 1)
    assert after["answers"]["200"] > before["answers"]["200"]


def test_sigterm_finishes_what_is_in_flight_and_exits_0(model_file: Path, tmp_path: Path) -> None:
    one = start(model_file, tmp_path)
    try:
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(one.predict, "slow")
            deadline_s = time.monotonic() + 10
            while not one.ask("/-/health", method="GET")[1]["busy_s"]:
                assert time.monotonic() < deadline_s
            one.process.send_signal(signal.SIGTERM)
            assert slow.result() == (200, {"outputs": ["slowslow"]})
        assert one.process.wait(10) == 0
    finally:
        one.process.kill()
        one.process.wait(5)


@pytest.mark.parametrize(
    ("file", "class_name", "says"),
    [
        ("model.py", "LoadRaises", "weights.pt is not there"),
        ("model.py", "WarmUpRaises", "warming up WarmUpRaises"),
        ("model.py", "NoPredict", "has no predict(batch)"),
        ("model.py", "Elsewhere", "has no class Elsewhere"),
        ("missing.py", "Model", "does not exist on this node"),
        ("broken.py", "Model", "importing"),
    ],
)
def test_a_model_that_cannot_be_served_says_so_and_exits_1(
    model_file: Path, tmp_path: Path, file: str, class_name: str, says: str
) -> None:
    model_file.with_name("broken.py").write_text("def (")
    ready = tmp_path / "ready"
    ran = subprocess.run(
        command(model_file.with_name(file), class_name),
        env={**os.environ, "SUANLI_READY_FILE": str(ready)},
        check=False,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ran.returncode == 1
    last_line = ran.stderr.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    assert says in last_line
    assert not ready.exists()
