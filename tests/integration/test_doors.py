"""Who is let in to an instance that runs: no second one, nobody without a token, and a machine that joins with one."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.integration.instances import Instance, eventually, python


def test_a_second_up_is_refused_and_harms_nothing(instance: Instance) -> None:
    answer = instance.suanli("up", "--config", str(instance.config))
    assert answer.code == 5
    assert "already running" in answer.err
    assert instance.suanli("queue").code == 0


def test_a_request_without_a_token_is_refused_and_secrets_are_private(instance: Instance) -> None:
    started = instance.home.started()
    assert started is not None
    for url in (f"{started.api}/v1/jobs", f"{started.gateway}/v1/services/x/predict"):
        with pytest.raises(HTTPError) as refused:
            urlopen(url, timeout=5)
        assert refused.value.code == 401
    for path in [
        *instance.home.path.glob("*.json"),
        *instance.home.path.glob("*.token"),
        *instance.home.path.glob("secrets/*"),
    ]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_ray_lets_in_who_has_the_token_and_nobody_else(instance: Instance) -> None:
    started = instance.home.started()
    assert started is not None
    script = (
        "import ray\n"
        f"ray.init(address='{started.ray_address}', log_to_driver=False)\n"
        "print('let in', len(ray.nodes()), flush=True)\n"
    )
    right = instance.home.secret_file("ray_token").read_text().strip()
    assert "let in" in _as_ray_driver(script, right, within_s=30)
    assert "let in" not in _as_ray_driver(script, "0" * 64, within_s=8)


def _as_ray_driver(script: str, token: str, *, within_s: float) -> str:
    """What a driver with that token prints. A refused one tries for a long time; it is ended at the deadline."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        python(script),
        env=kept | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        return process.communicate(timeout=within_s)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def test_a_second_machine_joins_and_leaves(instance: Instance, tmp_path: Path) -> None:
    """The joining machine is this one under another name, with directories and a Ray node of its own."""
    started = instance.home.started()
    assert started is not None
    other = Instance(tmp_path)
    token = instance.home.secret_file("ray_token")
    process = other.popen(
        "node", "join", started.ray_address, "--site", "edge-cloud", "--name", "second", "--ray-token", str(token)
    )
    try:

        def node() -> bool:
            assert process.poll() is None, process.communicate()
            return any(n["name"] == "second" and n["state"] == "ready" for n in instance.get("/v1/nodes")["nodes"])

        eventually(node, within_s=45, what="the node joins")
        job_id = instance.submit(
            {
                "name": "over-there",
                "kind": "batch",
                "resources": {"device": "any", "count": 1, "node": "second"},
                "time_limit": "1m",
                "command": python("import os; print(os.environ['SUANLI_NODE'])"),
            }
        )
        assert instance.ended(job_id)["state"] == "succeeded"
        assert "second" in instance.suanli("logs", job_id).out
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.terminate()  # it must not outlive the test that fails here
            process.communicate(timeout=30)
            raise
    eventually(
        lambda: all(n["state"] == "down" for n in instance.get("/v1/nodes")["nodes"] if n["name"] == "second"),
        within_s=30,
        what="the node is seen to leave",
    )
