"""Runs that go as another user than the launcher's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.execution.accounts import find_account
from node_agent.launcher.records import BadRecord, LaunchOrder, UserIds
from tests.fakes.launcher_rig import LauncherRig
from tests.fakes.other_user import OTHER, as_root, others_directory, passable_place
from tests.fakes.processes import eventually, number_in


@pytest.fixture
def rig() -> Iterator[LauncherRig]:
    with passable_place("suanli-l-") as directory:
        rig = LauncherRig(directory)
        yield rig
        rig.close()


def ids(groups: tuple[int, ...] | None = None) -> UserIds:
    other = find_account(OTHER)
    return UserIds(other.uid, other.gid, other.groups if groups is None else groups)


def theirs(rig: LauncherRig, **changes: object) -> dict[str, object]:
    """An order's fields for a run of the other user's, in a directory of its own."""
    home = rig.directory / "home"
    if not home.exists():
        others_directory(home)
    files = {"cwd": str(home), "stdout": str(home / "out"), "stderr": str(home / "err")}
    return {**files, "user": ids(), **changes}


def test_an_order_s_user_survives_the_socket(rig: LauncherRig) -> None:
    order = rig.order("a", "true", user=UserIds(5, 6, (6, 7)), cpus_milli=1500)
    assert LaunchOrder.from_json(json.loads(json.dumps(order.to_json()))) == order
    told = json.loads(json.dumps(order.to_json()))
    old = {name: value for name, value in told.items() if name not in ("user", "cpus_milli")}
    assert LaunchOrder.from_json(old) == rig.order("a", "true")


@pytest.mark.parametrize(
    "user",
    [
        5,
        {"uid": 5},
        {"uid": -1, "gid": 5, "groups": []},
        {"uid": True, "gid": 5, "groups": []},
        {"uid": 2**32 - 1, "gid": 5, "groups": []},
        {"uid": 5, "gid": 5, "groups": ["wheel"]},
    ],
)
def test_nonsense_for_a_user_is_refused(rig: LauncherRig, user: object) -> None:
    with pytest.raises(BadRecord):
        LaunchOrder.from_json({**rig.order("a", "true").to_json(), "user": user})


@as_root
def test_a_run_goes_as_its_user_with_its_groups_and_nothing_of_ours(rig: LauncherRig) -> None:
    script = "cat /proc/self/status >status; ls -l /proc/self/fd >fds; umask >mask; echo $$ >pid; ps -o sid= -p $$ >sid"
    pid = rig.start().launch("a", script, **theirs(rig, user=ids((65534, 7))))
    assert rig.outcome("a") == ("exit", 0)
    home, other = rig.directory / "home", find_account(OTHER)
    status = (home / "status").read_text()
    for name, number in (("Uid", other.uid), ("Gid", other.gid)):
        assert f"{name}:" + f"\t{number}" * 4 in status
    assert "Groups:\t7 65534 " in status
    assert "CapPrm:\t0000000000000000" in status
    assert "CapEff:\t0000000000000000" in status
    # What this run itself was told to ignore (SIGHUP, under nohup) is handed down; the launcher adds nothing to it.
    ignored = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert int(status.partition("SigIgn:")[2].split()[0], 16) & ~int(ignored.split()[1], 16) == 0
    assert "SigBlk:\t0000000000000000" in status
    assert len((home / "fds").read_text().splitlines()) <= 5  # 0, 1, 2, what ls reads, and its heading
    assert number_in(home / "pid") == number_in(home / "sid") == pid
    for name in ("out", "err", "status"):
        found = (home / name).stat()
        assert (found.st_uid, found.st_gid) == (other.uid, other.gid)


@as_root
def test_its_processes_are_signalled_and_nothing_is_left(rig: LauncherRig) -> None:
    rig.start().launch("a", "(setsid sh -c 'echo $$ >bg; exec sleep 300' &); exec sleep 300", **theirs(rig))
    background = eventually(lambda: number_in(rig.directory / "home" / "bg"))
    assert rig.ask("signal", key="a", signal=15)["delivered"]
    assert rig.outcome("a") == ("signal", 15)
    eventually(lambda: not Path(f"/proc/{background}").exists())


@as_root
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("./plain", "x"), "Exec format error; give it a #! line"),
        (("./no-such-program", "x"), "does not exist there"),
        (("./locked", "x"), "Permission denied; make it executable"),
    ],
)
def test_what_cannot_be_executed_says_why(rig: LauncherRig, argv: tuple[str, ...], said: str) -> None:
    fields = theirs(rig)
    for name, mode in (("plain", 0o755), ("locked", 0o700)):
        (rig.directory / "home" / name).write_text("echo hello\n")
        (rig.directory / "home" / name).chmod(mode)
    answer = rig.start().ask("launch", order=rig.order("a", *argv, **fields).to_json())
    assert answer["ok"], answer
    assert answer["run"]["exit"]["code"] == 126
    assert said in answer["run"]["exit"]["detail"]


@as_root
def test_a_directory_that_its_user_may_not_enter_is_the_node_s_answer(rig: LauncherRig) -> None:
    (rig.directory / "closed").mkdir(mode=0o700)
    fields = theirs(rig, cwd=str(rig.directory / "closed"))
    answer = rig.start().ask("launch", order=rig.order("a", "true", **fields).to_json())
    assert (answer["ok"], answer["kind"]) == (False, "never_started")
    assert f"going to {rig.directory / 'closed'}: Permission denied" in answer["error"]
    rig.launch("b", "exit 4", **theirs(rig))
    assert rig.outcome("b") == ("exit", 4)


@as_root
def test_a_log_that_is_a_second_name_of_root_s_file_is_not_written(rig: LauncherRig) -> None:
    secret = rig.directory / "secret"
    secret.write_text("kept\n")
    fields = theirs(rig)
    os.link(secret, rig.directory / "home" / "out")
    answer = rig.start().ask("launch", order=rig.order("a", "echo spoilt", **fields).to_json())
    assert "does not belong to the owner" in answer["error"]
    assert secret.read_text() == "kept\n"
    assert secret.stat().st_uid == 0
