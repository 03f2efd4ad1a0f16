"""What the launcher's two ports promise, asked of the real processes and files and of the simulator's.

Each side is told in its own way how a program behaves and when time may pass; what is asserted is the same.
"""

from __future__ import annotations

import os
import resource
import selectors
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from node_agent.launcher.cgroups import OsControlGroups
from node_agent.launcher.journal import Journal, Run
from node_agent.launcher.os_journal import OsJournal
from node_agent.launcher.os_processes import OsProcesses
from node_agent.launcher.ports import CannotExecute, ChildEnd, JournalFile, Processes
from node_agent.launcher.records import ExitRecord, LaunchOrder
from scheduler.simulation.faults.virtual_journal import VirtualJournal
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits, VirtualProcesses
from tests.fakes.fake_clock import FakeClock
from tests.fakes.processes import end_all, eventually

# How each side is told to behave: a shell script, and the same in a word.
PROGRAMS = {
    "exits with 3": ("exit 3", Behaviour(life=Exits(0.5, 3))),
    "waits": ("exec sleep 300", Behaviour()),
    "handles": ("trap : TERM USR1; while :; do sleep 0.02; done", Behaviour(term="handled", usr1="handled")),
    "ignores": ("trap '' TERM USR1; exec sleep 300", Behaviour(term="ignored", usr1="ignored")),
    "exits when told": ("trap 'exit 7' TERM; while :; do sleep 0.02; done", Behaviour(term=Exits(0.5, 7))),
}


class Side(Protocol):
    @property
    def processes(self) -> Processes: ...

    def order(self, program: str) -> LaunchOrder: ...

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass, and watched ends be told, until it is so."""

    def stranger(self) -> int:
        """A process that waits, and is no child."""


class RealSide:
    """Real processes; this process stands for the launcher."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._selector = selectors.DefaultSelector()
        self.said: list[str] = []
        groups = OsControlGroups([], [], directory / "cgroups", "", self.said.append)
        self.processes = OsProcesses(
            groups=groups, watch=self._watch, unwatch=self._selector.unregister, say=self.said.append
        )

    def _watch(self, descriptor: int, ended: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, ended)

    def order(self, program: str) -> LaunchOrder:
        here = str(self._directory)
        argv = ("/bin/sh", "-c", PROGRAMS[program][0]) if program in PROGRAMS else (f"{here}/{program}",)
        env = (("PATH", os.environ["PATH"]), ("MARK", f"{here}/{program}"))
        return LaunchOrder(program, argv, env, here, f"{here}/out", f"{here}/err", 0, 1.0, True, "")

    def until(self, condition: Callable[[], bool]) -> None:
        def looked() -> bool:
            for key, _ in self._selector.select(0):
                key.data()
            return condition()

        eventually(looked)

    def stranger(self) -> int:
        script = f"MARK={shlex.quote(str(self._directory))} sleep 300 >/dev/null 2>&1 & echo $!"
        return int(subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, check=True, timeout=15).stdout)


class VirtualSide:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self.processes = VirtualProcesses(self._clock.now_s, behave=self._behave)

    def _behave(self, order: LaunchOrder) -> Behaviour:
        if order.key not in PROGRAMS:
            raise CannotExecute(f"cannot be executed: {order.key}")
        return PROGRAMS[order.key][1]

    def order(self, program: str) -> LaunchOrder:
        return LaunchOrder(program, (program,), (("MARK", program),), "/", "/out", "/err", 0, 1.0, True, "")

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(100):
            self.processes.deliver()
            if condition():
                return
            self._clock.advance(0.1)
            self.processes.end_due()
        raise AssertionError("it did not come about")

    def stranger(self) -> int:
        pid = self.processes.start(self.order("waits"))
        self.processes.launcher_died()
        return pid


@pytest.fixture(params=["real", "virtual"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    if request.param == "virtual":
        yield VirtualSide()
        return
    with tempfile.TemporaryDirectory(prefix="suanli-p-", dir="/tmp") as directory:
        try:
            yield RealSide(Path(directory))
        finally:
            end_all(directory)


def ended(side: Side, pid: int) -> ChildEnd:
    """Wait for the child's end and look at it; others' children, of tests before, are let go."""

    def mine() -> bool:
        while (end := side.processes.ended_child()) is not None and end.pid != pid:
            side.processes.reap(end.pid)
        return end is not None

    side.until(mine)
    end = side.processes.ended_child()
    assert end is not None
    return end


# ---- processes -------------------------------------------------------------------------------------------------------


def test_a_process_leads_a_session_of_its_own(side: Side) -> None:
    processes = side.processes
    first, second = (processes.start(side.order("waits")) for _ in range(2))
    found = processes.find(first)
    assert found is not None
    assert (found.pid, found.session, found.ended) == (first, first, False)
    assert processes.find(first) == found
    assert first != second
    assert {first, second} <= {row.pid for row in processes.living()}
    assert {first, second} <= set(processes.children())


def test_a_process_is_known_by_its_environment(side: Side) -> None:
    order = side.order("waits")
    pid = side.processes.start(order)
    (mark,) = (value for name, value in order.env if name == "MARK")
    side.until(lambda: side.processes.has_in_environment(pid, f"MARK={mark}"))
    assert not side.processes.has_in_environment(pid, f"MARK={mark}x")
    assert not side.processes.has_in_environment(pid, mark)


def test_an_exit_is_seen_until_it_is_reaped(side: Side) -> None:
    processes = side.processes
    pid = processes.start(side.order("exits with 3"))
    assert ended(side, pid) == ChildEnd(pid, exited=True, status=3)
    assert processes.ended_child() == ChildEnd(pid, exited=True, status=3)
    found = processes.find(pid)
    assert found is not None
    assert found.ended
    assert pid in processes.children()
    assert pid not in {row.pid for row in processes.living()}
    assert processes.rss_bytes(pid) == 0
    processes.signal(pid, signal.SIGKILL)
    processes.reap(pid)
    assert processes.find(pid) is None
    assert pid not in processes.children()
    assert processes.ended_child() is None


@pytest.mark.parametrize("to", ["process", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_process(side: Side, number: signal.Signals, to: str) -> None:
    """Until the shell has become the sleeper it catches SIGINT, and would exit of it."""
    pid = side.processes.start(side.order("waits"))
    if isinstance(side, RealSide):
        eventually(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep")
    assert side.processes.awaits(pid, number) == ""
    (side.processes.signal if to == "process" else side.processes.signal_group)(pid, number)
    assert ended(side, pid) == ChildEnd(pid, exited=False, status=number)


def test_a_handler_is_seen_and_keeps_the_process_alive(side: Side) -> None:
    processes = side.processes
    pid = processes.start(side.order("handles"))
    side.until(lambda: processes.awaits(pid, signal.SIGUSR1) == processes.awaits(pid, signal.SIGTERM) == "caught")
    for number in (0, signal.SIGUSR1, signal.SIGTERM, signal.SIGCONT, signal.SIGKILL):
        processes.signal(pid, number)
    assert ended(side, pid) == ChildEnd(pid, exited=False, status=signal.SIGKILL)


def test_an_ignored_signal_is_not_awaited_and_does_nothing(side: Side) -> None:
    """The shell has set its trap by the time it has become the sleeper, which keeps it."""
    processes = side.processes
    pid = processes.start(side.order("ignores"))
    if isinstance(side, RealSide):
        eventually(lambda: b"sleep" in Path(f"/proc/{pid}/comm").read_bytes())
    assert processes.awaits(pid, signal.SIGUSR1) == ""
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
        processes.signal_group(pid, number)
    assert ended(side, pid) == ChildEnd(pid, exited=False, status=signal.SIGKILL)


def test_a_process_may_exit_by_itself_when_told(side: Side) -> None:
    pid = side.processes.start(side.order("exits when told"))
    side.until(lambda: side.processes.awaits(pid, signal.SIGTERM) == "caught")
    side.processes.signal_group(pid, signal.SIGTERM)
    assert ended(side, pid) == ChildEnd(pid, exited=True, status=7)


def test_the_end_of_one_who_is_no_child_is_told_once(side: Side) -> None:
    processes = side.processes
    pid = side.stranger()
    told: list[int] = []

    def on_end() -> None:
        told.append(pid)
        processes.unwatch(pid)  # as the launcher does

    assert processes.watch(pid, on_end)
    assert pid not in processes.children()
    assert told == []
    processes.signal(pid, signal.SIGTERM)
    side.until(lambda: bool(told))
    found = processes.find(pid)
    assert found is None or found.ended
    assert told == [pid]
    child = processes.ended_child()
    assert child is None or child.pid != pid


def test_what_is_watched_no_more_is_not_told(side: Side) -> None:
    processes = side.processes
    first, second = side.stranger(), side.stranger()
    told: list[int] = []

    def on_end() -> None:
        told.append(second)
        processes.unwatch(second)

    assert processes.watch(first, lambda: told.append(first))
    assert processes.watch(second, on_end)
    processes.unwatch(first)
    processes.unwatch(first)
    processes.signal(first, signal.SIGKILL)
    side.until(lambda: processes.find(first) is None or processes.find(first).ended)  # type: ignore[union-attr]
    processes.signal(second, signal.SIGKILL)
    side.until(lambda: bool(told))
    assert told == [second]


def test_one_who_is_gone_is_no_error(side: Side) -> None:
    processes = side.processes
    pid = processes.start(side.order("exits with 3"))
    ended(side, pid)
    processes.reap(pid)
    processes.signal(pid, signal.SIGTERM)
    processes.signal_group(pid, signal.SIGTERM)
    processes.unwatch(pid)
    assert not processes.watch(pid, lambda: None)
    assert processes.awaits(pid, signal.SIGTERM) == ""
    assert not processes.has_in_environment(pid, "MARK=x")
    assert (processes.rss_bytes(pid), processes.pss_bytes(pid)) == (0, 0)


def test_a_command_that_cannot_be_executed_is_its_owner_s_fault(side: Side) -> None:
    before = side.processes.children()
    with pytest.raises(CannotExecute, match="cannot be executed"):
        side.processes.start(side.order("no such program"))
    assert side.processes.children() == before


# ---- the journal's file ----------------------------------------------------------------------------------------------


class Disk(Protocol):
    def file(self) -> JournalFile:
        """The same file, opened anew."""

    def full(self, free_bytes: int) -> AbstractContextManager[None]:
        """Meanwhile at most about so much can be appended."""


class RealDisk:
    def __init__(self, directory: Path) -> None:
        self._path = directory / "journal"

    def file(self) -> OsJournal:
        return OsJournal(self._path)

    @contextmanager
    def full(self, free_bytes: int) -> Iterator[None]:
        """By the limit on a file's size, which cuts a write short as a full disk does."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._path.stat().st_size + free_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class VirtualDisk:
    def __init__(self) -> None:
        self._file = VirtualJournal()

    def file(self) -> VirtualJournal:
        return self._file

    @contextmanager
    def full(self, free_bytes: int) -> Iterator[None]:
        self._file.full = True
        yield
        self._file.full = False


@pytest.fixture(params=["real", "virtual"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return VirtualDisk() if request.param == "virtual" else RealDisk(tmp_path)


def opened(disk: Disk, said: list[str] | None = None) -> Journal:
    return Journal(disk.file(), boot_id="this boot", say=[].append if said is None else said.append)


def run(key: str) -> Run:
    return Run(key, "0" * 64, "M=1", 0, 1.0, True, "t", pid=5, start_ticks=6, started_s=7.0, started_boot_s=20.0)


def test_a_file_that_is_not_there_is_none_and_bytes_come_back(disk: Disk) -> None:
    file = disk.file()
    assert file.read() is None
    file.replace(b"one\n")
    assert file.append(b"two\nthr") == 7
    file.sync()
    file.take_back(3)
    assert file.append(b"four\n") == 5
    file.close()
    assert disk.file().read() == "one\ntwo\nfour\n"
    file = disk.file()
    file.append(b"five\n")
    file.close()
    file = disk.file()
    assert file.read() == "one\ntwo\nfour\nfive\n"
    file.replace(b"\xffsix\n")
    assert file.read() == "\N{REPLACEMENT CHARACTER}six\n"
    file.close()


def test_the_journal_survives_being_opened_anew(disk: Disk) -> None:
    first = opened(disk)
    first.epoch(9)
    first.lease(40.0, 30.0, now=31.5)
    runs = [run("a"), run("b"), run("c")]
    first.intents(runs)
    for each in runs:
        first.started(each)
    for each in runs[1:]:
        each.exit = ExitRecord("exit", 3, 8.0)
        first.ended(each)
    first.forget("c")
    first.close()
    for _ in range(2):  # as it was left, and as opening rewrote it
        kept = opened(disk).kept
        assert (kept.epoch, kept.lease_until, kept.lease_stamp_s, kept.seen_s) == (9, 40.0, 30.0, 31.5)
        assert [(key, each.pid, each.exit) for key, each in kept.runs.items()] == [
            ("a", 5, None),
            ("b", 5, ExitRecord("exit", 3, 8.0)),
        ]
        assert [each.lived_s for each in kept.runs.values()] == [11.5, 0.0]  # of an end that was seen it says nothing
        assert list(kept.forgotten) == ["c"]


def test_a_torn_last_line_is_dropped_and_the_rest_is_not(disk: Disk) -> None:
    first = opened(disk)
    first.intents([run("a")])
    first.close()
    torn = disk.file()
    torn.append(b'{"t":"pid","key":"a","pi')
    torn.close()
    said: list[str] = []
    second = opened(disk, said)
    assert list(second.kept.runs) == ["a"]
    assert second.kept.runs["a"].pid is None
    assert len(said) == 1
    assert "line dropped" in said[0]
    second.started(run("a"))
    second.close()
    assert opened(disk).kept.runs["a"].pid == 5


@pytest.mark.parametrize("free_bytes", [0, 20])
def test_a_full_disk_leaves_nothing(disk: Disk, free_bytes: int) -> None:
    journal = opened(disk)
    journal.intents([run("a")])
    before = disk.file().read()
    with disk.full(free_bytes):
        with pytest.raises(OSError, match=r"(?i)no space|too large"):
            journal.intents([run("b"), run("c")])
        assert disk.file().read() == before
    assert list(journal.kept.runs) == ["a"]
    journal.intents([run("d")])
    journal.close()
    said: list[str] = []
    assert list(opened(disk, said).kept.runs) == ["a", "d"]
    assert said == []
