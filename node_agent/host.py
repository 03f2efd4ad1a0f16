"""The agent without Ray: what the service says goes in, events come out, and the launcher does the work between.

One host stands for one node, or for several simulated ones, and has one launcher. It holds no fact of its own that
matters: after a crash it reads its runs from the launcher's table, and when the launcher dies it starts another one,
which finds the processes that still run.

All of it runs on one event loop. Whatever touches a file system that may hang, or a driver, does so on a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from node_agent import attempts
from node_agent.clock import SteadyClock, boottime_s
from node_agent.config import AgentConfig, with_directories
from node_agent.connection import LauncherConnection
from node_agent.devices.simulated import SimulatedSpec
from node_agent.event_log import EventLog
from node_agent.execution.logs import paths_of, read_chunk, run_paths
from node_agent.execution.order import RunContext, key_from_text, key_text
from node_agent.execution.slow_files import SlowFiles
from node_agent.launcher.client import LauncherGone, LauncherRefused, LauncherTable
from node_agent.launcher.paths import SOCKET_NAME, launcher_paths, make_private
from node_agent.launcher.procfs import start_ticks, wait_gone
from node_agent.launcher.records import RunRecord
from node_agent.messages import (
    AgentHello,
    Command,
    EventBatch,
    Exited,
    Forget,
    LaunchSpec,
    LogChunk,
    Prepare,
    Prepared,
    Refused,
    Release,
    RenewLease,
    RunKey,
    Started,
    Stop,
)
from node_agent.nodes import NodeAgent, NodeConfig, readings_json
from node_agent.outcome import exit_facts, what_else
from node_agent.preparing import Preparation, Preparing
from node_agent.regular_files import is_regular
from node_agent.watching import ready_address

WATCH_S = 0.05
CONNECT_TIMEOUT_S = 20.0
SHUTDOWN_TIMEOUT_S = 8.0
SETTLE_S = 2.0

log = logging.getLogger(__name__)


class StaleEpoch(Exception):
    """The caller's epoch is over: a newer service commands this agent. The caller must stop commanding."""


__all__ = ["AgentConfig", "AgentHost", "NodeConfig", "SimulatedSpec", "StaleEpoch", "with_directories"]


@dataclass(slots=True)
class Tracked:
    """A run: its state, and what was found out for its launch. `complaint` is about its ready file."""

    state: attempts.RunState
    context: RunContext | None = None
    prepared: Preparation | None = None
    timer: asyncio.TimerHandle | None = None
    complaint: str = ""


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
        self._runs: dict[RunKey, Tracked] = {}
        self._log = EventLog()
        self._epoch = 0
        self._slow = SlowFiles()
        self._preparing = Preparing(self._nodes, self._state_dir, self._slow)
        self._launcher_paths = launcher_paths(self._runtime_dir / SOCKET_NAME)
        self._launcher = LauncherConnection(
            self._launcher_paths, self._state_dir, config.lease_s, self._agree, self._on_exit
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

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
        except BaseException:
            await self.close()
            raise

    def _make_directories(self) -> None:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(self._runtime_dir)

    async def shutdown(self) -> None:
        """End all runs (SIGTERM, SIGKILL after 2 s), stop the launcher, and wait until it is gone."""
        await self._launcher.give_up(SETTLE_S)
        await self._settle()
        with contextlib.suppress(OSError, ValueError, KeyError):  # no pid file: no launcher
            noted = json.loads(self._launcher_paths.pid.read_text())
            await _end_process(int(noted["pid"]), int(noted["start_ticks"]))
        await self.close()

    async def close(self) -> None:
        """Let go of everything; launcher and runs live on."""
        await self._launcher.give_up(SETTLE_S)
        await self._settle()
        await self._launcher.close()
        if self._watching is not None:
            self._watching.cancel()
        for tracked in self._runs.values():
            if tracked.timer is not None:
                tracked.timer.cancel()
        await self._settle()
        for task in self._tasks:
            task.cancel()
        for node in self._nodes.values():
            node.close()

    async def _settle(self) -> None:
        """Let what was begun come to its end, within a bound."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while self._tasks and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)

    # ---- what the service asks -------------------------------------------------------------------------------------

    async def hello(self, epoch: int) -> AgentHello:
        """Who is here, and what runs. It renews no lease: only RenewLease does. Raises StaleEpoch."""
        if epoch < self._epoch:
            raise StaleEpoch(f"epoch {epoch} is over: epoch {self._epoch} commands this agent")
        self._epoch = epoch
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._launcher.connected.wait(), CONNECT_TIMEOUT_S)
        for node in self._nodes.values():
            if not node.simulated:
                await asyncio.to_thread(node.refresh)
        return AgentHello(
            incarnation=self._log.incarnation,
            pid=os.getpid(),
            launcher_pid=self._launcher.launcher_pid,
            nodes=tuple(node.report(self._launcher.trouble) for node in self._nodes.values()),
            runs=tuple(attempts.report(tracked.state) for tracked in self._runs.values()),
            last_seq=self._log.last_seq,
        )

    async def perform(self, commands: Sequence[Command]) -> None:
        """Take the commands, in order. What comes of them is told by events; this only waits for none of it."""
        for command in commands:
            if command.epoch < self._epoch:
                key = None if isinstance(command, RenewLease) else command.key
                self._log.append(Refused(key, self._epoch))
                continue
            self._epoch = command.epoch
            match command:
                case RenewLease():
                    self._launcher.lease_s = command.lease_s
                    self._spawn(self._renew(command))
                case Prepare() | Release() | Stop() | Forget():
                    self._feed(command.key, command)
                case _:
                    assert_never(command)

    async def events(self, after_seq: int, timeout_s: float) -> EventBatch:
        """Events after `after_seq`, which says that all before are committed. Waits up to `timeout_s` for one."""
        return await self._log.after(after_seq, timeout_s)

    async def read_log(self, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int) -> LogChunk:
        """Raises execution.logs.NoSuchLog."""
        paths = run_paths(self._state_dir, job_id, attempt, worker)
        known = (self._runs.get(RunKey(job_id, attempt, worker, node)) for node in self._nodes)
        states = [tracked.state for tracked in known if tracked is not None]
        over = all(isinstance(state, attempts.Ended | attempts.Rejected) for state in states)
        return await asyncio.to_thread(read_chunk, paths, stream, offset, limit, over=over)

    async def readings(self) -> dict[str, Any]:
        """By node, as JSON: {node: {uuid: {quantity: {"value", "unit", "at_s", "quality"} or {"unavailable"}}}}"""
        names = list(self._nodes)
        read = await asyncio.gather(*(self._nodes[name].readings() for name in names))
        return {name: readings_json(readings) for name, readings in zip(names, read, strict=True)}

    # ---- the machine -----------------------------------------------------------------------------------------------

    def _feed(self, key: RunKey, event: attempts.Input) -> None:
        """One step of a run's machine, and what it asks for."""
        tracked = self._runs.get(key)
        before = tracked.state if tracked is not None else None
        state, outputs = attempts.step(event, before, self._now_s())
        if state is not None:
            if tracked is None:
                tracked = self._runs[key] = Tracked(state)
            tracked.state = state
        for output in outputs:
            self._do(key, output)
        if tracked is None:
            return
        if tracked.timer is not None:
            tracked.timer.cancel()
            tracked.timer = None
        deadline_s = attempts.next_deadline_s(state)
        if deadline_s is not None:
            wait_s = max(0.0, deadline_s - self._now_s())
            tracked.timer = asyncio.get_running_loop().call_later(wait_s, self._feed, key, attempts.Tick())
        if isinstance(before, attempts.Live) != isinstance(state, attempts.Live):
            self._mark_busy(key.node)
        if isinstance(state, attempts.Ended):
            self._preparing.take_ports_back(key)
        if self._needs_watch(tracked) and self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="watch for ready and acknowledged runs")
            self._watching.add_done_callback(_tell_failure)

    def _do(self, key: RunKey, output: attempts.Output) -> None:
        match output:
            case attempts.Check():
                self._spawn(self._check(key, output.spec))
            case attempts.Launch():
                self._spawn(self._launch(key, output))
            case attempts.Signal():
                self._spawn(self._signal(key, output.number))
            case attempts.Emit():
                self._log.append(output.event)
            case attempts.Drop():
                tracked = self._runs.pop(key, None)
                if tracked is not None and tracked.timer is not None:
                    tracked.timer.cancel()
                    tracked.timer = None
                self._preparing.take_ports_back(key)
                self._spawn(self._forget(key))
            case _:
                assert_never(output)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_tell_failure)

    def _mark_busy(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or not node.simulated:
            return
        live = [t for k, t in self._runs.items() if k.node == name and isinstance(t.state, attempts.Live)]
        node.set_busy({index for tracked in live if tracked.context for index in tracked.context.devices})

    # ---- preparing and launching -----------------------------------------------------------------------------------

    async def _check(self, key: RunKey, spec: LaunchSpec) -> None:
        found = await self._preparing.prepare(key, spec)
        tracked = self._runs.get(key)
        if tracked is None or not isinstance(tracked.state, attempts.Checking):  # stopped meanwhile
            self._preparing.take_ports_back(key)
        elif isinstance(found, attempts.CheckFailed):
            self._feed(key, found)
        else:
            tracked.prepared, tracked.context = found, found.context
            self._feed(key, attempts.CheckPassed(found.context.address, found.context.master_port))

    async def _launch(self, key: RunKey, launch: attempts.Launch) -> None:
        tracked = self._runs[key]
        assert tracked.prepared is not None, key
        try:
            order = self._preparing.order(key, launch, tracked.prepared)
        except Exception as error:  # the launcher has heard nothing of it
            log.exception("launching %s", key)
            self._feed(key, attempts.LaunchFailed(f"node {key.node} could not start it: {error}"))
            return
        try:
            record = await self._launcher.client().launch(self._epoch, order)
        except LauncherGone:
            return  # reconciling tells whether it was started, and asks again if not
        except LauncherRefused as error:
            self._note_epoch(key, error)
            self._feed(key, attempts.LaunchFailed(str(error)))
            return
        except Exception as error:  # an answer that cannot be read: it may run, and must not run on unknown
            log.exception("launching %s", key)
            self._spawn(self._signal(key, signal.SIGKILL))
            detail = f"node {key.node} does not understand its launcher's answer: {error!r}"
            self._feed(key, attempts.ProcessExited(None, "unknown", None, detail, self._now_s()))
            return
        self._take_record(key, record)

    def _take_record(self, key: RunKey, record: RunRecord) -> None:
        """What the launcher knows of a run that this agent knows too."""
        if record.pid is not None and record.started_s is not None:
            self._feed(key, attempts.Launched(record.pid, record.started_s))
        if record.exit is not None:
            self._spawn(self._ended(key, record))

    async def _ended(self, key: RunKey, record: RunRecord) -> None:
        tracked = self._runs.get(key)
        if tracked is None or isinstance(tracked.state, attempts.Ended):
            return
        directory = tracked.context.checkpoint_dir if tracked.context else None
        paths = paths_of(self._state_dir, key)
        facts = await exit_facts(record, paths, directory, self._slow)
        if attempts.awaits_ack(tracked.state) and is_regular(paths.checkpoint_ack):
            self._feed(key, attempts.AckSeen())  # it saved and left before the next look
        self._feed(key, facts)

    # ---- the launcher ----------------------------------------------------------------------------------------------

    async def _signal(self, key: RunKey, number: int) -> None:
        if number == signal.SIGUSR1:  # an acknowledgement from before it was asked for is none
            with contextlib.suppress(OSError):  # not there; or a directory, which is no acknowledgement either
                paths_of(self._state_dir, key).checkpoint_ack.unlink()
        with contextlib.suppress(LauncherGone):  # repeated when it is back
            try:
                await self._launcher.client().signal(self._epoch, key_text(key), number)
            except LauncherRefused as error:
                self._note_epoch(key, error)

    async def _renew(self, command: RenewLease) -> None:
        stamp_s = boottime_s() if command.stamp_s is None else command.stamp_s
        with contextlib.suppress(LauncherGone):  # a new launcher begins with a lease, and the service renews again
            try:
                await self._launcher.client().renew(command.epoch, command.lease_s, stamp_s)
            except LauncherRefused as error:
                self._note_epoch(None, error)

    async def _forget(self, key: RunKey) -> None:
        with contextlib.suppress(LauncherGone):  # it is found again when reconciling, and its end told once more
            try:
                await self._launcher.client().forget(self._epoch, key_text(key))
            except LauncherRefused as error:
                self._note_epoch(key, error)

    def _note_epoch(self, key: RunKey | None, error: LauncherRefused) -> None:
        if error.kind == "stale_epoch":
            self._epoch = max(self._epoch, error.epoch)
            self._log.append(Refused(key, self._epoch))

    def _on_exit(self, record: RunRecord) -> None:
        with contextlib.suppress(ValueError):  # a run of another version's agent: nobody here asks for it
            self._spawn(self._ended(key_from_text(record.key), record))

    def _agree(self, table: LauncherTable) -> None:
        """With the launcher, on what runs. Nothing waits here: what the ended have left is read afterwards."""
        self._epoch = max(self._epoch, table.epoch)
        listed: dict[RunKey, RunRecord] = {}
        for record in table.runs:
            with contextlib.suppress(ValueError):  # as in _on_exit
                listed[key_from_text(record.key)] = record
        for key, record in listed.items():
            if key in self._runs:
                self._take_record(key, record)
            else:
                self._rebuild(key, record)
        for key, tracked in list(self._runs.items()):
            if isinstance(tracked.state, attempts.Launching) and key not in listed:
                self._spawn(self._launch(key, tracked.state.launch))
            elif isinstance(tracked.state, attempts.Live) and key not in listed:
                pid, detail = tracked.state.started.pid, "the launcher has no record of it any more"
                self._feed(key, attempts.ProcessExited(pid, "unknown", None, detail, self._now_s()))
            elif (number := attempts.last_signal(tracked.state)) is not None:
                self._spawn(self._signal(key, number))

    def _rebuild(self, key: RunKey, record: RunRecord) -> None:
        """A run that an earlier agent started."""
        try:
            context = RunContext.from_tag(record.tag)
        except ValueError:
            context = None
        end = record.exit
        if end is not None and record.pid is None and end.how in ("never_started", "exit"):
            exited = Exited(key, end.how, end.code, None, what_else(end, "", ""), end.at_s)
            self._runs[key] = Tracked(attempts.Ended(key, exited), context)
            self._log.append(exited)
            return
        pid, started_s = record.pid or 0, record.started_s or self._now_s()
        prepared = Prepared(key, context.address if context else "", context.master_port if context else 0)
        self._runs[key] = Tracked(attempts.Live(key, prepared, Started(key, pid, started_s)), context)
        self._mark_busy(key.node)
        if end is None:
            self._feed(key, attempts.Tick())
        else:
            self._spawn(self._ended(key, record))

    # ---- watching for files and ports ------------------------------------------------------------------------------

    def _needs_watch(self, tracked: Tracked) -> bool:
        state = tracked.state
        if attempts.awaits_ack(state):
            return True
        serves = tracked.context is not None and tracked.context.serves
        return serves and isinstance(state, attempts.Live) and state.ready is None

    async def _watch(self) -> None:
        """Looks 20 times a second, and only while a run is expected to become ready or to acknowledge."""
        try:
            while watched := [(key, tracked) for key, tracked in self._runs.items() if self._needs_watch(tracked)]:
                await asyncio.gather(*(self._look_once(key, tracked) for key, tracked in watched))
                await asyncio.sleep(WATCH_S)
        finally:
            self._watching = None

    async def _look_once(self, key: RunKey, tracked: Tracked) -> None:
        paths = paths_of(self._state_dir, key)
        if attempts.awaits_ack(tracked.state):
            if is_regular(paths.checkpoint_ack):
                self._feed(key, attempts.AckSeen())
        elif tracked.context is not None:
            address, complaint = await ready_address(tracked.context, paths)
            if complaint and complaint != tracked.complaint:
                log.warning("%s is not ready: %s", key, complaint)
            tracked.complaint = complaint
            if address is not None and self._runs.get(key) is tracked:
                self._feed(key, attempts.ReadySeen(address))


def _tell_failure(task: asyncio.Task[None]) -> None:
    """A task of the agent's that fails is a bug, and must not fail in silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=error)


async def _end_process(pid: int, ticks: int) -> None:
    """SIGTERM, and SIGKILL when that does not help in time. Returns when the process is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if start_ticks(pid) != ticks:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if await asyncio.to_thread(wait_gone, pid, ticks, SHUTDOWN_TIMEOUT_S):
            return
