"""A real launcher in a directory of its own, and a plain blocking client to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from node_agent.clock import boottime_s
from node_agent.launcher.paths import launcher_paths
from node_agent.launcher.records import ExitRecord, LaunchOrder, RunRecord
from tests.fakes.processes import eventually

ROOT = Path(__file__).parents[2]


class LauncherRig:
    """`start`, then `launch` and `ended`; `kill` and `start` again for a launcher that died."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths = launcher_paths(directory / "r" / "launcher.sock")
        self.journal = directory / "journal"
        self.process: subprocess.Popen[bytes] | None = None
        self.epoch = 1
        self._socket: socket.socket | None = None
        self._received = b""
        self._asked = 0
        self._ended: dict[str, ExitRecord] = {}

    # ---- the process -------------------------------------------------------------------------------------------------

    def command(self, lease_s: float = 60.0) -> list[str]:
        argv = [sys.executable, "-m", "node_agent.launcher", "--lease-s", str(lease_s)]
        return [*argv, "--socket", str(self.paths.socket), "--journal", str(self.journal)]

    def start(self, lease_s: float = 60.0) -> LauncherRig:
        self.process = subprocess.Popen(self.command(lease_s), cwd=ROOT, stdin=subprocess.DEVNULL)
        self.connect()
        return self

    def connect(self) -> None:
        def connected() -> socket.socket | None:
            assert self.process is None or self.process.poll() is None, "the launcher ended at once"
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.paths.socket))
            except OSError:
                sock.close()
                return None
            return sock

        self.disconnect()
        self._socket = eventually(connected, "a listening launcher")
        self._socket.settimeout(15.0)

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._received = None, b""

    def kill(self) -> None:
        """As an accident would: without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(15.0)
        self.process = None
        self.disconnect()
        return code

    def close(self) -> None:
        if self.process is not None:
            self.stop()
        self.disconnect()

    # ---- the language ------------------------------------------------------------------------------------------------

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The answer to one request; exits that are pushed meanwhile are kept."""
        assert self._socket is not None
        self._asked += 1
        request = {"id": self._asked, "op": op, "epoch": self.epoch, **fields}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self._next()
            if message.get("id") == self._asked:
                return message

    def _next(self) -> dict[str, Any]:
        assert self._socket is not None
        while b"\n" not in self._received:
            data = self._socket.recv(1 << 16)
            assert data, "the launcher closed the connection"
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if message.get("push") == "exit":
            record = RunRecord.from_json(message["run"])
            assert record.exit is not None
            assert record.key not in self._ended, "an exit is pushed once"
            self._ended[record.key] = record.exit
        return message

    def order(self, key: str, *argv: str, **changes: Any) -> LaunchOrder:
        """A shell script when there is one argument, else a command."""
        command = ("/bin/sh", "-c", *argv) if len(argv) == 1 else argv
        mine = {"PATH": os.environ["PATH"], "HERE": str(self.directory), "SUANLI_RESULT_FILE": self._result(key)}
        fields: dict[str, Any] = {
            "key": key,
            "argv": command,
            "env": tuple(mine.items()),
            "cwd": str(self.directory),
            "stdout": str(self.directory / f"{key}.out"),
            "stderr": str(self.directory / f"{key}.err"),
            "memory_bytes": 0,
            "grace_s": 1.0,
            "lease_bound": True,
            "tag": f"tag of {key}",
        }
        return LaunchOrder(**{**fields, **changes})

    def _result(self, key: str) -> str:
        return str(self.directory / f"{key}.result")

    def launch(self, key: str, *argv: str, **changes: Any) -> int:
        """The pid of the run."""
        answer = self.ask("launch", order=self.order(key, *argv, **changes).to_json())
        assert answer["ok"], answer
        return int(answer["run"]["pid"])

    def renew(self, lease_s: float, age_s: float = 0.0) -> dict[str, Any]:
        """As from a service that last heard this node's clock `age_s` ago."""
        return self.ask("renew", lease_s=lease_s, stamp_s=boottime_s() - age_s)

    def table(self) -> dict[str, RunRecord]:
        return {run["key"]: RunRecord.from_json(run) for run in self.ask("table")["runs"]}

    def ended(self, key: str) -> ExitRecord:
        """Wait for the run's end to be pushed."""
        while key not in self._ended:
            self._next()
        return self._ended[key]

    def outcome(self, key: str) -> tuple[str, int | None]:
        end = self.ended(key)
        return end.how, end.code
