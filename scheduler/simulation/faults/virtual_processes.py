"""A simulated node's process table: what runs there, what a signal does to it, and who may learn of its end?

There is no timer in here. Whoever drives it moves the clock, ends what is due (`next_end_s`, `end_due`), and when there
is news (`has_news`) has the launcher hear it: `deliver`, then its own `reap`, as the live server does between two turns
of its loop. Nothing here calls into the launcher at any other moment, so an end never falls into the middle of a step.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from node_agent.launcher.ports import ChildEnd, Limits, Process
from node_agent.launcher.records import LaunchOrder, control_group_of

INIT = 1
FIRST_PID = 1000
TICKS_A_SECOND = 100  # sysconf(_SC_CLK_TCK) on Linux
HARMLESS = {0, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}  # ignored by default, signal(7)


@dataclass(frozen=True, slots=True)
class Exits:
    """The process ends with `code`, `after_s` seconds later."""

    after_s: float
    code: int


Reaction = Exits | Literal["handled", "ignored", "fatal"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a process does of itself (`life`; None: it runs until it is ended), and when signalled.

    "handled": it has a handler and goes on; "ignored": it goes on without one; "fatal": it dies of it at once, as of
    every other signal. SIGKILL always ends it at once. `memory_bytes` is what it uses from the first.
    """

    life: Exits | None = None
    term: Reaction = "fatal"
    usr1: Reaction = "fatal"
    memory_bytes: int = 0

    def reaction(self, number: int) -> Reaction:
        if number == signal.SIGTERM:
            return self.term
        if number == signal.SIGUSR1:
            return self.usr1
        return "ignored" if number in HARMLESS else "fatal"


@dataclass(slots=True)
class VirtualProcess:
    """One process. `order` is what it, or the process that forked it, was started by; `end` is set on a zombie."""

    pid: int
    ppid: int
    session: int
    started_s: float
    order: LaunchOrder
    behaviour: Behaviour
    memory_bytes: int = 0
    group: str | None = None
    ends_at_s: float | None = None
    exit_code: int = 0
    end: ChildEnd | None = None

    @property
    def start_ticks(self) -> int:
        return round(self.started_s * TICKS_A_SECOND)

    def due(self, exits: Exits, now_s: float) -> None:
        """It will end then, unless it ends sooner."""
        at_s = now_s + exits.after_s
        if self.ends_at_s is None or at_s < self.ends_at_s:
            self.ends_at_s, self.exit_code = at_s, exits.code


@dataclass(slots=True)
class VirtualGroup:
    """A control group: its limit (0: none), and how many processes the kernel has killed because of it."""

    memory_bytes: int
    kills: int = 0


class VirtualGroups:
    """node_agent.launcher.ports.ControlGroups of virtual processes. `limits` is what the node enforces."""

    def __init__(self, limits: Limits, members: Callable[[str], list[int]], kill: Callable[[int], None]) -> None:
        self.limits = limits
        self._members = members
        self._kill = kill
        self._groups: dict[str, VirtualGroup] = {}

    def make(self, order: LaunchOrder) -> str | None:
        """The name of the group that a process of this order is to be in; None: the node has nothing to hold it to."""
        held_bytes = order.memory_bytes if self.limits.memory else 0
        if not held_bytes and not (self.limits.cpus and order.cpus_milli):
            return None
        name = control_group_of(order.key)
        self._groups[name] = VirtualGroup(held_bytes)
        return name

    def get(self, name: str) -> VirtualGroup | None:
        return self._groups.get(name)

    def power_off(self) -> None:
        self._groups.clear()

    def holds_memory(self, group: str) -> bool:
        found = self._groups.get(group)
        return found is not None and found.memory_bytes > 0

    def memory_kills(self, group: str) -> int:
        found = self._groups.get(group)
        return 0 if found is None else found.kills

    def kill(self, group: str) -> None:
        for pid in self._members(group):
            self._kill(pid)

    def remove(self, group: str) -> bool:
        if self._members(group):
            return False
        self._groups.pop(group, None)
        return True

    def names(self) -> list[str]:
        return list(self._groups)


NO_LIMITS = Limits(False, False, "simulated without control groups")


class VirtualProcesses:
    """node_agent.launcher.ports.Processes without processes.

    `now_s` reads the node's clock since boot. `behave` says how a process that is started will behave, and may raise
    what ports.Processes.start does: then it is not started. `on_signal(pid, number)` is called for each signal that
    reaches a living process, before it acts; it may call anything here but nothing of the launcher. `limits` is what
    the node's kernel enforces.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        behave: Callable[[LaunchOrder], Behaviour] = lambda order: Behaviour(),
        on_signal: Callable[[int, int], None] = lambda pid, number: None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.behave = behave
        self.on_signal = on_signal
        self._now_s = now_s
        self._boots = 0
        self.groups = VirtualGroups(limits, self._in_group, lambda pid: self.signal(pid, signal.SIGKILL))
        self._begin()

    def _begin(self) -> None:
        self._boots += 1
        self._next_pid = FIRST_PID
        self._kills = 0
        self.groups.power_off()
        self._table: dict[int, VirtualProcess] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._untold: dict[int, Callable[[], None]] = {}
        self._launcher = self._new_pid()
        self._inherits = False

    def _new_pid(self) -> int:
        self._next_pid += 1
        return self._next_pid - 1

    # ---- what the simulator sees and does --------------------------------------------------------------------------

    @property
    def boot_id(self) -> str:
        """Differs after each `power_off`."""
        return f"simulated boot {self._boots}"

    @property
    def launcher_pid(self) -> int:
        return self._launcher

    def alive(self) -> list[VirtualProcess]:
        """Every process that has not ended, by pid."""
        return [process for process in self._table.values() if process.end is None]

    def get(self, pid: int) -> VirtualProcess | None:
        """The process, ended or not; None when it is gone."""
        return self._table.get(pid)

    def end(self, pid: int, status: int = 0, *, by_signal: bool = False) -> None:
        """A living process ends, with this exit code or by this signal. A child of the launcher is then a zombie."""
        process = self._table[pid]
        assert process.end is None, process
        process.end, process.ends_at_s = ChildEnd(pid, not by_signal, status), None
        heir = self._launcher if self._inherits and self._descends(process) else INIT
        for orphan in self._table.values():
            if orphan.ppid == pid:
                orphan.ppid = heir
        if process.ppid != self._launcher:  # whoever else its parent is reaps it at once
            del self._table[pid]
        told = self._watched.pop(pid, None)
        if told is not None:
            self._untold[pid] = told

    def fork(self, pid: int, *, own_session: bool = False) -> int:
        """The process starts another one, which knows the same environment and runs until it is ended."""
        parent = self._table[pid]
        new = self._new_pid()
        session = new if own_session else parent.session
        behaviour = replace(parent.behaviour, life=None)
        now_s = self._now_s()
        self._table[new] = VirtualProcess(new, pid, session, now_s, parent.order, behaviour, group=parent.group)
        return new

    def use(self, pid: int, memory_bytes: int) -> None:
        """From now on it uses so much. When its group is at its limit the kernel kills the largest process of it."""
        process = self._table[pid]
        process.memory_bytes = memory_bytes
        group = None if process.group is None else self.groups.get(process.group)
        while group is not None and group.memory_bytes:
            assert process.group is not None
            members = [self._table[each] for each in self._in_group(process.group)]
            if sum(each.memory_bytes for each in members) <= group.memory_bytes:
                return
            group.kills += 1
            self.end(max(members, key=lambda each: each.memory_bytes).pid, signal.SIGKILL, by_signal=True)

    def _in_group(self, group: str) -> list[int]:
        return [process.pid for process in self.alive() if process.group == group]

    def out_of_memory(self, pid: int) -> None:
        """The node has run out of memory, and the kernel chooses this process."""
        self._kills += 1
        self.end(pid, signal.SIGKILL, by_signal=True)

    def next_end_s(self) -> float | None:
        """When `end_due` has something to do; None: never, as things are."""
        return min((each.ends_at_s for each in self._table.values() if each.ends_at_s is not None), default=None)

    def end_due(self) -> None:
        """End what by its behaviour has ended by now, in the order of its time."""
        now_s = self._now_s()
        due = [(each.ends_at_s, each.pid) for each in self._table.values() if each.ends_at_s is not None]
        for _, pid in sorted(row for row in due if row[0] <= now_s):
            self.end(pid, self._table[pid].exit_code)

    @property
    def has_news(self) -> bool:
        """Something has ended of which the launcher has not been told: its child, or a process that it watches."""
        return bool(self._untold) or self.ended_child() is not None

    def deliver(self) -> None:
        """Tell the launcher of the watched processes that have ended. Of its children it learns by `reap`."""
        while self._untold:
            pid = next(iter(self._untold))
            self._untold.pop(pid)()

    def launcher_died(self) -> None:
        """The launcher's process is gone: its zombies are too, and what runs has no parent who would tell its end."""
        for process in list(self._table.values()):
            if process.ppid == self._launcher:
                process.ppid = INIT
                if process.end is not None:
                    del self._table[process.pid]
        self._watched.clear()
        self._untold.clear()
        self._inherits = False
        self._launcher = self._new_pid()

    def power_off(self) -> None:
        """Everything ends at once, and nobody is told. Pids begin anew, as after any boot."""
        self._begin()

    # ---- what the launcher sees: ports.Processes -------------------------------------------------------------------

    def inherit_orphans(self) -> None:
        self._inherits = True

    def start(self, order: LaunchOrder) -> int:
        behaviour = self.behave(order)
        pid, now_s = self._new_pid(), self._now_s()
        group = self.groups.make(order)
        process = VirtualProcess(pid, self._launcher, pid, now_s, order, behaviour, group=group)
        if behaviour.life is not None:
            process.due(behaviour.life, now_s)
        self._table[pid] = process
        self.use(pid, behaviour.memory_bytes)
        return pid

    def find(self, pid: int) -> Process | None:
        process = self._table.get(pid)
        return None if process is None else _row(process)

    def living(self) -> list[Process]:
        return [_row(process) for process in self.alive()]

    def children(self) -> list[int]:
        return [process.pid for process in self._table.values() if process.ppid == self._launcher]

    def has_in_environment(self, pid: int, entry: str) -> bool:
        process = self._alive(pid)
        name, _, value = entry.partition("=")
        return process is not None and (name, value) in process.order.env

    def awaits(self, pid: int, number: int) -> Literal["caught", "blocked", ""]:
        process = self._alive(pid)
        caught = process is not None and process.behaviour.reaction(number) not in ("ignored", "fatal")
        return "caught" if caught else ""

    def signal(self, pid: int, number: int) -> None:
        if self._alive(pid) is not None:
            self.on_signal(pid, number)
        process = self._alive(pid)  # it may have ended just now
        if process is None:
            return
        reaction = process.behaviour.reaction(number)
        if isinstance(reaction, Exits):
            process.due(reaction, self._now_s())
        elif reaction == "fatal":
            self.end(pid, number, by_signal=True)

    def signal_group(self, group: int, number: int) -> None:
        for process in self.alive():
            if process.session == group:
                self.signal(process.pid, number)

    def ended_child(self) -> ChildEnd | None:
        for process in self._table.values():
            if process.end is not None and process.ppid == self._launcher:
                return process.end
        return None

    def reap(self, pid: int) -> None:
        process = self._table.pop(pid)
        assert process.end is not None, process

    def watch(self, pid: int, ended: Callable[[], None]) -> bool:
        if self._alive(pid) is None:
            return False
        self._watched[pid] = ended
        return True

    def unwatch(self, pid: int) -> None:
        self._watched.pop(pid, None)
        self._untold.pop(pid, None)

    def rss_bytes(self, pid: int) -> int:
        process = self._alive(pid)
        return 0 if process is None else process.memory_bytes

    def pss_bytes(self, pid: int) -> int:
        return self.rss_bytes(pid)

    def out_of_memory_kills(self) -> int:
        return self._kills

    def _descends(self, process: VirtualProcess) -> bool:
        """Whether the launcher started it or one of its forebears: no other's orphans come to it, prctl(2)."""
        parent = self._table.get(process.ppid)
        return process.ppid == self._launcher or (parent is not None and self._descends(parent))

    def _alive(self, pid: int) -> VirtualProcess | None:
        process = self._table.get(pid)
        return process if process is not None and process.end is None else None


def _row(process: VirtualProcess) -> Process:
    return Process(process.pid, process.ppid, process.session, process.start_ticks, process.end is not None)
