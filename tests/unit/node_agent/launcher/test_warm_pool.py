"""An interpreter that was started beforehand becomes a replica that cannot be told from one started afresh."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from node_agent.execution import rendezvous
from node_agent.launcher.procfs import has_in_environment
from node_agent.launcher.warm_pool import MEETING, Kind
from node_agent.serving.warm import heavy_imports
from tests.fakes.launcher_rig import ROOT, LauncherRig
from tests.fakes.processes import eventually, lives

MODEL = """
import numpy
import os, sys

class Model:
    def predict(self, batch):
        env = dict(os.environ)
        told = {"env": env, "cwd": os.getcwd(), "path": sys.path, "argv": sys.argv[1:], "pid": os.getpid()}
        told |= {"session": os.getsid(0), "stdin": os.readlink("/proc/self/fd/0")}
        told |= {"stdout": os.readlink("/proc/self/fd/1")}
        told |= {"fds": sorted(os.listdir("/proc/self/fd"))}
        return [told] * len(batch)
"""


class Pool:
    """A launcher that serves models, and its warm interpreter."""

    def __init__(self, rig: LauncherRig) -> None:
        self.rig = rig
        self.model = rig.directory / "model.py"
        self.model.write_text(MODEL)

    def serve(self, key: str, **env: str) -> int:
        argv = (sys.executable, "-m", "node_agent.serving", "--model", str(self.model), "--class", "Model")
        mine = dict(self.rig.order(key, *argv).env)
        mine |= {"SUANLI_READY_FILE": str(self.ready(key)), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
        return self.rig.launch(key, *argv, env=tuple(mine.items()), lease_bound=False)

    def ready(self, key: str) -> Path:
        return self.rig.directory / f"{key}.ready"

    def warm(self, taken: int = 0) -> int:
        """The pid of one that waits, once there is one; `taken` is not it any more, though it looks the same."""

        def waiting() -> list[int]:
            return [pid for pid in self._children() if _is_warm(pid) and pid != taken]

        return eventually(waiting, "a warm interpreter")[0]

    def _children(self) -> list[int]:
        assert self.rig.process is not None
        pid = self.rig.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def taken(self) -> tuple[str, int]:
        """The key and the pid of a replica that the warm interpreter has become."""
        warm = self.warm()
        for number in range(50):  # the first ones may come while it still imports
            key = f"try{number}"
            if self.serve(key) == warm:
                return key, warm
            self.tell(key)
        raise AssertionError("the warm interpreter is never taken")

    def tell(self, key: str) -> dict[str, Any]:
        eventually(self.ready(key).exists, f"{key} is ready", 30.0)
        connection = http.client.HTTPConnection(self.ready(key).read_text(), timeout=20)
        connection.request("POST", "/predict", b'{"inputs": [0]}')
        told: dict[str, Any] = json.loads(connection.getresponse().read())["outputs"][0]
        connection.close()
        return told


def _is_warm(pid: int) -> bool:
    try:
        return b"node_agent.serving.warm" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.fixture
def pool(rig: LauncherRig) -> Pool:
    rig.start()
    return Pool(rig)


def test_what_was_warm_is_as_what_was_started_afresh(pool: Pool) -> None:
    pool.serve("first")
    fresh = pool.tell("first")
    key, pid = pool.taken()
    warm = pool.tell(key)
    assert (warm["pid"], warm["session"]) == (pid, pid)
    for told, own in ((fresh, "first"), (warm, key)):
        assert told["env"].pop("SUANLI_RESULT_FILE").endswith(f"{own}.result")
        assert told["env"].pop("SUANLI_READY_FILE").endswith(f"{own}.ready")
        assert told.pop("stdout").endswith(f"{own}.out")
        told.pop("pid"), told.pop("session")
    assert warm == fresh
    result = str(pool.rig.directory / f"{key}.result")
    assert has_in_environment(pid, f"SUANLI_RESULT_FILE={result}")  # by which any launcher tells the run's processes
    assert "serving Model on" in (pool.rig.directory / f"{key}.out").read_text()
    pool.rig.ask("signal", key=key, signal=int(signal.SIGTERM))
    assert pool.rig.outcome(key) == ("exit", 0)


def test_one_of_another_environment_is_started_afresh(pool: Pool) -> None:
    pool.serve("first")
    warm = pool.warm()
    assert pool.serve("other", OMP_NUM_THREADS="2") != warm
    assert pool.tell("other")["env"]["OMP_NUM_THREADS"] == "2"


def test_a_warm_interpreter_goes_with_its_launcher_and_a_run_does_not(pool: Pool) -> None:
    pool.serve("first")
    key, pid = pool.taken()
    warm = pool.warm(taken=pid)  # the next one
    pool.rig.kill()
    eventually(lambda: not lives(warm), "the end of the warm interpreter")
    assert lives(pid)
    pool.rig.start()
    assert pool.rig.table()[key].pid == pid
    assert pool.tell(key)["pid"] == pid
    pool.rig.ask("signal", key=key, signal=int(signal.SIGTERM))
    assert pool.rig.outcome(key) == ("unknown", None)


def test_one_that_is_killed_is_missed_by_nobody(pool: Pool) -> None:
    pool.serve("first")
    warm = pool.warm()
    os.kill(warm, signal.SIGKILL)
    eventually(lambda: not lives(warm))
    assert pool.serve("second") != warm
    assert pool.tell("second")["cwd"] == str(pool.rig.directory)


def test_the_end_of_a_run_does_not_sweep_the_pool_away(pool: Pool) -> None:
    pool.serve("first")
    warm = pool.warm()
    pool.rig.launch("short", "true")
    pool.rig.ended("short")
    pool.rig.launch("short2", "true")
    pool.rig.ended("short2")
    assert lives(warm)


def test_what_tells_the_workers_of_a_job_apart_tells_no_kinds_apart() -> None:
    assert rendezvous.NAMES == MEETING


def test_which_orders_are_of_a_kind(rig: LauncherRig) -> None:
    argv = ("python", "-m", "node_agent.serving", "--model", "m.py", "--class", "M")
    env = {"PATH": "/bin", "A": "1"}

    def kind(**changes: str) -> Kind | None:
        return Kind.of(rig.order("k", *argv, env=tuple((env | changes).items())))

    assert kind() == kind(SUANLI_ATTEMPT="2", CUDA_VISIBLE_DEVICES="3", PET_RDZV_ID="7-1", SUANLI_REPLICA_SECRET="x")
    assert kind() != kind(A="2")
    assert kind() != kind(OMP_NUM_THREADS="4")
    assert kind() != kind(SUANLI_INSTANCE="other")
    assert Kind.of(rig.order("k", "python", "-m", "http.server")) is None


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (b"import torch, os\nfrom numpy import array", ["numpy", "torch"]),
        (b"import torch.nn as nn", ["torch"]),
        (b"def f():\n    import torch", []),
        (b"from . import torch", []),
        (b"def (", []),
    ],
)
def test_what_a_models_file_imports_at_its_top(source: bytes, names: list[str]) -> None:
    assert heavy_imports(source) == names
