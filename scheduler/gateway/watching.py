"""Which replicas are dead? Said by broken connections at once, found by asking where one has fallen silent.

- A connection that broke, idle or not, or that could not be made: the replica is asked (`probe`) and gets nothing new
  where another could have it until it has answered.
- One that has requests and has not answered for `SILENT_TIMES` the usual time is asked as well (a stopped process, a
  host that vanished: connections to it look well). It is `silent` if the probe is not answered either.
- To hear of an end at once there is always an open idle connection to each replica.

A replica that is out is asked again and again, and is back with its first answer, to a probe or to a request. Any HTTP
answer to GET /-/ready is one, a 404 as well: life is asked for, not health.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine

from scheduler.gateway.replica_state import ReplicaState
from scheduler.gateway.routing import Version
from scheduler.gateway.upstream import UpstreamFailed

SILENT_TIMES = 4.0
SHORTEST_SILENCE_S = 0.05
LONGEST_SILENCE_S = 1.0  # also where nothing is known of the usual time
PROBE_TIMEOUT_S = 0.1
LONGEST_PROBE_S = 1.0  # of a replica that is out: a slow answer is one too
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
REOPEN_S = 0.25  # an idle connection that the replica closes is opened anew, but not more often
log = logging.getLogger(__name__)


class ReplicaWatch:
    """One for all services of a gateway. Call `look` some fifty times a second while requests are in flight."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def appeared(self, version: Version, state: ReplicaState) -> None:
        """Open the connection that is watched."""
        self._start(self._open(version, state))

    def suspect(self, version: Version, state: ReplicaState) -> None:
        """A connection to it broke."""
        self._probe(version, state, "its connection broke", at_once=True)

    def idle_lost(self, version: Version, state: ReplicaState) -> None:
        """It closed an idle connection, as servers do after some seconds, or it is dead."""
        if not state.probing:
            self._start(self._reopen(version, state))

    def look(self, version: Version, now_s: float) -> None:
        """Ask those that have fallen silent."""
        usual_s = max(version.queue.likely_s(lower_class=True), version.queue.likely_s(lower_class=False))
        silent_s = (
            min(LONGEST_SILENCE_S, max(SHORTEST_SILENCE_S, SILENT_TIMES * usual_s)) if usual_s else (LONGEST_SILENCE_S)
        )
        if usual_s > LONGEST_SILENCE_S:
            silent_s = SILENT_TIMES * usual_s
        for state in version.replicas:
            if (
                state.outstanding
                and not state.probing
                and now_s - max(state.progress_s, state.probe_after_s) > silent_s
            ):
                self._probe(version, state, "it is silent", at_once=False)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    # ---- asking --------------------------------------------------------------------------------------------------

    def _probe(self, version: Version, state: ReplicaState, why: str, *, at_once: bool) -> None:
        if at_once:
            _set_out(version, state, why)
        if not state.probing and not state.pool.closed:
            state.probing = True
            self._start(self._ask_until_it_answers(version, state, why))

    async def _ask_until_it_answers(self, version: Version, state: ReplicaState, why: str) -> None:
        pause_s, timeout_s = FIRST_PAUSE_S, PROBE_TIMEOUT_S
        try:
            while not state.pool.closed:
                if await probe(state, timeout_s):
                    _set_out(version, state, None)
                    state.probe_after_s = time.monotonic()
                    return
                _set_out(version, state, why)
                await asyncio.sleep(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2.0 * pause_s)
                timeout_s = min(LONGEST_PROBE_S, 2.0 * timeout_s)
        finally:
            state.probing = False

    async def _open(self, version: Version, state: ReplicaState) -> None:
        try:
            state.pool.give_back(await state.pool.connect())
        except UpstreamFailed:
            self.suspect(version, state)

    async def _reopen(self, version: Version, state: ReplicaState) -> None:
        """The first try is at once: a dead process is known by it."""
        if state.pool.closed:
            return
        try:
            connection = await state.pool.connect()
        except UpstreamFailed:
            self.suspect(version, state)
            return
        await asyncio.sleep(REOPEN_S)
        state.pool.give_back(connection)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def probe(state: ReplicaState, timeout_s: float) -> bool:
    """Whether it answers at all, over a connection of its own."""
    request = b"GET /-/ready HTTP/1.1\r\n%b%d\r\n\r\n" % (state.request_tail, int(timeout_s * 1e3))
    try:
        async with asyncio.timeout(timeout_s):
            connection = await state.pool.connect()
            try:
                await connection.exchange(request, b"", without_body=False)
                while await connection.read():  # or it would come before the next request's answer
                    pass
            except BaseException:
                connection.close()
                raise
    except (UpstreamFailed, TimeoutError):
        return False
    state.pool.give_back(connection)
    return True


def _set_out(version: Version, state: ReplicaState, why: str | None) -> None:
    if state.out == why or (state.out is not None and why is not None):
        return
    state.out = why
    name = f"{version.service} {state.replica.job_id}/{state.replica.worker} at {state.replica.address}"
    if why is None:
        log.warning("replica %s answers again", name)
    else:
        log.warning("replica %s gets no requests: %s", name, why)
    version.sort_out(time.monotonic())
