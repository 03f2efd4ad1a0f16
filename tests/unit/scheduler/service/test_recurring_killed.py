"""A service that really runs, on a real store, is really killed while schedules submit: each time counts once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scheduler.store.sql import open_store

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])])
def test_no_time_is_submitted_twice_and_none_is_forgotten(tmp_path: Path, kills: int) -> None:
    url, t0_s = f"sqlite:///{tmp_path / 'home' / 'store.db'}", time.time()
    chance = random.Random(kills)
    told: list[str] = []
    for _ in range(kills):
        told += run_and_kill(url, t0_s, chance)
    store = open_store(url)
    try:
        (schedule,) = store.schedules()
        jobs = sorted(store.recent_jobs(tenant=None, states=None, limit=100_000), key=lambda job: job.seq)
        submitted = [store.job_events(job.id)[0].detail for job in jobs]
    finally:
        store.close()
    assert {detail["by"] for detail in submitted} == {"schedule often"}
    times = [detail["due_s"] for detail in submitted]
    assert times == sorted(set(times)), "a time was submitted twice"
    assert all(at_s % 60 == 0 for at_s in times)
    # What the schedule remembers and what was submitted are one: nothing was written by half.
    assert (schedule.runs, schedule.last_job, schedule.last_s) == (len(jobs), jobs[-1].id, times[-1])
    assert schedule.next_s is not None
    assert schedule.next_s > times[-1]
    assert set(told) <= {job.id for job in jobs}, "a submission that was made is gone"
    assert len(jobs) >= 2 * kills


def run_and_kill(url: str, t0_s: float, chance: random.Random) -> list[str]:
    """Kill it some moments after it has begun, or ended, one of its first writes. Which jobs it said it had written."""
    command = [sys.executable, "-m", "tests.fakes.recurring_service", url, str(t0_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    said: list[str] = []
    try:
        assert process.stdout is not None
        until, word = chance.randint(2, 8), chance.choice(["writing", "wrote"])
        for line in process.stdout:
            said.append(line.strip())
            if sum(each.startswith(word) for each in said) >= until:
                break
        assert "up" in said, said
        time.sleep(chance.random() * 0.004)  # no synchronisation: anywhere within the write will do
    finally:
        process.kill()
        process.wait(timeout=30)
    rest = process.stdout.read().splitlines() if process.stdout is not None else []
    process.stdout.close()
    return [line.removeprefix("wrote ") for line in [*said, *rest] if line.startswith("wrote ")]
