"""Services on one store, as processes that are really killed, stopped and told to go: one leads, and a replaced one is
refused. Without Ray: what nodes and gateway refuse is in their own tests, the whole of it in tests/integration."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scheduler.cli.instance import free_port
from scheduler.ports import Principal
from scheduler.store.sql import open_store
from scheduler.tokens import issue
from tests.fakes.postgres import PostgresServer
from tests.fakes.processes import eventually
from tests.survival.conftest import Figures

REPOSITORY = Path(__file__).resolve().parents[2]
TAKES_OVER_WITHIN_S = 10.0
TIMES = [0, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(1, 10))]


@dataclass
class ServiceProcess:
    """One service; `answer` is its status and what it says, or None where nobody answers."""

    url: str
    tokens: Path
    token: str
    log: Path
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.leading_service", self.url, str(self.port), str(self.tokens)],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=log,
                stderr=log,
            )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str = "GET", path: str = "/v1/status", body: object = None) -> tuple[int, Any] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def submit(self, name: str) -> tuple[int, Any] | None:
        return self.answer("POST", "/v1/jobs", {"job": {"name": name}})

    def leads(self) -> bool:
        answer = self.answer()
        return answer is not None and answer[0] == 200

    def stands_by_for(self, other: ServiceProcess) -> bool:
        answer = self.answer("GET", "/v1/health")
        if answer is None or answer[1].get("status") != "standby":
            return False
        status, said = answer
        return status == 503 and said["leader"] == other.address and other.address in said["error"]["message"]

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait(timeout=10)


@dataclass
class Pair:
    first: ServiceProcess
    second: ServiceProcess
    url: str

    def started(self) -> Pair:
        self.first.start()
        eventually(self.first.leads, "the first service leads", within_s=30)
        self.second.start()
        eventually(lambda: self.second.stands_by_for(self.first), "the second stands by for it", within_s=30)
        return self

    def names(self) -> list[str]:
        store = open_store(self.url)
        try:
            return sorted(job.spec.name for job in store.recent_jobs(tenant=None, states=None, limit=100))
        finally:
            store.close()


def pair_on(url: str, directory: Path) -> Pair:
    tokens = directory / "tokens.json"
    token = issue(tokens, Principal("op", "site", "operator", "highest"))
    first, second = (ServiceProcess(url, tokens, token, directory / f"{name}.log") for name in ("first", "second"))
    return Pair(first, second, url)


@pytest.fixture
def pair(postgres: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    made = pair_on(postgres.new_database(), tmp_path)
    yield made
    for each in (made.first, made.second):
        each.end()


def test_a_standby_refuses_everything_and_names_the_leader(pair: Pair) -> None:
    pair.started()
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/metrics"), ("GET", "/nothing")):
        answer = pair.second.answer(method, path, {} if method == "POST" else None)
        assert answer is not None
        status, said = answer
        assert (status, said["error"]["type"], said["leader"]) == (503, "unavailable", pair.first.address)
        assert said["error"]["message"] == f"this is a standby; the service is at {pair.first.address} (epoch 1)"
    assert pair.first.submit("a") is not None
    assert pair.names() == ["a"]


@pytest.mark.parametrize("number", TIMES)
def test_a_leader_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(
    pair: Pair, number: int, figures: Figures
) -> None:
    pair.started()
    acknowledged = []
    for n in range(20):
        answer = pair.first.submit(f"job-{n:02}")
        assert answer is not None
        acknowledged.append(answer[1]["jobs"][0]["name"])
    pair.first.signal(signal.SIGKILL)
    began_s = time.monotonic()
    eventually(pair.second.leads, "the standby leads", within_s=TAKES_OVER_WITHIN_S)
    figures.saw("from the leader's SIGKILL to the standby's first answer", time.monotonic() - began_s)
    status = pair.second.answer()
    assert status is not None
    assert status[1]["epoch"] == 2
    assert pair.names() == acknowledged
    answer = pair.second.submit("after")
    assert answer is not None
    assert answer[0] == 201
    assert pair.first.process is not None
    pair.first.process.wait(timeout=10)
    pair.first.start()
    eventually(lambda: pair.first.stands_by_for(pair.second), "the first stands by when it is back", within_s=30)


@pytest.mark.parametrize("number", TIMES)
def test_a_leader_that_is_stopped_is_replaced_and_refused_when_it_goes_on(
    pair: Pair, number: int, figures: Figures
) -> None:
    """Its process lives and its connections are open: only its silence tells. When it goes on, it believes it leads."""
    pair.started()
    assert pair.first.submit("before") is not None
    pair.first.signal(signal.SIGSTOP)
    began_s = time.monotonic()
    eventually(pair.second.leads, "the standby leads", within_s=TAKES_OVER_WITHIN_S)
    figures.saw("from the leader's SIGSTOP to the standby's first answer", time.monotonic() - began_s)
    assert pair.second.submit("meanwhile") is not None
    pair.first.signal(signal.SIGCONT)
    answer = pair.first.submit("too late")  # None: it has closed its door already
    assert answer is None or answer[0] in (409, 503), answer
    eventually(lambda: pair.first.stands_by_for(pair.second), "the replaced one stands by", within_s=30)
    assert pair.first.process is not None
    assert pair.first.process.poll() is None  # the same process, started over
    assert pair.second.leads()
    assert pair.names() == ["before", "meanwhile"]
    pair.second.signal(signal.SIGKILL)
    eventually(pair.first.leads, "the first leads again", within_s=TAKES_OVER_WITHIN_S)
    status = pair.first.answer()
    assert status is not None
    assert status[1]["epoch"] == 3


def test_a_leader_that_is_told_to_go_hands_over(pair: Pair) -> None:
    pair.started()
    pair.first.signal(signal.SIGTERM)
    eventually(pair.second.leads, "the standby leads", within_s=TAKES_OVER_WITHIN_S)
    assert pair.first.process is not None
    assert pair.first.process.wait(timeout=15) == 0


def test_a_standby_that_is_told_to_go_goes(pair: Pair) -> None:
    pair.started()
    pair.second.signal(signal.SIGTERM)
    assert pair.second.process is not None
    assert pair.second.process.wait(timeout=15) == 0
    assert pair.first.leads()


def test_a_database_that_is_restarted_keeps_its_leader(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """All locks go with it. Who led goes on if it is first, without a new epoch; there is one leader in any case."""
    pair = pair_on(own_postgres.new_database(), tmp_path)
    try:
        pair.started()
        own_postgres.kill()
        refused = pair.first.submit("refused")
        assert refused is not None
        assert (refused[0], refused[1]["error"]["type"]) == (503, "unavailable")
        own_postgres.start()

        def one_leads() -> bool:
            return [pair.first.leads(), pair.second.leads()].count(True) == 1

        eventually(one_leads, "one of them leads", within_s=30)
        deadline_s = time.monotonic() + 30
        while True:
            leader = pair.first if pair.first.leads() else pair.second
            answer = leader.submit("taken")
            if answer is not None and answer[0] == 201:
                break
            assert time.monotonic() < deadline_s, answer
        eventually(one_leads, "one of them leads", within_s=30)
        other = pair.second if leader is pair.first else pair.first
        eventually(lambda: other.stands_by_for(leader), "the other stands by", within_s=30)
        assert pair.names() == ["taken"]
    finally:
        for each in (pair.first, pair.second):
            each.end()


def test_two_services_on_one_file_do_not_both_lead(tmp_path: Path) -> None:
    pair = pair_on(f"sqlite:///{tmp_path / 'store.db'}", tmp_path)
    try:
        pair.started()
        pair.first.signal(signal.SIGKILL)
        eventually(pair.second.leads, "the standby leads", within_s=TAKES_OVER_WITHIN_S)
    finally:
        for each in (pair.first, pair.second):
            each.end()
