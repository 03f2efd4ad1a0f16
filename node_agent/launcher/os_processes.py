"""The node's real processes: ports.Processes by fork, /proc, kill(2), waitid(2), pidfd_open(2) and prctl(2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Literal

from node_agent.launcher import procfs
from node_agent.launcher.cgroups import OsControlGroups
from node_agent.launcher.forking import fork, open_logs
from node_agent.launcher.ports import ChildEnd, Process, Say
from node_agent.launcher.records import LaunchOrder, control_group_of
from node_agent.launcher.warm_pool import WarmPool

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class OsProcesses:
    """`watch` and `unwatch` are told of descriptors that become readable when an adopted process ends. `pool`: where
    given, a served model is started in an interpreter of it that fits."""

    def __init__(
        self,
        *,
        groups: OsControlGroups,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        say: Say,
        pool: WarmPool | None = None,
    ) -> None:
        self.groups = groups
        self._pool = pool
        self._watch = watch
        self._unwatch = unwatch
        self._say = say
        self._said: set[str] = set()
        self._pidfds: dict[int, int] = {}

    def inherit_orphans(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            self._say(f"orphans go to init: prctl: {os.strerror(ctypes.get_errno())}")

    def start(self, order: LaunchOrder) -> int:
        group = control_group_of(order.key)

        def arrange(pid: int) -> tuple[int, int]:
            self.groups.place(pid, group, order.memory_bytes, order.cpus_milli)
            return open_logs(order)

        if self._pool is not None and (warm := self._pool.take(order, arrange)) is not None:
            return warm
        with self.groups.entered(group, order.memory_bytes, order.cpus_milli):
            return fork(order)

    # ---- looking ---------------------------------------------------------------------------------------------------

    def find(self, pid: int) -> Process | None:
        return procfs.process(pid)

    def living(self) -> list[Process]:
        return list(procfs.processes())

    def children(self) -> list[int]:
        waiting = frozenset[int]() if self._pool is None else self._pool.pids
        return [pid for pid in procfs.own_children() if pid not in waiting]

    def has_in_environment(self, pid: int, entry: str) -> bool:
        return procfs.has_in_environment(pid, entry)

    def awaits(self, pid: int, number: int) -> Literal["caught", "blocked", ""]:
        return procfs.awaits(pid, number)

    def rss_bytes(self, pid: int) -> int:
        return procfs.rss_bytes(pid)

    def pss_bytes(self, pid: int) -> int:
        return procfs.pss_bytes(pid)

    def out_of_memory_kills(self) -> int:
        return procfs.out_of_memory_kills()

    # ---- signals ---------------------------------------------------------------------------------------------------

    def signal(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has gone by itself
        except PermissionError as error:
            self._say_once(f"a process of a run could not be signalled, for it has changed its user: {error}")

    def signal_group(self, group: int, number: int) -> None:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            pass  # as above
        except PermissionError as error:
            said = "no process of a run's group could be signalled, for they have changed their user"
            self._say_once(f"{said}: {error}")

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    # ---- ends ------------------------------------------------------------------------------------------------------

    def ended_child(self) -> ChildEnd | None:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # there are no children
            return None
        if ended is None:
            return None
        return ChildEnd(ended.si_pid, ended.si_code == os.CLD_EXITED, ended.si_status)

    def reap(self, pid: int) -> None:
        os.waitpid(pid, 0)
        if self._pool is not None:
            self._pool.ended(pid)

    def watch(self, pid: int, ended: Callable[[], None]) -> bool:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # no such system call, or it has just ended
            return False
        self._pidfds[pid] = descriptor
        self._watch(descriptor, ended)
        return True

    def unwatch(self, pid: int) -> None:
        descriptor = self._pidfds.pop(pid, None)
        if descriptor is not None:
            self._unwatch(descriptor)
            os.close(descriptor)
