"""The service's engine on a simulated site: the live links (scheduler.engine.link) over a network that loses, delays
and doubles, with the live engine's time-outs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from node_agent.agent_runs import StaleEpoch
from node_agent.messages import AgentHello, Command, EventBatch, LogChunk
from scheduler.engine.link import AgentLink, poll_s
from scheduler.errors import Unavailable
from scheduler.ports import EngineEvent, Json, NoReadings, Readings
from scheduler.simulation.faults.agent import VirtualAgent
from scheduler.simulation.faults.machine import Machine
from scheduler.simulation.faults.network import Network
from scheduler.simulation.faults.timeline import Appointment, Timeline

CALL_TIMEOUT_S = 15.0  # as scheduler.engine.ray_engine
AGAIN_S = 0.2
MEMBERSHIP_PERIOD_S = 1.0
NODE_LOST_S = 3.0  # after so long without a sign Ray believes a node dead
DEAD_NODE = "its Ray node is dead or was taken away"


class _Attended:
    """One node's agent as this engine deals with it. Of several calls on their way the newest one's answer counts."""

    def __init__(self, link: AgentLink) -> None:
        self.link = link
        self.handle: VirtualAgent | None = None
        self.call = 0
        self.timeout: Appointment | None = None
        self.polling = False
        self.lost = False
        self.silent_since_s: float | None = None
        self.stale = False


class VirtualEngine:
    """Implements scheduler.ports.Engine. `clock` is the service's, `point` a place where it may be killed; `heard` is
    told of each event after it was handed in, `sent` of each command that goes out."""

    def __init__(
        self,
        timeline: Timeline,
        network: Network,
        machines: Mapping[str, Machine],
        lease_s: float,
        *,
        clock: Callable[[], float],
        point: Callable[[str], None],
        heard: Callable[[EngineEvent], None],
        sent: Callable[[str, Command], None],
    ) -> None:
        self._timeline = timeline
        self._network = network
        self._machines = machines
        self._poll_s = poll_s(lease_s)
        self._clock = clock
        self._point = point
        self._heard_of = heard
        self._sent = sent
        self._epoch = 0
        self._on_event: Callable[[EngineEvent], None] = lambda event: None
        self._attended: dict[str, _Attended] = {}
        self.closed = False
        self.frozen = False
        self._while_frozen: list[Callable[[], None]] = []

    # ---- Engine ----------------------------------------------------------------------------------------------------

    def start(self, epoch: int, on_event: Callable[[EngineEvent], None]) -> None:
        self._epoch = epoch
        self._on_event = on_event
        for name in self._machines:
            self._attend(name)
        self._timeline.after(MEMBERSHIP_PERIOD_S, self._look_at_members)

    def send(self, node: str, commands: Sequence[Command]) -> None:
        self._point(f"send to {node}")
        attended = self._attended.get(node)
        if attended is None:
            return
        batch = attended.link.commands(commands, self._clock())
        handle = attended.handle
        if batch is None or handle is None:
            return
        for command in commands:
            self._sent(node, command)
        self._network.send(node, "to", lambda: handle.perform(batch.session, batch.number, batch.commands))

    def ack(self, agent: str, seq: int) -> None:
        self._point(f"acknowledge to {agent}")
        attended = self._attended[agent]
        attended.link.on_ack(seq)
        self._poll(agent, attended)

    def read_log(
        self, node: str, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int
    ) -> LogChunk:
        raise Unavailable("there are no logs in a simulation")

    def readings(self) -> Readings:
        return NoReadings()

    def agents(self) -> Sequence[Json]:
        return [{"node": name, "pid": 1, "launcher_pid": 2, "nodes": [name]} for name in self._attended]

    def close(self) -> None:
        self.closed = True

    def thaw(self) -> None:
        """What came in while the process was stopped is looked at now."""
        self.frozen = False
        waited, self._while_frozen = self._while_frozen, []
        for action in waited:
            self._in_process(action)

    # ---- one agent -------------------------------------------------------------------------------------------------

    def _in_process(self, action: Callable[[], None]) -> None:
        """Something reaches this process: nothing does when it is gone, later when it is stopped."""
        if self.closed:
            return
        if self.frozen:
            self._while_frozen.append(action)
            return
        action()

    def _attend(self, name: str) -> None:
        before = self._attended.get(name)
        attended = _Attended(AgentLink(name, None if before is None else before.link))
        if before is not None:
            attended.silent_since_s = before.silent_since_s
        self._attended[name] = attended
        self._greet(name, attended)

    def _call(self, attended: _Attended, timeout_s: float, failed: Callable[[], None]) -> int:
        """A call goes out: its number, by which its answer is known."""
        if attended.timeout is not None:
            attended.timeout.call_off()
        attended.call += 1
        attended.polling = False
        number = attended.call

        def over() -> None:
            if attended.call == number:
                failed()

        attended.timeout = self._timeline.after(timeout_s, lambda: self._in_process(over))
        return number

    def _answered(self, attended: _Attended, number: int) -> bool:
        """Whether this is the answer that is waited for; then it is waited for no more."""
        if attended.lost or attended.call != number:
            return False
        if attended.timeout is not None:
            attended.timeout.call_off()
        attended.call += 1
        return True

    def _greet(self, name: str, attended: _Attended) -> None:
        if attended.lost or attended.stale:
            return
        session = attended.link.greet(self._clock())
        number = self._call(attended, CALL_TIMEOUT_S, lambda: self._failed(name, attended))

        def arrive() -> None:
            agent = self._machines[name].find_agent()
            if agent is None:
                return

            def answer(said: AgentHello | StaleEpoch) -> None:
                self._network.send(
                    name, "from", lambda: self._in_process(lambda: self._greeted(name, attended, number, agent, said))
                )

            agent.hello(self._epoch, session, answer)

        self._network.send(name, "to", arrive)

    def _greeted(
        self, name: str, attended: _Attended, number: int, agent: VirtualAgent, said: AgentHello | StaleEpoch
    ) -> None:
        if not self._answered(attended, number):
            return
        if isinstance(said, StaleEpoch):
            if said.epoch > self._epoch:
                attended.stale = True
                self._tell(attended.link.on_stale(said.epoch))
            else:
                self._timeline.after(AGAIN_S, lambda: self._in_process(lambda: self._greet(name, attended)))
            return
        attended.handle = agent
        self._tell(attended.link.on_hello(said, self._clock()))
        self._poll(name, attended)

    def _poll(self, name: str, attended: _Attended, *, unacknowledged: bool = False) -> None:
        if attended.lost or attended.polling or attended.handle is None or not attended.link.is_open:
            return
        if not unacknowledged and not attended.link.may_poll():
            return
        handle, after_seq = attended.handle, attended.link.poll(self._clock())
        number = self._call(attended, self._poll_s + CALL_TIMEOUT_S, lambda: self._failed(name, attended))
        attended.polling = True

        def answer(batch: EventBatch) -> None:
            self._network.send(
                name, "from", lambda: self._in_process(lambda: self._heard(name, attended, number, batch))
            )

        self._network.send(name, "to", lambda: handle.poll(after_seq, self._poll_s, answer))

    def _heard(self, name: str, attended: _Attended, number: int, batch: EventBatch) -> None:
        if not self._answered(attended, number):
            return
        attended.polling = False
        told, greet_again = attended.link.on_batch(batch, self._clock())
        self._tell(told)
        if greet_again:
            self._greet(name, attended)
            return
        self._poll(name, attended)
        call = attended.call
        if not attended.polling:

            def ask_for_its_clock() -> None:
                if attended.call == call:
                    self._poll(name, attended, unacknowledged=True)

            self._timeline.after(self._poll_s, lambda: self._in_process(ask_for_its_clock))

    def _failed(self, name: str, attended: _Attended) -> None:
        if attended.lost:
            return
        attended.call += 1
        attended.polling = False
        attended.handle = None
        self._tell(attended.link.on_failure(self._clock(), "its agent does not answer"))
        self._timeline.after(AGAIN_S, lambda: self._in_process(lambda: self._greet(name, attended)))

    def _tell(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            self._on_event(event)
            self._heard_of(event)

    # ---- membership ------------------------------------------------------------------------------------------------

    def _look_at_members(self) -> None:
        if self.closed:
            return
        self._timeline.after(MEMBERSHIP_PERIOD_S, self._look_at_members)
        if self.frozen:
            return
        now_s = self._timeline.now_s
        for name, attended in list(self._attended.items()):
            seen = self._network.passes(name) and self._machines[name].alive
            if seen:
                attended.silent_since_s = None
                if attended.lost:
                    self._attend(name)
                elif attended.handle is not None and attended.handle.dead:  # Ray tells that the actor has died
                    self._failed(name, attended)
            elif attended.silent_since_s is None:
                attended.silent_since_s = now_s
            elif now_s - attended.silent_since_s >= NODE_LOST_S and not attended.lost:
                attended.lost = True
                attended.handle = None
                self._tell(attended.link.lose(DEAD_NODE))
