"""How does the launcher hear? One thread over a selector: its socket, its children's ends, its deadlines.

Nothing is polled: SIGCHLD arrives as a byte on a wake-up socket, the end of an adopted process on its pidfd. Requests
are taken a few at a time, so that a burst of launches does not hold back the news of an exit.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from node_agent.clock import SteadyClock, boottime_s
from node_agent.launcher.cgroups import OsControlGroups
from node_agent.launcher.journal import Journal
from node_agent.launcher.os_journal import OsJournal
from node_agent.launcher.os_processes import OsProcesses
from node_agent.launcher.procfs import boot_id
from node_agent.launcher.records import BadRecord, Json, LaunchOrder, RunRecord
from node_agent.launcher.supervisor import Rejected, Supervisor
from node_agent.launcher.warm_pool import WarmPool

REQUESTS_A_TURN = 16
LINE_BYTES = 4 << 20
UNSENT_BYTES = 64 << 20
CONNECTIONS = 16
CLOSING_GRACE_S = 2.0
TROUBLE_PAUSE_S = 0.05
LEFTOVERS_LIMIT_S = 1.0
LEFTOVERS_PAUSE_S = 0.005
CLOSING_LIMIT_S = 5.0  # a process that even SIGKILL does not end (stuck in a driver) must not keep the launcher


class Connection:
    """One agent's connection: bytes in, whole requests waiting, bytes out."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.requests: collections.deque[bytes] = collections.deque()
        self.unsent = bytearray()

    def put(self, message: Json) -> None:
        self.unsent += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def take_lines(self) -> None:
        *lines, rest = self.received.split(b"\n")
        self.requests.extend(bytes(line) for line in lines if line)
        self.received = bytearray(rest)


class Server:
    """Runs until SIGTERM or SIGINT, and ends all runs before it returns."""

    def __init__(self, listener: socket.socket, journal_path: Path, lease_s: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._connections: dict[int, Connection] = {}
        self._close_by: float | None = None
        self._reap_again = False
        self._trouble = ""
        self._wake, wakeup = socket.socketpair()
        self._wake.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        # Handlers, never SIG_IGN: an ignored signal would stay ignored in every run.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _heard_by_wakeup)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_signal)
        self._groups = OsControlGroups.find(_group_name(listener), journal_path.with_suffix(".cgroups"), _say)
        self._pool = WarmPool(boottime_s, _say)
        self._supervisor = Supervisor(
            Journal(OsJournal(journal_path), boot_id=boot_id(), say=_say),
            OsProcesses(groups=self._groups, watch=self._watch, unwatch=self._unwatch, say=_say, pool=self._pool),
            lease_s=lease_s,
            boot_s=boottime_s,
            now_s=SteadyClock().now_s,
            on_exit=self._push_exit,
            say=_say,
        )

    # ---- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self._closed:
            for key, mask in self._selector.select(self._timeout_s()):
                self._survive(key.data, mask)
            if self._reap_again:
                self._reap_again = False
                self._survive(self._supervisor.reap)
            self._survive(self._serve)
            self._survive(self._supervisor.on_time)
            self._survive(self._pool.on_time)
            self._flush()
        self._survive(self._kill_leftovers)
        self._survive(self._groups.close)
        self._flush()

    def _kill_leftovers(self) -> None:
        until = boottime_s() + LEFTOVERS_LIMIT_S
        while not self._supervisor.kill_leftovers() and boottime_s() < until:
            time.sleep(LEFTOVERS_PAUSE_S)

    def _survive(self, work: Callable[..., None], *arguments: int) -> None:
        """The launcher is all that watches the runs: what the kernel denies it once, it says and tries again."""
        try:
            work(*arguments)
        except OSError as error:
            trouble = f"{getattr(work, '__qualname__', work)}: {error!r}"
            if trouble != self._trouble:
                _say(trouble)
                self._trouble = trouble
            self._reap_again = True  # the news of an end may have been lost with it
            time.sleep(TROUBLE_PAUSE_S)  # the cause may last: it must not keep a core busy

    @property
    def _closed(self) -> bool:
        return self._close_by is not None and (self._supervisor.empty or boottime_s() >= self._close_by)

    def _timeout_s(self) -> float | None:
        if self._reap_again or any(connection.requests for connection in self._connections.values()):
            return 0.0
        times = (self._supervisor.next_deadline(), self._pool.next_deadline(), self._close_by)
        deadlines = [at for at in times if at is not None]
        return max(0.0, min(deadlines) - boottime_s()) if deadlines else None

    def _on_signal(self, mask: int) -> None:
        try:
            numbers = set(self._wake.recv(4096))
        except BlockingIOError:
            return
        if numbers & {signal.SIGTERM, signal.SIGINT} and self._close_by is None:
            self._close_by = boottime_s() + CLOSING_LIMIT_S
            self._pool.close()
            self._supervisor.close_down(CLOSING_GRACE_S)
        self._supervisor.reap()

    def _watch(self, descriptor: int, ended: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, lambda mask: ended())

    def _unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    # ---- connections -----------------------------------------------------------------------------------------------

    def _accept(self, mask: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        if len(self._connections) >= CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(sock)
        self._connections[sock.fileno()] = connection
        self._selector.register(sock, selectors.EVENT_READ, lambda mask: self._on_ready(connection, mask))

    def _on_ready(self, connection: Connection, mask: int) -> None:
        if not mask & selectors.EVENT_READ:
            return  # writable: _flush does it
        try:
            data = connection.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        connection.take_lines()
        if len(connection.received) > LINE_BYTES:
            _say("a request was too long; its connection is closed")
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        descriptor = connection.sock.fileno()
        if self._connections.pop(descriptor, None) is not None:
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def _flush(self) -> None:
        for connection in list(self._connections.values()):
            if connection.unsent:
                try:
                    sent = connection.sock.send(connection.unsent)
                    del connection.unsent[:sent]
                except BlockingIOError:
                    pass
                except ConnectionError:
                    self._drop(connection)
                    continue
            if len(connection.unsent) > UNSENT_BYTES:
                self._drop(connection)  # it does not read; it will ask for the table when it is back
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
            key = self._selector.get_key(connection.sock)
            if key.events != wanted:
                self._selector.modify(connection.sock, wanted, key.data)

    def _push_exit(self, record: RunRecord) -> None:
        for connection in self._connections.values():
            connection.put({"push": "exit", "run": record.to_json()})

    # ---- requests --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Some waiting requests of each connection, in order; launches that stand together share one sync."""
        for connection in list(self._connections.values()):
            launches: list[tuple[Any, LaunchOrder]] = []
            for _ in range(min(REQUESTS_A_TURN, len(connection.requests))):
                number: Any = None
                try:
                    request = json.loads(connection.requests.popleft())
                    number = request.get("id")
                    if request.get("op") == "launch":
                        self._supervisor.check_epoch(_epoch(request))
                        launches.append((number, LaunchOrder.from_json(request.get("order") or {})))
                        continue
                    self._launch(connection, launches)
                    launches = []
                    connection.put({"id": number, "ok": True, **self._answer(request)})
                except Rejected as error:
                    self._reject(connection, number, error)
                except (ValueError, AttributeError, BadRecord) as error:
                    self._reject(connection, number, Rejected("bad_request", f"the launcher cannot read this: {error}"))
                except OSError as error:
                    self._reject(connection, number, Rejected("refused", f"the launcher's journal: {error}"))
            self._launch(connection, launches)

    def _launch(self, connection: Connection, launches: list[tuple[Any, LaunchOrder]]) -> None:
        if not launches:
            return
        try:
            answers = self._supervisor.launch([order for _, order in launches])
        except OSError as error:  # what was started is in the table, for which an agent asks when it comes back
            _say(f"launching: {error!r}; its connection is closed")
            self._drop(connection)
            return
        for (number, _), answer in zip(launches, answers, strict=True):
            if isinstance(answer, Rejected):
                self._reject(connection, number, answer)
            else:
                connection.put({"id": number, "ok": True, "run": answer.to_json()})

    def _reject(self, connection: Connection, number: Any, error: Rejected) -> None:
        answer = {"id": number, "ok": False, "kind": error.kind, "error": str(error), "epoch": self._supervisor.epoch}
        connection.put(answer)

    def _answer(self, request: Json) -> Json:
        supervisor = self._supervisor
        match request.get("op"):
            case "table":
                runs = [record.to_json() for record in supervisor.records()]
                limits = asdict(self._groups.limits)
                return {"pid": os.getpid(), "epoch": supervisor.epoch, "runs": runs, "limits": limits}
            case "signal":
                supervisor.check_epoch(_epoch(request))
                number = request.get("signal")
                if not isinstance(number, int) or number not in signal.valid_signals():
                    raise BadRecord(f"field 'signal' is {number!r}")
                ask = request.get("ask", number == signal.SIGUSR1)  # an older agent asks by that one alone
                return {"delivered": supervisor.send_signal(str(request.get("key")), number, ask=bool(ask))}
            case "renew":
                supervisor.check_epoch(_epoch(request))
                lease_s = _seconds(request, "lease_s")
                if lease_s <= 0:
                    raise BadRecord(f"field 'lease_s' is {lease_s:g}")
                supervisor.renew(lease_s, _seconds(request, "stamp_s"))
                return {}
            case "forget":
                supervisor.check_epoch(_epoch(request))
                supervisor.forget(str(request.get("key")))
                return {}
            case other:
                raise BadRecord(f"unknown op {other!r}")

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)
        signal.set_wakeup_fd(-1)
        with contextlib.suppress(OSError):  # the process is about to end
            self._wake.close()
            self._wakeup.close()
            self._listener.close()
        self._selector.close()


def _group_name(listener: socket.socket) -> str:
    """One launcher serves a socket, so its path tells launchers apart."""
    return "suanli-" + hashlib.sha256(os.fsencode(listener.getsockname())).hexdigest()[:16]


def _epoch(request: Json) -> int:
    epoch = request.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
        raise BadRecord(f"field 'epoch' is {epoch!r}")
    return epoch


def _seconds(request: Json, name: str) -> float:
    value = request.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise BadRecord(f"field {name!r} is {value!r}")
    return float(value)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _heard_by_wakeup(number: int, frame: FrameType | None) -> None:
    """The wake-up socket has the signal's number already; without a handler the default action would be taken."""
