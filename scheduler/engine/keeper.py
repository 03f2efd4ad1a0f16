"""`python -m scheduler.engine.keeper --temp-dir DIR [--gcs-dir DIR] -- ARGUMENTS OF ray start`: keeps a machine's Ray.

Runs `ray start` (without --block, which kills the whole machine's Ray when one process of it dies), is the parent of
what that leaves behind, and looks after it:

- The head's GCS is started again as it was, on the state that it keeps on disk (RocksDB in `--gcs-dir`). Raylets,
  agents and the service's driver wait for it and notice a pause at most.
- A raylet is started again as a new node, since Ray lets no dead one come back, when its workers have been ended.
- When either dies again and again, everything in this process's session is ended and so is this process: whoever
  started it starts it anew. With `--gcs-dir` the cluster stays the same, for its other machines too.
- A state that no GCS can start from is set aside, and the next start begins a new cluster. Nothing of ours is in it.

Jobs and launchers are in sessions of their own and never touched. Standard library only; Ray is not imported. Ends with
1 when Ray died and `ray start`'s own code when that failed, never 0; what it wrote last says why.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scheduler.backoff import Backoff

GCS, RAYLET = "gcs_server", "raylet"
NODE_ID = "--node_id="
STEADY_S = 5.0
"""A process that lived for so long was up. (A raylet ends itself whenever the head had given it up, after each cut.)"""
QUICK_DEATHS = 6
"""So often in a row it ended by itself, each time soon after its start, and starting it alone is taken not to help."""
RAY_NODE_ID = "ray_node_id"
"""The file in the temporary directory that names the raylet's node."""
LAST_CLUSTER = "ray_current_cluster"
"""Ray's note of the cluster that it started last in a temporary directory: it would refuse to start that one again
while processes elsewhere on this machine still speak of it.
"""
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Child:
    pid: int
    argv: tuple[str, ...]

    @property
    def program(self) -> str:
        return os.path.basename(self.argv[0]) if self.argv else ""


@dataclass(frozen=True, slots=True)
class _Part:
    """A process that is started again alone."""

    child: Child
    environment: Mapping[str, str]
    backoff: Backoff
    killed: Backoff = field(default_factory=lambda: Backoff(longest_s=1.0))
    """Of deaths from outside, which say nothing of whether it can live."""
    started_s: float = field(default_factory=time.monotonic)


class Keeper:
    """`start` is the command line that starts Ray and leaves its processes behind."""

    def __init__(self, temp_dir: Path, gcs_dir: Path | None, start: Sequence[str]) -> None:
        self._temp_dir = temp_dir
        self._gcs_dir = gcs_dir
        self._start = list(start)

    def run(self) -> int:
        """Until Ray is dead. Then nothing of it is left here."""
        had_state = self._gcs_dir is not None and self._gcs_dir.exists()
        try:
            (self._temp_dir / LAST_CLUSTER).unlink(missing_ok=True)
            code = subprocess.run(self._start, check=False).returncode
            left_behind = children()
            found = {child.program: child for child in left_behind}
            # What died before it was seen leaves nothing to start it again from.
            if code == 0 and (RAYLET not in found or (self._gcs_dir is not None and GCS not in found)):
                code = 1
            if code != 0:
                if had_state:
                    self._set_aside("`ray start` failed on it")
                return code
            say(self._keep(left_behind, found[RAYLET], found.get(GCS)))
            return 1
        finally:
            end_session_but(())

    def _keep(self, left_behind: Sequence[Child], raylet: Child, gcs: Child | None) -> str:
        """Until something dies that cannot be started again alone: why Ray is dead."""
        beside = {child.pid for child in left_behind} - {raylet.pid}
        kept = [part for part in (raylet, gcs) if part]
        parts = {part.pid: _Part(part, environment_of(part.pid), Backoff(steady_s=STEADY_S)) for part in kept}
        self._note_node(raylet)
        while True:
            pid, status = os.waitpid(-1, 0)
            part = parts.pop(pid, None)
            if part is None:
                continue  # a child of Ray's that is of no use to us (its client server), or one that it left
            name, how = part.child.program, f"pid {pid}, {in_words(status)}"
            outside = is_from_outside(status)
            pause_s = (part.killed if outside else part.backoff).after_death(time.monotonic() - part.started_s)
            if name == GCS and self._gcs_dir is None:
                return f"the GCS died ({how}) and keeps no state that it could start from"
            if part.backoff.quick_deaths >= QUICK_DEATHS:
                if name == GCS:
                    self._set_aside(f"the GCS died {QUICK_DEATHS} times in a row")
                return f"{name} dies again and again ({how})"
            say(f"{name} died ({how}); it is started again" + (f" in {pause_s:g} s" if pause_s else ""))
            argv = part.child.argv
            if name == RAYLET:
                # Its workers, our agent among them, may have outlived it, and would be beside the new ones.
                end_session_but({*beside, *parts})
                for path in sockets_of(argv):
                    path.unlink(missing_ok=True)
                argv = as_new_node(argv)
            time.sleep(pause_s)
            child = Child(_start(argv, part.environment), argv)
            if name == RAYLET:
                self._note_node(child)
            beside.add(child.pid)
            parts[child.pid] = _Part(child, part.environment, part.backoff, part.killed)

    def _set_aside(self, why: str) -> None:
        assert self._gcs_dir is not None
        aside = self._gcs_dir.with_name(self._gcs_dir.name + ".unusable")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._gcs_dir.rename(aside)
        say(f"{why}: Ray's state is set aside as {aside}, and the next start begins a new cluster")

    def _note_node(self, raylet: Child) -> None:
        (self._temp_dir / RAY_NODE_ID).write_text(node_id_of(raylet.argv))


def _start(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL)
    # We reap children by pid. Without a return code Popen would reap this one itself where it has died by the time that
    # the object goes, or when the next one is started, and its death would never be heard of.
    process.returncode = 0
    return process.pid


def node_id_of(argv: Sequence[str]) -> str:
    """The node that a raylet of this command line is to Ray."""
    return next(word.removeprefix(NODE_ID) for word in argv if word.startswith(NODE_ID))


def sockets_of(argv: Sequence[str]) -> list[Path]:
    """Where a raylet of this command line listens; it refuses to start where they are."""
    told = (word.partition("=") for word in argv)
    return [Path(path) for name, _, path in told if name in ("--raylet_socket_name", "--store_socket_name")]


def as_new_node(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line of a raylet as that of another node: Ray lets none come back that it took for dead."""
    old = node_id_of(argv)
    new = secrets.token_hex(len(old) // 2)
    return tuple(word.replace(old, new) for word in argv)


def say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper: {text}", file=sys.stderr, flush=True)


def in_words(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
        return f"killed by signal {number}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def is_from_outside(status: int) -> bool:
    """Somebody (an operator, the kernel for want of memory) ended it: it did not end by itself."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGTERM)


def become_reaper() -> None:
    """What Ray starts and leaves behind becomes a child of this process instead of init's."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the parent of Ray's processes")


def children() -> list[Child]:
    """Living children of this process."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            if _stat(int(entry))[1] == str(os.getpid()):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")[:-1]
                if words:  # a zombie has none
                    found.append(Child(int(entry), tuple(map(os.fsdecode, words))))
    return found


def environment_of(pid: int) -> dict[str, str]:
    pairs = (pair.partition(b"=") for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pair)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def end_session_but(spared: Collection[int], timeout_s: float = 10.0) -> None:
    """SIGKILL whatever is in this process's session, but itself and those."""
    session, kept = str(os.getsid(0)), {os.getpid(), *spared}
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        others = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid not in kept]
        left = [pid for pid in others if _lives_in(pid, session)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):  # a child of one that still lives
                os.waitpid(pid, os.WNOHANG)
        if not left:
            return
        time.sleep(0.02)


def _lives_in(pid: int, session: str) -> bool:
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return fields[3] == session and fields[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on: state, parent, group, session, ... Raises OSError."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return text[text.rindex(")") + 2 :].split()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scheduler.engine.keeper", description="Keeps one machine's Ray alive.")
    parser.add_argument("--temp-dir", type=Path, required=True)
    parser.add_argument("--gcs-dir", type=Path, default=None)
    parser.add_argument("start", nargs="+", help="arguments of `ray start`, after --")
    options = parser.parse_args(argv)
    if os.getsid(0) != os.getpid():
        parser.error("it must lead a session of its own, which it ends with itself")
    # Ray's processes expect an interrupt to be blocked, and inherit it from here.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    become_reaper()
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", *options.start]
    return Keeper(options.temp_dir, options.gcs_dir, start).run()


if __name__ == "__main__":
    sys.exit(main())
