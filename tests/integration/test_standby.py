"""A standby on a real cluster: the leader is stopped, the standby takes its nodes and jobs over, and the old leader is
refused by store, nodes and gateway when it goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scheduler.cli.client import Client
from scheduler.cli.instance import Home, free_port
from scheduler.errors import SuanliError
from tests.fakes.postgres import PostgresServer
from tests.integration.instances import REPOSITORY, Instance, demand, eventually

TAKES_OVER_WITHIN_S = 10.0


class Standby:
    """On the machine of the instance, with a home and a door of its own."""

    def __init__(self, instance: Instance, directory: Path) -> None:
        self.home = Home(directory / "standby")
        self.home.create()
        for name in ("secrets/ray_token", "secrets/service_secret", "secrets/gateway_control", "tokens.json"):
            shutil.copy2(instance.home.path / name, self.home.path / name)
        shutil.copy2(instance.home.operator_token, self.home.operator_token)
        started = instance.home.started()
        assert started is not None
        self.port = free_port("127.0.0.1")
        self.log = directory / "standby.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "scheduler.cli", "standby", "--config", str(instance.config)),
                    *("--ray", started.ray_address, "--gateway", started.gateway, "--api-port", str(self.port)),
                ],
                env={**instance.environment, "SUANLI_HOME": str(self.home.path)},
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )

    def says(self) -> str:
        if not (self.home.path / "client.json").exists():
            return "not started"
        try:
            status = self.client().get("/v1/status")
            return f"leads, epoch {status['epoch']}"
        except SuanliError as error:
            return error.message

    def client(self) -> Client:
        return Client.from_home(self.home.path)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()


@pytest.fixture
def leading(postgres: PostgresServer, tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path)
    site = yaml.safe_load(made.config.read_text())
    site["store"] = postgres.new_database()
    made.config.write_text(yaml.safe_dump(site, allow_unicode=True))
    made.up()
    yield made
    made.suanli("down")
    assert made.leftovers() == {"processes": [], "runtime": []}


def test_a_standby_takes_over_nodes_and_jobs_and_the_old_leader_is_refused(leading: Instance, tmp_path: Path) -> None:
    instance = leading
    mark = tmp_path / "runs"
    script = f"import os, time; open({str(mark)!r}, 'a').write(str(os.getpid()) + '\\n'); time.sleep(600)"
    job = {"kind": "batch", "resources": demand(), "time_limit": "20m"}
    job_id = instance.submit({**job, "name": "long", "command": [sys.executable, "-c", script]})
    instance.in_state(job_id, "running")
    started = instance.home.started()
    assert started is not None
    leader = started.processes["service"]
    standby = Standby(instance, tmp_path)
    try:
        eventually(lambda: started.api in standby.says(), within_s=40, what="the standby names the leader")
        leader.signal(signal.SIGSTOP)
        eventually(lambda: standby.says() == "leads, epoch 2", within_s=TAKES_OVER_WITHIN_S, what="the standby leads")
        client = standby.client()
        eventually(
            lambda: {node["state"] for node in client.get("/v1/nodes")["nodes"]} == {"ready"},
            within_s=30,
            what="all nodes answer the new leader",
        )
        assert client.get(f"/v1/jobs/{job_id}")["state"] == "running"
        quick = client.post("/v1/jobs", {"job": {**job, "name": "quick", "command": ["true"]}})["jobs"][0]["id"]
        ended = eventually(
            lambda: (view := client.get(f"/v1/jobs/{quick}"))["state"] == "succeeded" and view,
            within_s=30,
            what="a job of the new leader ends",
        )
        assert ended["attempt"] == 1
        leader.signal(signal.SIGCONT)
        eventually(
            lambda: f"this is a standby; the service is at http://127.0.0.1:{standby.port}" in _said(instance),
            within_s=30,
            what="the old leader stands by",
        )
        assert leader.alive()
        assert client.get("/v1/status")["epoch"] == 2
        assert client.get(f"/v1/jobs/{job_id}")["state"] == "running"
        assert len(mark.read_text().split()) == 1
        os.kill(int(mark.read_text()), 0)
        client.post(f"/v1/jobs/{job_id}/cancel", {})
    finally:
        standby.end()
    eventually(lambda: _said(instance) == "", within_s=30, what="the first service leads again")
    assert instance.ended(job_id)["state"] == "cancelled"


def _said(instance: Instance) -> str:
    """What the API refuses with; empty where it answers."""
    try:
        instance.get("/v1/status")
    except SuanliError as error:
        return error.message
    return ""
