"""Who may lead: one at a time, on a file and on a PostgreSQL server; a lock that goes is noticed, and got again if
nobody led meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.errors import Unavailable
from scheduler.store import leadership
from scheduler.store.leadership import FileLock, Leadership, Lock, PostgresLock, lock_of
from scheduler.store.sql import SqlStore, open_store
from tests.fakes.postgres import PostgresServer
from tests.fakes.processes import eventually

MakeLock = Callable[..., PostgresLock]


@pytest.fixture
def lock(postgres: PostgresServer) -> Iterator[MakeLock]:
    """Each time a lock of its own on the same database."""
    url, made = postgres.new_database(), list[PostgresLock]()

    def make(**given: float) -> PostgresLock:
        made.append(PostgresLock(url, **given))
        return made[-1]

    yield make
    for each in made:
        each.release()


@pytest.fixture
def store(postgres: PostgresServer) -> Iterator[SqlStore]:
    opened = open_store(postgres.new_database())
    yield opened
    opened.close()


# ---- the lock ----------------------------------------------------------------------------------------------------


def test_one_holds_it_and_the_next_gets_it_when_that_lets_go(lock: MakeLock) -> None:
    first, second = lock(), lock()
    assert first.try_get()
    assert not second.try_get()
    assert first.still_held()
    first.release()
    assert not first.still_held()
    assert second.try_get()
    assert not first.try_get()


HOLD = "import sys, time; from pathlib import Path; from scheduler.store.leadership import FileLock\n" + (
    "lock = FileLock(Path(sys.argv[1])); print(lock.try_get(), flush=True); sys.stdin.read()"
)


def test_a_file_is_held_by_one_process_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "store.db.leader"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        mine = FileLock(path)
        assert not mine.try_get()
        other.kill()
        other.wait(timeout=10)
        assert mine.try_get()
        assert mine.still_held()
        assert path.stat().st_mode & 0o077 == 0
        mine.release()


def test_who_is_silent_loses_it(lock: MakeLock) -> None:
    """As a process that is stopped: its connection lives, and it says nothing."""
    silent, other = lock(silent_s=0.3), lock()
    assert silent.try_get()
    eventually(other.try_get, "the lock is free")
    with pytest.raises(Unavailable, match="cannot be asked who leads"):
        silent.still_held()
    assert not silent.still_held()
    assert not silent.try_get()


def test_stores_in_one_database_have_a_lock_each(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    postgres.sql("CREATE SCHEMA other", database=postgres.database_of(url))
    first, second = PostgresLock(url), PostgresLock(f"{url}&options=-csearch_path%3Dother")
    assert first.try_get()
    assert second.try_get()
    for each in (first, second):
        each.release()


# ---- leading -----------------------------------------------------------------------------------------------------


class LockByHand:
    """`free` or not; `away`: nobody can be asked; `lost`: what was held is gone."""

    def __init__(self) -> None:
        self.free, self.away, self.held, self.released = True, False, False, False
        self.asked = threading.Semaphore(0)

    def try_get(self) -> bool:
        self.asked.release()
        if self.away:
            raise Unavailable("the server is away")
        self.held = self.held or self.free
        return self.held

    def still_held(self) -> bool:
        self.asked.release()
        if self.away:
            self.held = False
            raise Unavailable("the server is away")
        return self.held

    def release(self) -> None:
        self.held, self.released = False, True

    def asked_twice(self) -> None:
        for _ in range(2):
            assert self.asked.acquire(timeout=10)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "SAYS_EVERY_S", 0.01)
    monkeypatch.setattr(leadership, "ASKS_EVERY_S", 0.01)


def keeping(lock: LockByHand, store: SqlStore, epoch: int) -> tuple[Leadership, list[str]]:
    lost: list[str] = []
    leading = Leadership(lock, store)
    assert leading.try_now()
    leading.keep(lambda: epoch, lost.append)
    return leading, lost


@pytest.mark.usefixtures("quick")
def test_a_lock_that_was_lost_is_got_again_where_nobody_has_led(store: SqlStore) -> None:
    lock = LockByHand()
    epoch = store.next_epoch("http://here")
    leading, lost = keeping(lock, store, epoch)
    lock.away = True
    lock.asked_twice()
    eventually(lambda: not lock.held)
    lock.away = False
    eventually(lambda: lock.held, "the lock is held again")
    lock.asked_twice()
    leading.close()
    assert (lost, lock.released) == ([], True)


@pytest.mark.usefixtures("quick")
def test_it_is_lost_for_good_where_another_holds_it_or_has_led_since(store: SqlStore) -> None:
    held_by_other = LockByHand()
    epoch = store.next_epoch("http://here")
    leading, lost = keeping(held_by_other, store, epoch)
    held_by_other.free = held_by_other.held = False
    eventually(lambda: lost)
    assert lost == ["another service holds the lock of the store"]
    leading.close()

    led_since = LockByHand()
    leading, lost = keeping(led_since, store, epoch)
    later = store.next_epoch("http://there")
    led_since.held = False
    eventually(lambda: lost)
    assert lost == [f"a service of epoch {later} at http://there has led since"]
    assert led_since.released
    leading.close()


@pytest.mark.usefixtures("quick")
def test_a_standby_waits_through_a_server_that_is_away_and_knows_who_leads(store: SqlStore) -> None:
    lock, stop = LockByHand(), threading.Event()
    lock.free = False
    store.next_epoch("http://leader")
    standby = Leadership(lock, store)
    assert standby.leader() == (0, "")
    got: list[bool] = []
    waiting = threading.Thread(target=lambda: got.append(standby.wait(stop)))
    waiting.start()
    eventually(lambda: standby.leader() == (1, "http://leader"))
    lock.away = True
    lock.asked_twice()
    lock.away, lock.free = False, True
    waiting.join(timeout=10)
    assert got == [True]
    lock.held = lock.free = False
    stop.set()
    assert not standby.wait(stop)


def test_each_store_has_its_lock(store: SqlStore, tmp_path: Path) -> None:
    locks: list[Lock] = [lock_of(store)]
    assert isinstance(locks[0], PostgresLock)
    on_file = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    locks.append(lock_of(on_file))
    assert isinstance(locks[1], FileLock)
    for each in locks:
        assert each.try_get()
        each.release()
    on_file.close()
