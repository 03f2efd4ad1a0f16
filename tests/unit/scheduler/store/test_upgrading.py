"""A store that an older Suanli wrote is opened, changed in place, and has lost nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.core.demand import UNCONSTRAINED, Demand
from scheduler.ports import Change, Drain, Reservation, Usage
from scheduler.store import opening
from scheduler.store.sql import SqlStore, open_store
from scheduler.store.tables import SCHEMA_VERSION

VERSION_1 = Path(__file__).parents[3] / "data" / "store_v1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(VERSION_1.read_text())
    return path


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


def test_it_is_then_as_one_that_was_made_new(old: Path, tmp_path: Path) -> None:
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
