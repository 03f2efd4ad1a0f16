"""A node is emptied on a real Ray: a job saves its work and goes on elsewhere, a replica is replaced before it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.instances import UNTIL_ASKED, Instance, eventually

FIRST, OTHER = "sim-h100-0", "sim-910b-0"
EITHER: list[dict[str, Any]] = [
    {"device": "H100 SXM", "count": 1, "cpus": 1, "simulated": True},
    {"device": "huawei", "count": 1, "cpus": 1, "simulated": True},
]


def nodes_of(instance: Instance, job_id: str) -> list[str]:
    return sorted(worker["node"] for worker in instance.job(job_id)["workers"] if worker["phase"] != "exited")


def test_a_drained_node_is_empty_in_the_end_and_nothing_is_lost(instance: Instance, tmp_path: Path) -> None:
    training = instance.submit(
        {
            "name": "moves",
            "kind": "training",
            "time_limit": "10m",
            "resources": EITHER,
            "command": UNTIL_ASKED,
            "checkpoint": {"dir": str(tmp_path / "saved"), "grace": "20s"},
        }
    )
    (tmp_path / "model.py").write_text("class Model:\n    def predict(self, batch):\n        return batch\n")
    service = instance.submit(
        {
            "name": "stays-up",
            "kind": "inference",
            "model": f"{tmp_path / 'model.py'}:Model",
            "replicas": 1,
            "resources": EITHER,
        }
    )

    def ready() -> bool:
        return any(worker["phase"] == "ready" for worker in instance.job(service)["workers"])

    eventually(ready, within_s=60, what="the replica answers")
    instance.in_state(training, "running")
    eventually(lambda: instance.suanli("logs", training).out != "", within_s=20, what="the training works")
    assert (nodes_of(instance, training), nodes_of(instance, service)) == ([FIRST], [FIRST])
    try:
        answer = instance.suanli("drain", FIRST, "--reason", "fan noise", "--deadline", "1s", "--wait")
        assert answer.code == 0, answer.err
        assert f"node {FIRST} is drained: nothing runs there" in answer.out
        assert f"({'moves'})" in answer.err
        assert "2 jobs are left" in answer.err
        assert nodes_of(instance, service) == [OTHER]
        ended = instance.ended(training)
        assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 0)
        (result,) = [entry["result"] for entry in ended["results"] if entry["attempt"] == 2]
        assert result["resumed_from"] > 0
        assert "fan noise" in instance.suanli("nodes", "--reasons").out
    finally:
        instance.suanli("resume", FIRST)
        instance.suanli("cancel", service)
    assert instance.ended(service)["state"] == "cancelled"
    events = [event["event"] for event in instance.job(service)["events"]]
    assert instance.job(service)["failures"] == 0, events
