"""The service's process on a simulated head: the live Service on simulated ports, one `run_once` after the other, which
may be killed at any place where a real one could, frozen, and started again from what was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from node_agent.messages import Command
from scheduler.core.decisions import Policy
from scheduler.core.usage_records import UsageEntry
from scheduler.errors import SuanliError, Unavailable
from scheduler.ports import Change, EngineEvent, Route, ServiceLoad
from scheduler.service.control import Service
from scheduler.service.planning import REPLAN_EVERY_S
from scheduler.service.state import ServiceState
from scheduler.simulation.faults.engine import VirtualEngine
from scheduler.simulation.faults.gateway import VirtualGateway
from scheduler.simulation.faults.machine import Machine
from scheduler.simulation.faults.network import Network
from scheduler.simulation.faults.timeline import Appointment, Timeline
from scheduler.simulation.virtual_store import Kept, VirtualStore

HANDS_IN_S = 0.0005  # from an event's arrival to the batch that looks at it
SECRET = b"simulated" * 4


class Killed(BaseException):
    """The service's process is gone at this place. No `except Exception` may hold it up."""


class Disk:
    """Under the store, whoever has it open: what it refuses. `committed` hears of every transaction that is durable."""

    def __init__(self, committed: Callable[[Sequence[Change]], None]) -> None:
        self.kept = Kept()
        self.failing = 0
        """So many of the next writes fail."""
        self.committed = committed


class _Store(VirtualStore):
    """The virtual store with a disk that fails and a process that is killed around its writes."""

    def __init__(self, disk: Disk, point: Callable[[str], None]) -> None:
        super().__init__(disk.kept, before_write=self._before, after_write=self._after)
        self._disk = disk
        self._point = point
        self._changes: Sequence[Change] = ()

    def _before(self, what: str) -> None:
        self._point(f"before {what}")
        if self._disk.failing > 0:
            self._disk.failing -= 1
            raise Unavailable("the store cannot take this now: the write failed. Nothing of it was kept.")

    def _after(self, what: str) -> None:
        if what == "commit":
            self._disk.committed(self._changes)
        self._point(f"after {what}")

    def commit(self, changes: Sequence[Change], usage_records: Sequence[UsageEntry] = ()) -> None:
        self._changes = changes
        super().commit(changes, usage_records)


class _Clock:
    """As cli.system_clock: the wall clock is read once, and then only time that passes counts."""

    def __init__(self, timeline: Timeline, wall_s: float) -> None:
        self._timeline = timeline
        self._ahead_s = wall_s - timeline.now_s

    def now_s(self) -> float:
        return self._timeline.now_s + self._ahead_s


class _Gateway:
    """A table of routes on its way to the gateway, if there is one: a place where the service may be killed."""

    def __init__(self, point: Callable[[str], None], gateway: VirtualGateway) -> None:
        self._point = point
        self._gateway = gateway

    def publish(self, routes: Sequence[Route], *, epoch: int) -> None:
        self._point("publish routes")
        self._gateway.take(routes, epoch)


class ServiceProcess:
    """One start of the service. `died` is told when it is killed, at a place that `arm` chose."""

    def __init__(
        self,
        timeline: Timeline,
        network: Network,
        machines: Mapping[str, Machine],
        disk: Disk,
        gateway: VirtualGateway,
        *,
        wall_s: float,
        policy: Policy,
        priority_classes: Mapping[str, int],
        lease_s: float,
        half_life_s: float,
        sent: Callable[[str, Command], None],
        heard: Callable[[EngineEvent], None],
        died: Callable[[ServiceProcess], None],
    ) -> None:
        self._timeline = timeline
        self._points_left: int | None = None
        self._died = died
        self._heard = heard
        self.dead = False
        self.frozen = False
        self.clock = _Clock(timeline, wall_s)
        self._next: Appointment | None = None
        self.engine = VirtualEngine(
            timeline,
            network,
            machines,
            lease_s,
            clock=self.clock.now_s,
            point=self._point,
            heard=self._hear,
            sent=sent,
        )
        self.service = Service(
            _Store(disk, self._point),
            self.engine,
            _Gateway(self._point, gateway),
            self.clock,
            policy=policy,
            priority_classes=priority_classes,
            lease_s=lease_s,
            secret=SECRET,
            status_extra={},
            half_life_s=half_life_s,
        )

    def start(self) -> None:
        """Raises Unavailable where the store cannot be opened."""
        try:
            self.service.start(thread=False)
        except SuanliError:
            self._end()
            raise
        self._wake(HANDS_IN_S)

    def _hear(self, event: EngineEvent) -> None:
        self._heard(event)
        self._wake(HANDS_IN_S)

    def hear_loads(self, gateway: str, loads: Sequence[ServiceLoad]) -> None:
        if not self.frozen and not self.dead:
            self.service.take_loads(gateway, loads)
            self._wake(HANDS_IN_S)

    def hear_again(self, event: EngineEvent) -> None:
        """As if it had come a second time."""
        self.service.loop.post(event, force=True)
        self._wake(HANDS_IN_S)

    # ---- running ---------------------------------------------------------------------------------------------------

    def _wake(self, after_s: float) -> None:
        due_s = self._timeline.now_s + after_s
        if self._next is not None and not self._next.off and self._next.at_s <= due_s:
            return
        if self._next is not None:
            self._next.call_off()
        self._next = self._timeline.at(due_s, self._run)

    def _run(self) -> None:
        self._next = None
        if self.dead or self.frozen:
            return
        self.act(self.service.loop.run_once)

    def act(self, what: Callable[[], None]) -> None:
        """Something that this process does; it may be killed in the middle of it."""
        try:
            self._point("before a batch")
            what()
        except Killed:
            self._end()
            self._died(self)
            return
        if not self.dead:
            busy = self.service.loop.backlog() and self.service.loop.store_error is None
            busy = busy or self.service.loop.has_more
            self._wake(HANDS_IN_S if busy else max(HANDS_IN_S, self._wait_s()))

    def _wait_s(self) -> float:
        """Until a timer is due. Between timers a live service looks once a second, at nothing."""
        if self.service.loop.store_error is not None:
            return 0.5
        state = self.state
        due_s = min(state.lease_due_s, state.timers.next_due_s() or float("inf"))
        if state.queue.waiting or state.queue.holding:  # then it plans anew now and then
            due_s = min(due_s, state.planned_s + REPLAN_EVERY_S)
        return max(0.001, min(10.0, due_s - self.clock.now_s()))

    def has_met_a_bug(self) -> bool:
        return self.service.started and self.service.loop.bugs > 0

    @property
    def state(self) -> ServiceState:
        return self.service.loop.state

    def in_doubt(self) -> bool:
        """The store refuses: what the service holds in memory may not have been committed."""
        return self.service.loop.store_error is not None

    # ---- ends ------------------------------------------------------------------------------------------------------

    def arm(self, points: int) -> None:
        """Kill it at that place, counted from now."""
        self._points_left = points

    def disarm(self) -> None:
        self._points_left = None

    def _point(self, label: str) -> None:
        if self.dead:
            raise Killed(label)
        if self._points_left is not None:
            if self._points_left <= 0:
                raise Killed(label)
            self._points_left -= 1

    def _end(self) -> None:
        self.dead = True
        self.engine.close()
        if self._next is not None:
            self._next.call_off()

    def freeze(self) -> None:
        self.frozen = self.engine.frozen = True

    def thaw(self) -> None:
        if self.dead:
            return
        self.frozen = False
        self.engine.thaw()
        self._wake(HANDS_IN_S)
