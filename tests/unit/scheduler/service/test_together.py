"""Callers in groups: each is answered for itself, nobody is forgotten, nobody waits for who came later."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from scheduler.service.together import Together


class Work:
    """Answers n with 10 n, refuses negative numbers, and fails as a whole on 13. `gate` holds up each group."""

    def __init__(self, *, most: int = 100) -> None:
        self.groups: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.together: Together[int, int] = Together(self._perform, size=abs, most=most)

    def _perform(self, group: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(group))
        self.entered.release()
        assert self.gate.acquire(timeout=20)
        if 13 in group:
            raise OSError("all of it")
        return [ValueError(n) if n < 0 else 10 * n for n in group]


class Callers:
    def __init__(self, work: Work) -> None:
        self._work = work
        self.answers: dict[int, object] = {}
        self._threads: list[threading.Thread] = []

    def call(self, n: int) -> None:
        """Returns when the call has come in."""

        def run() -> None:
            try:
                self.answers[n] = self._work.together.call(n)
            except Exception as error:
                self.answers[n] = repr(error)

        first, before = not self._work.groups, self._in_line()
        thread = threading.Thread(target=run)
        thread.start()
        self._threads.append(thread)
        if first:
            assert self._work.entered.acquire(timeout=20)
            return
        until_s = time.monotonic() + 20
        while self._in_line() == before:  # somebody is at work: it waits in line
            assert time.monotonic() < until_s
            time.sleep(0.001)

    def _in_line(self) -> int:
        return len(self._work.together._line)

    def end(self) -> dict[int, object]:
        for thread in self._threads:
            thread.join(timeout=20)
            assert not thread.is_alive()
        return self.answers


def test_what_gathers_during_one_group_is_the_next_and_each_has_its_own_answer() -> None:
    work = Work()
    callers = Callers(work)
    for n in (1, 2, -3, 4):
        callers.call(n)
    work.gate.release(2)
    assert callers.end() == {1: 10, 2: 20, -3: "ValueError(-3)", 4: 40}
    assert work.groups == [[1], [2, -3, 4]]


def test_a_group_that_fails_as_a_whole_fails_for_all_of_it_and_the_next_goes_on() -> None:
    work = Work()
    callers = Callers(work)
    for n in (1, 2, 13):
        callers.call(n)
    work.gate.release()
    assert work.entered.acquire(timeout=20)  # the second group is at work
    callers.call(5)
    work.gate.release(2)
    said = "OSError('all of it')"
    assert callers.end() == {1: 10, 2: said, 13: said, 5: 50}
    work.gate.release()
    assert work.together.call(7) == 70


def test_a_group_is_no_larger_than_it_may_be_and_one_that_is_larger_goes_alone() -> None:
    work = Work(most=10)
    callers = Callers(work)
    for n in (1, 4, 5, 2, 50, 3):
        callers.call(n)
    work.gate.release(5)
    callers.end()
    assert work.groups == [[1], [4, 5], [2], [50], [3]]


def test_many_at_once_are_all_answered() -> None:
    work = Work()
    work.gate.release(10_000)
    answers: list[int] = []

    def run(first: int) -> None:
        answers.extend(work.together.call(n) for n in range(first, first + 20_000, 1_000))

    threads = [threading.Thread(target=run, args=(100 + i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(set(answers)) == 800
    assert sum(map(len, work.groups)) == 800


def test_a_kill_in_the_middle_passes_through() -> None:
    """The fault simulator's kill is no Exception: nothing here may hold it up or answer it."""

    class Killed(BaseException):
        pass

    def perform(group: Sequence[int]) -> Sequence[int | Exception]:
        raise Killed

    together: Together[int, int] = Together(perform, size=lambda n: 1, most=10)
    with pytest.raises(Killed):
        together.call(1)
