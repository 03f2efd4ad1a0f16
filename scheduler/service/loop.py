"""The thread that owns the service's state: takes what has happened, steps, commits, and only then acts.

Others hand in events (`post`), requests that change something (`request`) and questions (`call`); all three are
answered from one thread, so the state needs no locks. A batch of events shares one planning pass and one commit.

When the store cannot take a commit, the batch is kept and tried again, in order; until then nothing of it is sent, no
further event is looked at (who hands them in waits: the queue is bounded), requests are refused and questions answered.
Leases are renewed all the same: a full disk must not end the jobs that run.

What the store can never take (a bug, not a full disk) is found out one by one and set aside: it costs the job that it
is about, of which nothing is sent either, and nobody else. A store that obeys another service ends all acting here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from node_agent.messages import Command, RenewLease
from scheduler.core.jobs import LIVE_STATES
from scheduler.errors import SuanliError, Superseded, Unavailable
from scheduler.ports import Clock, Engine, GatewayControl, NodeDown, NodeUp, RunEvent, Store
from scheduler.service import machine
from scheduler.service.keeping import Keeping
from scheduler.service.outcome import Event, JobsSubmitted, Outcome, Tick
from scheduler.service.state import ServiceState

log = logging.getLogger(__name__)

T = TypeVar("T")

CAPACITY = 10_000
RETRY_S = 0.5
LONGEST_WAIT_S = 1.0
ANSWER_WITHIN_S = 30.0


@dataclass(slots=True)
class _Request:
    event: Event
    done: Future[None]


@dataclass(slots=True)
class _Call:
    run: Callable[[ServiceState], None]


@dataclass(slots=True)
class _Batch:
    """An outcome that is to be committed and performed, and who waits for that."""

    out: Outcome
    requests: list[Future[None]] = field(default_factory=list)
    keeping: Keeping = field(init=False)

    def __post_init__(self) -> None:
        self.keeping = Keeping(self.out)


class ServiceLoop:
    """`start` it in a thread of its own, or call `run_once` (tests, the simulator)."""

    def __init__(
        self, state: ServiceState, store: Store, engine: Engine, gateway: GatewayControl, clock: Clock
    ) -> None:
        self.bugs = 0
        """Unexpected exceptions and what had to be set aside so far; each is in the log with its event or job."""
        self.store_error: str | None = None
        """Why nothing can be committed now."""
        self._state = state
        self._store = store
        self._engine = engine
        self._gateway = gateway
        self._clock = clock
        self._events: deque[Event] = deque()
        self._asked: deque[_Request | _Call] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._unkept: _Batch | None = None
        self._retry_at = 0.0
        self._lease_due_s = 0.0
        self._waiters: dict[str, list[Future[None]]] = {}

    # -- from any thread -------------------------------------------------------------------------------------------

    def post(self, event: Event, *, force: bool = False) -> None:
        """Hand in an event. Blocks while the queue is full, unless `force` is given or the loop itself calls."""
        own = threading.current_thread() is self._thread or self._thread is None
        with self._changed:
            if not (force or own):
                self._changed.wait_for(lambda: len(self._events) < CAPACITY or self._closing)
            self._events.append(event)
            self._changed.notify_all()

    def backlog(self) -> int:
        return len(self._events)

    def request(self, event: Event) -> None:
        """Step an event that was asked for; returns when what follows from it is committed. Raises what `step` does."""
        done: Future[None] = Future()
        self._ask(_Request(event, done))
        self._await(done)

    def call(self, question: Callable[[ServiceState], T]) -> T:
        """Answer a question about the state, in the thread that owns it, after everything that was handed in before."""
        answer: Future[T] = Future()

        def run(state: ServiceState) -> None:
            try:
                answer.set_result(question(state))
            except BaseException as error:
                answer.set_exception(error)

        self._ask(_Call(run))
        return self._await(answer)

    def call_closed(self, question: Callable[[ServiceState], T]) -> T:
        """Answer a question about the state of a loop that was closed, in the caller's thread."""
        assert self._closing
        return question(self._state)

    def on_end(self, state: ServiceState, job_id: str) -> Future[None]:
        """Done when the job's end is committed. To be called from a question, for a job that lives."""
        assert job_id in state.jobs, job_id
        ended: Future[None] = Future()
        self._waiters.setdefault(job_id, []).append(ended)
        return ended

    def forget_waiter(self, job_id: str, waiter: Future[None]) -> None:
        """To be called from a question."""
        waiters = self._waiters.get(job_id, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(job_id, None)

    def _ask(self, item: _Request | _Call) -> None:
        with self._changed:
            if self._closing:
                raise Unavailable("the service is stopping; try again when it is back")
            self._asked.append(item)
            self._changed.notify_all()

    def _await(self, future: Future[T]) -> T:
        if self._thread is None:
            self.run_once()  # nobody else would
        try:
            return future.result(timeout=ANSWER_WITHIN_S)
        except TimeoutError:
            raise Unavailable(f"the service has not answered within {ANSWER_WITHIN_S:g} s; look at its log") from None

    def perform_first(self, out: Outcome) -> None:
        """What recovery left to be committed, before anything else."""
        self._perform(_Batch(out))

    # -- the thread ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the present batch. What was handed in and not looked at is found again by the next service."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10)
        for item in self._asked:
            if isinstance(item, _Request):
                item.done.set_exception(Unavailable("the service was stopped; ask again when it is back"))
            else:
                item.run(self._state)
        self._asked.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=self._wait_s())
                if self._closing:
                    return
            try:
                self.run_once()
            except Exception:  # the last line: whatever it was, jobs depend on this thread
                self._bug("the service's loop", None)
                time.sleep(0.1)  # a bug that comes back at once must not eat a whole core

    def _has_work(self) -> bool:
        return self._closing or bool(self._asked) or (bool(self._events) and self._unkept is None)

    def _wait_s(self) -> float:
        if self._unkept is not None:
            return RETRY_S
        due_s = min((self._state.lease_due_s, self._state.timers.next_due_s() or float("inf")))
        return max(0.0, min(LONGEST_WAIT_S, due_s - self._clock.now_s()))

    def run_once(self) -> None:
        """One batch: everything handed in so far, and the timers that are due."""
        now_s = self._clock.now_s()
        with self._changed:
            asked = list(self._asked)
            self._asked.clear()
        if self._unkept is not None and not self._try_again():
            self._while_blocked(asked, now_s)
            return
        with self._changed:
            events = list(self._events)
            self._events.clear()
            self._changed.notify_all()
        batch = self._step_all(events, [item for item in asked if isinstance(item, _Request)], now_s)
        self._perform(batch)
        for item in asked:
            if isinstance(item, _Call):
                item.run(self._state)

    def _step_all(self, events: list[Event], requests: list[_Request], now_s: float) -> _Batch:
        batch = _Batch(Outcome())
        for event in [*events, Tick()]:
            try:
                machine.apply(self._state, batch.out, event, now_s)
            except Exception:
                self._bug(f"{event.kind} of job {_job_of(event)}", event)
        for request in requests:
            try:
                self._refuse_if_superseded()
                machine.apply(self._state, batch.out, request.event, now_s)
            except SuanliError as error:
                request.done.set_exception(error)
            except Exception as error:
                self._bug(f"{request.event.kind} of job {_job_of(request.event)}", request.event)
                request.done.set_exception(error)
            else:
                batch.requests.append(request.done)
        try:
            machine.finish(self._state, batch.out, now_s)
        except Exception:
            self._bug("planning", None)
        return batch

    # -- performing ------------------------------------------------------------------------------------------------

    def _perform(self, batch: _Batch) -> bool:
        """Commit, then act. False: it could not be committed and is kept."""
        if self._state.superseded_by is not None:
            self._stand_down(batch)
            return True
        try:
            batch.keeping.keep(self._store)
        except Superseded as error:
            self._state.superseded_by = error.epoch
            self._stand_down(batch)
            return True
        except Unavailable as error:
            self._keep_for_later(batch, error)
            return False
        if self.store_error is not None:
            log.warning("the store takes commits again")
            self.store_error = None
        self.bugs += batch.keeping.bugs
        self._act(batch)
        return True

    def _act(self, batch: _Batch) -> None:
        out = batch.out
        if out.routes is not None:
            # Before the commands: nothing is sent to a replica any more when it is told to stop.
            self._guarded("publish routes", lambda: self._gateway.publish(out.routes or ()))
        unsettled = self._unsettled_nodes() if out.commands else frozenset()
        for node, commands in out.commands.items():
            if node in unsettled:
                continue
            commands = [command for command in commands if self._may_be_sent(batch, node, command)]
            if not commands:
                continue
            self._guarded(f"send to node {node}", lambda n=node, c=commands: self._engine.send(n, c))  # type: ignore[misc]
        for agent, seq in out.acks.items():
            self._guarded(f"acknowledge to {agent}", lambda a=agent, s=seq: self._engine.ack(a, s))  # type: ignore[misc]
        for done in batch.requests:
            if done.done():
                continue
            if (wrong := batch.keeping.answer()) is not None:
                done.set_exception(wrong)
            else:
                done.set_result(None)
        for change in out.changes:
            if not isinstance(change.job.state, LIVE_STATES):
                for waiter in self._waiters.pop(change.job.id, ()):
                    waiter.set_result(None)

    def _may_be_sent(self, batch: _Batch, node: str, command: Command) -> bool:
        if isinstance(command, RenewLease):
            status = self._state.nodes[node]
            if not status.up:
                return False  # it went again: whoever waits for its lease counts from the renewal before
            # The lease runs from now on, however long the commit took.
            status.renewed_s = self._clock.now_s()
        return batch.keeping.may_be_sent(command)

    def _unsettled_nodes(self) -> frozenset[str]:
        """Nodes of which there is news that was not looked at yet: that they went, or came back with these runs.

        They are sent nothing. A command that arrived after the node took stock of its runs, decided before that stock
        was looked at, would start what is then believed never to have started. Nothing is missed: the comparison with
        the node's runs, which comes next, finds out and sends again whatever is still to be done there.
        """
        with self._changed:
            nodes = {event.node for event in self._events if isinstance(event, NodeDown)}
            return frozenset(nodes | {event.facts.name for event in self._events if isinstance(event, NodeUp)})

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            self._bug(what, None)

    def _keep_for_later(self, batch: _Batch, error: Unavailable) -> None:
        if self.store_error is None:
            log.error("nothing is committed or started until this is mended: %s", error.message)
        self.store_error = error.message
        self._unkept = batch
        self._retry_at = time.monotonic() + RETRY_S
        for done in batch.requests:
            done.set_exception(
                Unavailable(f"{self.store_error} The request is remembered and is carried out when the store is back.")
            )
        batch.requests.clear()

    def _try_again(self) -> bool:
        assert self._unkept is not None
        if self._thread is not None and time.monotonic() < self._retry_at:
            return False
        batch, self._unkept = self._unkept, None
        return self._perform(batch)

    def _while_blocked(self, asked: list[_Request | _Call], now_s: float) -> None:
        for item in asked:
            if isinstance(item, _Call):
                item.run(self._state)
            else:
                item.done.set_exception(Unavailable(self.store_error or "the store cannot take it now"))
        if now_s >= self._lease_due_s:
            self._lease_due_s = now_s + self._state.lease_s / 4
            for status in list(self._state.nodes.values()):
                if status.up:
                    renew = RenewLease(self._state.epoch, self._state.lease_s)
                    self._guarded("renew leases", lambda n=status.name, r=renew: self._engine.send(n, [r]))  # type: ignore[misc]
                    status.renewed_s = now_s

    # -- what should not happen ------------------------------------------------------------------------------------

    def _refuse_if_superseded(self) -> None:
        if self._state.superseded_by is not None:
            raise Unavailable(superseded_text(self._state))

    def _stand_down(self, batch: _Batch) -> None:
        """Nodes or store obey another service: whatever this one decided would contradict what that one commits."""
        said = superseded_text(self._state)
        if self.store_error != said:
            self.store_error = said
            log.error("%s", said)
        for done in batch.requests:
            done.set_exception(Unavailable(said))

    def _bug(self, what: str, event: Event | None) -> None:
        self.bugs += 1
        log.exception("a bug in the service (%s); it goes on. Event: %.2000r", what, event)


def superseded_text(state: ServiceState) -> str:
    return (
        f"another service (epoch {state.superseded_by}) has taken over from this one"
        f" (epoch {state.epoch}); ask that one, and stop this one"
    )


def _job_of(event: Event) -> str:
    match event:
        case RunEvent(event=said) if said.key is not None:
            return said.key.job_id
        case JobsSubmitted(jobs=jobs):
            return ", ".join(job.id for job in jobs[:5])
        case NodeUp() | NodeDown():
            return "none (a node)"
        case _:
            return getattr(event, "job_id", "none")
