"""What the service does with what it was handed: take it, step, commit, and only then act. One thread, no real time.

`ServiceSteps` owns the state and the ports. `loop.ServiceLoop` puts threads around it; where there are none (tests, the
simulator) whoever calls `run_once` decides what happens when, and a BaseException that a port raises (the simulator's
kill -9) passes through everything here, wherever it strikes: nothing is done after it.

When the store cannot take a commit, the batch is kept and tried again, in order; until then nothing of it is sent, no
further event is looked at (who hands them in waits: the queue is bounded), requests are refused and questions answered.
Leases are renewed all the same: a full disk must not end the jobs that run.

What the store can never take (a bug, not a full disk) is found out one by one and set aside: it costs the job that it
is about, of which nothing is sent either, and nobody else. A store that obeys another service ends all acting here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from node_agent.messages import Command, RenewLease
from scheduler.core.jobs import LIVE_STATES
from scheduler.errors import SuanliError, Superseded, Unavailable
from scheduler.ports import Clock, Engine, GatewayControl, NodeDown, NodeUp, RunEvent, Store
from scheduler.service import machine
from scheduler.service.keeping import Keeping
from scheduler.service.outcome import Event, JobsSubmitted, Outcome, ScheduleFired, Tick
from scheduler.service.state import ServiceState, superseded_text
from scheduler.service.tallies import Tallies

log = logging.getLogger(__name__)

RETRY_S = 0.5
LONGEST_WAIT_S = 1.0


class Answer(Protocol):
    """Whoever waits for a commit. One of the two is called, once."""

    def done(self) -> None:
        """What follows from it is committed."""
        ...

    def fail(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """An event that was asked for: `answer` hears what became of it."""

    event: Event
    answer: Answer


@dataclass(frozen=True, slots=True)
class Question:
    """`ask` looks at the state and keeps its answer, and its own failures, to itself."""

    ask: Callable[[ServiceState], None]


class Inbox:
    """What was handed in and has not been looked at yet. For one thread; `loop` has one for several."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.asked: deque[Request | Question] = deque()

    def take_events(self) -> list[Event]:
        taken = list(self.events)
        self.events.clear()
        return taken

    def take_asked(self) -> list[Request | Question]:
        taken = list(self.asked)
        self.asked.clear()
        return taken

    def put_first(self, events: Sequence[Event]) -> None:
        """To be looked at before whatever else was handed in."""
        self.events.extendleft(reversed(events))

    def unlooked(self) -> list[Event]:
        """The events, which stay."""
        return list(self.events)


@dataclass(slots=True)
class _Batch:
    """An outcome that is to be committed and performed, and who waits for that."""

    out: Outcome
    answers: list[Answer] = field(default_factory=list)
    keeping: Keeping = field(init=False)

    def __post_init__(self) -> None:
        self.keeping = Keeping(self.out)


class ServiceSteps:
    """`run_once` does one batch; `wait_s` says when the next is due if nothing is handed in before.

    `retry_s`: how long a batch that could not be committed rests before it is tried again; 0: at every `run_once`.
    """

    def __init__(
        self,
        state: ServiceState,
        store: Store,
        engine: Engine,
        gateway: GatewayControl,
        clock: Clock,
        inbox: Inbox,
        *,
        retry_s: float = 0.0,
    ) -> None:
        self.state = state
        self.inbox = inbox
        self.retry_s = retry_s
        self.bugs = 0
        """Unexpected exceptions and what had to be set aside so far; each is in the log with its event or job."""
        self.tallies = Tallies()
        self.store_error: str | None = None
        """Why nothing can be committed now."""
        self._store = store
        self._engine = engine
        self._gateway = gateway
        self._clock = clock
        self._unkept: _Batch | None = None
        self._tried_s = 0.0
        self._lease_due_s = 0.0
        self._waiters: dict[str, list[Answer]] = {}

    # -- driving ---------------------------------------------------------------------------------------------------

    def perform_first(self, out: Outcome) -> None:
        """What recovery left to be committed, before anything else."""
        self._perform(_Batch(out))

    def run_once(self) -> None:
        """One batch: everything handed in so far, and the timers that are due."""
        now_s = self._clock.now_s()
        asked = self.inbox.take_asked()
        if self._unkept is not None and not self._try_again(now_s):
            self._while_blocked(asked, now_s)
            return
        requests = [item for item in asked if isinstance(item, Request)]
        self._perform(self._step_all(self.inbox.take_events(), requests, now_s))
        for item in asked:
            if isinstance(item, Question):
                item.ask(self.state)

    @property
    def blocked(self) -> bool:
        """A batch waits for the store, and events for the batch."""
        return self._unkept is not None

    @property
    def has_more(self) -> bool:
        """A plan was broken off, and goes on with the next batch."""
        state = self.state
        return state.plan_goes_on and state.superseded_by is None and not state.closing_down

    def wait_s(self) -> float:
        """How long until there is something to do even if nothing is handed in; never long."""
        now_s = self._clock.now_s()
        if self._unkept is not None:
            return max(0.0, min(RETRY_S, self._tried_s + RETRY_S - now_s))
        if self.has_more:
            return 0.0
        due_s = min(self.state.lease_due_s, self.state.timers.next_due_s() or float("inf"))
        return max(0.0, min(LONGEST_WAIT_S, due_s - now_s))

    def close(self) -> None:
        """Refuse the requests that nobody has looked at, and answer the questions."""
        for item in self.inbox.take_asked():
            if isinstance(item, Request):
                item.answer.fail(Unavailable("the service was stopped; ask again when it is back"))
            else:
                item.ask(self.state)

    def on_end(self, job_id: str, answer: Answer) -> None:
        """`answer` hears of it when the job's end is committed. For a job that lives."""
        assert job_id in self.state.jobs, job_id
        self._waiters.setdefault(job_id, []).append(answer)

    def forget_waiter(self, job_id: str, answer: Answer) -> None:
        waiters = self._waiters.get(job_id, [])
        if answer in waiters:
            waiters.remove(answer)
        if not waiters:
            self._waiters.pop(job_id, None)

    # -- stepping --------------------------------------------------------------------------------------------------

    def _step_all(self, events: Sequence[Event], requests: Sequence[Request], now_s: float) -> _Batch:
        batch = _Batch(Outcome())
        for event in [*events, Tick()]:
            try:
                machine.apply(self.state, batch.out, event, now_s)
            except Exception:
                self.bug(f"{event.kind} of job {_job_of(event)}", event)
        for request in requests:
            try:
                self._refuse_if_superseded()
                machine.apply(self.state, batch.out, request.event, now_s)
            except SuanliError as error:
                request.answer.fail(error)
            except Exception as error:
                self.bug(f"{request.event.kind} of job {_job_of(request.event)}", request.event)
                request.answer.fail(error)
            else:
                batch.answers.append(request.answer)
        try:
            machine.finish(self.state, batch.out, now_s)
        except Exception:
            self.bug("planning", None)
        return batch

    # -- performing ------------------------------------------------------------------------------------------------

    def _perform(self, batch: _Batch) -> bool:
        """Commit, then act. False: it could not be committed and is kept."""
        if self.state.superseded_by is not None:
            self._stand_down(batch)
            return True
        try:
            batch.keeping.keep(self._store)
        except Superseded as error:
            self.state.superseded_by = error.epoch
            self._stand_down(batch)
            return True
        except Unavailable as error:
            self._keep_for_later(batch, error)
            return False
        if self.store_error is not None:
            log.warning("the store takes commits again")
            self.store_error = None
        self.bugs += batch.keeping.bugs
        # Before anything that was submitted later: it may name these jobs.
        self.inbox.put_first([*batch.keeping.fired.values(), *batch.keeping.ordered.values()])
        self.tallies.committed(batch.out.changes)
        self._act(batch)
        return True

    def _act(self, batch: _Batch) -> None:
        out = batch.out
        if out.routes is not None:
            # Before the commands: nothing is sent to a replica any more when it is told to stop.
            self._guarded("publish routes", lambda: self._gateway.publish(out.routes or (), epoch=self.state.epoch))
        unsettled = self._unsettled_nodes() if out.commands else frozenset()
        for node, commands in out.commands.items():
            if node in unsettled:
                continue
            commands = [command for command in commands if self._may_be_sent(batch, node, command)]
            if not commands:
                continue
            self.tallies.commands += sum(not isinstance(command, RenewLease) for command in commands)
            self._guarded(f"send to node {node}", lambda n=node, c=commands: self._engine.send(n, c))  # type: ignore[misc]
        for agent, seq in out.acks.items():
            self._guarded(f"acknowledge to {agent}", lambda a=agent, s=seq: self._engine.ack(a, s))  # type: ignore[misc]
        for answer in batch.answers:
            if (wrong := batch.keeping.answer()) is not None:
                answer.fail(wrong)
            else:
                answer.done()
        for change in out.changes:
            if not isinstance(change.job.state, LIVE_STATES):
                for waiter in self._waiters.pop(change.job.id, ()):
                    waiter.done()

    def _may_be_sent(self, batch: _Batch, node: str, command: Command) -> bool:
        if isinstance(command, RenewLease):
            status = self.state.nodes[node]
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
        events = self.inbox.unlooked()
        nodes = {event.node for event in events if isinstance(event, NodeDown)}
        return frozenset(nodes | {event.facts.name for event in events if isinstance(event, NodeUp)})

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            self.bug(what, None)

    # -- a store that takes nothing --------------------------------------------------------------------------------

    def _keep_for_later(self, batch: _Batch, error: Unavailable) -> None:
        if self.store_error is None:
            log.error("nothing is committed or started until this is mended: %s", error.message)
        self.store_error = error.message
        self._unkept = batch
        self._tried_s = self._clock.now_s()
        for answer in batch.answers:
            answer.fail(
                Unavailable(f"{self.store_error} The request is remembered and is carried out when the store is back.")
            )
        batch.answers.clear()

    def _try_again(self, now_s: float) -> bool:
        assert self._unkept is not None
        if self._tried_s <= now_s < self._tried_s + self.retry_s:  # a clock that was set back does not hold it up
            return False
        batch, self._unkept = self._unkept, None
        return self._perform(batch)

    def _while_blocked(self, asked: Sequence[Request | Question], now_s: float) -> None:
        for item in asked:
            if isinstance(item, Question):
                item.ask(self.state)
            else:
                item.answer.fail(Unavailable(self.store_error or "the store cannot take it now"))
        if now_s >= self._lease_due_s:
            self._lease_due_s = now_s + self.state.lease_s / 4
            for status in list(self.state.nodes.values()):
                if status.up:
                    renew = RenewLease(self.state.epoch, self.state.lease_s)
                    self._guarded("renew leases", lambda n=status.name, r=renew: self._engine.send(n, [r]))  # type: ignore[misc]
                    status.renewed_s = now_s

    # -- what should not happen ------------------------------------------------------------------------------------

    def _refuse_if_superseded(self) -> None:
        if self.state.superseded_by is not None:
            raise Unavailable(superseded_text(self.state))

    def _stand_down(self, batch: _Batch) -> None:
        """Nodes or store obey another service: whatever this one decided would contradict what that one commits."""
        said = superseded_text(self.state)
        if self.store_error != said:
            self.store_error = said
            log.error("%s", said)
        for answer in batch.answers:
            answer.fail(Unavailable(said))

    def bug(self, what: str, event: Event | None) -> None:
        """To be called where an exception is handled: it is counted, and logged with what it struck."""
        self.bugs += 1
        log.exception("a bug in the service (%s); it goes on. Event: %.2000r", what, event)


def _job_of(event: Event) -> str:
    match event:
        case RunEvent(event=said) if said.key is not None:
            return said.key.job_id
        case JobsSubmitted(jobs=jobs) | ScheduleFired(jobs=jobs):
            return ", ".join(job.id for job in jobs[:5])
        case NodeUp() | NodeDown():
            return "none (a node)"
        case _:
            return getattr(event, "job_id", "none")
