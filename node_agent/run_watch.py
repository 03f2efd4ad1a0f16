"""Who looks after runs that are expected to say something: replicas that are to become ready and to stay well, and runs
that are to acknowledge a checkpoint.

Files are looked at when the kernel tells of a change in the run's directory (notices.py), and now and then besides.
Ports are asked at their interval, each by a task of its own, so that a slow answer holds nobody else up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from node_agent import attempts
from node_agent.execution.logs import RunPaths, paths_of
from node_agent.execution.order import RunContext, key_text
from node_agent.execution.published_sockets import CannotPublish, PublishedSockets
from node_agent.messages import RunKey
from node_agent.notices import DirectoryNotices
from node_agent.regular_files import is_regular
from node_agent.watching import Liveness, Ready, address_of, ask, probe_ready, said_ready

WATCH_S = 0.05  # where the kernel does not tell of changes; and how often a port is tried that nothing is said of
TOLD_WATCH_S = 0.5
SOCKETS = "sockets"

log = logging.getLogger(__name__)


class RunWatch:
    """`states` and `context_of` are the host's. `feed` takes what was seen; `end` ends a run, for a reason (a sentence
    without a full stop). Call `after_step` after each step of a run's machine."""

    def __init__(
        self,
        state_dir: Path,
        states: Mapping[RunKey, attempts.RunState],
        context_of: Callable[[RunKey], RunContext | None],
        feed: Callable[[RunKey, attempts.Input], None],
        end: Callable[[RunKey, str], None],
    ) -> None:
        self._state_dir = state_dir
        self._states = states
        self._context_of = context_of
        self._feed = feed
        self._end = end
        self._notices: DirectoryNotices | None = None
        self._sockets = PublishedSockets(state_dir / SOCKETS)
        self._looking: asyncio.Task[None] | None = None
        self._asking: dict[RunKey, asyncio.Task[None]] = {}
        self._complaints: dict[RunKey, str] = {}
        self._since_s: dict[RunKey, float] = {}  # since when it is expected to become ready
        self._published: set[RunKey] = set()

    # ---- what the host says ----------------------------------------------------------------------------------------

    def after_step(self, key: RunKey) -> None:
        state = self._states.get(key)
        if not isinstance(state, attempts.Live):
            self.drop(key)
            return
        if self._awaits_file(key) and self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="watch for ready and acknowledged runs")
            self._looking.add_done_callback(tell_failure)
        context = self._context_of(key)
        if context is None or not context.serves or key in self._asking:
            return
        if state.ready is None and not context.model and context.port is not None and state.stop is None:
            self._ask_on(key, self._until_ready(key, context))
        elif state.ready is not None and state.stop is None and context.liveness is not None and not context.model:
            self._ask_on(key, self._while_alive(key, context))

    def drop(self, key: RunKey) -> None:
        asking = self._asking.pop(key, None)
        if asking is not None and asking is not asyncio.current_task():
            asking.cancel()
        self._complaints.pop(key, None)
        self._since_s.pop(key, None)
        if key in self._published:
            self._published.discard(key)
            self._sockets.withdraw(key_text(key))
        if self._notices is not None:
            self._notices.unwatch(paths_of(self._state_dir, key).directory)

    async def close(self) -> None:
        tasks = [*self._asking.values(), *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._notices is not None:
            self._notices.close()

    # ---- files -----------------------------------------------------------------------------------------------------

    def _awaits_file(self, key: RunKey) -> bool:
        state = self._states.get(key)
        if attempts.awaits_ack(state):
            return True
        context = self._context_of(key)
        return context is not None and context.serves and isinstance(state, attempts.Live) and state.ready is None

    async def _look(self) -> None:
        try:
            if self._notices is None:
                self._notices = DirectoryNotices()
            notices = self._notices
            while watched := [key for key in self._states if self._awaits_file(key)]:
                notices.changed.clear()
                told = True
                for key in watched:
                    directory = paths_of(self._state_dir, key).directory
                    told = notices.watch(directory) and told
                    self._look_once(key)
                    if not self._awaits_file(key):
                        notices.unwatch(directory)
                try:
                    async with asyncio.timeout(TOLD_WATCH_S if told else WATCH_S):
                        await notices.changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._looking = None

    def _look_once(self, key: RunKey) -> None:
        """Reads a small file of the node's own disk, and waits for nothing else."""
        paths, context = paths_of(self._state_dir, key), self._context_of(key)
        if attempts.awaits_ack(self._states.get(key)):
            if is_regular(paths.checkpoint_ack):
                self._feed(key, attempts.AckSeen())
            return
        if context is None:
            return
        ready, complaint = said_ready(context, paths)
        self._complain(key, complaint)
        if ready is not None:
            self._is_ready(key, ready, paths)
        elif context.readiness is not None:
            self._end_if_late(key, context, complaint)

    def _is_ready(self, key: RunKey, ready: Ready, paths: RunPaths) -> None:
        unix_path = None
        if ready.socket is not None:
            try:
                unix_path = str(self._sockets.publish(key_text(key), ready.socket))
                self._published.add(key)
            except CannotPublish as error:
                self._complain(key, str(error))
        self._feed(key, attempts.ReadySeen(ready.address, unix_path))

    def _complain(self, key: RunKey, complaint: str) -> None:
        if complaint and complaint != self._complaints.get(key):
            log.warning("%s: %s", key, complaint)
        self._complaints[key] = complaint

    # ---- ports -----------------------------------------------------------------------------------------------------

    def _ask_on(self, key: RunKey, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"ask {key.job_id}/{key.worker} how it is")
        self._asking[key] = task
        task.add_done_callback(lambda done: self._asked(key, done))

    def _asked(self, key: RunKey, task: asyncio.Task[None]) -> None:
        tell_failure(task)
        if self._asking.get(key) is task:
            del self._asking[key]
            self.after_step(key)  # it was asked whether it is ready, and is now asked whether it lives

    def _awaits_ready(self, key: RunKey) -> bool:
        state = self._states.get(key)
        return isinstance(state, attempts.Live) and state.ready is None and state.stop is None

    async def _until_ready(self, key: RunKey, context: RunContext) -> None:
        interval_s = WATCH_S if context.readiness is None else context.readiness.interval_s
        while self._awaits_ready(key):
            complaint = await probe_ready(context)
            if not self._awaits_ready(key):
                return
            if not complaint:
                assert context.port is not None
                self._feed(key, attempts.ReadySeen(address_of(context.address, context.port)))
                return
            if context.readiness is not None:
                if context.readiness.path is not None:
                    self._complain(key, complaint)
                self._end_if_late(key, context, complaint)
            await asyncio.sleep(interval_s)

    def _end_if_late(self, key: RunKey, context: RunContext, complaint: str) -> None:
        assert context.readiness is not None
        now_s = asyncio.get_running_loop().time()
        since_s = self._since_s.setdefault(key, now_s)
        if now_s - since_s >= context.readiness.timeout_s and self._awaits_ready(key):
            self._since_s[key] = now_s + context.readiness.timeout_s  # not at every look
            said = f"it was not ready within {context.readiness.timeout_s:g} s"
            self._end(key, f"{said}: {complaint}" if complaint else said)

    async def _while_alive(self, key: RunKey, context: RunContext) -> None:
        assert context.liveness is not None
        assert context.port is not None
        alive = Liveness(context.liveness)
        while True:
            await asyncio.sleep(alive.probe.interval_s)
            state = self._states.get(key)
            if not isinstance(state, attempts.Live) or state.stop is not None:
                return
            wrong = await ask(context.address, context.port, alive.probe, alive.probe.timeout_s)
            reason = alive.heard(wrong)
            if reason:
                self._end(key, reason)
                return


def tell_failure(task: asyncio.Task[None]) -> None:
    """A task of the agent's that fails is a bug, and must not fail in silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=error)
