"""The service's end of the conversation with one agent: sessions, numbered commands, events until they are committed.

Without I/O, Ray or a clock: the live engine calls the agent's methods and hands the answers in, the simulator passes
messages in virtual time. It relies on nothing that a network does not give: an answer may be lost, late or come twice,
and so may a batch of commands.

- A `greet` opens a session; nothing is sent to the agent until its answer is there, which says what runs. What was
  decided meanwhile is not lost: the service compares with these runs and decides anew.
- Commands are numbered within the session, and taken in that order. A poll's answer says how far; what was not taken
  within COMMAND_LATE_S leads to another greeting, which finds out what was missed.
- Events come by polls, of which the next one goes out when everything received is committed: it acknowledges.
- A renewal of the lease says by which reading of the agent's own clock it counts: the newest that was heard here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from node_agent.messages import NODES_FAULT, AgentHello, Command, EventBatch, PrepareFailed, Refused, RenewLease
from scheduler.ports import EngineEvent, NodeDown, NodeUp, RunEvent, node_facts

COMMAND_LATE_S = 5.0
# An agent that dies is started again; its nodes count as down only when that takes longer than this.
AGENT_RETURN_S = 10.0
LONGEST_POLL_S = 20.0
# What a node has may change (a card fails, another is mended), and a greeting asks for it anew.
GREET_EVERY_S = 300.0


def poll_s(lease_s: float) -> float:
    """How long an agent may hold back an empty answer. Each brings a reading of its clock, on which leases count: it
    must be fresh in comparison with them."""
    return min(LONGEST_POLL_S, lease_s / 8)


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands on their way: what AgentRuns.take is to be given."""

    session: int
    number: int
    commands: tuple[Command, ...]


class AgentLink:
    """One agent, by its name. `nodes` are those that it stands for, as far as is known.

    `before` is the link that this one takes the place of, in the same start of the service: the agent may be the same
    one, which knows that link's sessions.
    """

    def __init__(self, name: str, before: AgentLink | None = None) -> None:
        self.name = name
        self.nodes: tuple[str, ...] = () if before is None else before.nodes
        self.hello: AgentHello | None = None
        """Its last answer to a greeting; None: not greeted yet, or lost."""
        self.received = 0
        self.acked = 0
        self.heard_s: float | None = None if before is None else before.heard_s
        """Until when what it said to live is known to have lived: when the last call was made that it answered, by the
        clock of `now_s`. (The answer may have been long on its way, and the agent dead when it came.) An answer with
        events that stay with the agent, as the store takes nothing, does not count: ends may be among them."""
        self._greeting_sent_s: float | None = None
        self._poll_sent_s: float | None = None
        self.session: int = 0 if before is None else before.session
        self._open = False
        self._sent = 0
        self._unheard: deque[tuple[int, float]] = deque()  # numbers of batches, and when they were sent
        self._stamp_s = 0.0
        self._greeted_s = 0.0
        self._failing_since_s: float | None = None
        self._down = False

    @property
    def is_open(self) -> bool:
        """Commands may be sent."""
        return self._open

    # ---- greeting --------------------------------------------------------------------------------------------------

    def greet(self, now_s: float) -> int:
        """The session to be opened by the greeting that goes out now."""
        self._greeting_sent_s = now_s
        self._open = False
        self.session += 1
        return self.session

    def on_hello(self, hello: AgentHello, now_s: float) -> list[EngineEvent]:
        """The answer to the last greeting; to an earlier one: nothing follows."""
        if hello.session != self.session or self._open:
            return []
        if self.hello is None or self.hello.incarnation != hello.incarnation:
            self.received = self.acked = 0
        heard_before_s = self.heard_s
        self._has_lived(self._greeting_sent_s)
        self.hello = hello
        self.nodes = tuple(report.name for report in hello.nodes)
        self._open, self._down = True, False
        self._sent = 0
        self._unheard.clear()
        self._stamp_s = hello.clock_s
        self._greeted_s = now_s
        self._failing_since_s = None
        return [
            NodeUp(
                node_facts(report),
                tuple(run for run in hello.runs if run.key.node == report.name),
                report.notes,
                hello.pid,
                heard_before_s,
                report.shares,
                report.findings,
            )
            for report in hello.nodes
        ]

    # ---- commands --------------------------------------------------------------------------------------------------

    def commands(self, commands: Sequence[Command], now_s: float) -> Batch | None:
        """What is to be sent; None: the agent is away or just being greeted, and what it missed is found out then."""
        if not self._open:
            return None
        self._sent += 1
        self._unheard.append((self._sent, now_s))
        stamped = (replace(c, stamp_s=self._stamp_s) if isinstance(c, RenewLease) else c for c in commands)
        return Batch(self.session, self._sent, tuple(stamped))

    # ---- events ----------------------------------------------------------------------------------------------------

    def may_poll(self) -> bool:
        """Everything received is committed: the next poll acknowledges it. Where that lasts (the store takes nothing),
        one that acknowledges less goes out every `poll_s` all the same: renewals need the agent's clock.
        """
        return self._open and self.acked >= self.received

    def poll(self, now_s: float) -> int:
        """After which event the poll asks that goes out now."""
        self._poll_sent_s = now_s
        return self.acked

    def on_batch(self, batch: EventBatch, now_s: float) -> tuple[list[EngineEvent], bool]:
        """(events for the service, whether the agent must be greeted again): an answer to a poll of this session."""
        if self.hello is None or batch.incarnation != self.hello.incarnation:
            return [], True  # it was replaced behind our back
        told: list[EngineEvent] = []
        takes_more = self.acked >= self.received  # else what is new stays with the agent, however much it becomes
        if takes_more or all(numbered.seq <= self.received for numbered in batch.events):
            self._has_lived(self._poll_sent_s)
        for numbered in batch.events:
            if takes_more and numbered.seq > self.received:
                self.received = numbered.seq
                told.append(RunEvent(numbered.event, self.name, numbered.seq))
        if not self._open or batch.session != self.session:
            return told, True
        self._stamp_s = max(self._stamp_s, batch.clock_s)
        while self._unheard and self._unheard[0][0] <= batch.heard:
            self._unheard.popleft()
        late = bool(self._unheard) and now_s - self._unheard[0][1] > COMMAND_LATE_S
        return told, late or self._has_changed(told) or now_s - self._greeted_s > GREET_EVERY_S

    def _has_lived(self, asked_s: float | None) -> None:
        """A call that was made then is answered; perhaps later than one that was made after it."""
        if asked_s is not None and (self.heard_s is None or asked_s > self.heard_s):
            self.heard_s = asked_s

    @staticmethod
    def _has_changed(told: Sequence[EngineEvent]) -> bool:
        """The node could not do what it said that it can: it has to say again what it has."""
        news = [each.event for each in told if isinstance(each, RunEvent)]
        return any(isinstance(each, PrepareFailed) and each.field == NODES_FAULT for each in news)

    def on_ack(self, seq: int) -> None:
        """Everything up to `seq` is committed."""
        self.acked = max(self.acked, min(seq, self.received))

    # ---- trouble ---------------------------------------------------------------------------------------------------

    def on_failure(self, now_s: float, detail: str) -> list[EngineEvent]:
        """A greeting or a poll was not answered, or broke: greet again. Nodes count as down when that lasts."""
        self._open = False
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if now_s - self._failing_since_s <= AGENT_RETURN_S:
            return []
        return self.lose(detail)

    def lose(self, detail: str, *, proof_of_death: bool = False) -> list[EngineEvent]:
        """It is away. Its processes are in sessions of their own and may live on: without proof only the lease says
        that they are dead. Proof may come later.
        """
        self._open = False
        if self._down and not proof_of_death:
            return []
        self._down = True
        return [NodeDown(node, detail, proof_of_death, heard_s=self.heard_s) for node in self.nodes]

    def on_stale(self, epoch: int) -> list[EngineEvent]:
        """It obeys a service of this higher epoch."""
        self._open = False
        return [RunEvent(Refused(None, epoch), self.name, 0)]
