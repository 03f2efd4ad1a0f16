"""What only SQLite can do to the store: fill its disk, lose its file, be locked, be of another version."""

from __future__ import annotations

import resource
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from scheduler.errors import BadInput, Conflict, Unavailable
from scheduler.ports import (
    Change,
    Submission,
)
from scheduler.store.sql import SqlStore, open_store
from scheduler.store.tables import SCHEMA_VERSION
from tests.contract.conftest import Open
from tests.fakes.fake_store import FakeStore
from tests.fakes.stored import SPEC, placed


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
