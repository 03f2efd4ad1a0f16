"""Hold, release, requeue, limited arrays and recurring jobs, on real processes; and what a killed service keeps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.integration.instances import Instance, demand, eventually, python

BASE = {"kind": "batch", "resources": demand(), "time_limit": "5m"}
WHOLE = demand(count=8)


def test_a_requeued_job_saves_its_work_and_goes_on_from_there(instance: Instance, tmp_path: Path) -> None:
    script = (
        "import os, signal, time\n"
        "def save(*_):\n"
        "    open(os.environ['SUANLI_CHECKPOINT_DIR'] + '/state', 'w').write('saved')\n"
        "    open(os.environ['SUANLI_CHECKPOINT_ACK'], 'w').close()\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "before = os.environ.get('SUANLI_RESUME_FROM')\n"
        "print('resumes from', open(before + '/state').read() if before else 'nothing', flush=True)\n"
        "while before is None: time.sleep(0.05)\n"
    )
    job_id = instance.submit(
        {
            **{**BASE, "kind": "training", "name": "saves", "retries": 0},
            **{"command": python(script), "checkpoint": {"dir": str(tmp_path / "ck"), "grace": "20s"}},
        }
    )
    instance.in_state(job_id, "running")
    eventually(lambda: "resumes from nothing" in instance.suanli("logs", job_id).out, within_s=20, what="it has begun")
    held = instance.suanli("requeue", job_id, "--hold", "--reason", "another node")
    assert (held.code, held.out) == (0, f"job {job_id} (saves): asked to save and go, and to wait again (held)\n")
    view = instance.in_state(job_id, "pending")
    assert (view["reason"]["kind"], view["failures"], view["attempt"]) == ("held", 0, 1)
    assert "another node" in instance.suanli("queue").out
    refused = instance.suanli("requeue", job_id, "--reason", "again")
    assert (refused.code, "is held" in refused.err) == (5, True)
    assert instance.suanli("release", job_id).code == 0
    ended = instance.ended(job_id)
    assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 0)
    assert "resumes from saved" in instance.suanli("logs", job_id).out
    again = instance.suanli("requeue", job_id, "--reason", "once more", "-o", "json").json
    new = again["jobs"][0]["new"]
    instance.in_state(new, "running")  # from the beginning: it waits to be asked
    assert instance.suanli("cancel", new).code == 0


def test_no_more_tasks_of_an_array_run_at_a_time_than_its_limit(instance: Instance, tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        f"mine = os.path.join({str(tmp_path)!r}, os.environ['SUANLI_ARRAY_INDEX'])\n"
        "began = time.monotonic(); time.sleep(0.3)\n"
        "open(mine, 'w').write(f'{began} {time.monotonic()}')\n"
    )
    array = {"count": 9, "limit": 2}
    number = instance.submit({**BASE, "name": "limited", "array": array, "command": python(script)})
    assert instance.suanli("wait", number).code == 0
    spans = [tuple(map(float, (tmp_path / str(index)).read_text().split())) for index in range(9)]
    most = max(sum(began <= at < ended for began, ended in spans) for at, _ in spans)
    assert most <= 2, spans


def test_the_nightly_benchmark_is_accepted(instance: Instance) -> None:
    said = instance.suanli("submit", "configs/jobs/nightly-benchmark.yaml")
    assert said.code == 0, said.err
    assert said.out.startswith("scheduled nightly-benchmark: 0 2 * * * in Asia/Shanghai; next ")
    assert "nightly-benchmark" in instance.suanli("schedules").out
    assert instance.suanli("schedules", "delete", "nightly-benchmark").code == 0


@pytest.mark.nightly  # a schedule's time comes with the minute: most of one is waited for
@pytest.mark.timeout(240)
def test_holds_and_schedules_outlive_a_killed_service(own_instance: Instance) -> None:
    """The service is killed before the time of a schedule, and again around it: the time counts once."""
    own_instance.up()
    holder = own_instance.submit({**BASE, "name": "holder", "resources": WHOLE, "command": ["sleep", "200"]})
    own_instance.in_state(holder, "running")
    held = own_instance.submit({**BASE, "name": "held", "resources": WHOLE, "command": ["sleep", "200"]})
    assert own_instance.suanli("hold", held, "--reason", "no data yet").code == 0
    own_instance.submit(
        {**BASE, "name": "often", "schedule": "* * * * *", "command": ["true"], "resources": {"device": "none"}}
    )
    first_s = own_instance.get("/v1/schedules/often")["next_s"]
    own_instance.kill("service")
    own_instance.answers()
    assert own_instance.job(held)["reason"]["text"].endswith("no data yet")
    assert own_instance.job(holder)["state"] == "running"
    assert own_instance.suanli("cancel", holder).code == 0
    own_instance.ended(holder)
    eventually(lambda: time.time() >= first_s - 0.3, within_s=70, what="the minute is almost over")
    own_instance.kill("service")
    own_instance.answers()
    eventually(lambda: own_instance.get("/v1/schedules/often")["runs"], within_s=60, what="the schedule has submitted")
    assert own_instance.suanli("schedules", "pause", "often", "--reason", "seen enough").code == 0
    view = own_instance.get("/v1/schedules/often")
    jobs = [job for job in own_instance.get("/v1/jobs")["jobs"] if job["name"] == "often"]
    assert len(jobs) == view["runs"]
    due = [own_instance.job(job["id"])["events"][0]["detail"]["due_s"] for job in jobs]
    assert len(set(due)) == len(due)
    assert min(due) == first_s
    assert {own_instance.ended(job["id"])["state"] for job in jobs} == {"succeeded"}
    assert own_instance.job(held)["state"] == "pending"  # although nothing else is in its way
    assert own_instance.suanli("release", held).code == 0
    own_instance.in_state(held, "running")
    told = json.loads(own_instance.suanli("show", held, "-o", "json").out)
    assert [event["event"] for event in told["events"]][:3] == ["submitted", "held", "hold_released"]
