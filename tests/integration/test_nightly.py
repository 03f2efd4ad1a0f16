"""What takes minutes: the whole demo, and the service killed ten times at seeded random moments of a stream of jobs."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.instances import Instance, demand, python

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


def test_the_demo_does_what_it_says(own_instance: Instance, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = own_instance.suanli("demo", "--out", str(out), timeout_s=400)
    assert answer.code == 0, answer.out + answer.err
    report = json.loads((out / "capacity.json").read_text())
    assert {goal["goal_pflops"] for goal in report["goals"]} == {700, 400}
    for goal in report["goals"]:
        for evidence in ("nominal", "measured", "extrapolated", "simulated"):
            assert set(goal[evidence]) >= {"pflops", "devices"}


def test_ten_kills_of_the_service_lose_nothing_and_double_nothing(own_instance: Instance, tmp_path: Path) -> None:
    chance = random.Random(20261123)
    marks = tmp_path / "marks"
    marks.mkdir()
    script = (
        "import os, time, uuid\n"
        "name = '-'.join([os.environ['SUANLI_JOB_ID'], os.environ['RANK'], uuid.uuid4().hex])\n"
        f"open(os.path.join({str(marks)!r}, name), 'x')\n"
        "time.sleep(float(os.environ['LASTS']))\n"
    )
    own_instance.up()
    jobs = []
    for _round in range(10):
        for workers in (1, 2, 3):
            jobs.append(
                (
                    own_instance.submit(
                        {
                            "name": "stream",
                            "kind": "training",
                            "workers": workers,
                            "resources": demand(),
                            "time_limit": "10m",
                            "command": python(script),
                            "env": {"LASTS": str(round(chance.uniform(0, 4), 2))},
                        }
                    ),
                    workers,
                )
            )
        time.sleep(chance.uniform(0, 1))  # not a synchronisation: the moment of the kill is what is drawn
        own_instance.kill("service")
        own_instance.answers()
    for job_id, _ in jobs:
        ended = own_instance.ended(job_id, within_s=120)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
    started = Counter(mark.name.rsplit("-", 1)[0] for mark in marks.iterdir())
    assert started == Counter({f"{job_id}-{rank}": 1 for job_id, workers in jobs for rank in range(workers)})
