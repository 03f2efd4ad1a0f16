"""What only PostgreSQL can do to the store: be killed, lose a connection in the middle of a COMMIT, be set up by two
services at once, keep locks of sessions that stand still. A real server; what holds for every store is in test_store.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.errors import Conflict, Unavailable
from scheduler.ports import Change, Submission
from scheduler.store import postgres as settings
from scheduler.store import submitting
from scheduler.store.sql import SqlStore, open_store
from tests.fakes.breaking_proxy import BreakingProxy
from tests.fakes.postgres import PostgresServer
from tests.fakes.stored import SPEC, placed, scheduled, used


@pytest.fixture
def store(postgres: PostgresServer) -> Iterator[SqlStore]:
    opened = open_store(postgres.new_database())
    opened.next_epoch()
    yield opened
    opened.close()


# ---- a server that is killed -------------------------------------------------------------------------------------


def test_a_server_that_is_killed_refuses_then_goes_on_by_itself_and_nothing_is_doubled(
    own_postgres: PostgresServer,
) -> None:
    store = open_store(own_postgres.new_database())
    store.next_epoch()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    for _round in range(3):
        own_postgres.kill()
        with pytest.raises(Unavailable, match=r"Nothing of it was kept\. Check that the database runs"):
            store.submit([SPEC], at_s=2.0, by="x")
        with pytest.raises(Unavailable):
            store.commit([Change(placed(job, "n1"), "placed", 2.0)])
        with pytest.raises(Unavailable):
            store.live_jobs()
        own_postgres.start()
        assert [each.id for each in store.live_jobs()] == [job.id]
    store.commit([Change(placed(job, "n1"), "placed", 2.0)])
    store.submit([SPEC], at_s=3.0, by="x")
    assert [each.id for each in store.live_jobs()] == ["1", "2"]
    assert [event.event for event in store.job_events("1")] == ["submitted", "placed"]
    store.close()


# ---- a connection that is lost while it commits ------------------------------------------------------------------


@pytest.fixture
def proxy(postgres: PostgresServer, tmp_path: Path) -> Iterator[BreakingProxy]:
    made = BreakingProxy(postgres, tmp_path)
    yield made
    made.close()


@pytest.fixture
def behind(postgres: PostgresServer, proxy: BreakingProxy, tmp_path: Path) -> Iterator[SqlStore]:
    """A store that reaches its server through the proxy alone."""
    database = postgres.database_of(postgres.new_database())
    store = open_store(postgres.url(database, directory=tmp_path))
    store.next_epoch()
    yield store
    proxy.open()
    store.close()


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_commit_whose_answer_was_lost_is_repeated_and_written_once(
    behind: SqlStore, proxy: BreakingProxy, where: str
) -> None:
    (job,) = behind.submit([SPEC], at_s=1.0, by="x")
    changes, records = [Change(placed(job, "n1"), "placed", 2.0)], [used(job)]
    proxy.break_at = where  # type: ignore[assignment]
    with pytest.raises(Unavailable, match=r"lost while it committed.*counts as refused"):
        behind.commit(changes, records)
    assert proxy.broken.is_set()
    behind.submit([SPEC], at_s=2.5, by="somebody else, in between")
    behind.commit(changes, records)
    assert [event.event for event in behind.job_events(job.id)] == ["submitted", "placed"]
    assert behind.job(job.id) == placed(job, "n1")
    behind.commit(changes)  # not a repetition any more: what is said again is written again
    assert [event.event for event in behind.job_events(job.id)] == ["submitted", "placed", "placed"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_submission_whose_answer_was_lost_is_acknowledged_if_it_was_kept(
    behind: SqlStore, proxy: BreakingProxy, where: str
) -> None:
    proxy.break_at = where  # type: ignore[assignment]
    if where == "after":
        assert [job.id for job in behind.submit([SPEC], at_s=1.0, by="x")] == ["1"]
    else:
        with pytest.raises(Unavailable):
            behind.submit([SPEC], at_s=1.0, by="x")
        assert behind.live_jobs() == []
        behind.submit([SPEC], at_s=2.0, by="x")
    assert proxy.broken.is_set()
    assert [job.id for job in behind.live_jobs()] == ["1"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_submission_that_was_refused_in_doubt_is_taken_back(
    behind: SqlStore, proxy: BreakingProxy, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "FOUND_OUT_WITHIN_S", 0.3)
    (job,) = behind.submit([SPEC], at_s=1.0, by="x")
    proxy.break_at, proxy.then_closed = where, True  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="counts as refused"):
        behind.submit([replace(SPEC, array_size=3)], at_s=1.5, by="x")
    with pytest.raises(Unavailable):
        behind.commit([Change(placed(job, "n1"), "placed", 2.0)])
    proxy.open()
    behind.commit([Change(placed(job, "n1"), "placed", 2.0)])
    assert [each.id for each in behind.live_jobs()] == [job.id]
    assert behind.event_count() == 2
    (again,) = behind.submit([SPEC], at_s=3.0, by="x")
    assert again.id not in ("1", "2.0", "2.1", "2.2")


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_submission_of_a_schedule_whose_answer_was_lost_is_repeated_and_made_once(
    behind: SqlStore, proxy: BreakingProxy, where: str
) -> None:
    due = scheduled(spec=replace(scheduled().spec, array_size=2))
    behind.set_schedule(due)
    proxy.break_at = where  # type: ignore[assignment]
    with pytest.raises(Unavailable, match=r"lost while it committed.*counts as refused"):
        behind.submit_scheduled(due, 200.0, at_s=101.0)
    assert proxy.broken.is_set()
    behind.submit([SPEC], at_s=2.5, by="somebody else, in between")
    jobs = behind.submit_scheduled(due, 200.0, at_s=102.0)
    assert [job.spec for job in jobs] == [due.job_spec()] * 2
    assert {job.id for job in behind.live_jobs() if job.spec.name == "nightly"} == {job.id for job in jobs}
    (after,) = behind.schedules()
    assert (after.runs, after.next_s, after.last_job) == (1, 200.0, jobs[0].id.partition(".")[0])


# ---- two at once -------------------------------------------------------------------------------------------------


def test_services_that_set_up_an_empty_database_at_once_all_find_it_whole(postgres: PostgresServer) -> None:
    for _round in range(3):
        url = postgres.new_database()
        ready = threading.Barrier(4)
        opened: list[SqlStore | Exception] = []

        def one(url: str = url, ready: threading.Barrier = ready, opened: list[SqlStore | Exception] = opened) -> None:
            ready.wait(10)
            try:
                opened.append(open_store(url))
            except Exception as error:
                opened.append(error)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        failed = [each for each in opened if isinstance(each, Exception)]
        assert not failed
        stores = [each for each in opened if isinstance(each, SqlStore)]
        assert sorted(store.next_epoch() for store in stores) == [1, 2, 3, 4]
        for store in stores:
            store.close()


def test_one_that_was_replaced_is_told_by_whom(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    old, new = open_store(url), open_store(url)
    old.next_epoch("http://10.0.0.1:8080")
    assert new.leader() == (1, "http://10.0.0.1:8080")
    new.next_epoch("http://10.0.0.2:8080")
    with pytest.raises(Conflict, match=r"epoch 2\) at http://10\.0\.0\.2:8080"):
        old.submit([SPEC], at_s=1.0, by="x")
    for store in (old, new):
        store.close()


def test_a_session_that_stands_still_in_a_write_holds_up_nobody_for_long(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service that is stopped there (SIGSTOP, a machine that swaps): its successor must get through."""
    monkeypatch.setitem(settings._SETTINGS, "idle_in_transaction_session_timeout", "300ms")
    url = postgres.new_database()
    old, new = open_store(url), open_store(url)
    entered, go_on = threading.Event(), threading.Event()
    said: list[Exception] = []

    def stand_still(_connection: object) -> None:
        entered.set()
        assert go_on.wait(30)

    def write() -> None:
        try:
            old._writer.write(stand_still)
        except Exception as error:
            said.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert entered.wait(10)
    assert new.next_epoch() == 1
    go_on.set()
    thread.join(timeout=30)
    assert len(said) == 1
    assert isinstance(said[0], Unavailable)
    assert new.submit([SPEC], at_s=1.0, by="x")
    for store in (old, new):
        store.close()


# ---- what an operator can get wrong ------------------------------------------------------------------------------


def test_commits_reach_the_disk_even_where_the_server_is_told_not_to_wait(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    name = postgres.database_of(url)
    postgres.sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = open_store(url)
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    store.close()


def test_a_database_that_is_not_ours_to_use_is_refused_with_what_to_do(postgres: PostgresServer) -> None:
    with pytest.raises(Unavailable, match=r'database "nowhere" does not exist'):
        open_store(postgres.url("nowhere"))
    url = postgres.new_database()
    name = postgres.database_of(url)
    postgres.sql(f"DROP ROLE IF EXISTS guest_of_{name}")
    postgres.sql(f"CREATE ROLE guest_of_{name} LOGIN")
    with pytest.raises(Unavailable, match=r"permission denied.*database should be its own"):
        open_store(url.replace("suanli@", f"guest_of_{name}@"))


def test_the_password_is_shown_to_nobody(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as refused:
        open_store(f"postgresql://suanli:hidden-word@/nowhere?host={tmp_path}")
    assert "hidden-word" not in str(refused.value)
    assert "suanli:***@" in refused.value.message


def test_a_store_of_an_older_version_is_brought_up_to_date(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    open_store(url).close()
    name = postgres.database_of(url)
    postgres.sql(
        "ALTER TABLE meta DROP COLUMN writes, DROP COLUMN leader; ALTER TABLE drains DROP COLUMN deadline_s;"
        " ALTER TABLE jobs DROP COLUMN held_json, DROP COLUMN pinned; DROP TABLE schedules, services, health_notes;"
        " ALTER TABLE usage_records DROP COLUMN name, DROP COLUMN site, DROP COLUMN models_json, DROP COLUMN use_json,"
        " DROP COLUMN achieved_json, DROP COLUMN write_number; DROP TABLE usage_book, usage_months, usage_served;"
        " UPDATE meta SET schema_version = 3",
        database=name,
    )
    store = open_store(url)
    store.next_epoch()
    due = scheduled()
    store.set_schedule(due)
    assert store.schedules() == [due]
    assert [job.id for job in store.submit([SPEC], at_s=1.0, by="x")] == ["1"]
    assert store.leader() == (1, "")
    store.close()


# ---- a full disk -------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(postgres: PostgresServer) -> Iterator[tuple[str, Path]]:
    """A database whose tables lie on a file system of their own, and the directory where that is."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system for the database to fill")
    directory = postgres.directory / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0777", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        owner = postgres.directory.stat()
        os.chown(directory, owner.st_uid, owner.st_gid)
        directory.chmod(0o700)
        postgres.sql(f"CREATE TABLESPACE small LOCATION '{directory}'")
        postgres.sql("CREATE DATABASE small TABLESPACE small")
        yield postgres.url("small"), directory
        postgres.sql("DROP DATABASE IF EXISTS small (FORCE)")
        postgres.sql("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def test_a_full_disk_refuses_and_keeps_nothing_then_goes_on(small_disk: tuple[str, Path]) -> None:
    url, directory = small_disk
    store = open_store(url)
    store.next_epoch()
    (job,) = store.submit([SPEC], at_s=1.0, by="x")
    filler = directory / "filler"
    with open(filler, "wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    big = [Submission((replace(SPEC, name="n" * 20_000, command=(os.urandom(30_000).hex(),)),), "x")] * 20
    with pytest.raises(Unavailable, match=r"(?s)No space left.*Free some disk space"):
        store.submit_together(big, at_s=2.0)
    assert [each.id for each in store.live_jobs()] == [job.id]
    filler.unlink()
    assert len(store.submit_together(big, at_s=3.0)) == 20
    assert len(store.live_jobs()) == 21
    store.close()
