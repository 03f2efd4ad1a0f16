"""What scheduler.ports.Store promises, asked of the SQL store and of the fake that stands in for it elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.core.demand import Placement
from scheduler.core.jobs import (
    Autoscale,
    Canary,
    Cancelled,
    EndCause,
    Failed,
    Hold,
    Job,
    JobState,
    Pending,
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
from scheduler.errors import Conflict
from scheduler.ports import (
    Change,
    Drain,
    Reservation,
    ServedDay,
    Store,
    Submission,
    Usage,
)
from tests.contract.conftest import Open
from tests.fakes.fake_store import FakeStore
from tests.fakes.stored import NIGHT, SERVICE, SPEC, closed, line, placed, scheduled, used


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
