"""The thread that owns the service's state, and the doors through which other threads reach it.

Others hand in events (`post`), requests that change something (`request`) and questions (`call`); all three are
answered from one thread, so the state needs no locks. What that thread does with them is in `steps`: a batch of events
shares one planning pass and one commit. Without `start` there is no thread: then whoever asks runs the batch, and
nothing here waits or looks at a real clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from scheduler.errors import Unavailable
from scheduler.ports import Clock, Engine, GatewayControl, ServiceLoad, Store
from scheduler.service.loads import LoadInbox
from scheduler.service.outcome import Event, Outcome
from scheduler.service.pass_times import PassTimes
from scheduler.service.state import ServiceState
from scheduler.service.steps import RETRY_S, Inbox, Question, Request, ServiceSteps
from scheduler.service.tallies import Tallies

T = TypeVar("T")

CAPACITY = 10_000
ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer that a thread waits for. Equal where the future is the same."""

    future: Future[None]

    def done(self) -> None:
        self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)


class _SharedInbox(Inbox):
    """Several threads hand in, one takes out. `changed` guards it and is notified of both."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def take_events(self) -> list[Event]:
        with self.changed:
            self.changed.notify_all()
            return super().take_events()

    def take_asked(self) -> list[Request | Question]:
        with self.changed:
            return super().take_asked()

    def put_first(self, events: Sequence[Event]) -> None:
        with self.changed:
            super().put_first(events)

    def unlooked(self) -> list[Event]:
        with self.changed:
            return super().unlooked()


class ServiceLoop:
    """`start` it in a thread of its own, or call `run_once` (tests, the simulator)."""

    def __init__(
        self, state: ServiceState, store: Store, engine: Engine, gateway: GatewayControl, clock: Clock
    ) -> None:
        self._inbox = _SharedInbox()
        self._steps = ServiceSteps(state, store, engine, gateway, clock, self._inbox)
        self._state = state
        self._events = self._inbox.events
        self._changed = self._inbox.changed
        self._closing = False
        self._loads = LoadInbox(threading.RLock())
        self._thread: threading.Thread | None = None
        self.pass_times = PassTimes()
        """Of batches in which something was done. For the loop's thread: others ask by `call`."""

    # -- from any thread -------------------------------------------------------------------------------------------

    @property
    def bugs(self) -> int:
        """Unexpected exceptions and what had to be set aside so far; each is in the log with its event or job."""
        return self._steps.bugs

    @property
    def store_error(self) -> str | None:
        """Why nothing can be committed now."""
        return self._steps.store_error

    @property
    def tallies(self) -> Tallies:
        """For the loop's thread: others ask by `call`."""
        return self._steps.tallies

    @property
    def superseded_by(self) -> int | None:
        """The epoch of another service, which took over. From any thread: it is set once and stays."""
        return self._state.superseded_by

    @property
    def state(self) -> ServiceState:
        """For the thread that runs the loop: without `start`, for whoever calls `run_once`. Others use `call`."""
        return self._state

    @property
    def has_more(self) -> bool:
        """The next batch is due at once."""
        return self._steps.has_more

    def post(self, event: Event, *, force: bool = False) -> None:
        """Hand in an event. Blocks while the queue is full, unless `force` is given or the loop itself calls."""
        own = threading.current_thread() is self._thread or self._thread is None
        with self._changed:
            if not (force or own):
                self._changed.wait_for(lambda: len(self._events) < CAPACITY or self._closing)
            self._events.append(event)
            self._changed.notify_all()

    def post_loads(self, gateway: str, loads: Sequence[ServiceLoad]) -> None:
        """Hand in what a gateway has seen. Never blocks: what waits to be looked at is one event, however much."""
        self._loads.put(gateway, loads, lambda event: self.post(event, force=True))

    def backlog(self) -> int:
        return len(self._events)

    def request(self, event: Event) -> None:
        """Step an event that was asked for; returns when what follows from it is committed. Raises what `step` does."""
        done: Future[None] = Future()
        self._ask(Request(event, _Told(done)))
        self._await(done)

    def call(self, question: Callable[[ServiceState], T]) -> T:
        """Answer a question about the state, in the thread that owns it, after everything that was handed in before."""
        answer: Future[T] = Future()

        def ask(state: ServiceState) -> None:
            try:
                answer.set_result(question(state))
            except Exception as error:
                answer.set_exception(error)

        self._ask(Question(ask))
        return self._await(answer)

    def call_closed(self, question: Callable[[ServiceState], T]) -> T:
        """Answer a question about the state of a loop that was closed, in the caller's thread."""
        assert self._closing
        return question(self._state)

    def on_end(self, state: ServiceState, job_id: str) -> Future[None]:
        """Done when the job's end is committed. To be called from a question, for a job that lives."""
        assert state is self._state
        ended: Future[None] = Future()
        self._steps.on_end(job_id, _Told(ended))
        return ended

    def forget_waiter(self, job_id: str, waiter: Future[None]) -> None:
        """To be called from a question."""
        self._steps.forget_waiter(job_id, _Told(waiter))

    @property
    def has_thread(self) -> bool:
        """Without one nothing happens while the caller waits."""
        return self._thread is not None

    def _ask(self, item: Request | Question) -> None:
        with self._changed:
            if self._closing:
                raise Unavailable("the service is stopping; try again when it is back")
            self._inbox.asked.append(item)
            self._changed.notify_all()

    def _await(self, future: Future[T]) -> T:
        if self._thread is None:
            self.run_once()  # nobody else would, and nobody else answers later
            assert future.done()
        try:
            return future.result(timeout=ANSWER_WITHIN_S)
        except TimeoutError:
            raise Unavailable(f"the service has not answered within {ANSWER_WITHIN_S:g} s; look at its log") from None

    # -- the thread ------------------------------------------------------------------------------------------------

    def perform_first(self, out: Outcome) -> None:
        """What recovery left to be committed, before anything else."""
        self._steps.perform_first(out)

    def run_once(self) -> None:
        """One batch: everything handed in so far, and the timers that are due."""
        self._steps.run_once()

    def start(self) -> None:
        self._steps.retry_s = RETRY_S
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the present batch. What was handed in and not looked at is found again by the next service."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._steps.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=self._steps.wait_s())
                if self._closing:
                    return
                something = self._has_work()
            began_s = time.perf_counter()
            try:
                self.run_once()
                if something:
                    self.pass_times.note(time.perf_counter() - began_s)
            except Exception:  # the last line: whatever it was, jobs depend on this thread
                self._steps.bug("the service's loop", None)
                time.sleep(0.1)  # a bug that comes back at once must not eat a whole core

    def _has_work(self) -> bool:
        return self._closing or bool(self._inbox.asked) or (bool(self._events) and not self._steps.blocked)
