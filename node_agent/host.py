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
import os
import re
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

from node_agent import attempts
from node_agent.devices.simulated import SimulatedSpec
from node_agent.event_log import EventLog
from node_agent.execution.checks import Fault, Startable, check
from node_agent.execution.environment import RunFacts, checkpoint_dir
from node_agent.execution.logs import paths_of, read_chunk, run_paths
from node_agent.execution.order import RunContext, key_from_text, key_text, launch_order
from node_agent.execution.ports import free_port
from node_agent.launcher.client import PACKAGE_ROOT, LauncherClient, LauncherGone, LauncherRefused, start_launcher
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
from node_agent.outcome import exit_facts
from node_agent.watching import ready_address

WATCH_S = 0.05
RESTART_PAUSE_S = 1.0
CONNECT_TIMEOUT_S = 20.0
SHUTDOWN_TIMEOUT_S = 8.0
SETTLE_S = 2.0


class StaleEpoch(Exception):
    """The caller's epoch is over: a newer service commands this agent. The caller must stop commanding."""


__all__ = ["AgentConfig", "AgentHost", "NodeConfig", "SimulatedSpec", "StaleEpoch"]


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """`state_dir` keeps logs and the journal; `runtime_dir` keeps the socket, is private and has a short path.

    Each host has directories of its own. Both empty: `with_directories` takes them from the agent's environment.
    """

    host_name: str
    nodes: tuple[NodeConfig, ...]
    state_dir: Path | str
    runtime_dir: Path | str
    lease_s: float = 60.0


STATE_VARIABLE = "SUANLI_NODE_STATE"
RUNTIME_VARIABLE = "SUANLI_NODE_RUNTIME"


def with_directories(config: AgentConfig, environ: Mapping[str, str]) -> AgentConfig:
    """Fill in directories that are the node's own business. Raises RuntimeError when the node does not say."""
    if config.state_dir and config.runtime_dir:
        return config
    missing = [name for name in (STATE_VARIABLE, RUNTIME_VARIABLE) if not environ.get(name)]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} not set on this node; start it with `suanli up` or `node join`")
    own = re.sub(r"[^A-Za-z0-9._-]", "_", config.host_name).lstrip(".") or "node"
    state_dir, runtime_dir = Path(environ[STATE_VARIABLE]) / own, Path(environ[RUNTIME_VARIABLE]) / own
    return replace(config, state_dir=state_dir, runtime_dir=runtime_dir)


@dataclass(slots=True)
class Tracked:
    """A run: its state, and what was found out for its launch."""

    state: attempts.RunState
    context: RunContext | None = None
    what: Startable | None = None
    timer: asyncio.TimerHandle | None = None


class AgentHost:
    """`await start()` first; `close()` leaves launcher and runs alive, `shutdown()` ends them."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._state_dir = Path(config.state_dir)
        self._runtime_dir = Path(config.runtime_dir)
        self._nodes: dict[str, NodeAgent] = {}
        self._runs: dict[RunKey, Tracked] = {}
        self._log = EventLog()
        self._epoch = 0
        self._lease_s = config.lease_s
        self._launcher_paths = launcher_paths(self._runtime_dir / SOCKET_NAME)
        self._launcher: LauncherClient | None = None
        self._launcher_pid = 0
        self._connected = asyncio.Event()
        self._trouble = ""
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._promised_ports: dict[RunKey, tuple[int, ...]] = {}

    # ---- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the device sources, and find or start the launcher. Raises when either cannot be had."""
        await asyncio.to_thread(self._make_directories)
        for config in self._config.nodes:
            self._nodes[config.name] = await asyncio.to_thread(NodeAgent, config)
        await self._connect()

    def _make_directories(self) -> None:
        self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(self._runtime_dir)

    async def shutdown(self) -> None:
        """End all runs (SIGTERM, SIGKILL after 2 s), stop the launcher, and wait until it is gone."""
        self._closing = True
        await self._settle()
        with contextlib.suppress(OSError, ValueError, KeyError):  # no pid file: no launcher
            noted = json.loads(self._launcher_paths.pid.read_text())
            await _end_process(int(noted["pid"]), int(noted["start_ticks"]))
        await self.close()

    async def close(self) -> None:
        """Let go of everything; launcher and runs live on."""
        self._closing = True
        await self._settle()
        if self._launcher is not None:
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
        """Who is here, and what runs. A service that says hello lives: the lease begins anew. Raises StaleEpoch."""
        if epoch < self._epoch:
            raise StaleEpoch(f"epoch {epoch} is over: epoch {self._epoch} commands this agent")
        self._epoch = epoch
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connected.wait(), CONNECT_TIMEOUT_S)
        for node in self._nodes.values():
            if not node.simulated:
                await asyncio.to_thread(node.refresh)
        await self._renew(epoch, self._lease_s)
        return AgentHello(
            incarnation=self._log.incarnation,
            pid=os.getpid(),
            launcher_pid=self._launcher_pid,
            nodes=tuple(node.report(self._trouble) for node in self._nodes.values()),
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
                    self._lease_s = command.lease_s
                    self._spawn(self._renew(command.epoch, command.lease_s))
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
        state, outputs = attempts.step(event, before, time.time())
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
            wait_s = max(0.0, deadline_s - time.time())
            tracked.timer = asyncio.get_running_loop().call_later(wait_s, self._feed, key, attempts.Tick())
        if isinstance(before, attempts.Live) != isinstance(state, attempts.Live):
            self._mark_busy(key.node)
        if isinstance(state, attempts.Ended):
            self._promised_ports.pop(key, None)
        if self._needs_watch(tracked) and self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="watch for ready and acknowledged runs")

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
                self._promised_ports.pop(key, None)
                self._spawn(self._forget(key))
            case _:
                assert_never(output)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _mark_busy(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None or not node.simulated:
            return
        live = [t for k, t in self._runs.items() if k.node == name and isinstance(t.state, attempts.Live)]
        node.set_busy({index for tracked in live if tracked.context for index in tracked.context.devices})

    # ---- preparing and launching -----------------------------------------------------------------------------------

    async def _check(self, key: RunKey, spec: LaunchSpec) -> None:
        node = self._nodes.get(key.node)
        if node is None:
            self._feed(key, attempts.CheckFailed("node", f"this agent does not stand for node {key.node}"))
            return
        try:
            node.devices(spec.device_indices)
        except KeyError as error:
            self._feed(key, attempts.CheckFailed("resources", f"node {key.node} has no device {error}"))
            return
        try:
            found = await asyncio.to_thread(self._look, key, spec)
            if isinstance(found, Fault):
                self._feed(key, attempts.CheckFailed(found.field, found.detail))
                return
            ports = self._promise_ports(key, node.config.address, 2 if spec.serves else 1)
        except (OSError, LookupError, ValueError) as error:  # ValueError: a path that no file system can hold
            self._feed(key, attempts.CheckFailed("node", f"node {key.node} cannot prepare it: {error}"))
            return
        directory = checkpoint_dir(spec, key)
        tracked = self._runs.get(key)
        if tracked is None or not isinstance(tracked.state, attempts.Checking):  # stopped meanwhile
            self._promised_ports.pop(key, None)
            return
        tracked.what = found
        tracked.context = RunContext(
            address=node.config.address,
            master_port=ports[0],
            serves=spec.serves,
            model=spec.model_path is not None and spec.argv is None,
            port=ports[1] if spec.serves else None,
            checkpoint_dir=None if directory is None else str(directory),
            devices=spec.device_indices,
        )
        self._feed(key, attempts.CheckPassed(node.config.address, ports[0]))

    def _look(self, key: RunKey, spec: LaunchSpec) -> Startable | Fault:
        paths = paths_of(self._state_dir, key)
        paths.make()
        return check(spec, key, paths.directory, os.environ.get("PATH", os.defpath))

    def _promise_ports(self, key: RunKey, address: str, count: int) -> tuple[int, ...]:
        taken = {port for ports in self._promised_ports.values() for port in ports}
        ports: tuple[int, ...] = ()
        for _ in range(count):
            ports += (free_port(address, frozenset(taken | set(ports))),)
        self._promised_ports[key] = ports
        return ports

    async def _launch(self, key: RunKey, launch: attempts.Launch) -> None:
        tracked = self._runs[key]
        node, context, what = self._nodes[key.node], tracked.context, tracked.what
        assert context is not None, key
        assert what is not None, key
        devices = node.devices(context.devices)
        facts = RunFacts(
            devices=devices,
            visibility=node.visibility(devices),
            simulated=node.simulated,
            paths=paths_of(self._state_dir, key),
            master_addr=launch.master_addr,
            master_port=launch.master_port,
            port=context.port,
            address=context.address,
            python_path="" if not context.model or "site-packages" in PACKAGE_ROOT.parts else str(PACKAGE_ROOT),
        )
        order = launch_order(launch, key, what, context, facts, os.environ)
        try:
            record = await self._client().launch(self._epoch, order)
        except LauncherGone:
            return  # reconciling tells whether it was started, and asks again if not
        except LauncherRefused as error:
            self._note_epoch(key, error)
            self._feed(key, attempts.LaunchFailed(str(error)))
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
        facts = await exit_facts(record, paths_of(self._state_dir, key), directory)
        if attempts.awaits_ack(tracked.state) and paths_of(self._state_dir, key).checkpoint_ack.exists():
            self._feed(key, attempts.AckSeen())  # it saved and left before the next look
        self._feed(key, facts)

    # ---- the launcher ----------------------------------------------------------------------------------------------

    def _client(self) -> LauncherClient:
        if self._launcher is None:
            raise LauncherGone("the launcher is being restarted")
        return self._launcher

    async def _signal(self, key: RunKey, number: int) -> None:
        if number == signal.SIGUSR1:  # an acknowledgement from before it was asked for is none
            paths_of(self._state_dir, key).checkpoint_ack.unlink(missing_ok=True)
        with contextlib.suppress(LauncherGone):  # repeated when it is back
            try:
                await self._client().signal(self._epoch, key_text(key), number)
            except LauncherRefused as error:
                self._note_epoch(key, error)

    async def _renew(self, epoch: int, lease_s: float) -> None:
        with contextlib.suppress(LauncherGone):  # a new launcher begins with a lease, and the service renews again
            try:
                await self._client().renew(epoch, lease_s)
            except LauncherRefused as error:
                self._note_epoch(None, error)

    async def _forget(self, key: RunKey) -> None:
        with contextlib.suppress(LauncherGone):  # it is found again when reconciling, and its end told once more
            try:
                await self._client().forget(self._epoch, key_text(key))
            except LauncherRefused as error:
                self._note_epoch(key, error)

    def _note_epoch(self, key: RunKey | None, error: LauncherRefused) -> None:
        if error.kind == "stale_epoch":
            self._epoch = max(self._epoch, error.epoch)
            self._log.append(Refused(key, self._epoch))

    async def _connect(self) -> None:
        """To a living launcher, or to one started now; then agree on what runs."""
        paths = self._launcher_paths
        try:
            client = await LauncherClient.connect(paths, self._on_exit, self._on_lost)
        except OSError:
            journal, log = self._state_dir / "launcher.journal", self._state_dir / "launcher.log"
            await start_launcher(paths, journal, self._lease_s, log)
            client = await LauncherClient.connect(paths, self._on_exit, self._on_lost)
        table = await client.table()
        self._launcher, self._launcher_pid = client, table.pid
        self._epoch = max(self._epoch, table.epoch)
        await self._reconcile(table.runs)
        self._trouble = ""
        self._connected.set()

    def _on_exit(self, record: RunRecord) -> None:
        with contextlib.suppress(ValueError):  # a run of another version's agent: nobody here asks for it
            self._spawn(self._ended(key_from_text(record.key), record))

    def _on_lost(self) -> None:
        self._launcher = None
        self._connected.clear()
        if not self._closing:
            self._spawn(self._reconnect())

    async def _reconnect(self) -> None:
        while not self._closing:
            try:
                await self._connect()
                return
            except (OSError, RuntimeError, LauncherGone) as error:
                self._trouble = f"no job can be started here: {error}"
                await asyncio.sleep(RESTART_PAUSE_S)

    async def _reconcile(self, records: Sequence[RunRecord]) -> None:
        listed: dict[RunKey, RunRecord] = {}
        for record in records:
            with contextlib.suppress(ValueError):  # as in _on_exit
                listed[key_from_text(record.key)] = record
        for key, record in listed.items():
            if key in self._runs:
                self._take_record(key, record)
            else:
                await self._rebuild(key, record)
        for key, tracked in list(self._runs.items()):
            if isinstance(tracked.state, attempts.Launching) and key not in listed:
                self._spawn(self._launch(key, tracked.state.launch))
            elif isinstance(tracked.state, attempts.Live) and key not in listed:
                detail = "the launcher has no record of it any more"
                self._feed(key, attempts.ProcessExited(tracked.state.started.pid, "unknown", None, detail, time.time()))
            elif (number := attempts.last_signal(tracked.state)) is not None:
                self._spawn(self._signal(key, number))

    async def _rebuild(self, key: RunKey, record: RunRecord) -> None:
        """A run that an earlier agent started."""
        try:
            context = RunContext.from_tag(record.tag)
        except ValueError:
            context = None
        pid, started_s = record.pid or 0, record.started_s or time.time()
        prepared = Prepared(key, context.address if context else "", context.master_port if context else 0)
        self._runs[key] = Tracked(attempts.Live(key, prepared, Started(key, pid, started_s)), context)
        if record.exit is None:
            self._feed(key, attempts.Tick())
            self._mark_busy(key.node)
        elif record.exit.how == "never_started":
            exited = Exited(key, "never_started", None, None, record.exit.detail, record.exit.at_s)
            self._runs[key].state = attempts.Ended(key, exited)
            self._log.append(exited)
        else:
            await self._ended(key, record)

    # ---- watching for files and ports ------------------------------------------------------------------------------

    def _needs_watch(self, tracked: Tracked) -> bool:
        state = tracked.state
        if attempts.awaits_ack(state):
            return True
        serves = tracked.context is not None and tracked.context.serves
        return serves and isinstance(state, attempts.Live) and state.ready is None

    async def _watch(self) -> None:
        """Looks 20 times a second, and only while a run is expected to become ready or to acknowledge."""
        while watched := [(key, tracked) for key, tracked in self._runs.items() if self._needs_watch(tracked)]:
            await asyncio.gather(*(self._look_once(key, tracked) for key, tracked in watched))
            await asyncio.sleep(WATCH_S)
        self._watching = None

    async def _look_once(self, key: RunKey, tracked: Tracked) -> None:
        paths = paths_of(self._state_dir, key)
        if attempts.awaits_ack(tracked.state):
            if paths.checkpoint_ack.exists():
                self._feed(key, attempts.AckSeen())
        elif tracked.context is not None:
            address = await ready_address(tracked.context, paths)
            if address is not None and self._runs.get(key) is tracked:
                self._feed(key, attempts.ReadySeen(address))


async def _end_process(pid: int, ticks: int) -> None:
    """SIGTERM, and SIGKILL when that does not help in time. Returns when the process is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if start_ticks(pid) != ticks:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if await asyncio.to_thread(wait_gone, pid, ticks, SHUTDOWN_TIMEOUT_S):
            return
