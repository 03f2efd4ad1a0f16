"""What does it cost until a submission is durable? SQLite as it ships, each commit synced to the disk under the
temporary directory: the disk is part of the figure. Run: `make bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from scheduler.core.demand import Demand
from scheduler.core.jobs import JobKind, JobSpec
from scheduler.ports import Submission
from scheduler.store.sql import open_store

ROUNDS = 100
SPEC = JobSpec(
    name="train",
    tenant="studio",
    kind=JobKind.TRAINING,
    priority_class="normal",
    priority=40,
    command=("/bin/sh", "-c", "exec python train.py"),
    model=None,
    workers_min=1,
    workers_max=1,
    alternatives=(Demand(devices=1, cpus_milli=4_000),),
    time_limit_s=3600.0,
)


@pytest.mark.parametrize("together", [1, 32])
def test_submissions_made_durable(benchmark: BenchmarkFixture, tmp_path: Path, together: int) -> None:
    """`together`: so many callers' submissions in one transaction, as they are when they wait for the disk together."""
    store = open_store(f"sqlite:///{tmp_path / 'home' / 'store.db'}")
    submissions = [Submission((SPEC,), "studio")] * together
    try:
        call: Callable[..., Sequence[object]] = benchmark.pedantic
        answers = call(store.submit_together, (submissions,), {"at_s": 1e9}, rounds=ROUNDS, warmup_rounds=3)
    finally:
        store.close()
    assert not any(isinstance(answer, Exception) for answer in answers)
