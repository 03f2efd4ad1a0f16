"""What scheduler.ports.Store promises, asked of the SQL store and of the fake that stands in for it elsewhere."""

from __future__ import annotations

import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from scheduler.core.demand import Constraints, Demand, Level, Placement
from scheduler.core.jobs import (
    Autoscale,
    Canary,
    Cancelled,
    Checkpoint,
    EndCause,
    Failed,
    Hold,
    Job,
    JobKind,
    JobSpec,
    JobState,
    Misfire,
    ModelRef,
    Pending,
    Recurrence,
    Running,
    Starting,
    Stopping,
    Succeeded,
    WorkerPhase,
    WorkerRun,
)
from scheduler.core.reasons import (
    BackingOff,
    BehindReservation,
    Held,
    JobLimitReached,
    NodesReserved,
    NoFit,
    NotConsidered,
    QuotaReached,
    Reason,
    Requeued,
    Unsatisfiable,
    WaitingForJobs,
    WaitingForLease,
    WaitingForReservation,
    WaitingForVictims,
)
from scheduler.core.rollout import Deployed, Rollout, Version
from scheduler.core.usage_book import Correction, ModelRate, Month, RunLine, ServedLine
from scheduler.core.usage_records import Achieved, MeteredUse, SeenLate, UsageRecord
from scheduler.errors import BadInput, Conflict, Unavailable
from scheduler.ports import (
    Change,
    ClosedMonth,
    Drain,
    Reservation,
    Schedule,
    ServedDay,
    Store,
    Submission,
    Usage,
)
from scheduler.store.sql import SqlStore, open_store
from scheduler.store.tables import SCHEMA_VERSION
from tests.fakes.fake_store import FakeStore

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

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite", "postgres", "fake"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store each time."""
    if request.param == "fake":
        return FakeStore().reopened
    url = f"sqlite:///{tmp_path / 'home' / 'store.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").new_database()
    return lambda: open_store(url)


@pytest.fixture
def reopen(open_one: Open) -> Iterator[Open]:
    """Opens the same store again and again, as a service that restarts does."""
    opened: list[Store] = []

    def again() -> Store:
        if opened:
            opened[-1].close()
        opened.append(open_one())
        return opened[-1]

    yield again
    if opened:
        opened[-1].close()


@pytest.fixture
def two(open_one: Open) -> Iterator[tuple[Store, Store]]:
    """The same store, opened by two services at once."""
    both = open_one(), open_one()
    yield both
    for store in both:
        store.close()


@pytest.fixture
def store(reopen: Open) -> Store:
    return reopen()


def placed(job: Job, *nodes: str) -> Job:
    workers = tuple(
        WorkerRun(Placement(i, node, (0, 3), 0, 1000, 2**34, 0), attempt=1, phase=WorkerPhase.PREPARED)
        for i, node in enumerate(nodes)
    )
    return replace(job, state=Starting(workers, 20.0), attempts=1)


def test_ids_are_unique_and_grow_and_arrays_number_their_tasks(reopen: Open) -> None:
    store = reopen()
    first = store.submit([SPEC, replace(SPEC, array_size=3)], at_s=1.0, by="wang")
    store = reopen()
    second = store.submit([SPEC], at_s=2.0, by="wang")
    jobs = [*first, *second]
    assert [job.id for job in jobs] == ["1", "2.0", "2.1", "2.2", "3"]
    assert [job.array_index for job in jobs] == [None, 0, 1, 2, None]
    assert [job.seq for job in jobs] == sorted({job.seq for job in jobs})
    assert all(isinstance(job.state, Pending) and job.state.reason == NotConsidered() for job in jobs)


def test_submitters_in_many_threads_get_different_ids(store: Store) -> None:
    got: list[str] = []

    def submit() -> None:
        for _ in range(5):
            got.extend(job.id for job in store.submit([SPEC], at_s=1.0, by="x"))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(set(got)) == 20 == len(store.live_jobs())


RUN = WorkerRun(
    Placement(0, "n1", (0,), 250, 500, 1, 1), 3, WorkerPhase.READY, "10.0.0.1:8000", 1.25, start_heard_s=1.5
)
REASONS: list[Reason] = [
    NotConsidered(),
    WaitingForJobs(("1", "2.0")),
    NoFit("1 x H100 SXM", 4, 1, (("full", 3), ("drained", 1))),
    BehindReservation("7"),
    WaitingForVictims(("3",)),
    BackingOff(99.5, "exit code 1"),
    Held("wang", "waits for the data 等数据"),
    QuotaReached("studio", 2_000, 2_500, 1_000, simulated=True),
    JobLimitReached("studio", 3, 3),
    NodesReserved("night", 5.0, 6.5),
    WaitingForReservation("night", 5.0),
    WaitingForReservation("gone", None),
    WaitingForLease("n1", 65.0),
    Unsatisfiable("9 x H100 SXM", "8 x H100 SXM"),
    Requeued("preempted by job 7"),
]
STATES: list[JobState] = [
    *(Pending(reason, 2.0, 3.0) for reason in REASONS),
    Starting((RUN,), 2.0),
    Running((RUN, replace(RUN, phase=WorkerPhase.EXITED, exit_code=-9)), 2.0),
    Stopping((RUN,), 3.0, EndCause.PREEMPTED, "7", "why"),
    Stopping((RUN,), 3.0, EndCause.RESIZED, "the planner", "to go on with 4 workers"),
    Stopping((RUN,), 3.0, EndCause.REQUEUED, "wang", "on a better node"),
    Running((), 4.0),
    Succeeded(4.0),
    Failed(4.0, EndCause.SIGNAL, "worker 0 on n1 was killed by SIGSEGV"),
    Cancelled(4.0, "li", "not needed 不用了"),
]


@pytest.mark.parametrize("state", STATES, ids=lambda s: f"{s.kind}-{s.reason.kind}" if s.kind == "pending" else s.kind)
def test_every_state_comes_back_as_it_went_in(reopen: Open, state: JobState) -> None:
    (job,) = reopen().submit([SERVICE], at_s=1.5, by="wang")
    changed = replace(
        job, state=state, attempts=3, failures=1, resume_from="/data/ck/1/attempt-2", first_started_s=1.75
    )
    reopen().commit([Change(changed, "changed", 2.5, {"n": 1, "who": "王"})])
    again = reopen()
    assert again.job("1") == changed
    assert [event.event for event in again.job_events("1")] == ["submitted", "changed"]
    assert again.job_events("1")[1].detail == {"n": 1, "who": "王"}
    assert again.job("99") is None
    assert again.job_events("99") == []


def test_a_hold_comes_back_until_it_is_released(reopen: Open) -> None:
    hold = Hold("wang", "waits for the data 等数据", 3.5, by_operator=True)
    (job,) = reopen().submit([SPEC], at_s=1.0, by="x")
    reopen().commit([Change(replace(job, held=hold), "held", 3.5)])
    assert reopen().live_jobs() == [replace(job, held=hold)]
    reopen().commit([Change(job, "hold_released", 4.0)])
    assert reopen().job(job.id) == job
    tasks = reopen().submit([replace(SPEC, array_size=2)], at_s=5.0, by="x", held=hold)
    assert [task.held for task in tasks] == [hold, hold]
    assert reopen().live_jobs() == [job, *tasks]


def test_services_are_kept_whole_and_pins_with_their_jobs(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit(
        [replace(SERVICE, autoscale=Autoscale(5.0), canary=Canary((5, 100)), hosts=("a",))], at_s=1, by="x"
    )
    assert reopen().job(job.id) == job
    store.commit([Change(replace(job, pinned=True, workers_wanted=1), "scaled", 2.0)])
    assert [each.pinned for each in reopen().live_jobs()] == [True]
    first = Version(1, job.id, "", 1.0, "live", "因为")
    service = Deployed(
        "studio", "serve", (first, Version(2, "9", "", 2.0)), Rollout(2, 1, Canary((5, 100)), 3.0, keep=2)
    )
    other = Deployed("hospital", "serve", (), deleted=True)
    for each in (service, other, service):  # twice it is as once
        store.set_deployed(each)
    assert reopen().deployed() == [other, service]
    store.set_deployed(replace(service, rollout=None, versions=(first,)))
    assert reopen().deployed() == [other, replace(service, rollout=None, versions=(first,))]
    reopen().clear_deployed("hospital", "serve")
    reopen().clear_deployed("hospital", "serve")
    assert [each.tenant for each in reopen().deployed()] == ["studio"]


def scheduled(**given: Any) -> Schedule:
    spec = replace(SPEC, name="nightly", schedule=Recurrence("0 2 * * *", "Asia/Shanghai", Misfire.SKIP))
    return replace(Schedule("studio", "nightly", spec, "王", True, 5.0, 100.0), **given)


def test_schedules_come_back_and_change_only_in_what_may_change(reopen: Open) -> None:
    store = reopen()
    other = scheduled(tenant="hospital")
    store.set_schedule(scheduled())
    store.set_schedule(other)
    assert reopen().schedules() == [other, scheduled()]
    paused = scheduled(next_s=None, paused=Hold("wang", "新风扇", 6.0), skips=2, skipped_s=90.0, skipped_why="忙")
    reopen().set_schedule(replace(paused, by="somebody else", runs=9, last_job="9", last_s=1.0))
    assert reopen().schedules() == [other, paused]
    reopen().clear_schedule("studio", "nightly")
    reopen().clear_schedule("studio", "never there")
    assert reopen().schedules() == [other]


def test_a_schedule_submits_once_for_each_time(reopen: Open) -> None:
    store = reopen()
    due = scheduled()
    due = replace(due, spec=replace(due.spec, array_size=2))
    store.set_schedule(due)
    jobs = store.submit_scheduled(due, 200.0, at_s=101.0)
    assert [(job.id, job.spec, job.array_index) for job in jobs] == [
        ("1.0", due.job_spec(), 0),
        ("1.1", due.job_spec(), 1),
    ]
    assert store.live_jobs() == jobs
    assert store.job_events("1.0")[0].detail == {"by": "schedule nightly", "due_s": 100.0}
    after = replace(due, next_s=200.0, runs=1, last_job="1", last_s=100.0)
    assert store.schedules() == [after]
    # Asked again, also by who does not know that it was taken, and after what else was written: the same jobs.
    assert list(store.submit_scheduled(due, 200.0, at_s=150.0)) == list(jobs)
    store.set_schedule(replace(after, next_s=None, paused=Hold("wang", "r", 6.0)))
    assert list(reopen().submit_scheduled(due, 200.0, at_s=150.0)) == list(jobs)
    store = reopen()
    store.set_schedule(after)
    assert [job.id for job in store.submit_scheduled(after, None, at_s=201.0)] == ["2.0", "2.1"]
    (last,) = store.schedules()
    assert (last.next_s, last.runs, last.last_job, last.last_s) == (None, 2, "2", 200.0)


def test_what_is_not_due_or_not_there_submits_nothing(store: Store) -> None:
    assert list(store.submit_scheduled(scheduled(), 200.0, at_s=1.0)) == []
    store.set_schedule(scheduled(next_s=300.0))
    assert list(store.submit_scheduled(scheduled(), 200.0, at_s=1.0)) == []
    assert (store.live_jobs(), store.schedules()) == ([], [scheduled(next_s=300.0)])


def test_events_say_what_happened_in_order(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="wang")
    up = placed(job, "n1", "n2")
    store.commit([Change(up, "placed", 2.0), Change(replace(up, state=Succeeded(3.0)), "succeeded", 3.0)])
    assert [(e.event, e.state, e.at_s) for e in store.job_events(job.id)] == [
        ("submitted", "pending", 1.0),
        ("placed", "starting", 2.0),
        ("succeeded", "succeeded", 3.0),
    ]
    assert store.job_events(job.id)[0].detail == {"by": "wang"}
    seqs = [e.seq for e in store.job_events(job.id)]
    assert seqs == sorted(set(seqs))


def test_ended_jobs_leave_the_live_ones_and_are_found_newest_first(store: Store) -> None:
    jobs = list(store.submit([SPEC, replace(SPEC, tenant="hospital"), SPEC, SPEC], at_s=1.0, by="x"))
    store.commit(
        [
            Change(replace(jobs[0], state=Succeeded(2.0)), "succeeded", 2.0),
            Change(replace(jobs[2], state=Stopping((RUN,), 2.0, EndCause.PREEMPTED, "9")), "preempting", 2.0),
        ]
    )
    assert [job.id for job in store.live_jobs()] == ["2", "3", "4"]

    def ids(**given: object) -> list[str]:
        wanted: dict[str, object] = {"tenant": None, "states": None, "limit": 10, **given}
        return [job.id for job in store.recent_jobs(**wanted)]  # type: ignore[arg-type]

    assert ids() == ["4", "3", "2", "1"]
    assert ids(limit=2) == ["4", "3"]
    assert ids(before_seq=jobs[2].seq) == ["2", "1"]
    assert ids(tenant="studio") == ["4", "3", "1"]
    assert ids(states=["succeeded"]) == ["1"]
    assert ids(states=["preempting", "pending"]) == ["4", "3", "2"]


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


def test_usage_records_come_back_and_the_better_account_replaces_the_other(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    share = used(job, worker=1, devices=(2,), share_milli=250, simulated=False, cause="节点丢失")
    store.commit([Change(placed(job, "n1"), "placed", 2.0)], [share, used(job)])
    again = reopen()
    assert again.usage_records(job.id) == [used(job), share]
    seen = used(job, to_s=18.0, end="seen", cause="succeeded")
    again.commit([], [seen, used(job, attempt=2)])
    again.commit((), [used(job)])  # heard late: what was seen stays
    again.commit((), [SeenLate(job.id, 2, 0, "n1", 11.0, 30.0, "lease"), SeenLate(job.id, 9, 0, "n1", 1.0, 2.0, "x")])
    mended = used(job, attempt=2, from_s=11.0, to_s=30.0, end="seen", cause="lease")
    assert reopen().usage_records(job.id) == [seen, share, mended]
    assert reopen().usage_records("99") == []
    assert [event.event for event in reopen().job_events(job.id)] == ["submitted", "placed"]


def test_what_a_record_says_of_its_devices_comes_back(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    use = MeteredUse(2, 9.75, 12_345.678, True, 1_266.2, 2.0**34, None, False)
    did = (Achieved("gemm", "bf16", "accelerator", 6.1e5, 2, 2), Achieved("gemm", "fp32", "cpu", None, 1, 0))
    whole = used(job, name="训练", site="东阳", models=("H100 SXM", "升腾 910B"), use=use, achieved=did)
    store.commit((), [whole, used(job, worker=1)])
    assert reopen().usage_records(job.id) == [whole, used(job, worker=1)]


def test_records_that_changed_since_a_write(store: Store) -> None:
    first, second = store.submit([SPEC, SPEC], at_s=1.0, by="x")
    store.commit((), [used(first), used(second, end="seen")])
    number = store.usage_write_number()
    assert store.usage_records_changed(number, 1e9) == []
    store.commit((), [used(second, to_s=90.0)])  # the seen end stays: nothing changed
    assert store.usage_records_changed(number, 1e9) == []
    seen = used(first, to_s=18.0, end="seen")
    store.commit([Change(first, "x", 2.0)], [seen])
    assert store.usage_records_changed(number, 1e9) == [seen]
    assert store.usage_records_changed(number, seen.from_s) == []
    assert len(store.usage_records_changed(0, 1e9)) == 2
    assert store.usage_records_changed(store.usage_write_number(), 1e9) == []


def test_requests_of_a_day_are_replaced_by_their_newer_sum(reopen: Open) -> None:
    store = reopen()
    first = ServedDay("2026-11-01", "studio", "chat", False, 10, 9, 8, 1)
    made_up = replace(first, simulated=True, requests=4)
    later = ServedDay("2026-11-30", "hospital", "扫描", False, 2**40, 0, 0, 0)
    store.set_served([first, later])
    store.set_served([made_up, replace(first, requests=12)])
    assert reopen().served_days("2026-11-01", "2026-12-01") == [replace(first, requests=12), made_up, later]
    assert reopen().served_days("2026-11-02", "2026-11-30") == []
    many = [replace(first, service=f"s{number}") for number in range(450)]
    store.set_served(many)
    store.set_served(many)
    assert len(store.served_days("2026-11-01", "2026-11-02")) == 452


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


def test_a_month_is_closed_once_with_its_book(reopen: Open) -> None:
    store = reopen()
    served = ServedLine("studio", "chat", False, 10, 9, 8, 1)
    book = (line("2"), line("10.1", tenant="hospital"), served)
    store.close_month(closed("2026-09", 3), book)
    shorter = line("2", to_ms=4_000, end="unseen", metered_us=0, unmetered_us=6_000_000, millijoules=None)
    wrong = Correction("2026-09", line("2"), shorter)
    new = Correction("2026-09", None, line("3"))
    store.close_month(closed("2026-10", 3), (line("2", attempt=2), wrong, new))
    with pytest.raises(Conflict, match=r"2026-09 is closed already"):
        store.close_month(closed("2026-09", 0), ())
    again = reopen()
    assert again.closed_months() == [closed("2026-09", 3), closed("2026-10", 3)]
    assert again.usage_book("2026-09") == [line("2"), line("10.1", tenant="hospital"), served]
    assert again.usage_book("2026-09", "hospital") == [line("10.1", tenant="hospital")]
    assert again.usage_book("2026-10") == [line("2", attempt=2), wrong, new]
    assert again.usage_book("2026-08") == []
    assert again.usage_booked([line("2").key, line("3").key, served.key, "run/99/1/0"]) == {
        ("2026-09", line("2").key): shorter,
        ("2026-09", line("3").key): line("3"),
        ("2026-09", served.key): served,
    }
    assert again.usage_booked([]) == {}


def test_several_accounts_of_one_run_in_one_commit(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    late = SeenLate(job.id, 1, 0, "n1", 10.0, 40.0, "exit")
    store.commit((), [used(job), used(job, to_s=25.0), late, used(job, to_s=50.0)])
    assert store.usage_records(job.id) == [used(job, from_s=10.0, to_s=40.0, end="seen", cause="exit")]


def test_usage_records_of_a_time_and_a_tenant(store: Store) -> None:
    first, second = store.submit([SPEC, replace(SPEC, tenant="hospital")], at_s=1.0, by="x")
    early, late = used(first, from_s=10.0, to_s=20.0), used(first, attempt=2, from_s=30.0, to_s=40.0)
    other = used(second, from_s=15.0, to_s=35.0)
    store.commit((), [late, other, early])
    assert store.usage_records_between(0.0, 100.0) == [early, other, late]
    assert store.usage_records_between(0.0, 100.0, "hospital") == [other]
    assert store.usage_records_between(20.0, 30.0) == [early, other]  # ended at its beginning: no part of it, no harm
    assert store.usage_records_between(20.5, 30.5, "studio") == [late]
    assert store.usage_records_between(41.0, 100.0) == []


def test_changes_and_usage_records_are_kept_together_or_not_at_all(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    stranger = replace(job, id="77")
    with pytest.raises((AssertionError, IntegrityError)):
        store.commit([Change(placed(job, "n1"), "placed", 2.0)], [used(job), used(stranger)])
    with pytest.raises(AssertionError):
        store.commit([Change(placed(stranger, "n1"), "placed", 2.0)], [used(job)])
    assert (store.job(job.id), store.usage_records(job.id)) == (job, [])


def test_more_records_than_a_statement_takes_values(store: Store) -> None:
    jobs = store.submit([SPEC] * 1_200, at_s=1.0, by="x")
    store.commit((), [used(job) for job in jobs])
    store.commit((), [used(job, end="seen") for job in jobs])
    assert {record.end for record in store.usage_records_between(0.0, 99.0)} == {"seen"}
    assert len(store.usage_records_between(0.0, 99.0)) == 1_200


def test_a_commit_is_kept_whole_or_not_at_all(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    stranger = replace(job, id="77")
    with pytest.raises(AssertionError):
        store.commit([Change(placed(job, "n1"), "placed", 2.0), Change(placed(stranger, "n1"), "placed", 2.0)])
    assert store.job(job.id) == job
    assert [event.event for event in store.job_events(job.id)] == ["submitted"]


def test_the_epoch_only_grows(reopen: Open) -> None:
    epochs = []
    for _ in range(3):
        store = reopen()
        epochs += [store.next_epoch(), store.next_epoch()]
    assert epochs == sorted(set(epochs))
    assert epochs[0] >= 1


@pytest.mark.parametrize(
    "write",
    [
        lambda store, job: store.submit([SPEC], at_s=2.0, by="x"),
        lambda store, job: store.commit([Change(placed(job, "n1"), "placed", 2.0)]),
        lambda store, job: store.commit((), [used(job)]),
        lambda store, job: store.set_result(job.id, 1, 0, "{}"),
        lambda store, job: store.set_drain(Drain("n1", "fan", "wang", 2.0)),
        lambda store, job: store.clear_drain("n2"),
        lambda store, job: store.set_reservation(NIGHT),
        lambda store, job: store.clear_reservation("other"),
        lambda store, job: store.set_schedule(scheduled(name="other")),
        lambda store, job: store.clear_schedule("studio", "other"),
        lambda store, job: store.submit_scheduled(scheduled(), 200.0, at_s=2.0),
        lambda store, job: store.set_usage(Usage({"studio": 0.5}, 2.0)),
        lambda store, job: store.set_served([ServedDay("2026-11-01", "studio", "chat", False, 1, 1, 1, 0)]),
        lambda store, job: store.close_month(closed("2026-09", 1), [line("1")]),
    ],
    ids=[
        *("submit", "commit", "use", "set_result", "set_drain", "clear_drain"),
        *("set_reservation", "clear_reservation", "set_schedule", "clear_schedule", "submit_scheduled", "set_usage"),
        *("set_served", "close_month"),
    ],
)
def test_a_service_that_was_replaced_writes_nothing_any_more(
    two: tuple[Store, Store], write: Callable[[Store, Job], object]
) -> None:
    old, new = two
    old.next_epoch()
    (job,) = old.submit([SPEC], at_s=1.0, by="x")
    old.set_drain(Drain("n2", "fan", "wang", 1.0))
    old.set_schedule(scheduled())
    epoch = new.next_epoch()
    with pytest.raises(Conflict, match=rf"another service took over \(epoch {epoch}\)"):
        write(old, job)
    assert [each.id for each in new.live_jobs()] == [job.id]
    assert new.job(job.id) == job
    assert new.results(job.id) == {}
    assert [drain.node for drain in new.drains()] == ["n2"]
    assert (new.reservations(), new.usage(), new.schedules()) == ([], None, [scheduled()])
    assert old.job(job.id) == job  # it may still look
    write(new, job)


NIGHT = Reservation("night", ("n1", "n2"), 100.0, 200.0, "nightly benchmark 夜间", "wang", 1.0, 86_400.0, ("studio",))


def test_reservations_are_kept_by_name(reopen: Open) -> None:
    store = reopen()
    store.set_reservation(NIGHT)
    once = Reservation("fan", ("n3",), 5.0, 6.5, "a\0b", "wang", 2.0)
    store.set_reservation(once)
    moved = replace(NIGHT, start_s=150.0)
    store.set_reservation(moved)
    assert reopen().reservations() == [replace(once, reason="a\\u0000b"), moved]
    store.clear_reservation("fan")
    store.clear_reservation("nobody")
    assert reopen().reservations() == [moved]


def test_usage_is_replaced_as_a_whole(reopen: Open) -> None:
    store = reopen()
    assert store.usage() is None
    store.set_usage(Usage({"studio": 0.25, "studio/simulated": 1e-9}, 10.0))
    store.set_usage(Usage({"hospital": 0.125}, 20.5))
    assert reopen().usage() == Usage({"hospital": 0.125}, 20.5)
    store.set_usage(Usage({}, 30.0))
    assert reopen().usage() is None


def test_preemptions_and_what_a_service_was_scaled_to_are_kept(store: Store) -> None:
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    changed = replace(job, preemptions=3, workers_wanted=0)
    store.commit([Change(changed, "scaled", 2.0)])
    assert store.job(job.id) == changed


def test_what_no_database_takes_in_a_text_is_spelled_out(store: Store) -> None:
    """What a process wrote last ends up in here: whatever it is, it must not hold up a commit."""
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    said = "a\0b \udc80 训练"
    spelled = "a\\u0000b \\udc80 训练"
    failed = replace(job, state=Failed(2.0, EndCause.EXIT_CODE, said), resume_from="/ck/1/attempt-1")
    store.commit([Change(failed, "failed", 2.0, {"detail": said})])
    store.set_result(job.id, 1, 0, said)
    store.set_drain(Drain("n1", said, "wang", 1.0))
    stored = store.job(job.id)
    assert stored is not None
    assert isinstance(stored.state, Failed)
    assert stored.state.cause is EndCause.EXIT_CODE
    if not isinstance(store, FakeStore):
        assert stored.state.detail == spelled
    assert store.job_events(job.id)[-1].detail == {"detail": spelled}
    assert store.results(job.id) == {(1, 0): spelled}
    assert store.drains() == [Drain("n1", spelled, "wang", 1.0)]


def test_many_jobs_are_found_by_their_ids_at_once(store: Store) -> None:
    jobs = store.submit([replace(SPEC, array_size=1200)], at_s=1.0, by="x")
    named = store.jobs_named(["1.7", "1", "99", "1.1199"])
    assert named == {"1.7": jobs[7], "1.1199": jobs[1199]}
    assert store.jobs_named([job.id for job in jobs]) == {job.id: job for job in jobs}
    assert store.jobs_named([]) == {}


def test_events_are_found_by_name_for_many_jobs_at_once(store: Store) -> None:
    jobs = store.submit([replace(SPEC, array_size=1200)], at_s=1.0, by="x")
    store.commit([Change(placed(jobs[5], "n1"), "placed", 2.0, {"n": 1}), Change(jobs[5], "requeued", 3.0)])
    store.commit([Change(placed(jobs[5], "n2"), "placed", 4.0, {"n": 2})])
    store.commit([Change(placed(jobs[1100], "n1"), "placed", 5.0)])
    found = store.events_named([job.id for job in jobs], ["placed", "elsewhere"])
    assert {job_id: [event.at_s for event in events] for job_id, events in found.items()} == {
        jobs[5].id: [2.0, 4.0],
        jobs[1100].id: [5.0],
    }
    assert found[jobs[5].id][1].detail == {"n": 2}
    assert store.events_named([], ["placed"]) == {}
    assert store.events_named([jobs[0].id], ["placed"]) == {}


def test_results_are_kept_by_attempt_and_worker(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    for attempt, worker, text in ((2, 0, '{"a":1}'), (1, 1, "[]"), (2, 0, '{"a":2}')):
        store.set_result(job.id, attempt, worker, text)
    assert reopen().results(job.id) == {(1, 1): "[]", (2, 0): '{"a":2}'}
    assert reopen().results("99") == {}


def test_drains_are_kept_until_cleared(reopen: Open) -> None:
    store = reopen()
    store.set_drain(Drain("n2", "fan", "wang", 1.0))
    store.set_drain(Drain("n1", "memory", "wang", 2.0))
    store.set_drain(Drain("n2", "fan and dust", "li", 3.0))
    store = reopen()
    assert store.drains() == [Drain("n1", "memory", "wang", 2.0), Drain("n2", "fan and dust", "li", 3.0)]
    store.clear_drain("n2")
    store.clear_drain("never-drained")
    assert [drain.node for drain in reopen().drains()] == ["n1"]


def test_submissions_are_kept_together_in_their_order_and_answered_each_alone(reopen: Open) -> None:
    store = reopen()
    unwritable = replace(SPEC, tenant=object())  # type: ignore[arg-type]
    if isinstance(store, FakeStore):
        store.poison.add("bad")
    first, bad, second, none = store.submit_together(
        [
            Submission((SPEC, replace(SPEC, array_size=2)), "wang"),
            Submission((SPEC, replace(unwritable, name="bad")), "li"),
            Submission((replace(SPEC, name="late"),), "li"),
            Submission((), "li"),
        ],
        at_s=1.0,
    )
    assert isinstance(bad, Exception)
    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    assert ([job.id for job in first], [job.spec.name for job in second], none) == (["1", "2.0", "2.1"], ["late"], [])
    live = reopen().live_jobs()
    assert live == [*first, *second]
    assert [job.seq for job in live] == sorted({job.seq for job in live})
    assert [event.detail for event in store.job_events(second[0].id)] == [{"by": "li"}]


def test_nothing_submitted_and_nothing_changed_are_no_work(store: Store) -> None:
    assert list(store.submit([], at_s=1.0, by="x")) == []
    store.commit([])
    assert store.live_jobs() == []


# ---- a full disk -------------------------------------------------------------------------------------------------


def limit_pages(store: SqlStore, pages: int) -> None:
    """SQLite itself then finds its file full, as on a full disk (SQLITE_FULL)."""
    store.engine.dispose()  # the limit belongs to a connection: the next ones get it

    from sqlalchemy import event

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(store.engine, "connect", limit)


@pytest.mark.parametrize("open_one", ["sqlite", "fake"], indirect=True)
def test_a_full_disk_refuses_and_keeps_nothing_then_goes_on(reopen: Open) -> None:
    store = reopen()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    if isinstance(store, FakeStore):
        store.full = True
    else:
        assert isinstance(store, SqlStore)
        limit_pages(store, 1)  # SQLite raises it to the file's present size: not one page more
    big = [replace(SPEC, name="n" * 20_000)] * 10
    with pytest.raises(Unavailable, match=r"(?s)full.*[Ff]ree some"):
        store.submit(big, at_s=2.0, by="x")
    with pytest.raises(Unavailable):
        store.commit([Change(placed(job, "n1"), "placed", 2.0, {"text": "x" * 100_000})])
    assert [each.id for each in store.live_jobs()] == [job.id]
    assert store.job(job.id) == job
    if isinstance(store, FakeStore):
        store.full = False
    else:
        assert isinstance(store, SqlStore)
        limit_pages(store, 1_000_000)
    assert len(store.submit(big, at_s=3.0, by="x")) == 10
    store.commit([Change(placed(job, "n1"), "placed", 3.0)])
    assert [each.id for each in reopen().live_jobs()] == [str(n) for n in range(1, 12)]


FILE_LIMIT_SCRIPT = """
import resource, sys
from dataclasses import replace
from scheduler.core.demand import Demand
from scheduler.core.jobs import JobKind, JobSpec
from scheduler.errors import Unavailable
from scheduler.store.sql import open_store

spec = JobSpec("n" * 50_000, "t", JobKind.BATCH, "normal", 1, ("true",), None, 1, 1, (Demand(),), 60.0)
store = open_store(sys.argv[1])
store.submit([replace(spec, name="small")], at_s=1.0, by="x")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
try:
    store.submit([spec] * 20, at_s=2.0, by="x")
except Unavailable as error:
    print("refused:", error.message)
print("jobs:", len(store.live_jobs()))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.submit([spec], at_s=3.0, by="x")
print("jobs:", [job.id for job in store.live_jobs()])
store.close()
"""


def test_a_write_that_the_system_refuses_loses_nothing(tmp_path: Path) -> None:
    """The kernel refuses the write itself here, under SQLite: a limit on file size, in a process of its own."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY, "this test needs to lift its limit"
    done = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT_SCRIPT, f"sqlite:///{tmp_path / 'store.db'}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("refused: the store "), lines
    assert lines[1:] == ["jobs: 1", "jobs: ['1', '2']"]


# ---- SQLite's own ------------------------------------------------------------------------------------------------


def test_files_are_private_and_settings_are_the_durable_ones(tmp_path: Path) -> None:
    path = tmp_path / "home" / "store.db"
    store = open_store(f"sqlite:///{path}")
    store.submit([SPEC], at_s=1.0, by="x")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    with store.engine.connect() as connection:
        read = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        read += [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("foreign_keys", "busy_timeout")]
    assert read == ["wal", 2, 1, 5000]
    store.close()


def test_a_submission_that_the_database_refuses_costs_the_others_nothing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON jobs WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    named = [Submission((replace(SPEC, name=name),), "x") for name in ("one", "bad", "two")]
    one, bad, two = store.submit_together(named, at_s=1.0)
    assert isinstance(bad, IntegrityError)
    assert not isinstance(one, Exception)
    assert not isinstance(two, Exception)
    assert store.live_jobs() == [*one, *two]
    with pytest.raises(IntegrityError):
        store.submit(named[1].specs, at_s=1.0, by="x")
    store.close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(f"sqlite:///{path}").close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE meta SET schema_version = 17")
    raw.commit()
    raw.close()
    with pytest.raises(Conflict, match=rf"schema version 17.*up to {SCHEMA_VERSION}.*[Ii]nstall"):
        open_store(f"sqlite:///{path}")
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT schema_version, epoch FROM meta").fetchall() == [(17, 0)]
    raw.close()


def test_a_lock_held_by_another_process_is_waited_for_then_reported(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite:///{path}")
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=50")  # the pool gives this connection out again
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"locked.*[Aa]nother process"):
        store.submit([SPEC], at_s=1.0, by="x")
    other.execute("ROLLBACK")
    other.close()
    assert len(store.submit([SPEC], at_s=1.0, by="x")) == 1
    store.close()


@pytest.mark.parametrize(
    ("url", "error", "match"),
    [
        ("not a url", BadInput, "URL"),
        ("sqlite://", BadInput, "memory"),
        ("nosuchdb://host/name", BadInput, "driver"),
    ],
)
def test_urls_that_cannot_be_a_store(url: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        open_store(url)


def test_files_that_are_no_store(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"this is not a database, it is a letter" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        open_store(f"sqlite:///{garbage}")
    other = tmp_path / "other.db"
    raw = sqlite3.connect(other)
    raw.execute("CREATE TABLE invoices (id INTEGER)")
    raw.commit()
    raw.close()
    with pytest.raises(Conflict, match="invoices"):
        open_store(f"sqlite:///{other}")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'store.db'}")
