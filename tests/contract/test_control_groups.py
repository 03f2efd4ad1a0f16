"""What the launcher's port for control groups promises, asked of the kernel's and of the simulator's."""

from __future__ import annotations

import os
import selectors
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from node_agent.launcher.cgroups import OsControlGroups
from node_agent.launcher.os_processes import OsProcesses
from node_agent.launcher.ports import CannotExecute, ChildEnd, Limits, Processes
from node_agent.launcher.records import LaunchOrder, control_group_of
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits, VirtualProcesses
from tests.fakes.control_groups import LIMITS, control_groups
from tests.fakes.fake_clock import FakeClock
from tests.fakes.processes import end_all, eventually, number_in

MIB = 1 << 20
EATS = f"exec {sys.executable} -c 'x = bytearray(200 << 20); import time; time.sleep(300)'"
PROGRAMS = {
    "waits": ("exec sleep 300", Behaviour()),
    "exits with 3": ("exit 3", Behaviour(life=Exits(0.5, 3))),
    "eats 200 MiB": (EATS, Behaviour(memory_bytes=200 * MIB)),
}


class Side(Protocol):
    @property
    def processes(self) -> Processes: ...

    def order(self, program: str, memory_bytes: int = 0, cpus_milli: int = 0) -> LaunchOrder: ...

    def until(self, condition: Callable[[], bool]) -> None: ...

    def one_that_left(self, memory_bytes: int) -> tuple[int, int]:
        """(pid of a run that waits, pid of what it put into a session of its own)"""

    def another_launcher(self) -> Processes:
        """As one that comes after a crash finds things."""


class RealSide:
    def __init__(self, directory: Path, groups: OsControlGroups) -> None:
        self._directory = directory
        self.processes = self._processes(groups)
        self.later: list[OsControlGroups] = []

    @staticmethod
    def _processes(groups: OsControlGroups) -> OsProcesses:
        selector = selectors.DefaultSelector()
        return OsProcesses(
            groups=groups,
            watch=lambda fd, ended: selector.register(fd, selectors.EVENT_READ, ended) and None,
            unwatch=lambda fd: selector.unregister(fd) and None,
            say=[].append,
        )

    def order(self, program: str, memory_bytes: int = 0, cpus_milli: int = 0) -> LaunchOrder:
        here = str(self._directory)
        argv = ("/bin/sh", "-c", PROGRAMS.get(program, (program, None))[0])
        if program == "no such program":
            argv = ("/no/such/program",)
        env = (("PATH", os.environ["PATH"]), ("MARK", here))
        return LaunchOrder(
            program, argv, env, here, f"{here}/out", f"{here}/err", memory_bytes, 1.0, True, "", cpus_milli
        )

    def until(self, condition: Callable[[], bool]) -> None:
        eventually(condition)

    def one_that_left(self, memory_bytes: int) -> tuple[int, int]:
        script = "setsid sh -c 'echo $$ >left; exec sleep 300' & exec sleep 300"
        pid = self.processes.start(self.order(script, memory_bytes))
        return pid, eventually(lambda: number_in(self._directory / "left"))

    def another_launcher(self) -> Processes:
        notebook = self._directory / "cgroups"
        self.later.append(OsControlGroups.find(f"suanli-test-{self._directory.name}-2", notebook, [].append))
        return self._processes(self.later[-1])


class VirtualSide:
    def __init__(self, limits: Limits) -> None:
        self._clock = FakeClock()
        self.processes = VirtualProcesses(self._clock.now_s, behave=self._behave, limits=limits)

    @staticmethod
    def _behave(order: LaunchOrder) -> Behaviour:
        if order.key not in PROGRAMS:
            raise CannotExecute(f"cannot be executed: {order.key}")
        return PROGRAMS[order.key][1]

    def order(self, program: str, memory_bytes: int = 0, cpus_milli: int = 0) -> LaunchOrder:
        return LaunchOrder(
            program, (program,), (("MARK", program),), "/", "/out", "/err", memory_bytes, 1.0, True, "", cpus_milli
        )

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100):
            if condition():
                return
            self._clock.advance(0.1)
            self.processes.end_due()
        raise AssertionError("it did not come about")

    def one_that_left(self, memory_bytes: int) -> tuple[int, int]:
        pid = self.processes.start(self.order("waits", memory_bytes))
        return pid, self.processes.fork(pid, own_session=True)

    def another_launcher(self) -> Processes:
        self.processes.launcher_died()
        return self.processes


@pytest.fixture(params=["real", "virtual"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    if request.param == "virtual":
        yield VirtualSide(Limits(True, True))
        return
    if not (LIMITS.memory and LIMITS.cpus):
        pytest.skip(f"no control groups for memory and CPUs can be made here: {LIMITS.why}")
    with (
        tempfile.TemporaryDirectory(prefix="suanli-p-", dir="/tmp") as directory,
        control_groups(Path(directory)) as groups,
    ):
        real = RealSide(Path(directory), groups)
        try:
            yield real
        finally:
            end_all(directory)
            for later in real.later:
                later.close()


@pytest.fixture(params=["real", "virtual"])
def unable(request: pytest.FixtureRequest) -> Iterator[Side]:
    """A node that lets nobody make control groups."""
    if request.param == "virtual":
        yield VirtualSide(Limits(False, False, "none"))
        return
    with tempfile.TemporaryDirectory(prefix="suanli-p-", dir="/tmp") as directory:
        try:
            nothing = OsControlGroups([], [], Path(directory) / "cgroups", "none", [].append)
            yield RealSide(Path(directory), nothing)
        finally:
            end_all(directory)


def ended(side: Side, pid: int) -> ChildEnd:
    def mine() -> bool:
        while (end := side.processes.ended_child()) is not None and end.pid != pid:
            side.processes.reap(end.pid)
        return end is not None

    side.until(mine)
    end = side.processes.ended_child()
    assert end is not None
    side.processes.reap(pid)
    return end


def test_a_run_with_a_limit_has_a_group_until_it_is_removed(side: Side) -> None:
    groups, name = side.processes.groups, control_group_of("waits")
    pid = side.processes.start(side.order("waits", memory_bytes=256 * MIB, cpus_milli=500))
    assert groups.names() == [name]
    assert groups.holds_memory(name)
    assert not groups.remove(name)
    assert groups.names() == [name]
    groups.kill(name)
    assert ended(side, pid) == ChildEnd(pid, exited=False, status=signal.SIGKILL)
    assert groups.memory_kills(name) == 0, "that was no kill for memory"
    side.until(lambda: groups.remove(name))
    assert groups.names() == []
    assert not groups.holds_memory(name)


def test_a_run_without_a_limit_has_none(side: Side) -> None:
    side.processes.start(side.order("waits"))
    assert side.processes.groups.names() == []


def test_a_limit_of_cpus_alone_is_none_of_memory(side: Side) -> None:
    side.processes.start(side.order("waits", cpus_milli=500))
    assert side.processes.groups.names() == [control_group_of("waits")]
    assert not side.processes.groups.holds_memory(control_group_of("waits"))


def test_a_run_over_its_memory_is_killed_by_the_kernel_and_that_is_told(side: Side) -> None:
    name = control_group_of("eats 200 MiB")
    pid = side.processes.start(side.order("eats 200 MiB", memory_bytes=64 * MIB))
    assert ended(side, pid) == ChildEnd(pid, exited=False, status=signal.SIGKILL)
    assert side.processes.groups.memory_kills(name) >= 1


def test_a_run_within_its_memory_is_not(side: Side) -> None:
    name = control_group_of("exits with 3")
    pid = side.processes.start(side.order("exits with 3", memory_bytes=256 * MIB))
    assert ended(side, pid) == ChildEnd(pid, exited=True, status=3)
    assert side.processes.groups.memory_kills(name) == 0


def test_what_has_left_the_session_is_in_the_group_all_the_same(side: Side) -> None:
    pid, left = side.one_that_left(256 * MIB)
    (name,) = side.processes.groups.names()
    found = side.processes.find(left)
    assert found is not None
    assert found.session == left
    side.processes.groups.kill(name)
    ended(side, pid)
    side.until(lambda: (gone := side.processes.find(left)) is None or gone.ended)
    side.until(lambda: side.processes.groups.remove(name))


def test_what_cannot_be_executed_leaves_no_group(side: Side) -> None:
    with pytest.raises(CannotExecute):
        side.processes.start(side.order("no such program", memory_bytes=256 * MIB))
    assert side.processes.groups.names() == []


def test_another_launcher_finds_the_groups_of_the_one_before(side: Side) -> None:
    pid = side.processes.start(side.order("waits", memory_bytes=256 * MIB))
    groups = side.another_launcher().groups
    name = control_group_of("waits")
    assert groups.names() == [name]
    assert groups.holds_memory(name)
    assert not groups.remove(name)
    groups.kill(name)
    side.until(lambda: (gone := side.processes.find(pid)) is None or gone.ended)
    side.until(lambda: groups.remove(name))
    assert groups.names() == []


def test_a_group_that_is_not_there_is_no_error(side: Side) -> None:
    groups = side.processes.groups
    groups.kill("run-none")
    assert groups.memory_kills("run-none") == 0
    assert not groups.holds_memory("run-none")
    assert groups.remove("run-none")


def test_where_there_are_none_runs_go_without(unable: Side) -> None:
    groups, name = unable.processes.groups, control_group_of("exits with 3")
    assert not groups.limits.memory
    assert not groups.limits.cpus
    assert groups.limits.why
    pid = unable.processes.start(unable.order("exits with 3", memory_bytes=256 * MIB, cpus_milli=500))
    assert groups.names() == []
    assert not groups.holds_memory(name)
    assert ended(unable, pid) == ChildEnd(pid, exited=True, status=3)
    assert groups.memory_kills(name) == 0
    assert groups.remove(name)
