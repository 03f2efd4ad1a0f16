"""Many clients at once: they are committed together, each is answered for itself, and no limit is overrun."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.core.jobs import JobSpec
from scheduler.errors import BadInput, Overloaded, SuanliError, Unavailable
from scheduler.ports import Change, Store
from scheduler.service.outcome import JobsSubmitted
from scheduler.store.sql import SqlStore, open_store
from scheduler.store.writing import Turns
from tests.fakes.fake_store import FakeStore
from tests.fakes.live_service import Live
from tests.fakes.service_world import OPERATOR, spec


class Gate:
    """The first submission that reaches the store is held there until `open`; how large the groups were."""

    def __init__(self, store: Store) -> None:
        self._real = store.submit_together
        self.groups: list[int] = []
        self.entered, self._open = threading.Event(), threading.Event()
        store.submit_together = self._submit  # type: ignore[method-assign]

    def _submit(self, submissions, *, at_s):  # type: ignore[no-untyped-def]
        self.groups.append(len(submissions))
        self.entered.set()
        assert self._open.wait(20)
        return self._real(submissions, at_s=at_s)

    def open(self) -> None:
        self._open.set()


class Clients:
    """Each in a thread of its own. `answers` by the name of the job."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.answers: dict[str, str | SuanliError] = {}
        self._threads: list[threading.Thread] = []

    def submit(self, one: JobSpec) -> None:
        def run() -> None:
            try:
                first, *_ = self._live.service.submit([one], OPERATOR)["jobs"]
                self.answers[one.name] = first["id"]
            except SuanliError as error:
                self.answers[one.name] = error

        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)

    def in_line(self, count: int) -> None:
        line = self._live.service._submissions._together._line
        until(lambda: len(line) == count)

    def end(self) -> dict[str, str | SuanliError]:
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive()
        return self.answers


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@pytest.fixture(params=["sqlite", "postgres", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "fake":
        return FakeStore()
    if request.param == "postgres":
        return open_store(request.getfixturevalue("postgres").new_database())
    return open_store(f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
def live(store: Store) -> Iterator[Live]:
    live = Live(store, max_live_jobs=40)
    yield live
    live.close()
    assert live.service.loop.bugs == 0


def test_those_that_wait_together_are_committed_together_and_each_is_answered_alone(live: Live) -> None:
    gate, clients = Gate(live.store), Clients(live)
    clients.submit(spec(name="first"))
    assert gate.entered.wait(20)
    for n in range(20):
        clients.submit(spec(name=f"n{n}"))
    clients.submit(spec(name="never", devices=99))
    clients.in_line(21)
    gate.open()
    answers = clients.end()
    assert gate.groups == [1, 20]
    assert isinstance(answers.pop("never"), BadInput)
    assert sorted(int(str(job_id)) for job_id in answers.values()) == list(range(1, 22))
    for name, job_id in answers.items():
        kept = live.store.job(str(job_id))
        assert kept is not None
        assert kept.spec.name == name
    live.until("1", "running")
    assert len(live.store.live_jobs()) == 21


def test_what_one_group_brings_counts_before_the_next_and_within_it(live: Live) -> None:
    gate, clients = Gate(live.store), Clients(live)
    clients.submit(spec(name="first", array_size=30))
    assert gate.entered.wait(20)
    for n in range(25):
        clients.submit(spec(name=f"n{n}"))
    clients.in_line(25)
    gate.open()
    answers = clients.end()
    refused = [answer for answer in answers.values() if isinstance(answer, SuanliError)]
    assert len(refused) == 15
    assert {type(error) for error in refused} == {Overloaded}
    assert "40 jobs are waiting or running and at most 40 may be" in refused[0].message
    assert len(live.store.live_jobs()) == 40


def test_one_that_cannot_be_kept_is_refused_alone(live: Live, store: Store) -> None:
    if isinstance(store, FakeStore):
        store.poison.add("bad")
    gate, clients = Gate(live.store), Clients(live)
    clients.submit(spec(name="first"))
    assert gate.entered.wait(20)
    failures: list[Exception] = []

    def bad() -> None:
        try:
            live.service.submit([replace(spec(name="bad"), command=(object(),))], OPERATOR)  # type: ignore[arg-type]
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=bad)
    thread.start()
    clients.in_line(1)
    clients.submit(spec(name="good"))
    clients.in_line(2)
    gate.open()
    answers = clients.end()
    thread.join(timeout=20)
    assert len(failures) == 1
    assert not isinstance(failures[0], SuanliError)
    assert set(answers) == {"first", "good"}
    assert {job.spec.name for job in live.store.live_jobs()} == {"first", "good"}


@pytest.mark.parametrize("store", ["fake"], indirect=True)  # what a real one does is in the store's contract
def test_a_store_that_takes_nothing_refuses_all_of_a_group_and_keeps_none(live: Live, store: FakeStore) -> None:
    gate, clients = Gate(live.store), Clients(live)
    clients.submit(spec(name="first"))
    assert gate.entered.wait(20)
    for n in range(5):
        clients.submit(spec(name=f"n{n}"))
    clients.in_line(5)
    store.full = True
    gate.open()
    answers = clients.end()
    store.full = False
    assert {type(answer) for answer in answers.values()} == {Unavailable}
    assert store.live_jobs() == []
    assert live.service.submit([spec()], OPERATOR)["jobs"][0]["id"] == "1"


def test_the_services_own_commit_goes_before_submissions_that_wait() -> None:
    turns, order = Turns(), []
    threads: list[threading.Thread] = []

    def write(name: str, *, behind: bool) -> None:
        def run() -> None:
            with turns.turn(behind=behind):
                order.append(name)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    with turns.turn(behind=True):
        for n in range(3):
            write(f"submission {n}", behind=True)
        until(lambda: len(turns._changed._waiters) == 3)  # type: ignore[attr-defined]
        write("commit", behind=False)
        until(lambda: turns._first_in_line == 1)
    for thread in threads:
        thread.join(timeout=20)
    assert order[0] == "commit"
    assert sorted(order[1:]) == ["submission 0", "submission 1", "submission 2"]


@pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
def test_the_loop_commits_while_a_group_is_only_waiting_to_be_written(store: SqlStore) -> None:
    """A commit must not stand behind every submission that came before it."""
    (job,) = store.submit([spec()], at_s=1.0, by="x")
    held, go_on = threading.Event(), threading.Event()

    def hold(_connection: object) -> None:
        held.set()
        assert go_on.wait(20)

    holder = threading.Thread(target=lambda: store._writer.write(hold, behind=True))
    holder.start()
    assert held.wait(20)
    submitters = [threading.Thread(target=lambda: store.submit([spec()], at_s=2.0, by="x")) for _ in range(8)]
    for submitter in submitters:
        submitter.start()
    until(lambda: len(store._writer._turns._changed._waiters) == 8)  # type: ignore[attr-defined]
    committing = threading.Thread(target=lambda: store.commit([Change(job, "looked_at", 2.0)]))
    committing.start()
    until(lambda: store._writer._turns._first_in_line == 1)
    go_on.set()
    for thread in (holder, committing, *submitters):
        thread.join(timeout=30)
    (mine,) = [event.seq for event in store.job_events("1") if event.event == "looked_at"]
    later = [store.job_events(other.id)[0].seq for other in store.live_jobs() if other.id != "1"]
    assert len(later) == 8
    assert mine < min(later)
    store.close()


def test_the_loop_hears_of_a_group_once_and_in_order(live: Live) -> None:
    heard: list[list[str]] = []
    post = live.service.loop.post

    def listen(event: object, *, force: bool = False) -> None:
        if isinstance(event, JobsSubmitted):
            heard.append([job.id for job in event.jobs])
        post(event, force=force)  # type: ignore[arg-type]

    live.service.loop.post = listen  # type: ignore[method-assign]
    gate, clients = Gate(live.store), Clients(live)
    clients.submit(spec(name="first"))
    assert gate.entered.wait(20)
    for n in range(6):
        clients.submit(spec(name=f"n{n}"))
    clients.in_line(6)
    gate.open()
    clients.end()
    assert heard == [["1"], ["2", "3", "4", "5", "6", "7"]]
