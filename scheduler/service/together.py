"""Callers in many threads that want the same kind of thing are served in groups, each answered for itself.

Whoever finds nobody at work leads: it performs for all that wait, and then hands the lead to the first that came
meanwhile. So a group is as large as what gathers during the one before; one that comes alone does not wait, and there
is no thread that could die.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

W = TypeVar("W")
A = TypeVar("A")


class _Caller(Generic[W, A]):
    def __init__(self, wanted: W) -> None:
        self.wanted = wanted
        self.turn = threading.Event()  # answered, or to lead
        self.answer: A | Exception | None = None

    def take(self) -> A:
        assert self.answer is not None
        if isinstance(self.answer, Exception):
            raise self.answer.with_traceback(None)
        return self.answer


class Together(Generic[W, A]):
    """`perform` answers each of a group, in order, with its result or with what is wrong with it alone; what it raises
    is everyone's. `size` of a group is at most `most`, unless one caller alone is larger."""

    def __init__(
        self, perform: Callable[[Sequence[W]], Sequence[A | Exception]], *, size: Callable[[W], int], most: int
    ) -> None:
        self._perform = perform
        self._size = size
        self._most = most
        self._lock = threading.Lock()
        self._line: deque[_Caller[W, A]] = deque()
        self._led = False

    def call(self, wanted: W) -> A:
        """Returns the caller's own answer, or raises it."""
        caller: _Caller[W, A] = _Caller(wanted)
        with self._lock:
            self._line.append(caller)
            leads, self._led = not self._led, True
        if not leads:
            caller.turn.wait()
        if caller.answer is None:
            self._lead()
        return caller.take()

    def _lead(self) -> None:
        with self._lock:
            group = self._next_group()
        try:
            answers = self._perform([caller.wanted for caller in group])
            assert len(answers) == len(group)
            for caller, answer in zip(group, answers, strict=True):
                caller.answer = answer
        except Exception as error:
            for caller in group:
                caller.answer = error
        finally:
            with self._lock:
                self._led = bool(self._line)
                next_leader = self._line[0] if self._line else None
            for caller in group[1:]:
                caller.turn.set()
            if next_leader is not None:
                next_leader.turn.set()

    def _next_group(self) -> list[_Caller[W, A]]:
        group = [self._line.popleft()]
        size = self._size(group[0].wanted)
        while self._line and size + self._size(self._line[0].wanted) <= self._most:
            group.append(self._line.popleft())
            size += self._size(group[-1].wanted)
        return group
