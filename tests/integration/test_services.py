"""Versions of a service, on real replicas behind a real gateway: the better takes over, the worse goes back."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.integration.instances import Instance, eventually

MODEL = """
class Model:
    def predict(self, batch):
        {body}
        return ["{name}"] * len(batch)
"""


def deploy(instance: Instance, directory: Path, name: str, body: str = "pass", **fields: Any) -> None:
    (directory / f"{name}.py").write_text(MODEL.format(name=name, body=body))
    job = {
        "name": "versioned",
        "kind": "inference",
        "model": f"{directory / name}.py:Model",
        "working_dir": str(directory),
        "replicas": {"min": 0, "max": 2},
        "resources": {"cpus": 0.05, "share": 0.05},
        "slo": {"p99_ms": 2000},
        **fields,
    }
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    answer = instance.suanli("service", "deploy", str(path))
    assert answer.code == 0, answer.err


def shown(instance: Instance) -> dict[str, Any]:
    return dict(json.loads(instance.suanli("service", "show", "versioned", "-o", "json").out))


class Callers:
    """Ask, one after the other, until they are told to stop. `heard` counts answers by their word or status."""

    def __init__(self, instance: Instance) -> None:
        doors = json.loads((instance.home.path / "client.json").read_text())
        token = Path(doors["token_file"]).read_text().strip()
        self._request = urllib.request.Request(
            f"{doors['gateway']}/v1/services/versioned/predict",
            data=b'{"inputs": [1]}',
            headers={"Authorization": f"Bearer {token}", "X-Suanli-Timeout-Ms": "20000"},
        )
        self.heard: Counter[str] = Counter()
        self._stop = threading.Event()

    def ask(self) -> str:
        try:
            with urllib.request.urlopen(self._request, timeout=30) as answer:
                return str(json.load(answer)["outputs"][0])
        except urllib.error.HTTPError as error:
            return str(error.code)

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self.heard[self.ask()] += 1


def test_a_better_version_takes_over_and_a_worse_one_is_given_up(instance: Instance, tmp_path: Path) -> None:
    quick = {"canary": {"steps": [50, 100], "step": "1s", "min_requests": 20}}
    deploy(instance, tmp_path, "first")
    callers = Callers(instance)
    try:
        assert callers.ask() == "first", "a service without a replica wakes at its first request"
        with callers.asking():
            deploy(instance, tmp_path, "second", **quick)
            eventually(lambda: states(instance) == {1: "stopped", 2: "live"}, within_s=60, what="version 2 is live")
            assert set(callers.heard) == {"first", "second"}, "nobody noticed but by the answer"
            deploy(instance, tmp_path, "third", body="raise ValueError('no')", **quick)
            eventually(lambda: states(instance)[3] == "rolled back", within_s=60, what="version 3 is given up")
        assert states(instance)[2] == "live"
        assert callers.ask() == "second"
        (why,) = [each["why"] for each in shown(instance)["versions"] if each["number"] == 3]
        assert "error" in why
    finally:
        assert instance.suanli("service", "delete", "versioned").code == 0


def states(instance: Instance) -> dict[int, str]:
    return {each["number"]: each["state"] for each in shown(instance)["versions"]}
