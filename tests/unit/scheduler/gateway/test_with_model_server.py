"""Gateway and model servers together: replicas that go, by signal or by accident, cost no caller an answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.workloads.http_load import LoadResult, run_load
from scheduler.ports import Replica, Route
from tests.unit.scheduler.gateway.conftest import Gateway

CLIENTS = 4


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[tuple[subprocess.Popen[bytes], str]]]:
    model = tmp_path / "same.py"
    model.write_text("class Same:\n    def predict(self, batch):\n        return batch\n")
    command = [sys.executable, "-m", "node_agent.serving", "--model", str(model), "--class", "Same"]
    started = []
    for number in range(2):
        ready = tmp_path / f"ready-{number}"
        environment = {**os.environ, "SUANLI_READY_FILE": str(ready), "SUANLI_REPLICA_SECRET": "secret"}
        started.append((subprocess.Popen(command, env=environment), ready))
    try:
        deadline_s = time.monotonic() + 30
        while not all(ready.exists() for _, ready in started):
            assert time.monotonic() < deadline_s, "the replicas are not ready"
            time.sleep(0.01)
        yield [(process, ready.read_text()) for process, ready in started]
    finally:
        for process, _ in started:
            process.kill()
            process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_replica_that_goes_under_load_costs_at_most_what_it_was_answering(
    gateway: Gateway, replicas: list[tuple[subprocess.Popen[bytes], str]], number: signal.Signals
) -> None:
    told = tuple(Replica("7", worker, 1, address, False) for worker, (_, address) in enumerate(replicas))
    gateway.put(Route("chat", "film", 5, None, told, "secret"))
    url = f"{gateway.url}/v1/services/chat/predict"
    results: list[LoadResult] = []

    def load() -> None:
        results.append(run_load(url, "film", b'{"inputs": [1]}', duration_s=1.2, clients=CLIENTS))

    thread = threading.Thread(target=load)
    thread.start()
    gateway.wait(lambda service: service["requests"] > 100)
    replicas[0][0].send_signal(number)
    thread.join(30)
    assert replicas[0][0].wait(10) == (0 if number == signal.SIGTERM else -number)
    (result,) = results
    if number == signal.SIGTERM:
        assert (result.errors, result.ok) == ({}, result.sent)
        assert gateway.service()["answers"] == {"200": result.ok}
    else:  # an answer that had begun when its replica was killed cannot be had elsewhere; all others can
        assert result.sent - result.ok <= CLIENTS, result.errors
        assert result.ok > 100


def test_a_replica_that_stands_still_costs_at_most_what_it_was_answering(
    gateway: Gateway, replicas: list[tuple[subprocess.Popen[bytes], str]]
) -> None:
    """As a node without power does it: connections to it look well, and nothing comes. It is back when it answers."""
    told = tuple(Replica("7", worker, 1, address, False) for worker, (_, address) in enumerate(replicas))
    gateway.put(Route("chat", "film", 5, None, told, "secret"))
    url = f"{gateway.url}/v1/services/chat/predict"
    results: list[LoadResult] = []

    def load() -> None:
        deadline = (("X-Suanli-Timeout-Ms", "700"),)
        results.append(run_load(url, "film", b'{"inputs": [1]}', duration_s=1.5, clients=CLIENTS, headers=deadline))

    thread = threading.Thread(target=load)
    thread.start()
    gateway.wait(lambda service: service["requests"] > 100)
    replicas[0][0].send_signal(signal.SIGSTOP)
    gateway.wait(lambda service: [one["reachable"] for one in service["replicas"]] == [False, True])
    thread.join(30)
    (result,) = results
    assert result.sent - result.ok <= CLIENTS, result.errors
    assert result.ok > 100
    replicas[0][0].send_signal(signal.SIGCONT)
    gateway.wait(lambda service: all(one["reachable"] for one in service["replicas"]))


def test_replicas_that_come_and_go_in_the_table_cost_no_request(
    gateway: Gateway, replicas: list[tuple[subprocess.Popen[bytes], str]]
) -> None:
    told = [Replica("7", worker, 1, address, False) for worker, (_, address) in enumerate(replicas)]
    tables = [Route("chat", "film", 5, None, which, "secret") for which in ((told[0],), (told[1],), tuple(told))]
    gateway.put(tables[0])
    results: list[LoadResult] = []

    def load() -> None:
        url = f"{gateway.url}/v1/services/chat/predict"
        results.append(run_load(url, "film", b'{"inputs": [1]}', requests=1500, clients=CLIENTS))

    thread = threading.Thread(target=load)
    thread.start()
    changes = 0
    while thread.is_alive():
        changes += 1
        gateway.put(tables[changes % 3])
    thread.join(30)
    (result,) = results
    assert (result.errors, result.ok) == ({}, 1500)
    assert changes > 10
