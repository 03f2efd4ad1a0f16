"""Runs that the kernel holds to their limits, in virtual time: which end is whose, and what is cleared away when."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM

import pytest

from node_agent.launcher.ports import Limits
from node_agent.launcher.records import control_group_of
from scheduler.simulation.faults.virtual_processes import Behaviour, Exits
from tests.fakes.virtual_launcher import VirtualLauncher

MIB = 1 << 20


@pytest.fixture
def rig() -> VirtualLauncher:
    return VirtualLauncher(Limits(True, True)).start()


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, ("exit", 0)), (4, ("out_of_memory", 4))],
    ids=["it did well in spite of it", "it failed with it"],
)
def test_a_child_killed_for_memory_explains_a_failure_and_no_success(
    rig: VirtualLauncher, code: int, outcome: tuple[str, int]
) -> None:
    pid = rig.launch("a", Behaviour(life=Exits(0.1, code)), memory_bytes=64 * MIB)
    rig.processes.use(rig.processes.fork(pid), 100 * MIB)
    rig.advance(0.1)  # sooner than the launcher looks
    assert rig.outcome("a") == outcome


def test_what_is_left_of_a_run_whose_child_was_killed_for_memory_goes_too(rig: VirtualLauncher) -> None:
    pid = rig.launch("a", memory_bytes=64 * MIB)
    rig.processes.use(rig.processes.fork(pid, own_session=True), 100 * MIB)
    assert rig.lives(pid)
    rig.advance(0.3)
    assert rig.outcome("a") == ("out_of_memory", SIGKILL)
    assert "64 MiB" in rig.supervisor.records()[0].exit.detail  # type: ignore[union-attr]
    assert rig.processes.groups.names() == []


def test_a_run_that_was_told_to_go_is_not_blamed(rig: VirtualLauncher) -> None:
    pid = rig.launch("a", Behaviour(term="handled"), memory_bytes=64 * MIB)
    rig.supervisor.send_signal("a", SIGTERM)
    rig.processes.use(rig.processes.fork(pid), 100 * MIB)
    rig.supervisor.send_signal("a", SIGKILL)
    rig.hear()
    assert rig.outcome("a") == ("signal", SIGKILL)


def test_nobody_counts_where_the_kernel_does(rig: VirtualLauncher) -> None:
    pid = rig.launch("a", memory_bytes=64 * MIB)
    process = rig.processes.get(pid)
    assert process is not None
    process.memory_bytes = 100 * MIB  # more than the kernel would let it have: only who counts would see it
    rig.advance(1.0)
    assert rig.lives(pid)


def test_a_limit_that_only_cpus_have_leaves_the_memory_to_be_counted() -> None:
    rig = VirtualLauncher(Limits(False, True)).start()
    pid = rig.launch("a", memory_bytes=64 * MIB, cpus_milli=500)
    rig.processes.use(pid, 100 * MIB)
    assert rig.lives(pid)
    rig.advance(0.3)
    assert rig.outcome("a") == ("out_of_memory", SIGKILL)


def test_the_end_of_a_run_takes_along_what_went_to_a_session_of_its_own(rig: VirtualLauncher) -> None:
    pid = rig.launch("a", Behaviour(life=Exits(1.0, 0)), cpus_milli=500)
    left = rig.processes.fork(pid, own_session=True)
    rig.advance(1.0)
    assert not rig.lives(left)
    assert rig.processes.groups.names() == []


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_new_launcher_clears_away_groups_of_ended_runs(rig: VirtualLauncher, forgotten: bool) -> None:
    """Also where something in them is alive, which no journal and no session tells of."""
    pid = rig.launch("a", memory_bytes=64 * MIB)
    stays = rig.launch("b", memory_bytes=64 * MIB)
    left = rig.processes.fork(pid, own_session=True)
    rig.kill()
    rig.processes.end(pid, 3)
    if forgotten:
        text = rig.file.read()
        assert text is not None
        rig.file.replace("".join(line for line in text.splitlines(keepends=True) if '"key":"a"' not in line).encode())
    rig.start()
    rig.advance(0.3)
    assert not rig.lives(left)
    assert rig.lives(stays)
    assert rig.processes.groups.names() == [control_group_of("b")]


@pytest.mark.parametrize("when", ["before the next launcher", "under the next launcher"])
def test_a_kill_for_memory_is_told_by_a_launcher_that_did_not_start_the_run(rig: VirtualLauncher, when: str) -> None:
    pid = rig.launch("a", memory_bytes=64 * MIB)
    rig.kill()
    if when == "before the next launcher":
        rig.processes.use(pid, 100 * MIB)
    rig.start()
    if when == "under the next launcher":
        rig.processes.use(pid, 100 * MIB)
    rig.advance(0.3)
    assert rig.outcome("a") == ("out_of_memory", None)


def test_a_launcher_that_goes_leaves_no_group(rig: VirtualLauncher) -> None:
    rig.launch("a", Behaviour(term="ignored"), memory_bytes=64 * MIB)
    rig.supervisor.close_down(1.0)
    rig.advance(1.0)
    assert rig.supervisor.empty
    assert rig.supervisor.kill_leftovers()
    assert rig.processes.groups.names() == []
