"""The live engine: Ray tells which machines are there, one resident agent on each starts processes, events come back.

Threads: the service's loop calls `send` and `ack` from its own thread; everything that waits (membership, long polls,
readings) lives on one asyncio loop in a thread of this class. A command is one call to a living actor, made straight
from the caller's thread, so that a job's start does not wait for the loop.

An agent is named after its Ray node and detached: it outlives this process, and the next service finds it by its name.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from node_agent.agent_runs import StaleEpoch
from node_agent.config import AgentConfig
from node_agent.execution.logs import NoSuchLog
from node_agent.messages import AgentHello, Command, EventBatch, LogChunk
from scheduler.engine.agent_actors import find_or_start
from scheduler.engine.blocking_calls import BlockingCalls
from scheduler.engine.driver import RayDriver
from scheduler.engine.gathering import ReadingsGathering
from scheduler.engine.joining import LocalNodes, agents_of, is_ours
from scheduler.engine.lane import LaneBroken, LaneClient, open_lane
from scheduler.engine.link import AGENT_RETURN_S, AgentLink, poll_s
from scheduler.engine.readings_rounds import CALL_TIMEOUT_S, ReadingsRounds
from scheduler.errors import NotFound, Unavailable
from scheduler.ports import Clock, EngineEvent, Json, NodeDown, Readings

log = logging.getLogger(__name__)

MEMBERSHIP_PERIOD_S = 0.4
JOIN_PAUSE_S = 0.5
LEFT_WITHIN_S = 60.0
CALLS_END_WITHIN_S = 5.0
CLOSED_WITHIN_S = 3.0
COMPLAIN_EVERY_S = 60.0
"""Of an agent with whom the same is the matter time after time."""
POLL_LATE_S = 5.0
OTHER_VERSION = (
    "its agent speaks another version of Suanli than this service: run the same version on all machines, and take"
    " the site down and up, or let the node join again"
)


@dataclass(slots=True)
class _Agent:
    """One agent actor and what we know of it. Its link is touched under the lock, the rest by the event loop."""

    name: str
    ray_node_id: str
    config: AgentConfig
    link: AgentLink
    handle: Any = None
    lane: LaneClient | None = None
    acked_event: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class _Lost:
    """An agent whose Ray node is dead, since a while ago: its node may still say that it has left."""

    agent: _Agent
    since_s: float


class RayEngine:
    """Implements scheduler.ports.Engine on a Ray cluster in token mode."""

    def __init__(self, *, driver: RayDriver, nodes: LocalNodes, lease_s: float, clock: Clock) -> None:
        self._clock = clock
        self._driver = driver
        self._local = nodes
        self._lease_s = lease_s
        self._epoch = 0
        self._on_event: Callable[[EngineEvent], None] = lambda _event: None
        self._agents: dict[str, _Agent] = {}  # by agent name
        self._lost: dict[str, _Lost] = {}  # by agent name
        self._links: dict[str, AgentLink] = {}  # the newest link to each agent, also where it is lost
        self._by_node: dict[str, _Agent] = {}
        self._gathering = ReadingsGathering()
        self._rounds = ReadingsRounds(self._gathering, self._handles)
        self._loop = asyncio.new_event_loop()
        self._calls = BlockingCalls()  # of that loop
        self._lock = threading.Lock()  # the service's thread sends, the loop hears
        self._thread = threading.Thread(target=self._run_loop, name="engine", daemon=True)
        self._closing = threading.Event()

    # -- Engine ----------------------------------------------------------------------------------------------------

    def start(self, epoch: int, on_event: Callable[[EngineEvent], None]) -> None:
        self._epoch = epoch
        self._on_event = on_event
        self._thread.start()

    def send(self, node: str, commands: Sequence[Command]) -> None:
        agent = self._by_node.get(node)
        reference = None
        if agent is not None:
            with self._lock:
                handle, batch = agent.handle, agent.link.commands(commands, self._clock.now_s())
                if handle is not None and batch is not None:
                    lane = agent.lane
                    if lane is not None and lane.send(batch.session, batch.number, batch.commands):
                        return
                    reference = handle.perform.remote(batch.session, batch.number, batch.commands)
        if agent is None or reference is None:
            # Nothing is lost: the node's return is announced by NodeUp, and the service reconciles from its runs.
            log.info("node %s is away; %d commands wait for its return", node, len(commands))
            return
        self._loop.call_soon_threadsafe(self._watch, agent, reference)

    def ack(self, agent: str, seq: int) -> None:
        self._loop.call_soon_threadsafe(self._acked, agent, seq)

    def read_log(
        self, node: str, job_id: str, attempt: int, worker: int, stream: str, offset: int, limit: int
    ) -> LogChunk:
        agent = self._by_node.get(node)
        handle = None if agent is None else agent.handle  # once: the loop may take it away at any moment
        if handle is None:
            raise Unavailable(f"node {node} does not answer, so its logs cannot be read now; try again when it is back")
        try:
            chunk = ray.get(
                handle.read_log.remote(job_id, attempt, worker, stream, offset, limit),
                timeout=CALL_TIMEOUT_S,
            )
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, NoSuchLog):
                raise NotFound(
                    f"job {job_id} attempt {attempt} worker {worker} has no {stream} log on node {node}"
                ) from None
            raise Unavailable(f"node {node} could not read the log: {error.cause}") from None
        except ray.exceptions.RayError as error:
            raise Unavailable(f"node {node} did not answer ({type(error).__name__}); try again") from None
        assert isinstance(chunk, LogChunk)
        return chunk

    def readings(self) -> Readings:
        return self._gathering.store

    def agents(self) -> Sequence[Json]:
        return [
            {
                "node": agent.name,
                "pid": hello.pid,
                "launcher_pid": hello.launcher_pid,
                "nodes": list(agent.link.nodes),
            }
            for agent in list(self._agents.values())
            if (hello := agent.link.hello) is not None
        ]

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel_all)
            self._thread.join(timeout=CLOSED_WITHIN_S + 2.0)
        self._driver.disconnect()

    # -- the loop --------------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except asyncio.CancelledError:  # close() asked for it
            self._loop.run_until_complete(self._calls.ended(CLOSED_WITHIN_S))  # before it shuts the way into Ray
        except Exception:
            log.exception("the engine's loop ended; nodes are no longer heard")

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _main(self) -> None:
        readings = asyncio.create_task(self._rounds.run())
        try:
            await self._join(self._connected())
            while not self._closing.is_set():
                await self._follow_membership()
                log.warning("the raylet of this machine died; joining Ray again")
                await self._join(self._connected_again())
        finally:
            readings.cancel()
            self._gathering.close()

    async def _join(self, connected: Coroutine[Any, Any, None]) -> None:
        """Nodes whose agents are out of reach for long meanwhile count as down."""
        joining = asyncio.create_task(connected)
        try:
            await asyncio.wait({joining}, timeout=AGENT_RETURN_S)
            if not joining.done():
                for agent in list(self._agents.values()):
                    self._tell_lost(agent, "Ray on the head's machine is away")
            await joining
        finally:
            joining.cancel()

    async def _connected(self) -> None:
        """Try until it works: a service that hears no node must not look as if it did."""
        while not self._closing.is_set():
            try:
                await self._calls.call(self._driver.connect, self._closing)
                return
            except Exception as error:  # whatever Ray raises while its head is starting or gone
                log.error("cannot join Ray: %s: %s; trying again", type(error).__name__, error)
                await asyncio.sleep(JOIN_PAUSE_S)

    async def _connected_again(self) -> None:
        await self._let_go()
        await self._connected()

    async def _let_go(self) -> None:
        """Forget every way to an agent, and no agent: they are found by their names, or started again."""
        tasks = [agent.task for agent in self._agents.values() if agent.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for agent in self._agents.values():
            self._lose_ways(agent)
        if not await self._calls.ended(CALLS_END_WITHIN_S):
            log.warning("calls into Ray do not return; they are left behind")
        self._calls = BlockingCalls()
        await self._calls.call(self._driver.disconnect)

    async def _follow_membership(self) -> None:
        """Until the raylet is dead through which this process is joined."""
        while not self._closing.is_set():
            try:
                rows = await self._calls.call(self._driver.nodes)
                if not self._driver.is_in(rows):
                    return
                self._reconcile_membership(rows)
                await self._ask_who_left()
            except Exception as error:  # Ray raises what it likes here; membership must never end by itself
                log.warning("Ray's head does not answer: %s: %s", type(error).__name__, error)
            await asyncio.sleep(MEMBERSHIP_PERIOD_S)

    def _reconcile_membership(self, rows: list[dict[str, Any]]) -> None:
        alive = {row["NodeID"]: row for row in rows if row["Alive"] and is_ours(row.get("Labels", {}))}
        wanted: dict[str, tuple[str, AgentConfig]] = {}
        for node_id, row in alive.items():
            for config in agents_of(row["Labels"], row["NodeManagerAddress"], self._local, self._lease_s):
                wanted[config.host_name] = (node_id, config)
        for name, (node_id, config) in wanted.items():
            known = self._agents.get(name)
            if known is not None and known.ray_node_id == node_id and known.task is not None and not known.task.done():
                continue
            if known is not None and known.task is not None:
                known.task.cancel()
            # Until the new one is greeted, it answers for the nodes of the old: if it never is, they count as down.
            link = self._links[name] = AgentLink(name, self._links.get(name))
            agent = _Agent(name=name, ray_node_id=node_id, config=config, link=link)
            for node in link.nodes:
                self._by_node[node] = agent
            self._agents[name] = agent
            agent.task = asyncio.create_task(self._attend(agent), name=f"agent {name}")
            self._lost.pop(name, None)
        for name in set(self._agents) - set(wanted):
            lost = self._agents.pop(name)
            self._gathering.forget(name)
            self._lost[name] = _Lost(lost, self._clock.now_s())
            if lost.task is not None:
                lost.task.cancel()
            self._lose_ways(lost)
            self._tell_lost(lost, "its Ray node is dead or was taken away")

    async def _ask_who_left(self) -> None:
        """A node that is away may have left in good order, and says so when its last process has ended."""
        for name, lost in list(self._lost.items()):
            if await self._calls.call(self._driver.has_left, lost.agent.ray_node_id):
                with self._lock:
                    events = lost.agent.link.lose("it left the cluster", proof_of_death=True)
                self._tell(
                    [event for event in events if isinstance(event, NodeDown) and event.node not in self._by_node]
                )
            elif self._clock.now_s() < lost.since_s + LEFT_WITHIN_S:
                continue
            self._lost.pop(name, None)

    # -- one agent -------------------------------------------------------------------------------------------------

    async def _attend(self, agent: _Agent) -> None:
        """Find or start the agent, greet it, and hear its events, again and again until its Ray node is gone."""
        complained, complain_again_s = "", 0.0
        while not self._closing.is_set():
            try:
                await self._greet(agent)
                await self._hear(agent)
            except Exception as error:  # whatever it is, its nodes are to be heard again, or to count as down
                # Most pass by themselves. ValueError: the actor's name is taken by one that is just dying, or gone.
                stale = getattr(error, "cause", None)
                if isinstance(stale, StaleEpoch) and stale.epoch > self._epoch:
                    with self._lock:
                        told = agent.link.on_stale(stale.epoch)
                    self._tell(told)
                    return
                said = "its agent does not answer and could not be started again"
                detail = OTHER_VERSION if _is_of_another_version(error) else said
                own = stale if isinstance(stale, Exception) else error  # Ray's text begins with where it was raised
                first_line = next(iter(str(own).splitlines()), "")[:200]
                complaint = f"{type(own).__name__}: {first_line}; {detail}"
                if complaint != complained or self._clock.now_s() >= complain_again_s:
                    log.warning("agent %s: %s", agent.name, complaint)
                    complained, complain_again_s = complaint, self._clock.now_s() + COMPLAIN_EVERY_S
                self._lose_ways(agent)
                with self._lock:
                    told = agent.link.on_failure(self._clock.now_s(), detail)
                self._lose(agent, told)
                await asyncio.sleep(0.2)

    async def _greet(self, agent: _Agent) -> None:
        with self._lock:
            session = agent.link.greet(self._clock.now_s())
        handle = await self._calls.call(find_or_start, agent.config, agent.ray_node_id)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            hello: AgentHello = await handle.hello.remote(self._epoch, session)
        with self._lock:
            agent.handle = handle
            told = agent.link.on_hello(hello, self._clock.now_s())
        await self._open_lane(agent, hello)
        self._gathering.attend(agent.name, agent.link.nodes, hello.lane)
        for node in agent.link.nodes:
            self._by_node[node] = agent
        self._tell(told)

    async def _open_lane(self, agent: _Agent, hello: AgentHello) -> None:
        """To be there before the first command is decided. Where it cannot be had, Ray carries everything."""
        lane = agent.lane
        if lane is not None and lane.is_open and lane.offer == hello.lane:
            return
        self._close_lane(agent)
        if hello.lane is None:
            return
        try:
            agent.lane = await open_lane(hello.lane)
        except LaneBroken as error:
            where = f"{hello.lane.host}:{hello.lane.port}"
            log.warning("agent %s: no connection to %s (%s); Ray carries its commands", agent.name, where, error)

    def _close_lane(self, agent: _Agent) -> None:
        lane, agent.lane = agent.lane, None
        if lane is not None:
            lane.close()

    def _lose_ways(self, agent: _Agent) -> None:
        """To an agent that does not answer, or whose Ray is away."""
        with self._lock:
            agent.handle = None
        self._close_lane(agent)

    async def _poll(self, agent: _Agent, after_seq: int, wait_s: float) -> EventBatch:
        lane = agent.lane
        if lane is not None and lane.is_open:
            try:
                async with asyncio.timeout(wait_s + POLL_LATE_S):
                    return await lane.events(after_seq, wait_s)
            except LaneBroken:
                self._close_lane(agent)
        async with asyncio.timeout(wait_s + POLL_LATE_S):
            batch: EventBatch = await agent.handle.events.remote(after_seq, wait_s)
        return batch

    async def _hear(self, agent: _Agent) -> None:
        """Long polls, until the agent is to be greeted again."""
        wait_s = poll_s(self._lease_s)
        while True:
            with self._lock:
                after_seq = agent.link.poll(self._clock.now_s())
            batch = await self._poll(agent, after_seq, wait_s)
            with self._lock:
                told, greet_again = agent.link.on_batch(batch, self._clock.now_s())
            self._tell(told)
            if greet_again:
                log.info("agent %s is greeted again", agent.name)
                return
            while not agent.link.may_poll():
                agent.acked_event.clear()
                try:
                    async with asyncio.timeout(wait_s):
                        await agent.acked_event.wait()
                except TimeoutError:
                    break  # nothing can be committed now, and leases are renewed by the agent's clock: ask for that

    def _tell(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            self._on_event(event)

    def _acked(self, name: str, seq: int) -> None:
        agent = self._agents.get(name)
        if agent is not None:
            with self._lock:
                agent.link.on_ack(seq)
            agent.acked_event.set()

    def _watch(self, agent: _Agent, reference: Any) -> None:
        """See to it that a failed command is noticed; the long poll notices a dead agent by itself."""

        async def watch() -> None:
            try:
                await reference
            except ray.exceptions.RayError as error:
                log.warning("agent %s did not take a command: %s", agent.name, str(error).splitlines()[0][:200])

        task = asyncio.ensure_future(watch())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _lose(self, agent: _Agent, events: Sequence[EngineEvent]) -> None:
        """Of the nodes that it stood for, those that no other agent stands for by now are away."""
        for event in events:
            if isinstance(event, NodeDown) and self._by_node.get(event.node) is agent:
                del self._by_node[event.node]
                self._on_event(event)

    def _tell_lost(self, agent: _Agent, detail: str) -> None:
        with self._lock:
            events = agent.link.lose(detail)
        self._lose(agent, events)

    def _handles(self) -> dict[str, Any]:
        return {agent.name: agent.handle for agent in list(self._agents.values())}


def _is_of_another_version(error: Exception) -> bool:
    """Its methods take, or its answers hold, other things than this version's. Agents outlive the service that started
    them, so an upgrade may meet an older one."""
    return isinstance(error, TypeError | AttributeError) or isinstance(
        getattr(error, "cause", None), TypeError | AttributeError
    )
