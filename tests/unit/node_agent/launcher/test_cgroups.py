"""Where control groups may be made, and what is written to them: trees of all kinds, drawn in a directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from node_agent.launcher import cgroups
from node_agent.launcher.cgroup_places import Controller, Place, places
from node_agent.launcher.cgroups import OsControlGroups
from tests.fakes.control_groups import control_groups
from tests.fakes.processes import eventually, lives

V2_FILES = ("cgroup.procs", "cgroup.kill", "cgroup.type", "cgroup.subtree_control")
OF_CONTROLLER = {
    "memory": ("memory.max", "memory.swap.max", "memory.oom.group", "memory.events"),
    "cpu": ("cpu.max", "cpu.max.burst"),
}


def mounts(*rows: str) -> str:
    """Rows of `root point type options`, as /proc/self/mountinfo has them among others."""
    others = "23 1 8:1 / / rw - ext4 /dev/vda rw\n31 23 0:28 / /sys/fs/cgroup rw shared:9 - tmpfs tmpfs rw,mode=755\n"
    lines = []
    for number, row in enumerate(rows):
        root, point, kind, options = row.split(" ")
        lines.append(
            f"{32 + number} 31 0:{29 + number} {root} {point} rw,relatime shared:{number} - {kind} {kind} {options}"
        )
    return others + "\n".join(lines) + "\n"


def tree(root: Path, **controllers_of: str) -> Path:
    """A drawn tree of version 2: by path (`_` for /), what its cgroup.controllers holds."""
    for name, controllers in controllers_of.items():
        directory = root / name.replace("_", "/").strip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.controllers").write_text(controllers + "\n")
        if directory != root:
            (directory / "cgroup.type").write_text("domain\n")
    return root


def place_1(directory: Path, controller: Controller) -> Place:
    return Place(directory, directory, 1, (controller,))


# ---- where -----------------------------------------------------------------------------------------------------------


def test_version_2_beside_the_launcher_s_own_group(tmp_path: Path) -> None:
    """Of a unit under systemd: its own group holds processes, so it may hold no groups."""
    tree(tmp_path, _="cpu memory io", system="cpu memory", system_unit="cpu memory pids")
    found = places(mounts(f"/ {tmp_path} cgroup2 rw"), "0::/system/unit\n")
    assert found == [Place(tmp_path / "system", tmp_path / "system/unit", 2, ("memory", "cpu"))]


def test_version_2_in_the_root_of_the_machine(tmp_path: Path) -> None:
    tree(tmp_path, _="cpu memory io")
    assert places(mounts(f"/ {tmp_path} cgroup2 rw"), "0::/\n") == [Place(tmp_path, tmp_path, 2, ("memory", "cpu"))]


def test_version_2_in_the_root_of_a_container_is_no_place(tmp_path: Path) -> None:
    """What is seen as the root there has a parent that cannot be seen."""
    tree(tmp_path, _="cpu memory io")
    (tmp_path / "cgroup.type").write_text("domain\n")
    assert places(mounts(f"/ {tmp_path} cgroup2 rw"), "0::/\n") == []


def test_version_1_has_a_tree_for_each(tmp_path: Path) -> None:
    table = mounts(
        f"/ {tmp_path}/cpu,cpuacct cgroup rw,cpu,cpuacct",
        f"/ {tmp_path}/memory cgroup rw,memory",
        f"/ {tmp_path}/pids cgroup rw,pids",
        f"/ {tmp_path}/unified cgroup2 rw",
    )
    tree(tmp_path / "unified", _="hugetlb", a="")
    own = "9:name=systemd:/a\n4:memory:/jobs/x\n3:pids:/a\n1:cpu,cpuacct:/\n0::/a\n"
    assert places(table, own) == [
        place_1(tmp_path / "cpu,cpuacct", "cpu"),
        place_1(tmp_path / "memory/jobs/x", "memory"),
    ]


def test_a_container_sees_its_own_part_of_the_tree(tmp_path: Path) -> None:
    table = mounts(f"/docker/abc {tmp_path}/memory cgroup rw,memory")
    assert places(table, "4:memory:/docker/abc/run\n") == [place_1(tmp_path / "memory/run", "memory")]
    assert places(table, "4:memory:/elsewhere\n") == []


def test_a_point_may_be_spelt_with_escapes_and_be_mounted_twice(tmp_path: Path) -> None:
    table = mounts(f"/ {tmp_path}/a\\040b cgroup rw,memory", f"/ {tmp_path}/second cgroup rw,memory")
    assert places(table, "4:memory:/\n") == [place_1(tmp_path / "a b", "memory")]


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert places(mounts(), "") == []
    proc = tmp_path / "proc"
    proc.mkdir()
    for name in ("mountinfo", "cgroup"):
        (proc / name).write_text("")
    found = OsControlGroups.find("x", tmp_path / "cgroups", [].append, proc=proc)
    assert (found.limits.memory, found.limits.cpus) == (False, False)
    assert found.limits.why == "this machine offers no control groups for memory or cpu"
    found = OsControlGroups.find("x", tmp_path / "cgroups", [].append, proc=tmp_path / "none")
    assert "cannot be read" in found.limits.why


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of version 2 that does what a kernel does when a group is made in it or removed."""
    root = tree(tmp_path / "tree", _="cpu memory")
    for name in ("cgroup.subtree_control", "cgroup.procs"):
        (root / name).write_text("")

    def make(path: str) -> None:
        directory = Path(path)
        if directory.exists():
            return
        directory.mkdir()
        above = (directory.parent / "cgroup.subtree_control").read_text()
        for name in V2_FILES:
            (directory / name).write_text("")
        for controller, names in OF_CONTROLLER.items():
            for name in names if controller in above else ():
                (directory / name).write_text("")

    monkeypatch.setattr(cgroups, "_make", make)

    def switch_on(directory: Path, controllers: Sequence[str]) -> None:
        offered = (root / "cgroup.controllers").read_text().split()
        on = " ".join(each for each in controllers if each in offered)
        (directory / "cgroup.subtree_control").write_text(on)

    monkeypatch.setattr(cgroups, "_switch_on", switch_on)
    monkeypatch.setattr(cgroups, "_unmake", shutil.rmtree)
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text(mounts(f"/ {root} cgroup2 rw"))
    (proc / "cgroup").write_text("0::/\n")
    return root


def test_version_2_is_told_its_limits(drawn: Path, tmp_path: Path) -> None:
    groups = OsControlGroups.find("suanli-x", tmp_path / "cgroups", [].append, proc=tmp_path / "proc")
    assert (groups.limits.memory, groups.limits.cpus, groups.limits.why) == (True, True, "")
    run = drawn / "suanli-x" / "run-1"
    with groups.entered("run-1", 1 << 30, 1500):
        assert (run / "cgroup.procs").read_text() == "0"
        assert (run / "memory.max").read_text() == "", "the launcher must not be held by it"
    assert (drawn / "cgroup.procs").read_text() == "0", "it has gone back"
    said = {path.name: path.read_text() for path in run.iterdir() if path.read_text()}
    assert said == {
        "cgroup.procs": "0",
        "memory.max": str(1 << 30),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "cpu.max.burst": "150000",
    }
    assert groups.holds_memory("run-1")
    (run / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert groups.memory_kills("run-1") == 2
    groups.kill("run-1")
    assert (run / "cgroup.kill").read_text() == "1"
    assert groups.remove("run-1")
    groups.close()
    assert not (drawn / "suanli-x").exists()
    assert not (tmp_path / "cgroups").exists()


def test_a_controller_that_is_not_to_be_had_is_not_claimed(drawn: Path, tmp_path: Path) -> None:
    (drawn / "cgroup.controllers").write_text("cpu\n")
    groups = OsControlGroups.find("suanli-x", tmp_path / "cgroups", [].append, proc=tmp_path / "proc")
    assert (groups.limits.memory, groups.limits.cpus) == (False, True)
    assert groups.limits.why == "this machine offers no control groups for memory"


def test_a_place_that_may_not_be_written_is_said(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(directory: str) -> None:
        raise PermissionError(13, "Permission denied", directory)

    monkeypatch.setattr(cgroups, "_make", denied)
    groups = OsControlGroups.find("suanli-x", tmp_path / "cgroups", [].append, proc=tmp_path / "proc")
    assert not groups.limits.memory
    assert groups.limits.why == f"no control group can be made in {drawn}: Permission denied"


def test_where_a_group_cannot_be_made_just_now_the_run_goes_without(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    groups = OsControlGroups.find("suanli-x", tmp_path / "cgroups", said.append, proc=tmp_path / "proc")

    def full(directory: str) -> None:
        raise OSError(28, "No space left on device", directory)

    monkeypatch.setattr(cgroups, "_make", full)
    with groups.entered("run-1", 1 << 30, 1000):
        pass
    assert not groups.holds_memory("run-1")
    assert "a run goes without limits of the kernel's" in said[0]


def test_where_home_has_gone_the_launcher_makes_another(drawn: Path, tmp_path: Path) -> None:
    """Else it would stay in the run's group, and be ended with it."""
    said: list[str] = []
    groups = OsControlGroups.find("suanli-x", tmp_path / "cgroups", said.append, proc=tmp_path / "proc")
    with groups.entered("run-1", 1 << 30, 1000):
        (drawn / "cgroup.procs").unlink()
    assert (drawn / "suanli-x" / "launcher" / "cgroup.procs").read_text() == "0"
    assert "cannot be entered again" in said[0]
    assert groups.names() == ["run-1"]


def test_what_fails_meanwhile_leaves_no_group(drawn: Path, tmp_path: Path) -> None:
    groups = OsControlGroups.find("suanli-x", tmp_path / "cgroups", [].append, proc=tmp_path / "proc")

    def fail() -> None:
        with groups.entered("run-1", 1 << 30, 1000):
            raise OSError("no fork")

    with pytest.raises(OSError, match="no fork"):
        fail()
    assert groups.names() == []
    assert (drawn / "cgroup.procs").read_text() == "0"


def test_a_notebook_that_cannot_be_written_means_no_groups(drawn: Path, tmp_path: Path) -> None:
    """Nobody would find them after a crash."""
    groups = OsControlGroups.find("suanli-x", tmp_path / "no" / "cgroups", [].append, proc=tmp_path / "proc")
    assert not groups.limits.memory
    assert "cannot be written" in groups.limits.why
    assert not (drawn / "suanli-x").exists()


@pytest.mark.parametrize("text", ["", "{", "5", "[5]", '["/etc"]', '["/no/such"]'])
def test_a_spoilt_notebook_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / "cgroups").write_text(text)
    proc = tmp_path / "proc"
    proc.mkdir()
    groups = OsControlGroups.find("x", tmp_path / "cgroups", [].append, proc=proc)
    assert groups.names() == []


# ---- version 2 by a real kernel --------------------------------------------------------------------------------------


@pytest.fixture
def real_v2() -> Iterator[Path]:
    """A group in the tree of version 2, which may have no controllers here and kills all the same."""
    points = [
        line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line
    ]
    directory = Path(points[0] if points else "/no") / f"suanli-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of version 2 can be made here: {error}")
    try:
        yield directory
    finally:
        for inner in [entry for entry in directory.iterdir() if entry.is_dir()]:
            eventually(lambda inner=inner: cgroups._remove(inner))
        directory.rmdir()


def test_version_2_kills_a_group_at_once_and_a_group_within_it(real_v2: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="suanli-c-") as directory:
        groups = OsControlGroups([], [real_v2], Path(directory) / "cgroups", "", [].append)
        inner = real_v2 / "run-1" / "own"
        inner.mkdir(parents=True)
        sleepers = [subprocess.Popen(["sleep", "300"]) for _ in range(3)]
        for sleeper, where in zip(sleepers, (inner.parent, inner.parent, inner), strict=True):
            (where / "cgroup.procs").write_text(str(sleeper.pid))
        assert groups.names() == ["run-1"]
        assert not groups.remove("run-1")
        groups.kill("run-1")
        assert [sleeper.wait(15) for sleeper in sleepers] == [-9, -9, -9]
        assert not any(lives(sleeper.pid) for sleeper in sleepers)
        eventually(lambda: groups.remove("run-1"))
        assert groups.names() == []


def test_nothing_of_a_trial_stays_behind(tmp_path: Path) -> None:
    with control_groups(tmp_path) as groups:
        assert groups.names() == []
        assert (tmp_path / "cgroups").exists() == (groups.limits.memory or groups.limits.cpus)
    assert not (tmp_path / "cgroups").exists()
