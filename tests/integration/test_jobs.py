"""Jobs on a real Ray, real processes: they start, write logs, end, fail clearly, wait with a reason, give way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.instances import H100, UNTIL_ASKED, Instance, demand, eventually, python

BASE = {"kind": "batch", "resources": demand(), "time_limit": "5m"}


def test_a_batch_job_runs_and_leaves_its_output(instance: Instance) -> None:
    job_id = instance.submit({**BASE, "name": "hello", "command": python("print('hello from', 6 * 7)")})
    assert instance.suanli("wait", job_id).code == 0
    job = instance.job(job_id)
    assert job["state"] == "succeeded"
    assert job["workers"] == [] or job["workers"][0]["simulated"]
    assert "hello from 42" in instance.suanli("logs", job_id).out
    assert [event["event"] for event in job["events"]][:2] == ["submitted", "placed"]


def test_the_environment_starts_empty_and_names_the_worker(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = instance.submit(
        {
            **BASE,
            "name": "environment",
            "workers": 2,
            "command": python("import os, json; print(json.dumps(dict(os.environ)))"),
            "env": {"COLOUR": "green"},
        }
    )
    assert instance.ended(job_id)["state"] == "succeeded"
    seen = json.loads(instance.suanli("logs", job_id, "--worker", "1").out.splitlines()[-1])
    assert not [name for name in seen if name.startswith("RAY_")]
    assert seen["RANK"] == "1"
    assert seen["WORLD_SIZE"] == "2"
    assert seen["SUANLI_SIMULATED"] == "1"
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert seen["COLOUR"] == "green"
    assert "VIRTUAL_ENV" not in seen


@pytest.mark.parametrize(
    ("job", "cause", "words"),
    [
        ({"command": ["/no/such/program"]}, "prepare failed", ["/no/such/program"]),
        ({"command": ["true"], "working_dir": "/no/such/place"}, "prepare failed", ["/no/such/place", "working_dir"]),
        ({"command": python("raise SystemExit(7)")}, "exit code", ["7"]),
        ({"command": python("import os; os.kill(os.getpid(), 11)")}, "signal", ["SIGSEGV"]),
        ({"command": python("import time; time.sleep(60)"), "time_limit": "1s"}, "time limit", ["1"]),
        (
            {
                "command": python("x = bytearray(300_000_000); import time; time.sleep(60)"),
                "resources": demand(memory="128MiB"),
            },
            "out of memory",
            ["memory"],
        ),
    ],
    ids=["no command", "no working_dir", "exit code", "signal", "time limit", "out of memory"],
)
def test_failures_say_what_happened(instance: Instance, job: dict[str, object], cause: str, words: list[str]) -> None:
    job_id = instance.submit({**BASE, "name": "fails", **job})
    assert instance.suanli("wait", job_id).code == 1
    ended = instance.job(job_id)
    assert (ended["state"], ended["cause"]) == ("failed", cause)
    for word in words:
        assert word in ended["detail"]


def test_a_model_file_without_the_class_fails_before_any_worker_starts(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("class Other: ...\n")
    job_id = instance.submit(
        {
            "name": "no-class",
            "kind": "inference",
            "model": f"{tmp_path / 'model.py'}:Model",
            "replicas": 1,
            "resources": demand(),
        }
    )
    ended = instance.ended(job_id)
    assert ended["cause"] == "prepare failed"
    assert "Model" in ended["detail"]
    assert "Other" in ended["detail"]


def test_a_gang_whose_worker_fails_ends_together_and_is_retried(instance: Instance, tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        f"path = os.path.join({str(tmp_path)!r}, 'started')\n"
        "with open(path, 'a') as marks:\n"
        "    marks.write(os.environ['RANK'] + ':' + os.environ['SUANLI_ATTEMPT'] + '\\n')\n"
        "if os.environ['RANK'] == '1' and os.environ['SUANLI_ATTEMPT'] == '1':\n"
        "    while '0:1' not in open(path).read(): time.sleep(0.02)\n"  # its peer has come as far as that
        "    sys.exit(3)\n"
        "time.sleep(60 if os.environ['SUANLI_ATTEMPT'] == '1' else 0)\n"
    )
    job_id = instance.submit(
        {**BASE, "name": "gang", "kind": "training", "workers": 2, "retries": 1, "command": python(script)}
    )
    ended = instance.ended(job_id, within_s=40)
    assert ended["state"] == "succeeded"
    assert ended["failures"] == 1
    assert sorted((tmp_path / "started").read_text().split()) == ["0:1", "0:2", "1:1", "1:2"]


def test_why_names_what_is_missing(instance: Instance) -> None:
    holder = instance.submit({**BASE, "name": "holder", "resources": demand(count=8), "command": ["sleep", "60"]})
    instance.in_state(holder, "running")
    waiting = instance.submit({**BASE, "name": "waiting", "resources": demand(count=2), "command": ["true"]})
    eventually(lambda: (instance.job(waiting)["reason"] or {}).get("kind") == "no_fit", within_s=10, what="a reason")
    why = instance.suanli("why", waiting)
    assert why.code == 0
    assert "0 of 2" in why.out or "0 of 8" in why.out or "devices free" in why.out
    assert holder in why.out
    assert instance.suanli("cancel", holder).code == 0
    assert instance.ended(holder)["state"] == "cancelled"
    assert instance.ended(waiting)["state"] == "succeeded"


def test_a_demand_that_no_node_can_meet_is_refused_at_submit(instance: Instance) -> None:
    answer = instance.suanli(
        "submit",
        "--name",
        "huge",
        "--kind",
        "batch",
        "--time-limit",
        "1m",
        "--device",
        H100,
        "--count",
        "64",
        "--simulated",
        "--",
        "true",
    )
    assert answer.code == 2
    assert "8" in answer.err
    assert "Traceback" not in answer.err


def test_what_only_the_site_can_refuse_is_named_with_file_and_line(instance: Instance, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\nkind: batch\ncommand: [/bin/true]\ntime_limit: 1m\nresources:\n  device: H100 SXN\n")
    answer = instance.suanli("submit", str(path))
    assert answer.code == 2
    assert f"{path}:6: resources.device" in answer.err
    assert "H100 SXM" in answer.err


def test_an_urgent_job_preempts_best_effort_work_which_resumes(instance: Instance, tmp_path: Path) -> None:
    victim = instance.submit(
        {
            **BASE,
            "name": "victim",
            "priority_class": "best-effort",
            "resources": demand(count=8),
            "command": UNTIL_ASKED,
            "checkpoint": {"dir": str(tmp_path / "saved"), "grace": "10s"},
        }
    )
    instance.in_state(victim, "running")
    eventually(lambda: instance.suanli("logs", victim).out.encode() != b"", within_s=10, what="the victim works")
    urgent = instance.submit(
        {**BASE, "name": "urgent", "priority_class": "low-altitude", "resources": demand(count=8), "command": ["true"]}
    )
    assert instance.ended(urgent)["state"] == "succeeded"
    ended = instance.ended(victim)
    assert ended["state"] == "succeeded"
    assert ended["attempt"] == 2
    assert ended["failures"] == 0
    (result,) = [entry["result"] for entry in ended["results"] if entry["attempt"] == 2]
    assert result["resumed_from"] > 0
    assert "preempting" in [event["event"] for event in ended["events"]]
    first, second = ended["usage"]
    assert [(run["attempt"], run["end"], run["cause"]) for run in (first, second)] == [
        (1, "seen", "preempted"),
        (2, "seen", "succeeded"),
    ]
    assert 0 < first["device_seconds"] == pytest.approx(8 * first["seconds"])
    (between,) = instance.job(urgent)["usage"]
    assert first["to_s"] <= between["from_s"] <= between["to_s"] <= second["from_s"]  # one node, one clock
    assert first["simulated"]


def test_an_array_runs_every_task_once(instance: Instance, tmp_path: Path) -> None:
    script = f"import os; open(os.path.join({str(tmp_path)!r}, os.environ['SUANLI_ARRAY_INDEX']), 'x')"
    job_id = instance.submit({**BASE, "name": "array", "array": 6, "command": python(script)})
    assert job_id.isdigit()
    assert instance.suanli("wait", job_id).code == 0
    for index in range(6):
        assert instance.job(f"{job_id}.{index}")["state"] == "succeeded"
    assert "6 succeeded" in instance.suanli("show", job_id).out
    assert instance.suanli("cancel", job_id).code == 5  # all of it has ended
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(index) for index in range(6)]


def test_a_job_waits_for_the_one_it_names(instance: Instance, tmp_path: Path) -> None:
    first = instance.submit(
        {
            **BASE,
            "name": "first",
            "command": python(f"import time; time.sleep(1); open({str(tmp_path / 'mark')!r}, 'x')"),
        }
    )
    second = instance.submit(
        {**BASE, "name": "second", "after": [first], "command": python(f"open({str(tmp_path / 'mark')!r})")}
    )
    assert instance.ended(second)["state"] == "succeeded"


def test_drain_keeps_new_work_away_until_resume(instance: Instance) -> None:
    node = next(
        n["name"] for n in instance.get("/v1/nodes")["nodes"] if n["simulated"] and n["devices"][0]["model"] == H100
    )
    assert instance.suanli("drain", node, "--reason", "fan noise").code == 0
    job_id = instance.submit({**BASE, "name": "kept-away", "command": ["true"]})
    eventually(lambda: (instance.job(job_id)["reason"] or {}).get("kind") == "no_fit", within_s=10, what="a reason")
    assert "draining" in instance.suanli("why", job_id).out
    assert "fan noise" in instance.suanli("nodes", "--reasons").out
    assert instance.suanli("resume", node).code == 0
    assert instance.ended(job_id)["state"] == "succeeded"


def test_every_device_is_shown_with_readings_that_go_on(instance: Instance) -> None:
    here = {node["name"] for node in instance.get("/v1/nodes")["nodes"] if node["state"] == "ready"}

    def read_at_s() -> dict[str, float]:
        listed = instance.get("/v1/devices?fields=utilisation_percent,memory_used_bytes")["devices"]
        rows = [row for row in listed if row["node"] in here]  # another machine may have come and gone
        found = {f"{row['node']}/{row['index']}": row["read_at_s"] for row in rows if row["values"][1] is not None}
        assert all(
            row["quality"] == ("simulated" if row["simulated"] else "measured") for row in rows if row["quality"]
        )
        return found if len(found) == len(rows) else {}

    first = eventually(read_at_s, within_s=20, what="every device has readings")

    def again() -> bool:
        now = read_at_s()
        return bool(now) and all(at_s > first[name] for name, at_s in now.items())

    eventually(again, within_s=20, what="all are read again")
