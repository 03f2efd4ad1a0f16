"""Jobs, records, reservations and schedules as a store is given them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scheduler.core.demand import Constraints, Demand, Level, Placement
from scheduler.core.jobs import (
    Checkpoint,
    Job,
    JobKind,
    JobSpec,
    Misfire,
    ModelRef,
    Recurrence,
    Starting,
    WorkerPhase,
    WorkerRun,
)
from scheduler.core.usage_book import ModelRate, Month, RunLine
from scheduler.core.usage_records import UsageRecord
from scheduler.ports import (
    ClosedMonth,
    Reservation,
    Schedule,
)

SPEC = JobSpec(
    name="train",
    tenant="studio",
    kind=JobKind.TRAINING,
    priority_class="normal",
    priority=40,
    command=("/bin/sh", "-c", "python train.py > out # 训练"),
    model=None,
    workers_min=2,
    workers_max=2,
    alternatives=(Demand(model="H100 SXM", simulated=True), Demand(devices=0, share_milli=250, node="n1")),
    time_limit_s=3600.0,
    retries=2,
    checkpoint=Checkpoint("/data/ck", 30.0),
    env=(("A", "1"), ("B", "")),
    deadline_at_s=1e9,
    constraints=Constraints(within=Level.RACK, one_per=Level.NODE, apart_from=("db",)),
    reservation="night",
)


SERVICE = replace(
    SPEC, name="serve", kind=JobKind.INFERENCE, command=None, model=ModelRef("m.py", "M"), time_limit_s=None
)


NIGHT = Reservation("night", ("n1", "n2"), 100.0, 200.0, "nightly benchmark 夜间", "wang", 1.0, 86_400.0, ("studio",))


def placed(job: Job, *nodes: str) -> Job:
    workers = tuple(
        WorkerRun(Placement(i, node, (0, 3), 0, 1000, 2**34, 0), attempt=1, phase=WorkerPhase.PREPARED)
        for i, node in enumerate(nodes)
    )
    return replace(job, state=Starting(workers, 20.0), attempts=1)


def scheduled(**given: Any) -> Schedule:
    spec = replace(SPEC, name="nightly", schedule=Recurrence("0 2 * * *", "Asia/Shanghai", Misfire.SKIP))
    return replace(Schedule("studio", "nightly", spec, "王", True, 5.0, 100.0), **given)


def used(job: Job, attempt: int = 1, worker: int = 0, **given: Any) -> UsageRecord:
    base = UsageRecord(
        job_id=job.id,
        attempt=attempt,
        worker=worker,
        tenant=job.spec.tenant,
        priority_class="normal",
        kind="training",
        node="n1",
        devices=(0, 3),
        share_milli=0,
        cpus_milli=1_000,
        memory_bytes=3 * 2**40,
        simulated=True,
        from_s=10.0625,
        to_s=20.5,
        end="unseen",
        cause="node lost",
    )
    return replace(base, **given)


def line(job_id: str, **given: Any) -> RunLine:
    base = RunLine(
        job_id=job_id,
        attempt=1,
        worker=0,
        tenant="studio",
        name="训练",
        priority_class="normal",
        kind="training",
        site="dongyang",
        node="n1",
        devices=(0, 1),
        models=("H100 SXM", "H100 SXM"),
        share_milli=0,
        simulated=False,
        from_ms=1_000,
        to_ms=5_000,
        end="seen",
        cause="succeeded",
        metered_us=8_000_000,
        millijoules=123_456,
    )
    return replace(base, **given)


def closed(month: str, entries: int) -> ClosedMonth:
    rate = ModelRate("H100 SXM", "612345.678", "bf16", "accelerator", "r1", 9.0, 8)
    return ClosedMonth(Month(month, 0, 9_000), "Asia/Shanghai", 20.5, "王", 7, entries, "ab" * 32, (rate,))
