"""The loop's own promises: nothing is sent before it is committed, nothing stops for a bug, nobody waits for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from node_agent.messages import Forget, Prepare, RenewLease
from scheduler.core.usage_records import UsageEntry
from scheduler.errors import Conflict, SuanliError, Unavailable
from scheduler.ports import Change, NodeDown
from scheduler.service.control import Service
from scheduler.service.keeping import Keeping
from scheduler.service.loop import CAPACITY
from scheduler.service.outcome import Outcome
from scheduler.store.sql import open_store
from tests.fakes.fake_engine import node_facts
from tests.fakes.fake_store import FakeStore
from tests.fakes.live_service import Live
from tests.fakes.service_world import OPERATOR, Make, World, spec

# ---- a store that cannot take a commit ---------------------------------------------------------------------------


def test_nothing_is_sent_while_nothing_can_be_committed_and_all_of_it_later(world: World) -> None:
    running = world.one()
    (waiting,) = [view["id"] for view in world.service.submit([spec()], OPERATOR)["jobs"]]
    world.store.full = True
    commits, prepares = world.store.commits, len(world.sent(Prepare))
    world.engine.exit(running)
    for _ in range(3):
        world.run()
    assert world.store.commits == commits
    assert len(world.sent(Prepare)) == prepares
    assert world.engine.nodes["n1"].events  # not acknowledged
    assert "disk is full" in world.service.status(OPERATOR)["loop"]["store_error"]
    world.store.full = False
    world.run()
    assert world.words(running, waiting) == "succeeded running"
    assert world.engine.nodes["n1"].events == []
    assert world.service.status(OPERATOR)["loop"]["store_error"] is None


def test_while_the_store_is_full_submissions_are_refused_and_questions_answered(world: World) -> None:
    job = world.one()
    world.service.submit([spec()], OPERATOR)
    world.store.full = True
    world.run()
    with pytest.raises(Unavailable, match="full"):
        world.service.submit([spec()], OPERATOR)
    with pytest.raises(Unavailable, match="full"):
        world.service.cancel(job, OPERATOR, reason="")
    assert world.service.job(job, OPERATOR)["state"] == "running"
    assert len(world.store.live_jobs()) == 2
    world.store.full = False
    world.run()
    assert world.words(job, "2") == "running running"


def test_leases_are_renewed_while_nothing_can_be_committed(world: World) -> None:
    world.one()
    world.service.submit([spec()], OPERATOR)
    world.store.full = True
    world.run()
    before = len(world.sent(RenewLease))
    for _ in range(8):
        world.pass_time(15)
    assert len(world.sent(RenewLease)) - before == 8


def test_a_request_whose_commit_fails_is_told_so_and_carried_out_later(world: World) -> None:
    job = world.one()
    world.store.full = True
    with pytest.raises(Unavailable, match=r"full.*carried out when the store is back"):
        world.service.cancel(job, OPERATOR, reason="")
    assert world.words(job) == "running"
    assert len(world.engine.live(job)) == 1
    world.store.full = False
    assert world.run().words(job) == "cancelled"


def test_a_kill_while_the_store_is_full_loses_no_end(world: World) -> None:
    job = world.one()
    world.store.full = True
    world.engine.exit(job, 3)
    world.run().kill_service()
    world.store.full = False
    world.start_service().run()
    assert world.words(job) == "failed"


# ---- another service -----------------------------------------------------------------------------------------------


def test_a_service_whose_store_obeys_another_stops_acting_and_says_so(make: Make) -> None:
    """No node was there to refuse the old one's epoch, and its commits overwrote those of the new one."""
    world = make(node_facts("n1", 1))
    job = world.one()
    old, sent = world.service, len(world.engine.sent)
    world.start_service().run()
    commits = world.store.commits
    old.loop.post(NodeDown("n1", "gone", True))
    old.loop.run_once()
    world.clock.advance(30)
    old.loop.run_once()
    assert world.store.commits == commits
    assert [command for _, command in world.engine.sent[sent:] if command.epoch == 1] == []
    assert world.words(job) == "running"
    said = old.status(OPERATOR)["loop"]["store_error"]
    assert said == "another service (epoch 2) has taken over from this one (epoch 1); ask that one, and stop this one"
    for refused in (lambda: old.cancel(job, OPERATOR, reason=""), lambda: old.submit([spec()], OPERATOR)):
        with pytest.raises(Unavailable, match="epoch 2"):
            refused()


@pytest.mark.parametrize(
    "ask",
    [
        lambda service: service.submit([spec()], OPERATOR),
        lambda service: service.cancel("1", OPERATOR, reason=""),
        lambda service: service.drain("n1", OPERATOR, reason="fan"),
    ],
    ids=["submit", "cancel", "drain"],
)
def test_whatever_is_asked_of_a_replaced_service_is_refused(make: Make, ask: Callable[[Service], object]) -> None:
    world = make(node_facts("n1", 1))
    job = world.one()
    old = world.service
    world.start_service().run()
    with pytest.raises((Conflict, Unavailable), match=r"took over|taken over"):
        ask(old)
    old.loop.run_once()
    assert "epoch 2" in old.status(OPERATOR)["loop"]["store_error"]
    assert world.words(job) == "running"
    assert world.store.drains() == []
    assert [each.id for each in world.store.live_jobs()] == [job]
    assert old.loop.bugs == 0


# ---- what cannot be stored -----------------------------------------------------------------------------------------


def test_what_can_never_be_stored_is_set_aside_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    bad, good = world.submit(spec(), spec())
    world.store.poison.add(bad)
    for job in (bad, good):
        world.engine.exit(job, result="{}")
    with caplog.at_level(logging.ERROR):
        world.run()
    assert world.words(bad, good) == "running succeeded"
    assert f"job {bad}: its change (succeeded) cannot be stored" in caplog.text
    assert "cannot be encoded" in caplog.text
    loop = world.service.status(OPERATOR)["loop"]
    assert (loop["bugs"], loop["store_error"]) == (1, None)
    assert [forget.key.job_id for forget in world.sent(Forget)] == [good]
    assert world.words(world.one()) == "running"
    # The node still knows how it ended: a service that can store it finds out.
    world.store.poison.clear()
    assert world.restart().words(bad) == "succeeded"


def test_nothing_is_started_of_which_the_store_does_not_know() -> None:
    world = World()
    world.store.poison.add("1")
    world.submit(spec(), spec())
    assert [key.job_id for key in world.engine.launched] == ["2"]
    assert world.words("1", "2") == "pending running"
    with pytest.raises(SuanliError, match=r"not all .* could be stored \(job 1\)"):
        world.service.cancel("1", OPERATOR, reason="")


def test_a_disk_that_fills_up_while_pieces_are_stored_alone_repeats_none_of_them() -> None:
    class Filling(FakeStore):
        left = 100

        def commit(self, changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
            super().commit(changes, usage_records)
            Filling.left -= len(changes)
            self.full = Filling.left <= 0

    store = Filling()
    jobs = store.submit([spec()] * 4, at_s=1.0, by="x")
    store.poison.add(jobs[1].id)
    keeping = Keeping(Outcome(changes=[Change(job, f"change-{job.id}", 2.0) for job in jobs]))
    Filling.left = 1
    with pytest.raises(Unavailable):
        keeping.keep(store)
    store.full, Filling.left = False, 100
    keeping.keep(store)
    kept = [[event.event for event in store.job_events(job.id)][1:] for job in jobs]
    assert kept == [["change-1"], [], ["change-3"], ["change-4"]]
    assert (keeping.bugs, keeping.set_aside) == (1, {"2"})


# ---- bugs --------------------------------------------------------------------------------------------------------


def test_a_bug_in_one_step_is_logged_with_its_job_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    bad, good = world.submit(spec(), spec())
    from scheduler.service import runs

    real = runs.worker_ended

    def broken(state: object, out: object, job: object, *rest: object) -> None:
        if job.id == bad:  # type: ignore[attr-defined]
            raise RuntimeError("a bug")
        real(state, out, job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "worker_ended", broken)
    world.engine.exit(bad)
    world.engine.exit(good)
    with caplog.at_level(logging.ERROR):
        world.run()
    assert f"run_event of job {bad}" in caplog.text
    assert world.words(bad, good) == "running succeeded"
    assert world.service.status(OPERATOR)["loop"]["bugs"] == 1


def test_an_engine_that_raises_is_a_bug_and_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.engine.send = lambda node, commands: 1 / 0  # type: ignore[method-assign, return-value, assignment]
    with caplog.at_level(logging.ERROR):
        world.one()
    assert world.service.loop.bugs >= 1
    assert world.words("1") == "starting"


# ---- threads -----------------------------------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path: object) -> Iterator[Live]:
    live = Live(open_store(f"sqlite:///{tmp_path}/store.db"))
    yield live
    live.close()
    assert live.service.loop.bugs == 0


def test_the_thread_runs_a_job_from_submit_to_end(live: Live) -> None:
    (view,) = live.service.submit([spec()], OPERATOR)["jobs"]
    assert (view["id"], view["state"], view["reason"]["kind"]) == ("1", "pending", "not_considered")
    live.until("1", "running")
    assert live.service.wait("1", OPERATOR, timeout_s=0.01)["state"] == "running"
    waited: list[str] = []
    waiter = threading.Thread(target=lambda: waited.append(live.service.wait("1", OPERATOR, timeout_s=30)["state"]))
    waiter.start()
    live.engine.exit("1")
    waiter.join(timeout=20)
    assert waited == ["succeeded"]
    assert live.service.wait("1", OPERATOR, timeout_s=30)["state"] == "succeeded"
    with pytest.raises(Conflict, match="ended already"):
        live.service.cancel("1", OPERATOR, reason="")


def test_submitters_in_many_threads_lose_nothing(live: Live) -> None:
    def submit() -> None:
        for _ in range(5):
            live.service.submit([spec(array_size=2)], OPERATOR)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    views = live.service.jobs(OPERATOR, tenant=None, states=None, limit=100)["jobs"]
    assert len({view["id"] for view in views}) == 40
    live.until(views[7]["id"], "running")
    assert [view["state"] for view in live.service.jobs(OPERATOR, tenant=None, states=None, limit=9)["jobs"]] == [
        *["running"] * 8,
        "pending",
    ]


def test_a_full_queue_holds_up_who_reports_and_nobody_else(live: Live) -> None:
    """The queue of what nodes report is bounded: the engine's thread waits, and goes on when there is room."""
    held = threading.Event()
    entered = threading.Event()

    def hold(_state: object) -> None:
        entered.set()
        assert held.wait(20)

    holder = threading.Thread(target=lambda: live.service.loop.call(hold))
    holder.start()
    assert entered.wait(20)
    full, done = threading.Event(), threading.Event()

    def report() -> None:
        for _ in range(CAPACITY):
            live.service.loop.post(NodeDown("n9", "gone", False))
        full.set()
        live.service.loop.post(NodeDown("n9", "gone", False))
        done.set()

    reporter = threading.Thread(target=report)
    reporter.start()
    assert full.wait(15)  # on a busy machine the filling takes its time
    assert not done.wait(0.3)
    assert live.service.loop.backlog() == CAPACITY
    held.set()
    assert done.wait(30)
    holder.join(timeout=20)
    reporter.join(timeout=20)


def test_a_closed_service_answers_that_it_is_stopping(tmp_path: object) -> None:
    live = Live(open_store(f"sqlite:///{tmp_path}/store.db"))
    live.close()
    with pytest.raises(Unavailable, match="stopping"):
        live.service.nodes(OPERATOR)
