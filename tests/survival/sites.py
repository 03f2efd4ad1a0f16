"""A site that is made to suffer: an instance, a second machine behind a cable that can be pulled, a small disk for the
store, and jobs that leave marks of what really ran.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scheduler.cli.client import Client
from scheduler.cli.instance import Home, ProcessId, pid_file_process, strays
from tests.integration.instances import ENDED, Instance, demand, eventually

WORKER = Path(__file__).with_name("worker.py")
SHORT_LEASE_S = 20.0
LONG_LEASE_S = 60.0
FAR = "far"
HERE = "this-machine"
SIMULATED = "simulated"
"""The agent of the simulated nodes."""


def is_root() -> bool:
    return os.geteuid() == 0


@dataclass(frozen=True)
class Mark:
    rank: int
    attempt: int
    pid: int
    text: str


class Site(Instance):
    """`lease`, the marks of its jobs, and a store on a disk of its own where that can be had (`store_disk`)."""

    def __init__(self, directory: Path, lease_s: float) -> None:
        self.lease_s = lease_s
        self.marks = directory / "marks"
        self.marks.mkdir(mode=0o777)
        self.store_disk = _small_disk(directory / "disk")
        store = (self.store_disk or directory / "home") / "store.db"
        ray = {"address": _own_address(), "port": 0, "object_store_memory": "100MB", "network": "lan"}
        super().__init__(directory, lease=f"{lease_s:g}s", store=f"sqlite:///{store}", ray=ray)
        self.store_file = store
        self._clock = _own_clock(directory)

    @property
    def environment(self) -> dict[str, str]:
        if self._clock is None:
            return super().environment
        library, offset = self._clock
        return super().environment | {"LD_PRELOAD": str(library), "SURVIVAL_CLOCK": str(offset)}

    def set_clock(self, ahead_s: float) -> bool:
        """The wall clock of all its processes, ahead of this machine's. False: it has none of its own."""
        if self._clock is None:
            return False
        with open(self._clock[1], "r+b", buffering=0) as file:
            file.write(struct.pack("d", ahead_s))
        return True

    def discard(self) -> None:
        if self.store_disk is not None:
            subprocess.run(["umount", "--lazy", str(self.store_disk)], check=False)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def client(self) -> Client:
        return Client.from_home(self.home.path)

    def spec(self, *told: str, **fields: Any) -> dict[str, Any]:
        return {
            "name": "survivor",
            "kind": "batch",
            "resources": demand(),
            "time_limit": "20m",
            "working_dir": str(self.directory),
            "command": [sys.executable, str(WORKER), str(self.marks), *told],
            **fields,
        }

    def post(self, *specs: dict[str, Any]) -> list[str]:
        """The jobs' ids: they are acknowledged."""
        return [str(job["id"]) for job in self.client().post("/v1/jobs", {"jobs": list(specs)})["jobs"]]

    def emptied(self) -> Site:
        """Whole, and without jobs: a test that failed has left nothing to the next one."""
        self.is_whole()
        self.cancel_all()
        return self

    def run(self, *told: str, **fields: Any) -> str:
        """A job that has really started, all workers of it."""
        (job_id,) = self.post(self.spec(*told, **fields))
        workers = fields.get("workers", 1)
        eventually(lambda: len(self.starts(job_id)) >= workers, within_s=30, what=f"job {job_id} has started")
        self.in_state(job_id, "running")
        return job_id

    def finish(self, job_id: str, code: int | str = 0) -> None:
        """Let it end with that exit code."""
        temporary = self.marks / f".finish-{job_id}"
        temporary.write_text(str(code))
        temporary.rename(self.marks / f"finish-{job_id}")

    def starts(self, job_id: str) -> list[Mark]:
        return self._marks("start", job_id)

    def ends(self, job_id: str) -> list[Mark]:
        return self._marks("end", job_id)

    def _marks(self, what: str, job_id: str) -> list[Mark]:
        found = []
        for path in sorted(self.marks.glob(f"{what}-{job_id}-*")):
            rank, attempt, pid = map(int, path.name.split("-")[-3:])
            found.append(Mark(rank, attempt, pid, path.read_text()))
        return found

    def succeeds_where_it_was(self, job_id: str) -> None:
        """It ends well when it is let, and was started once."""
        self.finish(job_id)
        ended = self.ended(job_id)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
        assert len(self.starts(job_id)) == len(self.ends(job_id))
        assert {mark.attempt for mark in self.starts(job_id)} == {1}

    def launcher(self, agent: str) -> int:
        """The pid of that agent's launcher, as it wrote it down itself; 0 while there is none."""
        for path in self.home.runtime_dir.glob(f"n/{agent}/**/launcher.pid"):
            found = pid_file_process(path)
            return 0 if found is None else found.pid
        return 0

    def can_start_jobs(self, *, within_s: float = 60, **fields: Any) -> str:
        """A job that is submitted now runs to its end."""
        (job_id,) = self.post(self.spec("--lasts", "0", **fields))
        ended = self.ended(job_id, within_s=within_s)
        assert ended["state"] == "succeeded", ended
        return job_id

    def is_whole(self) -> None:
        """All its parts live, and all nodes but the far one are ready: what a test begins with."""
        self.answers()

        def whole() -> bool:
            states = [node["state"] for node in self.get("/v1/nodes")["nodes"] if node["name"] != FAR]
            return all(state == "ready" for state in states) and len(states) == 3

        eventually(whole, within_s=60, what="all nodes are ready")

    def cancel_all(self, *, within_s: float = 60) -> None:
        def live() -> list[str]:
            listed = self.get("/v1/jobs?limit=10000")["jobs"]
            return [str(job["id"]) for job in listed if job["state"] not in ENDED]

        if ids := live():
            self.client().post("/v1/jobs/cancel", {"ids": ids})
            eventually(lambda: not live(), within_s=within_s, what="all jobs have ended")

    def events(self, job_id: str) -> list[str]:
        return [event["event"] for event in self.job(job_id)["events"]]


def _own_clock(directory: Path) -> tuple[Path, Path] | None:
    """A library that adds the seconds in a file to the wall clock; None where it cannot be built."""
    library, offset = directory / "clock.so", directory / "clock-offset"
    source = Path(__file__).with_name("clock.c")
    if shutil.which("cc") is None:
        return None
    argv = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lm"]
    if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        return None
    offset.write_bytes(struct.pack("d", 0.0))
    return library, offset


def _small_disk(path: Path) -> Path | None:
    path.mkdir()
    if not is_root():
        return None
    argv = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(path)]
    return path if subprocess.run(argv, capture_output=True, check=False).returncode == 0 else None


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left on the disk meanwhile."""
    ballast = disk / "ballast"
    try:
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        yield
    finally:
        ballast.unlink()


# ---- a second machine --------------------------------------------------------------------------------------------


class Cable:
    """A network namespace, and the pair of interfaces that joins it to this machine. Root only."""

    def __init__(self) -> None:
        number = os.getpid() % 60_000
        self.namespace = f"suanli-{number}"
        self._near, self._far = f"sv{number}a", f"sv{number}b"
        self.prefix = ("ip", "netns", "exec", self.namespace)
        subnet = f"10.211.{number % 250}"
        self._run("ip", "netns", "add", self.namespace)
        self._run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.namespace)
        self._run("ip", "addr", "add", f"{subnet}.1/30", "dev", self._near)
        self._run("ip", "link", "set", self._near, "up")
        self._within("ip", "link", "set", "lo", "up")
        self._within("ip", "addr", "add", f"{subnet}.2/30", "dev", self._far)
        self._within("ip", "link", "set", self._far, "up")
        self._within("ip", "route", "add", "default", "via", f"{subnet}.1")

    @staticmethod
    def available() -> bool:
        return is_root() and shutil.which("ip") is not None

    def pull(self) -> None:
        self._run("ip", "link", "set", self._near, "down")

    def plug_in(self) -> None:
        self._run("ip", "link", "set", self._near, "up")

    def remove(self) -> None:
        self._run("ip", "netns", "del", self.namespace)  # the interfaces go with it

    def _within(self, *argv: str) -> None:
        self._run(*self.prefix, *argv)

    @staticmethod
    def _run(*argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True)


class FarMachine:
    """A machine that joined: this one under another name, behind a cable where that can be had."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self.cable = Cable() if Cable.available() else None
        self._instance = Instance(directory)
        self._process: subprocess.Popen[str] | None = None
        self.home = Home(self._instance.home.path / "nodes" / FAR)

    def join(self, *, within_s: float = 60) -> None:
        if self.cable is not None:
            self.cable.plug_in()
        started = self.site.home.started()
        assert started is not None
        self._process = self._instance.popen(
            *("node", "join", started.ray_address, "--site", "edge-cloud", "--name", FAR),
            *("--ray-token", str(self.site.home.secret_file("ray_token"))),
            prefix=self.cable.prefix if self.cable else (),
        )
        self.is_ready(within_s=within_s)

    def is_ready(self, *, within_s: float = 60) -> None:
        assert self._process is not None

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._process.communicate()
            return bool(self.site.node(FAR)["state"] == "ready")

        eventually(ready, within_s=within_s, what="the far machine is ready")

    def is_noticed_to_be_away(self, *, within_s: float) -> float:
        """After how many seconds."""
        since_s = time.monotonic()
        eventually(lambda: self.site.node(FAR)["state"] == "down", within_s=within_s, what="the far machine is down")
        return time.monotonic() - since_s

    def power_off(self) -> None:
        """Everything of it ends at once, and nobody is told: not even by a connection that breaks."""
        if self.cable is not None:
            self.cable.pull()  # until it joins again
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        while left := strays(self.home.identity):
            for process in left:
                process.signal(signal.SIGKILL)
                process.wait_gone(5)

    def leave(self) -> None:
        """In good order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.communicate(timeout=60)

    def keeper(self) -> ProcessId:
        """Of its Ray."""
        return ProcessId(**json.loads((self.home.path / "keeper.json").read_text()))

    def processes(self) -> list[ProcessId]:
        return strays(self.home.identity)

    def discard(self) -> None:
        try:
            if self.cable is not None:
                self.cable.plug_in()
            self.leave()
        finally:
            if self._process is not None:
                self._process.kill()
            for process in self.processes():
                process.signal(signal.SIGKILL)
            if self.cable is not None:
                self.cable.remove()


def _own_address() -> str:
    """This machine's address, by which it would speak to others. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def alive(pids: Sequence[int]) -> list[int]:
    return [pid for pid in pids if (process := ProcessId.of(pid)) is not None and process.alive()]
