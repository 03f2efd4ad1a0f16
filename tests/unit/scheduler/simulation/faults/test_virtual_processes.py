"""The simulated process table where no contract test reaches: families, boots and ends at their time."""

from __future__ import annotations

from node_agent.launcher.records import LaunchOrder
from scheduler.simulation.faults.virtual_processes import FIRST_PID, INIT, Behaviour, Exits, VirtualProcesses
from tests.fakes.fake_clock import FakeClock

ORDER = LaunchOrder("a", ("train",), (), "/", "/out", "/err", 0, 1.0, True, "")


def parent(processes: VirtualProcesses, pid: int) -> int:
    found = processes.find(pid)
    assert found is not None
    return found.ppid


def test_orphans_go_to_the_launcher_that_asked_for_them_and_started_their_forebears() -> None:
    processes = VirtualProcesses(FakeClock().now_s)
    before = processes.start(ORDER)
    child = processes.fork(before)
    processes.end(before)
    assert parent(processes, child) == INIT
    processes.inherit_orphans()
    run = processes.start(ORDER)
    first = processes.fork(run)
    second = processes.fork(first)
    processes.end(first)
    assert parent(processes, second) == processes.launcher_pid
    other = processes.fork(run)
    processes.launcher_died()
    processes.inherit_orphans()
    processes.end(run)
    assert parent(processes, second) == parent(processes, other) == INIT
    assert processes.children() == []


def test_a_power_failure_ends_everything_and_pids_begin_anew() -> None:
    processes = VirtualProcesses(FakeClock().now_s)
    boot, launcher = processes.boot_id, processes.launcher_pid
    pid = processes.start(ORDER)
    assert launcher == FIRST_PID
    processes.end(pid)
    processes.power_off()
    assert (processes.alive(), processes.has_news) == ([], False)
    assert processes.boot_id != boot
    assert processes.start(ORDER) == pid


def test_what_ends_by_itself_ends_at_the_sooner_of_its_times() -> None:
    clock = FakeClock(10.0)
    processes = VirtualProcesses(clock.now_s, behave=lambda order: Behaviour(Exits(5.0, 1), term=Exits(2.0, 2)))
    told, late = processes.start(ORDER), processes.start(ORDER)
    clock.advance(1.0)
    processes.signal(told, 15)
    clock.advance(1.0)
    processes.signal(told, 15)
    assert processes.next_end_s() == 13.0
    clock.advance(0.9)
    processes.end_due()
    assert not processes.has_news
    clock.advance(0.1)
    processes.end_due()
    end = processes.ended_child()
    assert end is not None
    assert (end.pid, end.exited, end.status) == (told, True, 2)
    assert processes.next_end_s() == 15.0
    clock.advance(1.0)
    processes.signal(late, 15)  # too late to hasten it
    clock.advance(1.0)
    processes.end_due()
    assert [(each.pid, each.end and each.end.status) for each in map(processes.get, (told, late)) if each] == [
        (told, 2),
        (late, 1),
    ]
    assert processes.next_end_s() is None


def test_a_signal_is_told_while_its_process_lives() -> None:
    told: list[tuple[str, int]] = []

    def on_signal(pid: int, number: int) -> None:
        process = processes.get(pid)
        assert process is not None
        assert process.end is None
        told.append((process.order.key, number))
        if number == 15:
            processes.end(pid, 4)  # the simulator may decide the end itself

    processes = VirtualProcesses(FakeClock().now_s, on_signal=on_signal)
    first, second = processes.start(ORDER), processes.start(ORDER)
    processes.signal_group(first, 15)
    processes.signal(first, 9)
    processes.signal(second, 9)
    assert told == [("a", 15), ("a", 9)]
    ends = [process.end for process in map(processes.get, (first, second)) if process is not None]
    assert [(end.exited, end.status) for end in ends if end is not None] == [(True, 4), (False, 9)]
