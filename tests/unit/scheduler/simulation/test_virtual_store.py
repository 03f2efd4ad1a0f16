"""The simulator's store: what a kill or a failing disk leaves of each kind of write, before and after it is durable."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scheduler.errors import Unavailable
from scheduler.ports import Change, Drain, HealthNotes, Reservation, Usage
from scheduler.simulation.virtual_store import VirtualStore
from tests.fakes.service_world import spec


class Killed(BaseException):
    pass


def one(store: VirtualStore) -> Change:
    job = store.job("1")
    assert job is not None
    return Change(job, "changed", 2.0)


WRITES: dict[str, Callable[[VirtualStore], object]] = {
    "next_epoch": lambda store: store.next_epoch(),
    "submit": lambda store: store.submit([spec(array_size=3), spec()], at_s=1.0, by="x"),
    "commit": lambda store: store.commit([one(store), one(store)]),
    "set_result": lambda store: store.set_result("1", 1, 0, "{}"),
    "set_drain": lambda store: store.set_drain(Drain("n1", "fan", "wang", 1.0)),
    "clear_drain": lambda store: store.clear_drain("n0"),
    "set_health_notes": lambda store: store.set_health_notes([HealthNotes("n0", "nights", ())]),
    "set_reservation": lambda store: store.set_reservation(Reservation("b", ("n1",), 1.0, 2.0, "", "wang", 1.0)),
    "clear_reservation": lambda store: store.clear_reservation("a"),
    "set_usage": lambda store: store.set_usage(Usage({"studio": 2.0}, 3.0)),
}


def begun() -> VirtualStore:
    store = VirtualStore()
    store.next_epoch()
    store.submit([spec()], at_s=1.0, by="x")
    store.set_drain(Drain("n0", "fan", "wang", 1.0))
    store.set_reservation(Reservation("a", ("n1",), 1.0, 2.0, "", "wang", 1.0))
    store.set_usage(Usage({"studio": 1.0}, 2.0))
    return store


def contents(store: VirtualStore) -> list[object]:
    kept = store.kept
    return [
        kept.epoch,
        list(store.live_jobs()),
        [store.job_events(job_id) for job_id in kept.jobs],
        store.results("1"),
        store.drains(),
        store.health_notes(),
        store.reservations(),
        store.usage(),
    ]


@pytest.mark.parametrize("error", [Unavailable("the disk fails"), Killed()], ids=["disk", "kill"])
@pytest.mark.parametrize("what", WRITES)
def test_what_fails_before_it_is_durable_leaves_nothing(what: str, error: BaseException) -> None:
    store, asked = begun(), []
    before = contents(store)

    def fail(name: str) -> None:
        asked.append(name)
        raise error

    store.before_write = fail
    with pytest.raises(type(error)):
        WRITES[what](store)
    assert (asked, contents(store.reopened())) == ([what], before)


@pytest.mark.parametrize("what", WRITES)
def test_a_kill_after_it_is_durable_leaves_all_of_it(what: str) -> None:
    store, whole = begun(), begun()
    WRITES[what](whole)

    def kill(name: str) -> None:
        assert name == what
        raise Killed

    store.after_write = kill
    with pytest.raises(Killed):
        WRITES[what](store)
    assert contents(store.reopened()) == contents(whole)
    assert contents(whole) != contents(begun())


def test_a_change_that_cannot_be_kept_leaves_nothing_of_its_commit() -> None:
    store = begun()
    good, bad = store.submit([spec(), spec()], at_s=2.0, by="x")
    store.poison.add(bad.id)
    before = contents(store)
    with pytest.raises(ValueError, match="cannot be encoded"):
        store.commit([Change(good, "x", 3.0), Change(bad, "x", 3.0)])
    assert contents(store) == before


def test_a_service_sees_what_another_wrote_after_it_had_opened() -> None:
    store = begun()
    other = store.reopened()
    assert len(other.job_events("1")) == 1
    store.commit([one(store)])
    assert [event.event for event in other.job_events("1")] == ["submitted", "changed"]
    assert list(other.events_named(["1", "9"], ["changed"])) == ["1"]
