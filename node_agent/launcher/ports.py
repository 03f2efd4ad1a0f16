"""What does the launcher need of the operating system? Its processes, and one file that survives.

The launcher's logic (supervisor, journal, signals, memory, lease) is written against these two alone, so the same code
runs live and under a simulator that has processes and a disk of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from node_agent.launcher.records import LaunchOrder

Say = Callable[[str], None]  # a sentence for the launcher's log


class CannotExecute(Exception):
    """The command is at fault, not the node. The message is a sentence for the job's owner."""


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table. `ended`: it is a zombie, or about to go.

    It is named by its pid and its start time in clock ticks since boot: pids are used again, the pair is not.
    """

    pid: int
    ppid: int
    session: int
    start_ticks: int
    ended: bool


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: `status` is its exit code when it exited, else the number of the signal that ended it."""

    pid: int
    exited: bool
    status: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Which limits of a run the kernel enforces on this node. `why`: what keeps it from more, for operators."""

    memory: bool
    cpus: bool
    why: str = ""


class ControlGroups(Protocol):
    """The control groups of runs, by the names that records.control_group_of gives them.

    `Processes.start` makes one where the run has a limit and the node allows it. A group that is not there is no error.
    """

    @property
    def limits(self) -> Limits: ...

    def holds_memory(self, group: str) -> bool:
        """Whether the kernel holds it to a limit of memory: then nobody else need look."""

    def memory_kills(self, group: str) -> int:
        """How many processes of it the kernel has killed because it was at its limit."""

    def kill(self, group: str) -> None:
        """SIGKILL to every process in it, whatever session it went to. What forks meanwhile may escape: call again."""

    def remove(self, group: str) -> bool:
        """False while something in it has not ended: call again."""

    def names(self) -> list[str]:
        """Every group of a run that is there, those that an earlier launcher made among them."""


class Processes(Protocol):
    """The node's process table, as the launcher's process sees it. A pid that is gone is no error to any of these."""

    @property
    def groups(self) -> ControlGroups: ...

    def inherit_orphans(self) -> None:
        """From now on a process that a run leaves behind becomes the launcher's child, so that it can be found."""

    def start(self, order: LaunchOrder) -> int:
        """The pid of the new process, which leads a session and a process group of its own, in a control group that
        holds it to the order's limits as far as the node allows.

        Raises CannotExecute, or OSError or ValueError when the node could not start it.
        """

    def find(self, pid: int) -> Process | None:
        """The process, ended or not; None when there is none of that pid."""

    def living(self) -> list[Process]:
        """Every process of the node that has not ended."""

    def children(self) -> list[int]:
        """Pids of the launcher's own children, orphans that it has inherited and zombies among them."""

    def has_in_environment(self, pid: int, entry: str) -> bool:
        """Whether the process was started with `entry` (NAME=value) in its environment."""

    def awaits(self, pid: int, number: int) -> Literal["caught", "blocked", ""]:
        """Whether it has a handler for the signal, or blocks it to take it up itself; empty: neither, or gone."""

    def signal(self, pid: int, number: int) -> None:
        """To one process. One that has changed its user cannot be signalled: that is said, and no error."""

    def signal_group(self, group: int, number: int) -> None:
        """To every process of the group, likewise."""

    def ended_child(self) -> ChildEnd | None:
        """A child that has ended. Until it is reaped its pid and its group's number cannot be anyone else's."""

    def reap(self, pid: int) -> None:
        """Let the ended child go."""

    def watch(self, pid: int, ended: Callable[[], None]) -> bool:
        """Have `ended` called, between two of the launcher's own steps, once a process that is no child has ended.

        False when it cannot be watched: then its end must be looked for.
        """

    def unwatch(self, pid: int) -> None:
        """No more; nothing when it was not watched."""

    def rss_bytes(self, pid: int) -> int:
        """Resident memory, shared pages in full: never less than `pss_bytes`, and cheaper to ask for. 0 when gone."""

    def pss_bytes(self, pid: int) -> int:
        """Resident memory, each shared page divided by its number of sharers. 0 when gone."""

    def out_of_memory_kills(self) -> int:
        """How many processes the kernel has killed for memory since boot; 0 where it does not count."""


class JournalFile(Protocol):
    """A file that is read once, appended to, and now and then replaced. Whatever cannot be done raises OSError."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    def read(self) -> str | None:
        """The whole of it; None when it does not exist."""

    def append(self, data: bytes) -> int:
        """How many of the bytes were written, from the first on: fewer than all when the disk is full."""

    def sync(self) -> None:
        """What has been appended is on the disk when it returns."""

    def take_back(self, count: int) -> None:
        """Cut off the last `count` bytes."""

    def replace(self, data: bytes) -> None:
        """Put `data` in place of all of it: on the disk when it returns, and whatever happens either all or nothing."""

    def close(self) -> None:
        """Nothing is appended any more."""
