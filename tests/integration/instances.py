"""An instance of Suanli with a Ray of its own, spoken to as an operator does: every verb is a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scheduler.cli import instance
from scheduler.cli.instance import Home, ProcessId, processes_of_session, strays
from scheduler.errors import SuanliError

REPOSITORY = Path(__file__).resolve().parents[2]
H100 = "H100 SXM"
ENDED = ("succeeded", "failed", "cancelled")


def eventually(condition: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """The condition's first true value; fails the test past the deadline."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Instance:
    """An instance in a home of its own. Every verb is a real process."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        """`changes` of the site file's top level, such as lease="10s"."""
        self.directory = directory
        self.home = Home(directory / "home")
        self.config = directory / "site.yaml"
        site = yaml.safe_load((REPOSITORY / "configs" / "local.yaml").read_text())
        site["include"] = {key: str(REPOSITORY / "configs" / name) for key, name in site["include"].items()}
        site["api"]["port"] = site["gateway"]["port"] = 0
        site["node"]["name"] = "this-machine"
        for group in site["simulated_nodes"]:
            group["count"] = 1
        self.config.write_text(yaml.safe_dump(site | changes, allow_unicode=True))

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUANLI_", "RAY_"))}
        return kept | {"SUANLI_HOME": str(self.home.path)}

    def popen(self, *arguments: str, prefix: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "scheduler.cli", *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def suanli(self, *arguments: str, timeout_s: float = 90) -> Answer:
        process = self.popen(*arguments)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return Answer(process.returncode, out, err)

    def up(self) -> None:
        answer = self.suanli("up", "--config", str(self.config))
        assert answer.code == 0, answer.err

    def submit(self, job: Mapping[str, Any]) -> str:
        path = self.directory / f"job-{time.monotonic_ns()}.yaml"
        path.write_text(yaml.safe_dump({"working_dir": str(self.directory), **job}))
        answer = self.suanli("submit", "-q", str(path))
        assert answer.code == 0, answer.err
        return answer.out.strip()

    def get(self, path: str) -> Any:
        from scheduler.cli.client import Client

        return Client.from_home(self.home.path).get(path)

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/v1/jobs/{job_id}"))

    def ended(self, job_id: str, *, within_s: float = 60) -> dict[str, Any]:
        eventually(lambda: self.job(job_id)["state"] in ENDED, within_s=within_s, what=f"job {job_id} ends")
        return self.job(job_id)

    def in_state(self, job_id: str, state: str, *, within_s: float = 30) -> dict[str, Any]:
        eventually(lambda: self.job(job_id)["state"] == state, within_s=within_s, what=f"job {job_id} is {state}")
        return self.job(job_id)

    # -- what dies and comes back ----------------------------------------------------------------------------------

    def part(self, name: str) -> ProcessId:
        """`ray`, `gateway`, `service` or `supervisor`, as it was started last."""
        started = self.home.started()
        assert started is not None
        return started.processes[name]

    def kill(self, name: str) -> ProcessId:
        """SIGKILL a part; its process."""
        process = self.part(name)
        process.signal(signal.SIGKILL)
        assert process.wait_gone(5)
        return process

    def ray_process(self, program: str) -> ProcessId:
        """`gcs_server` or `raylet` of the head's machine."""
        return program_of(self.part("ray"), program)

    def answers(self, *, within_s: float = 30) -> None:
        """The service answers, perhaps another one than before."""
        eventually(self._answers, within_s=within_s, what="the service answers")

    def _answers(self) -> bool:
        try:
            self.get("/v1/status")
        except SuanliError:
            return False
        return True

    def node(self, name: str) -> dict[str, Any]:
        return next((dict(node) for node in self.get("/v1/nodes")["nodes"] if node["name"] == name), {"state": "none"})

    def agent(self, name: str) -> dict[str, Any]:
        """The agent of that name: its `pid`, `launcher_pid` and `nodes`."""
        return next(dict(agent) for agent in self.get("/v1/status")["agents"] if agent["node"] == name)

    def leftovers(self) -> dict[str, Any]:
        """What is left of this instance: marked processes, its runtime directory. Empty values when all is gone."""
        return {
            "processes": [process.pid for process in strays(self.home.identity)],
            "runtime": [str(path) for path in self.home.runtime_dir.rglob("*")]
            if self.home.runtime_dir.exists()
            else [],
        }

    def down(self) -> None:
        started = self.home.started()
        answer = self.suanli("down")
        assert answer.code == 0, answer.err
        assert self.leftovers() == {"processes": [], "runtime": []}
        if started is not None and "ray" in started.processes:
            assert processes_of_session(started.processes["ray"].pid) == []


def program_of(leader: ProcessId, program: str) -> ProcessId:
    """The process of that program in the session that `leader` leads."""

    def find() -> ProcessId | None:
        pids = processes_of_session(leader.pid)
        return next((ProcessId.of(pid) for pid in pids if instance.program_of(pid) == program), None)

    found = eventually(find, within_s=30, what=f"{program} runs")
    assert isinstance(found, ProcessId)
    return found


def demand(device: str = H100, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"device": device, "count": count, "cpus": 1, "simulated": True, **more}


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


UNTIL_ASKED = [sys.executable, str(Path(__file__).with_name("until_asked.py"))]
"""Works until it is asked to save and go; its next attempt ends and tells, as `resumed_from`, what was saved."""
