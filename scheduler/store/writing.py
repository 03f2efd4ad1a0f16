"""How writes reach the database: one at a time, for one epoch alone, and never twice.

Each write of a service adds one to `meta.writes`, in its own transaction. That holds the row until the commit, so a
service that was replaced finds out before anything of it is kept; and it answers the one question that a lost
connection leaves open. If the connection breaks after COMMIT was sent, nobody knows whether the transaction was kept
until the database answers again: then `writes` tells. Until that is known the write is *in doubt*.

Of those in doubt a repeated commit is not written twice (`same_as`), and a submission that was refused meanwhile is
taken back by the next write.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection, Engine, delete, select, update

from scheduler.errors import Superseded, Unavailable
from scheduler.ports import WriteFigures
from scheduler.store import tables
from scheduler.store.failures import first_line, translated
from scheduler.store.straight import Straight

T = TypeVar("T")

WRITE = {"suanli_write": True}
_TRY_AGAIN_S = 0.2
_IDS_AT_ONCE = 500
# Made once: to build a statement takes longer than to carry it out.
_ENTER = Straight(
    update(tables.meta)
    .values(writes=tables.meta.c.writes + 1)
    .returning(tables.meta.c.writes, tables.meta.c.epoch, tables.meta.c.leader)
)


@dataclass(eq=False)
class Doubt:
    """A write whose fate is not known. `number` is what `meta.writes` became, if it was kept."""

    number: int
    same_as: object
    settled: threading.Event = field(default_factory=threading.Event)
    kept: bool = False


class InDoubt(Unavailable):
    def __init__(self, shown_url: str, error: Exception, doubt: Doubt) -> None:
        super().__init__(
            f"the store {shown_url} was lost while it committed: {first_line(error)}. This counts as refused: what was"
            " kept of it, if anything, is found out and put right when the store is back. Check that the database runs"
            " and can be reached, then try again."
        )
        self.doubt = doubt


class Turns:
    """Who may write next: the service's own commits before submissions, of which there may be very many."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._first_in_line = 0

    @contextmanager
    def turn(self, *, behind: bool) -> Iterator[None]:
        """`behind`: after all that are not."""
        with self._changed:
            if behind:
                self._changed.wait_for(lambda: not self._taken and not self._first_in_line)
            else:
                self._first_in_line += 1
                try:
                    self._changed.wait_for(lambda: not self._taken)
                finally:
                    self._first_in_line -= 1
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class Writer:
    """Thread-safe. `epoch` is the one that `next_epoch` gave; without one nothing is checked."""

    def __init__(self, engine: Engine, shown_url: str) -> None:
        self._engine = engine.execution_options(**WRITE)
        self._shown_url = shown_url
        self._may_be_in_doubt = engine.dialect.name != "sqlite"  # a file has no connection that could break
        self._turns = Turns()
        self._epoch: int | None = None
        self._figures = {"commits": WriteFigures(), "submissions": WriteFigures()}
        self._doubt: Doubt | None = None
        self._kept_unheard: list[object] = []
        """Commits that were kept and whose caller was told that they were not: it tries again."""
        self._taken_back: list[str] = []
        """Jobs of submissions that were refused and may have been kept all the same."""

    def next_epoch(self, leader: str) -> int:
        meta = tables.meta
        with self._turns.turn(behind=False), translated(self._shown_url), self._engine.begin() as connection:
            connection.execute(update(meta).values(epoch=meta.c.epoch + 1, leader=leader or None))
            epoch = connection.execute(select(meta.c.epoch)).scalar_one()
        assert isinstance(epoch, int)
        self._epoch = epoch
        return epoch

    def write(self, body: Callable[[Connection], T], *, same_as: object = None, behind: bool = False) -> T | None:
        """`body` in one transaction, durable when this returns. Raises Superseded, Unavailable; nothing is kept then.

        `same_as`: by this the same write is known when it is tried again after InDoubt. If it had been kept the first
        time, None is returned and `body` is not called.
        """
        began_s = time.perf_counter()
        with self._turns.turn(behind=behind), translated(self._shown_url), self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                number = self._enter(connection)
                again = same_as is not None and same_as in self._kept_unheard
                done = None if again else body(connection)
                taken_back = list(self._taken_back)
                _take_back(connection, taken_back)
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except Exception as error:
                if not self._may_be_in_doubt:
                    raise
                self._doubt = Doubt(number, same_as)
                raise InDoubt(self._shown_url, error, self._doubt) from error
            if again:
                self._kept_unheard.remove(same_as)
            del self._taken_back[: len(taken_back)]
            self._took("submissions" if behind else "commits", time.perf_counter() - began_s)
            return done

    def _took(self, what: str, seconds: float) -> None:
        """Called in turn."""
        before = self._figures[what]
        longest_s = max(before.longest_s, seconds)
        self._figures[what] = WriteFigures(before.count + 1, before.total_s + seconds, longest_s)

    def figures(self) -> Mapping[str, WriteFigures]:
        return dict(self._figures)

    def _enter(self, connection: Connection) -> int:
        """The number of this write. Settles what was in doubt: whoever wrote before has ended, as the row is ours."""
        number, newest, leader = _ENTER.one(connection, {})
        if self._epoch is not None and newest > self._epoch:
            raise Superseded(newest, leader)
        doubt, self._doubt = self._doubt, None
        if doubt is not None:
            doubt.kept = number > doubt.number
            if doubt.kept and doubt.same_as is not None:
                self._kept_unheard.append(doubt.same_as)
            doubt.settled.set()
        return int(number)

    def settle(self, doubt: Doubt, *, within_s: float) -> bool:
        """Whether the write was kept. Raises Unavailable if that cannot be found out in time, Superseded if never."""
        until_s = time.monotonic() + within_s
        while not doubt.settled.is_set():
            try:
                self.write(lambda _connection: None, behind=True)
            except Unavailable:
                if time.monotonic() >= until_s:
                    raise
                doubt.settled.wait(_TRY_AGAIN_S)
        return doubt.kept

    def take_back(self, job_ids: list[str]) -> None:
        """These jobs were never acknowledged: the next write removes what there is of them."""
        with self._turns.turn(behind=False):
            self._taken_back += job_ids


def _take_back(connection: Connection, job_ids: list[str]) -> None:
    for first in range(0, len(job_ids), _IDS_AT_ONCE):
        some = job_ids[first : first + _IDS_AT_ONCE]
        connection.execute(delete(tables.events).where(tables.events.c.job_id.in_(some)))
        connection.execute(delete(tables.jobs).where(tables.jobs.c.id.in_(some)))
