"""Interpreters that were started beforehand, and become replicas when an order comes that they fit.

Starting Python and importing what a model needs takes from a fifth of a second to some seconds; the rest of a start
takes milliseconds. So after a served model has been started here, one more interpreter is (after a while, for it takes
a core from the first), with the same environment but for what tells one run from another: whatever a library reads when
it is imported is as it would be. It has no order and is no run: it is not in the journal, and when its pipe to the
launcher closes, it ends. An order that fits none, or one that none takes up at once, is forked for as ever.

See node_agent/serving/warm.py for the other end. Only for runs of the launcher's own user.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node_agent.launcher.ports import Say
from node_agent.launcher.records import LaunchOrder

SERVES = ("-m", "node_agent.serving")
WARMS = "node_agent.serving.warm"
ROOM = "SUANLI_WARM_ROOM"
ROOM_BYTES = 1024
MARK = "SUANLI_RESULT_FILE"
INSTANCE = "SUANLI_INSTANCE"  # by which `suanli down` knows what belongs to its instance
KINDS = 2  # of environments, the last ones that served
BEGIN_AFTER_S = 1.5  # a start that follows at once should not have to share its core
# execution.rendezvous.NAMES, which the launcher does not load; a test holds them together.
MEETING = frozenset(
    (
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
        *("ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
        *("PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE", "PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_RDZV_ID"),
    )
)
TAKE_UP_S = 0.25
RETRY_AFTER_S = 60.0
UNUSED_FOR_S = 1800.0  # then it has been kept in vain


@dataclass(frozen=True, slots=True)
class Kind:
    """What a warm interpreter must have in common with an order."""

    program: str
    environment: tuple[tuple[str, str], ...]
    model: str

    @staticmethod
    def of(order: LaunchOrder) -> Kind | None:
        """None: no served model, or one of another user's."""
        if order.user is not None or order.argv[1:3] != SERVES or "--model" not in order.argv:
            return None
        shared = tuple(sorted((name, value) for name, value in order.env if not _of_one_run(name)))
        return Kind(order.argv[0], shared, order.argv[order.argv.index("--model") + 1])


def _of_one_run(name: str) -> bool:
    """What tells runs from one another is read when a device is opened or a group formed, not at an import."""
    if name == INSTANCE:
        return False
    return name in MEETING or name.startswith(("SUANLI_", "CUDA_MPS_")) or name.endswith("_VISIBLE_DEVICES")


@dataclass(slots=True)
class Warm:
    pid: int
    line: socket.socket
    until_s: float
    warm: bool = False  # it has said that it has imported all


class WarmPool:
    """`boot_s` reads the launcher's clock of deadlines. One warm interpreter a kind."""

    def __init__(self, boot_s: Callable[[], float], say: Say) -> None:
        self._boot_s = boot_s
        self._say = say
        self._kinds: dict[Kind, float | None] = {}  # newest last; when one is to be begun for it
        self._waiting: dict[Kind, Warm] = {}

    @property
    def pids(self) -> frozenset[int]:
        """Children that belong to no run."""
        return frozenset(each.pid for each in self._waiting.values())

    # ---- an order --------------------------------------------------------------------------------------------------

    def take(self, order: LaunchOrder, arrange: Callable[[int], tuple[int, int]]) -> int | None:
        """The pid of the one that has become the order's run; None: there is none. `arrange` puts it where the run is
        to be and gives its two logs, which are closed here."""
        kind = Kind.of(order)
        if kind is None:
            return None
        found = self._waiting.get(kind)
        if found is None:
            self._want(kind)
            return None
        try:
            found.warm = found.warm or _says(found.line, b"warm\n", 0.0)
            if not found.warm:
                return None  # it still imports: the next one has it
            del self._waiting[kind]
            self._want(kind)
            logs = arrange(found.pid)
            try:
                if self._hand_over(found.line, order, logs):
                    found.line.close()
                    return found.pid
                self._say(f"a warm interpreter did not take its order up within {TAKE_UP_S:g} s")
            finally:
                for log in logs:
                    os.close(log)
        except OSError as error:
            self._say(f"a warm interpreter did not take its order up: {error!r}")
        self._waiting.pop(kind, None)
        self._end(found)
        return None

    @staticmethod
    def _hand_over(line: socket.socket, order: LaunchOrder, logs: tuple[int, int]) -> bool:
        said = {"argv": list(order.argv), "env": dict(order.env), "cwd": order.cwd}
        data = json.dumps(said, separators=(",", ":")).encode() + b"\n"
        line.settimeout(TAKE_UP_S)
        sent = socket.send_fds(line, [data], list(logs))
        if sent < len(data):  # and not of nothing: who has all of it may have closed its end by now
            line.sendall(data[sent:])
        return _says(line, b"ready\n", TAKE_UP_S)

    # ---- beforehand ------------------------------------------------------------------------------------------------

    def _want(self, kind: Kind) -> None:
        self._kinds.pop(kind, None)
        self._kinds[kind] = self._boot_s() + BEGIN_AFTER_S
        while len(self._kinds) > KINDS:
            oldest = next(iter(self._kinds))
            del self._kinds[oldest]
            if (old := self._waiting.pop(oldest, None)) is not None:
                self._end(old)

    def next_deadline(self) -> float | None:
        times = [at_s for at_s in self._kinds.values() if at_s is not None]
        return min([*times, *(each.until_s for each in self._waiting.values())], default=None)

    def on_time(self) -> None:
        now = self._boot_s()
        for kind, at_s in list(self._kinds.items()):
            if at_s is not None and now >= at_s:
                self._kinds[kind] = None
                if kind not in self._waiting:
                    self._begin(kind)
        for kind, each in list(self._waiting.items()):
            if now >= each.until_s:
                del self._waiting[kind]
                self._kinds.pop(kind, None)
                self._end(each)

    def _begin(self, kind: Kind) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                environment: Mapping[str, str] = dict(kind.environment) | {ROOM: "x" * ROOM_BYTES}
                child = subprocess.Popen(
                    [kind.program, "-m", WARMS, "--model", kind.model],
                    cwd="/",
                    env=environment,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    close_fds=True,
                )
        except OSError as error:
            ours.close()
            self._say(f"no warm interpreter could be started: {error}")
            self._kinds[kind] = self._boot_s() + RETRY_AFTER_S
            return
        child.returncode = 0  # the launcher reaps children by pid
        self._waiting[kind] = Warm(child.pid, ours, self._boot_s() + UNUSED_FOR_S)

    # ---- ends ------------------------------------------------------------------------------------------------------

    def ended(self, pid: int) -> None:
        """A child has ended. One that ends by itself is begun again, after a while."""
        for kind, each in list(self._waiting.items()):
            if each.pid == pid:
                each.line.close()
                del self._waiting[kind]
                if kind in self._kinds:
                    self._kinds[kind] = self._boot_s() + RETRY_AFTER_S

    def close(self) -> None:
        self._kinds.clear()
        for each in self._waiting.values():
            self._end(each)
        self._waiting.clear()

    @staticmethod
    def _end(warm: Warm) -> None:
        warm.line.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(warm.pid, signal.SIGKILL)  # not reaped yet, so the pid is its own


def _says(line: socket.socket, expected: bytes, timeout_s: float) -> bool:
    """Whether it has said so by now, or says so in time."""
    if not select.select([line], [], [], timeout_s)[0]:
        return False
    return line.recv(len(expected)) == expected
