"""`python -m tests.measure_top [PANE] [SECONDS]`: what `suanli top` costs on a large made-up site.

Not a test: figures of a machine, for docs/watching.md. The site (1,250 nodes of 8 devices, 10,000 jobs; answers made
beforehand) is served by a process of its own; the command runs on a terminal of 200 by 50. Printed: CPU time of the
command for each refresh, from a key's being written to the first octet of the answer on the screen, and memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from scheduler.cli.top.device_pane import FIELDS
from tests.fakes.device_site import device_site, large_site

SETTLES_S = 6.0
EVERY_S = 2.0
KEYS = 150


def serve(home: str, ready: str) -> None:
    with device_site(Path(home)) as site:
        large_site(site)
        for path in ("/v1/devices", "/v1/jobs", "/v1/services", "/v1/status"):
            size = site.freeze(path, {"fields": ",".join(FIELDS)} if path == "/v1/devices" else {})
            print(f"{path}: {size / 1e6:.1f} MB", flush=True)
        Path(ready).touch()
        signal.sigwait({signal.SIGTERM})


def measure(home: str, pane: str, seconds: float) -> None:
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    top = subprocess.Popen(
        [sys.executable, "-m", "scheduler.cli", "top", "--pane", pane, "--every", str(EVERY_S)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "SUANLI_HOME": home},
        start_new_session=True,
    )
    os.close(terminal)

    def read_for(wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            if select.select([screen], [], [], left_s)[0]:
                os.read(screen, 1 << 16)

    def cpu_s() -> float:
        fields = Path(f"/proc/{top.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    read_for(SETTLES_S)
    before_s = cpu_s()
    read_for(seconds)
    refresh_s = (cpu_s() - before_s) * EVERY_S / seconds
    pages = int(Path(f"/proc/{top.pid}/statm").read_text().split()[1])
    chance = random.Random(1)
    waits_s = []
    for number in range(KEYS):
        read_for(chance.uniform(0.02, 0.1))
        began_s = time.perf_counter()
        os.write(screen, b"\x1b[6~" if number % 3 == 0 else b"\x1b[B")
        select.select([screen], [], [], 5.0)
        waits_s.append(time.perf_counter() - began_s)
    os.write(screen, b"q")
    with contextlib.suppress(OSError):  # Linux's way of saying that the other side is closed
        while os.read(screen, 1 << 16):
            pass
    top.wait(10)
    waits_s.sort()
    median_ms, most_ms, longest_ms = (
        1e3 * each for each in (statistics.median(waits_s), waits_s[int(0.95 * KEYS)], waits_s[-1])
    )
    print(
        f"{pane}: {refresh_s:.3f} s CPU a refresh; key to screen {median_ms:.0f} ms in the median, 95% within "
        f"{most_ms:.0f} ms, longest {longest_ms:.0f} ms of {KEYS}; "
        f"{pages * os.sysconf('SC_PAGESIZE') / 2**20:.0f} MiB; exit code {top.returncode}"
    )


def main(pane: str = "devices", seconds: str = "20") -> None:
    with tempfile.TemporaryDirectory() as directory:
        home, ready = f"{directory}/home", Path(directory) / "ready"
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # inherited: the site waits for it
        site = multiprocessing.get_context("spawn").Process(target=serve, args=(home, str(ready)))
        site.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        try:
            while not ready.exists():
                assert site.is_alive(), "the site did not come up"
                time.sleep(0.1)
            measure(home, pane, float(seconds))
        finally:
            site.terminate()
            site.join(10)


if __name__ == "__main__":
    main(*sys.argv[1:])
