"""Limits that the kernel enforces on a real launcher's runs, through the ends of runs and of launchers."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from node_agent.execution.accounts import find_account
from node_agent.launcher.records import UserIds, control_group_of
from tests.fakes.control_groups import with_cpu_groups, with_memory_groups
from tests.fakes.launcher_rig import LauncherRig
from tests.fakes.other_user import OTHER, as_root
from tests.fakes.processes import eventually, lives, number_in

MIB = 1 << 20


def eat(mebibytes: int, after: str = "time.sleep(300)") -> str:
    return f"{sys.executable} -c 'import time; x = bytearray({mebibytes} << 20); {after}'"


def groups(rig: LauncherRig) -> list[Path]:
    """Every control group that this rig's launchers have made."""
    notebook = rig.journal.with_suffix(".cgroups")
    parents = json.loads(notebook.read_text()) if notebook.exists() else []
    return [entry for parent in parents if Path(parent).is_dir() for entry in Path(parent).iterdir() if entry.is_dir()]


def own_groups(pid: int) -> list[str]:
    return [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]


@with_memory_groups
def test_a_run_is_in_its_group_from_its_first_instruction(rig: LauncherRig) -> None:
    rig.start().launch("a", "cat /proc/self/cgroup >here; exit 3", memory_bytes=256 * MIB)
    assert rig.outcome("a") == ("exit", 3)
    assert control_group_of("a") in (rig.directory / "here").read_text()
    assert groups(rig) == [], "it is gone with its run"


@with_memory_groups
def test_the_kernel_holds_a_run_to_its_memory_and_its_neighbour_goes_on(rig: LauncherRig) -> None:
    rig.start()
    frugal = rig.launch("frugal", eat(8), memory_bytes=256 * MIB)
    rig.launch("greedy", f"exec {eat(200)}", memory_bytes=64 * MIB)
    end = rig.ended("greedy")
    assert (end.how, end.code) == ("out_of_memory", signal.SIGKILL)
    assert end.detail == "it used more than its 64 MiB of memory"
    assert lives(frugal)


@with_memory_groups
@pytest.mark.parametrize("then", ["exit 4", "exec sleep 300"], ids=["fails with its child", "waits on"])
def test_a_child_over_the_memory_is_the_run_s_end(rig: LauncherRig, then: str) -> None:
    """The kernel kills the largest process, and what is left of the run is worth nothing."""
    rig.start().launch("a", f"{eat(200)}; {then}", memory_bytes=64 * MIB)
    assert rig.ended("a").how == "out_of_memory"


@with_memory_groups
def test_what_went_to_a_session_of_its_own_is_held_and_ended_with_the_run(rig: LauncherRig) -> None:
    rig.start().launch(
        "a", "(setsid env -i sh -c 'echo $$ >bg; exec sleep 300' &); exec sleep 300", memory_bytes=MIB * 64
    )
    left = eventually(lambda: number_in(rig.directory / "bg"))
    assert any(control_group_of("a") in path for path in own_groups(left))
    assert rig.ask("signal", key="a", signal=int(signal.SIGKILL))["delivered"]
    assert rig.outcome("a") == ("signal", 9)
    eventually(lambda: not lives(left))
    eventually(lambda: not groups(rig))


@with_cpu_groups
def test_the_kernel_holds_a_run_to_its_cpus(rig: LauncherRig) -> None:
    rig.start().launch("a", "while :; do :; done", cpus_milli=100)
    (group,) = [path for path in groups(rig) if (path / "cpu.stat").exists()]

    def throttled() -> int:
        rows = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        return int(rows["nr_throttled"])

    eventually(throttled, "the kernel's holding it back")


@with_memory_groups
@as_root
def test_a_tenant_s_user_is_held_too(rig: LauncherRig) -> None:
    rig.directory.chmod(0o711)
    home = rig.directory / "home"
    home.mkdir()
    other = find_account(OTHER)
    os.chown(home, other.uid, other.gid)
    files = {"cwd": str(home), "stdout": str(home / "out"), "stderr": str(home / "err")}
    user = UserIds(other.uid, other.gid, other.groups)
    rig.start().launch("a", "id -u >who; cat /proc/self/cgroup >here", user=user, memory_bytes=64 * MIB, **files)
    assert rig.outcome("a") == ("exit", 0)
    assert (home / "who").read_text() == f"{other.uid}\n"
    assert control_group_of("a") in (home / "here").read_text()


# ---- when the launcher dies ------------------------------------------------------------------------------------------


@with_memory_groups
def test_a_new_launcher_removes_what_the_dead_left_and_keeps_what_runs(rig: LauncherRig) -> None:
    rig.start()
    lives_on = rig.launch("lives", "exec sleep 300", memory_bytes=64 * MIB)
    dies = rig.launch("dies", "exec sleep 300", memory_bytes=64 * MIB)
    rig.kill()
    os.kill(dies, signal.SIGKILL)
    eventually(lambda: not lives(dies))
    assert {path.name for path in groups(rig)} == {control_group_of("lives"), control_group_of("dies")}
    rig.start()
    assert rig.table()["dies"].exit is not None
    eventually(lambda: {path.name for path in groups(rig)} == {control_group_of("lives")})
    assert lives(lives_on)


@with_memory_groups
def test_a_run_that_outgrew_its_memory_meanwhile_is_told_as_that(rig: LauncherRig) -> None:
    rig.start()
    script = "while [ ! -e go ]; do sleep 0.02; done; " + f"exec {eat(200)}"
    pid = rig.launch("a", script, memory_bytes=64 * MIB)
    rig.kill()
    (rig.directory / "go").touch()
    eventually(lambda: not lives(pid))
    rig.start()
    end = rig.table()["a"].exit
    assert end is not None
    assert (end.how, end.code) == ("out_of_memory", None)


@with_memory_groups
def test_an_adopted_run_is_held_as_before(rig: LauncherRig) -> None:
    rig.start()
    script = "while [ ! -e go ]; do sleep 0.02; done; " + f"exec {eat(200)}"
    rig.launch("a", script, memory_bytes=64 * MIB)
    rig.kill()
    rig.start()
    (rig.directory / "go").touch()
    assert rig.ended("a").how == "out_of_memory"


@with_memory_groups
def test_groups_of_runs_that_are_forgotten_are_removed_too(rig: LauncherRig) -> None:
    """As when the launcher died between the run's end and the removal: the journal says nothing of it any more."""
    rig.start().launch("a", "exit 3", memory_bytes=64 * MIB)
    rig.ended("a")
    rig.ask("forget", key="a")
    rig.launch("b", "exec sleep 300", memory_bytes=64 * MIB)
    parents = {path.parent for path in groups(rig)}
    rig.kill()
    for parent in parents:
        (parent / control_group_of("a")).mkdir()
    rig.start()
    eventually(lambda: {path.name for path in groups(rig)} == {control_group_of("b")})


@with_memory_groups
def test_a_launcher_that_is_told_to_go_leaves_no_group(rig: LauncherRig) -> None:
    rig.start().launch("a", "trap '' TERM; while :; do sleep 0.02; done", memory_bytes=64 * MIB, cpus_milli=500)
    parents = {path.parent for path in groups(rig)}
    assert parents
    assert rig.stop() == 0
    assert not any(parent.exists() for parent in parents)
    assert not rig.journal.with_suffix(".cgroups").exists()


# ---- where the kernel does not ---------------------------------------------------------------------------------------

WATCHED = """
import sys
from node_agent.launcher import __main__, cgroups
cgroups.places = lambda *_: []
sys.exit(__main__.main())
"""


class Watched(LauncherRig):
    """A launcher on a machine without control groups."""

    def command(self, lease_s: float = 60.0) -> list[str]:
        return [sys.executable, "-c", WATCHED, *super().command(lease_s)[3:]]


@pytest.fixture
def watched(rig: LauncherRig) -> LauncherRig:
    return Watched(rig.directory).start()


def test_without_control_groups_somebody_counts(watched: LauncherRig) -> None:
    try:
        assert watched.ask("table")["limits"]["memory"] is False
        frugal = watched.launch("frugal", eat(8), memory_bytes=256 * MIB, cpus_milli=500)
        watched.launch("greedy", eat(200), memory_bytes=64 * MIB)
        end = watched.ended("greedy")
        assert (end.how, end.detail) == ("out_of_memory", "it used more than its 64 MiB of memory")
        assert lives(frugal)
        child = eat(40)
        watched.launch("several", f"{child} & {child} & {child} & wait", memory_bytes=100 * MIB)
        assert watched.outcome("several")[0] == "out_of_memory"
    finally:
        watched.close()
