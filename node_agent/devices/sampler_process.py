"""The sampler's process as its parent holds it: started, heard, looked at, and asked to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from select import select
from typing import Any

import node_agent
from node_agent.devices.quantities import Group
from node_agent.devices.sampler import BEAT_BYTES, LOOK, Beat

CHECKOUT = Path(next(iter(node_agent.__path__))).resolve().parent
# The process is given no other variable: least of all Ray's, or a proxy's password.
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TZ", "NVML_STUB", "SUANLI_VENDORS")
BOOT = "import sys; sys.path[:0] = {paths!r}; from node_agent.devices.sampler import main; sys.exit(main(sys.argv[1:]))"
LINE_BYTES = 4 << 20


class SamplerProcess:
    """One sampler. Whoever starts it hears it, on one thread; `ask` and `stuck_s` may be called from any."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        intervals_s: Mapping[Group, float],
        kernel_log: str,
        variables: Mapping[str, str],
    ) -> None:
        memory = os.memfd_create("suanli-sampler")
        try:
            os.ftruncate(memory, BEAT_BYTES)
            self._beat = Beat(memory)
            argv = [name, json.dumps(dict(options)), str(memory), json.dumps(dict(intervals_s)), kernel_log]
            packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
            kept = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
            self.process = subprocess.Popen(
                # -S: what a site hooks into every start of Python is not wanted here.
                [sys.executable, "-I", "-S", "-c", BOOT.format(paths=[str(CHECKOUT), *packages]), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**kept, **variables},
                pass_fds=(memory,),
                start_new_session=True,  # a signal to the agent's group is none to a process in a driver call
            )
        finally:
            os.close(memory)
        self.pid = self.process.pid
        self._started = time.monotonic()
        self._heard = self._started
        self._may_be_silent_s = 2 * min(intervals_s.values())
        self._spoken = False
        self._rest = b""
        self._errors = b""
        self._asking = threading.Lock()
        self.asked_to_end = False

    def lines(self, timeout_s: float) -> tuple[list[bytes], bool]:
        """Whole lines that have come, and whether its output has ended."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        readable, _, _ = select([out, err], [], [], timeout_s)
        if err in readable:
            more = os.read(err, 1 << 16)
            self._errors = (self._errors + more)[-2000:]
            if not more and out not in readable:
                time.sleep(0.01)  # its errors ended before its output
        if out not in readable:
            return [], False
        data = os.read(out, 1 << 16)
        self._heard, self._spoken = time.monotonic(), True
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines, not data or len(self._rest) > LINE_BYTES

    def stuck_s(self) -> float:
        """For how long a call has been on its way; or for how long it has been silent beyond its interval."""
        now = time.monotonic()
        since, _ = self._beat.seen()
        return now - since if since > 0 else max(0.0, now - self._heard - self._may_be_silent_s)

    def doing(self) -> str:
        since, doing = self._beat.seen()
        return doing if since > 0 else "the sampler says nothing" if self._spoken else "starting"

    def ask(self) -> bool:
        """For another look at the devices."""
        assert self.process.stdin is not None
        with self._asking:
            try:
                os.write(self.process.stdin.fileno(), LOOK)
            except (OSError, ValueError):
                return False
        return True

    def ask_to_end(self) -> None:
        assert self.process.stdin is not None
        self.asked_to_end = True
        with self._asking:
            try:
                self.process.stdin.close()
            except OSError:
                pass
        if self.process.poll() is None:
            self.process.terminate()

    def held_by_kernel(self) -> bool:
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return text.rpartition(")")[2].split()[:1] == ["D"]

    def said(self) -> str:
        """The last line of its errors: of an exception, what it is."""
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def let_go(self) -> None:
        self.ask_to_end()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
