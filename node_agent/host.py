"""The agent without Ray: what the service says goes in, events come out, and the launcher does the work between.

One host stands for one node, or for several simulated ones, and has one launcher. It holds no fact of its own that
matters: after a crash it reads its runs from the launcher's table, and when the launcher dies it starts another one,
which finds the processes that still run.

All of it runs on one event loop. Whatever touches a file system that may hang, or a driver, does so on a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

from node_agent import attempts
from node_agent.agent_runs import (
    ABOUT_NO_RUN,
    AgentRuns,
    CheckRun,
    ForgetFindings,
    ForgetRun,
    KeepNoted,
    KnownRun,
    LaunchRun,
    LookAtEnd,
    RenewLaunchersLease,
    Request,
    SignalRun,
    StaleEpoch,
)
from node_agent.clock import SteadyClock, boottime_s
from node_agent.config import AgentConfig, with_directories
from node_agent.connection import LauncherConnection
from node_agent.devices.simulated import SimulatedSpec
from node_agent.event_log import EventLog
from node_agent.execution.accounts import why_single_user
from node_agent.execution.logs import PASSABLE, paths_of, read_chunk, run_paths
from node_agent.execution.order import RunContext, key_from_text
from node_agent.execution.slow_files import SlowFiles
from node_agent.health_rounds import HealthRounds
from node_agent.housekeeping import Housekeeping
from node_agent.lane import LaneServer, ToldReadings
from node_agent.launcher.client import LauncherGone, LauncherRefused, LauncherTable
from node_agent.launcher.paths import SOCKET_NAME, launcher_paths, make_private
from node_agent.launcher.records import RunRecord
from node_agent.launcher_orders import LauncherOrders, end_launcher
from node_agent.messages import AgentHello, Command, EventBatch, LaunchSpec, LogChunk, RunKey
from node_agent.meter_rounds import MeterRounds
from node_agent.metrics_door import DoorError, MetricsDoor, door_config
from node_agent.node_metrics import HeldBy, metrics_text
from node_agent.nodes import NodeAgent, NodeConfig, readings_json
from node_agent.outcome import ends_told, exit_facts
from node_agent.preparing import Preparation, Preparing
from node_agent.readings_book import ReadingsBook
from node_agent.readings_wire import batches
from node_agent.regular_files import is_regular
from node_agent.run_watch import RunWatch, tell_failure

CONNECT_TIMEOUT_S = 20.0
SETTLE_S = 2.0


log = logging.getLogger(__name__)


__all__ = ["AgentConfig", "AgentHost", "NodeConfig", "SimulatedSpec", "StaleEpoch", "with_directories"]


@dataclass(slots=True)
class Details:
    """What is known of a run beside its state: what was found out for its launch, and its timer. `lives`: when last
    looked at. `ended_for`: why this agent has ended it by itself, if it has.
    """

    context: RunContext | None = None
    prepared: Preparation | None = None
    timer: asyncio.TimerHandle | None = None
    lives: bool = False
    ended_for: str = ""


class AgentHost:
    """`await start()` first; `close()` leaves launcher and runs alive, `shutdown()` ends them.

    `now_s` is the time of all deadlines, and must not be moved by whoever sets the wall clock.
    """

    def __init__(self, config: AgentConfig, now_s: Callable[[], float] | None = None) -> None:
        self._config = config
        self._now_s = now_s or SteadyClock().now_s
        self._state_dir = Path(config.state_dir)
        self._runtime_dir = Path(config.runtime_dir)
        self._nodes: dict[str, NodeAgent] = {}
        self._details: dict[RunKey, Details] = {}
        self._log = EventLog()
        self._runs = AgentRuns(self._log.append)
        self._slow = SlowFiles()
        self._preparing = Preparing(self._nodes, self._state_dir, self._slow)
        self._launcher_paths = launcher_paths(self._runtime_dir / SOCKET_NAME)
        self._launcher = LauncherConnection(
            self._launcher_paths, self._state_dir, config.lease_s, self._agree, self._on_exit
        )
        self._orders = LauncherOrders(self._launcher, self._state_dir, self._runs.refused)
        self._book, self._reading = ReadingsBook(), asyncio.Lock()
        self._lane = LaneServer(self.take, self.events, self.read)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = RunWatch(self._state_dir, self._runs.states, self._context_of, self._feed, self._end_run)
        self._housekeeping = Housekeeping(self._state_dir, self._capped, self._knows)
        self._tidying: asyncio.Task[None] | None = None
        self._health = HealthRounds(self._nodes, self._state_dir, config.health, self._log.append)
        self._checking: asyncio.Task[None] | None = None
        self._door: MetricsDoor | None = None
        self._meters = MeterRounds(self._nodes, self._spawn)
        self._door_trouble = ""

    # ---- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the device sources, and find or start the launcher. Raises when either cannot be had; then it is closed,
        and whoever tries again makes another host.
        """
        try:
            await asyncio.to_thread(self._make_directories)
            for config in self._config.nodes:
                self._nodes[config.name] = await asyncio.to_thread(NodeAgent, config)
            await self._launcher.open()
            await self._lane.open(self._config.nodes[0].address)
            self._tidying = asyncio.create_task(self._housekeeping.run(), name="housekeeping")
            self._tidying.add_done_callback(tell_failure)
            await asyncio.to_thread(self._health.remember)
            self._checking = asyncio.create_task(self._health.run(), name="health")
            self._checking.add_done_callback(tell_failure)
            await self._open_door()
        except BaseException:
            await self.close()
            raise

    async def _open_door(self) -> None:
        """For Prometheus, where it is configured. One that cannot be opened is told of, and stops nothing."""
        try:
            # What is said to a machine is for the agent of the machine itself, not for that of made-up nodes beside it.
            real = [node.config for node in self._nodes.values() if not node.made_up]
            config = door_config(os.environ, real[0].address) if real else None
            if config is None:
                return
            door = MetricsDoor(config, lambda: self.metrics(dcgm=config.dcgm))
            await door.open()
            self._door = door
        except DoorError as error:
            self._door_trouble = f"no metrics are served here: {error}"
            log.error("%s", self._door_trouble)

    def _make_directories(self) -> None:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not why_single_user():  # runs of other users are to get at their own directories, and at nothing else
            self._state_dir.chmod(PASSABLE)
        make_private(self._runtime_dir)

    async def shutdown(self) -> None:
        """End all runs (SIGTERM, SIGKILL after 2 s), stop the launcher, and wait until it is gone."""
        await self._launcher.give_up(SETTLE_S)
        await self._settle()
        await end_launcher(self._launcher_paths.pid)
        await self.close()

    async def close(self) -> None:
        """Let go of everything; launcher and runs live on."""
        self._lane.close()
        if self._door is not None:
            await self._door.close()
            self._door = None
        await self._launcher.give_up(SETTLE_S)
        await self._settle()
        await self._launcher.close()
        await self._watch.close()
        self._meters.close()
        for task in (self._tidying, self._checking):
            if task is not None:
                task.cancel()
        for details in self._details.values():
            if details.timer is not None:
                details.timer.cancel()
        await self._settle()
        for task in self._tasks:
            task.cancel()
        self._slow.close()
        for node in self._nodes.values():
            node.close()

    async def _settle(self) -> None:
        """Let what was begun come to its end, within a bound."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while self._tasks and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)

    # ---- what the service asks -------------------------------------------------------------------------------------

    async def hello(self, epoch: int, session: int) -> AgentHello:
        """Who is here, and what runs; opens the session of commands (see agent_runs). Renews no lease. May raise
        StaleEpoch."""
        self._runs.open_session(epoch, session)  # nothing that was sent before may be taken from here on
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._launcher.connected.wait()
        await ends_told(self._runs.ending)
        for node in self._nodes.values():
            if not node.made_up:
                await asyncio.to_thread(node.refresh)
        self._runs.open_session(epoch, session)  # another one may have overtaken it meanwhile
        trouble = self._launcher.trouble or self._door_trouble
        return AgentHello(
            incarnation=self._log.incarnation,
            pid=os.getpid(),
            launcher_pid=self._launcher.launcher_pid,
            nodes=tuple(
                node.report(self._launcher.limits, trouble, self._health.findings(name))
                for name, node in self._nodes.items()
            ),
            runs=self._runs.reports(boottime_s()),
            last_seq=self._log.last_seq,
            session=session,
            clock_s=boottime_s(),
            lane=self._lane.offer,
        )

    async def perform(self, session: int, number: int, commands: Sequence[Command]) -> None:
        """As `take`, for a caller that awaits."""
        self.take(session, number, commands)

    def take(self, session: int, number: int, commands: Sequence[Command]) -> None:
        """Take the commands, in order. What comes of them is told by events; this waits for none of it."""
        self._do_all(self._runs.take(session, number, commands, self._now_s()))

    async def events(self, after_seq: int, timeout_s: float) -> EventBatch:
        """Events after `after_seq`, which says that all before are committed. Waits up to `timeout_s` for one."""
        batch = await self._log.after(after_seq, timeout_s)
        runs = self._runs
        return replace(batch, session=runs.session, heard=runs.heard, clock_s=boottime_s())

    async def read_log(self, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int) -> LogChunk:
        """Raises execution.logs.NoSuchLog."""
        paths = run_paths(self._state_dir, job_id, attempt, worker)
        known = (self._runs.states.get(RunKey(job_id, attempt, worker, node)) for node in self._nodes)
        states = [state for state in known if state is not None]
        over = all(isinstance(state, attempts.Ended | attempts.Rejected) for state in states)
        return await asyncio.to_thread(read_chunk, paths, stream, offset, limit, over=over)

    async def read(self, book: int, number: int) -> ToldReadings:
        """All nodes' readings of now: what changed since `number` of `book`, or everything (see readings_book)."""
        kept = self._book
        async with self._reading:
            kept.turn()
            for name, node in self._nodes.items():
                kept.update(name, await node.readings())
                await asyncio.sleep(0)  # a hundred simulated nodes keep no command waiting
            told = tuple(batches(kept.book, kept.since(book, number)))
            return ToldReadings(told, kept.book, kept.number)

    async def readings(self) -> dict[str, Any]:
        """By node, as JSON: {node: {uuid: {quantity: {"value", "unit", "at_s", "quality"} or {"unavailable"}}}}"""
        names = list(self._nodes)
        read = await asyncio.gather(*(self._nodes[name].readings() for name in names))
        return {name: readings_json(readings) for name, readings in zip(names, read, strict=True)}

    async def metrics(self, *, dcgm: bool) -> str:
        """All nodes of this host in Prometheus' text format, with who holds each device."""
        held = [
            HeldBy(key.node, key.job_id, each.context.tenant, each.context.devices)
            for key, each in self._details.items()
            if each.lives and each.context is not None
        ]
        return metrics_text(self._nodes, await self.readings(), held, dcgm=dcgm)

    # ---- the machine -----------------------------------------------------------------------------------------------

    def _feed(self, key: RunKey, event: attempts.Input) -> None:
        """One step of a run's machine, and what it asks for."""
        self._do_all(self._runs.feed(key, event, self._now_s()), key)

    def _do_all(self, requests: Sequence[Request], *keys: RunKey) -> None:
        """Perform them, and see to what else depends on the states of the runs that they are about."""
        for request in requests:
            self._do(request)
        touched = dict.fromkeys(keys)
        touched |= {each.key: None for each in requests if not isinstance(each, ABOUT_NO_RUN)}
        for key in touched:
            self._after_step(key)

    def _do(self, request: Request) -> None:
        match request:
            case CheckRun(key=key, spec=spec):
                self._details.setdefault(key, Details())
                self._spawn(self._check(key, spec))
            case LaunchRun():
                self._spawn(self._launch(request))
            case SignalRun():
                self._spawn(self._orders.signal(request))
            case ForgetRun():
                self._drop(request.key)
                self._spawn(self._orders.forget(request))
            case RenewLaunchersLease():
                self._launcher.lease_s = request.lease_s
                self._spawn(self._orders.renew(request))
            case ForgetFindings(node=node):
                self._spawn(self._health.mended(node))
            case KeepNoted(node=node, source=source, findings=findings):
                self._spawn(self._health.note(node, source, findings))
            case LookAtEnd(key=key, record=record):
                self._spawn(self._ended(key, record))
            case _:
                assert_never(request)

    def _after_step(self, key: RunKey) -> None:
        state, details = self._runs.states.get(key), self._details.get(key)
        if state is None:
            self._drop(key)
            return
        if details is None:
            details = self._details[key] = Details()
        if details.timer is not None:
            details.timer.cancel()
            details.timer = None
        deadline_s = self._runs.next_deadline_s(key)
        if deadline_s is not None:
            wait_s = max(0.0, deadline_s - self._now_s())
            details.timer = asyncio.get_running_loop().call_later(wait_s, self._feed, key, attempts.Tick())
        lives = isinstance(state, attempts.Live)
        if details.lives != lives:
            details.lives = lives
            self._mark_busy(key.node)
            if lives:
                self._meters.begin(key, details.context)
        if isinstance(state, attempts.Ended):
            self._preparing.take_ports_back(key)
        self._watch.after_step(key)

    def _drop(self, key: RunKey) -> None:
        details = self._details.pop(key, None)
        if details is not None:
            if details.timer is not None:
                details.timer.cancel()
                details.timer = None
            if details.lives:
                self._mark_busy(key.node)
        self._watch.drop(key)
        self._meters.drop(key)
        self._preparing.take_ports_back(key)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(tell_failure)

    def _mark_busy(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or not node.simulated:
            return
        live = [d for k, d in self._details.items() if k.node == name and d.lives]
        node.set_busy({index for details in live if details.context for index in details.context.devices})

    # ---- preparing and launching -----------------------------------------------------------------------------------

    async def _check(self, key: RunKey, spec: LaunchSpec) -> None:
        found = await self._preparing.prepare(key, spec)
        details = self._details.get(key)
        if details is None or not isinstance(self._runs.states.get(key), attempts.Checking):  # stopped meanwhile
            self._preparing.take_ports_back(key)
        elif isinstance(found, attempts.CheckFailed):
            self._feed(key, found)
        else:
            details.prepared, details.context = found, found.context
            self._feed(key, attempts.CheckPassed(found.context.address, found.context.master_port))

    async def _launch(self, request: LaunchRun) -> None:
        key, details = request.key, self._details[request.key]
        assert details.prepared is not None, key
        try:
            order = self._preparing.order(key, request.launch, details.prepared)
        except Exception as error:  # the launcher has heard nothing of it
            log.exception("launching %s", key)
            self._feed(key, attempts.LaunchFailed(f"node {key.node} could not start it: {error}"))
            return
        try:
            record = await self._launcher.client().launch(request.epoch, order)
        except LauncherGone:
            return  # reconciling tells whether it was started, and asks again if not
        except LauncherRefused as error:
            self._orders.note_epoch(key, error)
            self._feed(key, attempts.LaunchFailed(str(error)))
            return
        except Exception as error:  # an answer that cannot be read: it may run, and must not run on unknown
            log.exception("launching %s", key)
            self._spawn(self._orders.signal(SignalRun(key, signal.SIGKILL, request.epoch)))
            detail = f"node {key.node} does not understand its launcher's answer: {error!r}"
            self._feed(key, attempts.ProcessExited(None, "unknown", None, detail, self._now_s()))
            return
        self._do_all(self._runs.launched(key, record, self._now_s()), key)

    async def _ended(self, key: RunKey, record: RunRecord) -> None:
        state, details = self._runs.states.get(key), self._details.get(key)
        if state is None or isinstance(state, attempts.Ended):
            return
        context = details.context if details is not None else None
        saved_in, unix_user = (None, None) if context is None else (context.checkpoint_dir, context.unix_user)
        paths = paths_of(self._state_dir, key)
        facts = await exit_facts(record, paths, saved_in, self._slow, unix_user)
        if self._meters.metered(key):
            facts = replace(facts, use=await self._meters.last(key))
        if attempts.awaits_ack(self._runs.states.get(key)) and is_regular(paths.checkpoint_ack):
            self._feed(key, attempts.AckSeen())  # it saved and left before the next look
        if details is not None and details.ended_for:  # by us, so nobody else is to be blamed
            detail = f"{details.ended_for}. {facts.detail}".strip()
            facts = replace(facts, asked=False, detail=detail)
        self._feed(key, facts)
        if (
            context is not None
            and context.log_cap_bytes
            and self._housekeeping.may_be_over(paths.directory, context.log_cap_bytes)
        ):
            await asyncio.to_thread(self._housekeeping.cap, {paths.directory: context.log_cap_bytes})

    def _capped(self) -> dict[Path, int]:
        """The runs that live and have a cap, by their directories."""
        found = {key: each.context.log_cap_bytes for key, each in self._details.items() if each.lives and each.context}
        return {paths_of(self._state_dir, key).directory: cap for key, cap in found.items() if cap}

    def _knows(self, job_id: str, attempt: int, worker: int) -> bool:
        return any(RunKey(job_id, attempt, worker, node) in self._runs.states for node in self._nodes)

    # ---- the launcher ----------------------------------------------------------------------------------------------

    def _on_exit(self, record: RunRecord) -> None:
        with contextlib.suppress(ValueError):  # a run of another version's agent: nobody here asks for it
            self._do_all(self._runs.exited(key_from_text(record.key), record))

    def _agree(self, table: LauncherTable) -> None:
        """With the launcher, on what runs. Nothing waits here: what the ended have left is read afterwards."""
        known: list[KnownRun] = []
        for record in table.runs:
            try:
                key = key_from_text(record.key)
            except ValueError:
                continue  # as in _on_exit
            try:
                context = RunContext.from_tag(record.tag)
            except ValueError:
                context = None
            details = self._details.setdefault(key, Details())
            details.context = details.context or context
            known.append(KnownRun(key, record, *((context.address, context.master_port) if context else ())))
        self._do_all(self._runs.agree(table.epoch, known, self._now_s()), *(each.key for each in known))

    # ---- watching --------------------------------------------------------------------------------------------------

    def _context_of(self, key: RunKey) -> RunContext | None:
        details = self._details.get(key)
        return None if details is None else details.context

    def _end_run(self, key: RunKey, reason: str) -> None:
        """A replica that does not become ready, or does not answer any more."""
        details = self._details.get(key)
        if details is None:
            return
        if not details.ended_for:
            log.warning("%s is ended: %s", key, reason)
            details.ended_for = reason
        self._spawn(self._orders.signal(SignalRun(key, signal.SIGKILL, self._runs.epoch)))
