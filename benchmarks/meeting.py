"""How does a worker hear when to start? One connection to the run's coordinator: JSON, a line a message.

    worker                                          coordinator (benchmarks.system.meeting_place)
    {"secret", "node"}                      ->
    {"armed": window, "cards": n}           ->
                                            <-      {"probe": i}        some twelve times, each answered with
    {"clock": seconds}                      ->                          the clock that the window will be timed by
                                            <-      {"start": {...}}    when all have armed
    {"over": window}                        ->      probes again, then {"clocks": {...}}
    {"raw": line}                           ->      raw batches, of which a result has no room for

The coordinator measures the clock, not the worker: the middle of the fastest exchange is taken to be the moment at
which the worker read its clock, and half of that exchange is what this may be wrong by (as NTP does it; RFC 5905, 8).
The worker then runs by the coordinator's time. Standard library only.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.protocol import Fault, Verdict
from benchmarks.starts import CorrectedClock, Start
from benchmarks.work import Clock

# `HOST:PORT:SECRET`, in the environment: a command line can be seen by everybody on the node.
VARIABLE = "BENCH_MEETING"
CONNECT_S = 10.0
LOOK_S = 0.2
MESSAGE_BYTES = 16 << 20


class MeetingFailed(Exception):
    """The coordinator cannot be reached, or went away. The message says what to do."""


class Meeting:
    """The worker's end; implements `starts.Starts`."""

    def __init__(self, told: str, node: str, clock: Clock, stop: Callable[[], bool] = lambda: False) -> None:
        host, port, secret = told.rsplit(":", 2)
        self._clock = clock
        self._stop = stop
        self._window = -1
        self._rest = b""
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
        except (OSError, ValueError) as error:
            raise MeetingFailed(
                f"the run's coordinator cannot be reached at {host}:{port} ({error}); name an address of it that nodes "
                "reach with --meet ADDRESS, or run with --meet none"
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(LOOK_S)
        self._say({"secret": secret, "node": node})

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], node: str, clock: Clock, stop: Callable[[], bool]
    ) -> Meeting | None:
        told = environment.get(VARIABLE)
        return cls(told, node, clock, stop) if told else None

    def agree(self, cards: int) -> Start:
        self._window += 1
        self._say({"armed": self._window, "cards": cards})
        return self._start(self._answer("start"))

    def over(self) -> Start | None:
        if self._stop():
            return None
        self._say({"over": self._window})
        return self._start(self._answer("clocks"))

    def send_raw(self, line: str) -> None:
        self._say({"raw": line})

    def close(self) -> None:
        self._socket.close()

    def _start(self, told: Mapping[str, Any]) -> Start:
        offset_s = float(told["offset_s"])
        refused = told.get("refused")
        return Start(
            clock=CorrectedClock(self._clock, offset_s),
            at_s=None if told.get("at_s") is None else float(told["at_s"]),
            ramp_at_s=None if told.get("ramp_at_s") is None else float(told["ramp_at_s"]),
            offset_s=offset_s,
            uncertainty_s=float(told["uncertainty_s"]),
            fault=None if refused is None else Fault(Verdict(refused["verdict"]), str(refused["detail"])),
        )

    def _answer(self, word: str) -> Mapping[str, Any]:
        """Answers probes until it comes."""
        while True:
            message = self._hear()
            if "probe" in message:
                self._say({"clock": self._clock.now_s()})
            elif word in message:
                return dict(message[word])

    def _hear(self) -> Mapping[str, Any]:
        while b"\n" not in self._rest:
            if self._stop():
                raise MeetingFailed("stopped before the shared start was announced")
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError as error:
                raise MeetingFailed(f"the connection to the run's coordinator broke: {error}") from error
            if not more:
                raise MeetingFailed("the run's coordinator ended before the window did")
            self._rest += more
        line, self._rest = self._rest.split(b"\n", 1)
        told = json.loads(line)
        if not isinstance(told, dict):
            raise MeetingFailed("the run's coordinator says what is not understood here")
        return told

    def _say(self, message: Mapping[str, Any]) -> None:
        self._socket.settimeout(CONNECT_S)
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise MeetingFailed(f"the connection to the run's coordinator broke: {error}") from error
        finally:
            self._socket.settimeout(LOOK_S)


def variable(host: str, port: int, secret: str) -> dict[str, str]:
    """What a worker's environment must hold."""
    return {VARIABLE: f"{host}:{port}:{secret}"}


def own_node() -> str:
    return os.environ.get("SUANLI_NODE") or socket.gethostname()
