"""A store that an older Suanli wrote is opened, changed in place, and has lost nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.health.verdicts import Finding, Jobs, Lifts, Use
from scheduler.core.demand import UNCONSTRAINED, Demand
from scheduler.core.jobs import Hold, Running, Succeeded
from scheduler.core.usage_records import MeteredUse, UsageRecord
from scheduler.ports import Change, Drain, HealthNotes, Reservation, Schedule, ServedDay, Usage
from scheduler.store import opening
from scheduler.store.sql import SqlStore, open_store
from scheduler.store.tables import SCHEMA_VERSION

DATA = Path(__file__).parents[3] / "data"


def left_by(version: int, tmp_path: Path) -> Path:
    path = tmp_path / f"store{version}.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript((DATA / f"store_v{version}.sql").read_text())
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return left_by(1, tmp_path)


@contextmanager
def opened(path: Path) -> Iterator[SqlStore]:
    store = open_store(f"sqlite:///{path}")
    try:
        yield store
    finally:
        store.close()


def columns(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Of each table: name, type, not null, default, place in the key."""
    with closing(sqlite3.connect(path)) as raw:
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: [row[1:] for row in raw.execute(f"PRAGMA table_info({name})")] for name in names}


def test_what_was_in_it_is_still_in_it(old: Path) -> None:
    with opened(old) as store:
        (job,) = store.live_jobs()
        assert (job.id, job.preemptions, job.workers_wanted) == ("1", 0, None)
        assert job.spec.alternatives == (Demand(model="H100 SXM"),)
        assert (job.spec.constraints, job.spec.reservation, job.deadline_s) == (UNCONSTRAINED, None, None)
        assert [event.event for event in store.job_events("1")] == ["submitted", "placed"]
        assert store.drains() == [Drain("n2", "fan", "wang", 3.0)]
        assert store.next_epoch() == 5
        assert [each.id for each in store.submit([job.spec], at_s=9.0, by="x")] == ["2"]


def test_it_takes_what_is_new(old: Path) -> None:
    night = Reservation("night", ("n1", "n2"), 10.0, 20.0, "bench", "wang", 1.0, 86_400.0, ("studio", "hospital"))
    with opened(old) as store:
        (job,) = store.live_jobs()
        store.commit([Change(replace(job, preemptions=2, workers_wanted=1), "scaled", 5.0)])
        store.set_reservation(night)
        store.set_usage(Usage({"studio": 0.25}, 7.0))
    with opened(old) as store:
        (job,) = store.live_jobs()
        assert (job.preemptions, job.workers_wanted) == (2, 1)
        assert (store.reservations(), store.usage()) == ([night], Usage({"studio": 0.25}, 7.0))


def test_what_version_2_had_is_still_in_it_and_its_gang_is_billed_when_it_ends(tmp_path: Path) -> None:
    """Its runs say nothing of when the service heard of their start: that is not known of them."""
    with opened(left_by(2, tmp_path)) as store:
        gang, waits = store.live_jobs()
        assert isinstance(gang.state, Running)
        assert [(run.started_s, run.start_heard_s) for run in gang.state.workers] == [(3.0, None), (3.0, None)]
        assert (gang.preemptions, waits.id) == (1, "2")
        assert (store.results("1"), store.usage()) == ({(1, 0): '{"loss":1}'}, Usage({"studio": 0.25}, 7.0))
        assert [reservation.name for reservation in store.reservations()] == ["night"]
        assert store.usage_records("1") == []
        record = UsageRecord(
            "1",
            1,
            1,
            "studio",
            "normal",
            "training",
            "n2",
            (0,),
            0,
            1_000,
            0,
            False,
            3.0,
            9.0,
            "seen",
            "succeeded",
            name="gang",
        )
        store.commit([Change(replace(gang, state=Succeeded(9.0)), "succeeded", 9.0)], [record])
        assert store.usage_records_between(0.0, 10.0) == [record]


def test_what_version_3_had_is_still_in_it_and_its_jobs_can_be_held(tmp_path: Path) -> None:
    hold = Hold("wang", "no data yet", 5.0, by_operator=True)
    path = left_by(3, tmp_path)
    with opened(path) as store:
        runs, task, other = store.live_jobs()
        assert isinstance(runs.state, Running)
        assert [(job.id, job.held) for job in (runs, task, other)] == [("1", None), ("2.0", None), ("2.1", None)]
        assert (store.drains(), len(store.usage_records("1"))) == ([Drain("n2", "fan", "wang", 3.0)], 1)
        store.commit([Change(replace(task, held=hold), "held", 5.0)])
        assert store.schedules() == []
        assert (store.deployed(), runs.pinned) == ([], False)
        store.set_schedule(Schedule("studio", "nightly", runs.spec, "li", False, 1.0, 9.0))
    with opened(path) as store:
        assert [schedule.spec for schedule in store.schedules()] == [runs.spec]
        assert [job.held for job in store.live_jobs()] == [None, hold, None]


def test_what_version_7_had_is_still_in_it_and_its_usage_is_named(tmp_path: Path) -> None:
    """Of what its runs made their devices do nothing is known, and that is not 0."""
    path = left_by(7, tmp_path)
    with opened(path) as store:
        ended, waits = store.usage_records_between(0.0, 100.0)
        assert [(each.job_id, each.name, each.end) for each in (ended, waits)] == [
            ("1", "magnet-anneal", "seen"),
            ("2", "scan", "unseen"),
        ]
        assert (ended.site, ended.models, ended.use, ended.achieved) == (None, (), None, ())
        assert len(store.usage_records_changed(0, 100.0)) == 0
        assert len(store.usage_records_changed(-1, 100.0)) == 2
        assert (store.closed_months(), store.served_days("0", "9"), store.usage_book("2026-01")) == ([], [], [])
        use = MeteredUse(2, 9.0, 1_000.0, False, 111.1, None, None, False)
        late = replace(waits, end="seen", to_s=30.0, use=use, models=("H100 SXM", "H100 SXM"))
        store.commit((), [late])
    with opened(path) as store:
        assert store.usage_records("2") == [late]
        assert store.usage_records_changed(0, 100.0) == [late]
        assert [schedule.name for schedule in store.schedules()] == ["nightly"]


def test_what_version_8_had_is_still_in_it_and_what_is_held_against_nodes_is_kept(tmp_path: Path) -> None:
    """What was held before is not in it: the agents know."""
    slow = Finding("GPU-1", "slow-than-like", Use.SCHEDULABLE, Jobs.KEEP, Lifts.ALONE, "12% slower", "compare it", 5.0)
    notes = [HealthNotes("n1", "checks", ()), HealthNotes("n1", "nights", (slow,))]
    path = left_by(8, tmp_path)
    with opened(path) as store:
        assert store.served_days("0", "9") == [ServedDay("2026-11-01", "hospital", "scan", False, 5, 4, 3, 1)]
        assert [job.id for job in store.live_jobs()] == ["2"]
        assert (store.drains(), store.health_notes()) == ([Drain("n2", "fan", "wang", 3.0, 90.0)], [])
        store.set_health_notes(notes)
    with opened(path) as store:
        assert store.health_notes() == notes


@pytest.mark.parametrize("version", [1, 2, 3, 7, 8])
def test_it_is_then_as_one_that_was_made_new(version: int, tmp_path: Path) -> None:
    old = left_by(version, tmp_path)
    with opened(old), opened(tmp_path / "new" / "store.db"):
        pass
    assert columns(old) == columns(tmp_path / "new" / "store.db")
    with closing(sqlite3.connect(old)) as raw:
        assert raw.execute("SELECT schema_version FROM meta").fetchall() == [(SCHEMA_VERSION,)]


def test_a_step_that_fails_leaves_the_store_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = columns(old)

    def half(connection: object) -> None:
        step(connection)  # type: ignore[arg-type]
        raise RuntimeError("the machine went down")

    step = opening._STEPS[1]
    monkeypatch.setitem(opening._STEPS, 1, half)
    with pytest.raises(RuntimeError, match="went down"):
        open_store(f"sqlite:///{old}")
    assert columns(old) == before
    monkeypatch.undo()
    with opened(old) as store:
        assert [job.id for job in store.live_jobs()] == ["1"]
