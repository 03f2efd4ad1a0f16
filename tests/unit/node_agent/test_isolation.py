"""A tenant's runs go as the Unix user that the configuration names for it, where the agent runs as root."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent import preparing
from node_agent.execution.accounts import find_account
from node_agent.messages import NODES_FAULT, Checkpointed, Exited, PrepareFailed, Started, Stop
from tests.fakes.agent_rig import Listener, alone, key, on_agent, spec
from tests.fakes.other_user import OTHER, as_root, others_directory, passable_place


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_place("suanli-i-") as directory:
        yield directory


WHO = """printf '{"uid": %s, "home": "%s", "user": "%s", "name": "%s"}' $(id -u) $HOME $USER $LOGNAME"""


@as_root
def test_a_run_goes_as_its_tenant_s_user(place: Path) -> None:
    async def scene(a: Listener) -> None:
        exited = await a.run(spec(f"{WHO} >$SUANLI_RESULT_FILE; echo hello; pwd >here; exit 3", unix_user=OTHER))
        assert (exited.how, exited.code) == ("exit", 3)
        other = find_account(OTHER)
        assert exited.result is not None, exited
        told = json.loads(exited.result)
        assert told == {"uid": other.uid, "home": other.home, "user": OTHER, "name": OTHER}
        run = place / "state" / "runs" / "1" / "attempt-1" / "worker-0"
        assert (run.stat().st_uid, run.stat().st_mode & 0o777) == (other.uid, 0o700)
        assert (run / "here").read_text().strip() == str(run)
        for directory in run.parents[:4]:
            assert (directory.stat().st_uid, directory.stat().st_mode & 0o777) == (0, 0o711), directory
        assert (await a.host.read_log("1", 1, 0, "stdout", 0, 100)).data == b"hello\n"

    on_agent(place, scene)


@as_root
def test_a_run_without_a_named_user_goes_as_the_agent_s(place: Path) -> None:
    async def scene(a: Listener) -> None:
        exited = await a.run(spec("id -u >$SUANLI_RESULT_FILE"))
        assert exited.result == "0\n"
        run = place / "state" / "runs" / "1" / "attempt-1" / "worker-0"
        assert (run.stat().st_uid, run.stat().st_mode & 0o777) == (0, 0o700)

    on_agent(place, scene)


@as_root
def test_an_unknown_user_is_a_clear_failure_of_the_node(place: Path) -> None:
    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec("true", unix_user="suanli-no-such", tenant="hospital"))])
        failed = await a.until(PrepareFailed)
        assert failed.field == NODES_FAULT
        for word in ("suanli-no-such", "hospital", "n1", "tenants.yaml"):
            assert word in failed.detail

    on_agent(place, scene)


@as_root
def test_a_user_who_cannot_get_to_its_run_is_told_what_to_do(place: Path) -> None:
    async def scene(a: Listener) -> None:
        os.chmod(place, 0o700)
        await a.perform([alone(key(), spec("true", unix_user=OTHER))])
        failed = await a.until(PrepareFailed)
        assert failed.field == NODES_FAULT
        assert f"Unix user {OTHER} of tenant studio cannot get into {place}" in failed.detail
        assert "SUANLI_HOME" in failed.detail

    on_agent(place, scene)


@as_root
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"working_dir": "closed"}, "working_dir"),
        ({"checkpoint_dir": "closed/c"}, "checkpoint.dir"),
        ({"argv": ("closed/run.sh",)}, "command"),
        ({"argv": ("locked.sh",)}, "command"),
        ({"argv": None, "model_path": "closed/model.py", "model_class": "M"}, "model"),
    ],
)
def test_checks_ask_as_the_tenant_s_user(place: Path, changes: dict[str, object], field: str) -> None:
    """Each of these would pass if root were asked."""
    (place / "closed").mkdir(mode=0o700)
    for name in ("closed/run.sh", "locked.sh"):
        (place / name).write_text("#!/bin/sh\n")
        (place / name).chmod(0o700)
    (place / "closed" / "model.py").write_text("class M: pass\n")

    def absolute(value: object) -> object:
        if isinstance(value, tuple):
            return (f"{place}/{value[0]}",)
        return value if value is None or value == "M" else f"{place}/{value}"

    there = {name: absolute(value) for name, value in changes.items()}

    async def scene(a: Listener) -> None:
        run = key()
        await a.perform([alone(run, replace(spec("true", unix_user=OTHER), **there))])
        if field == "model" and (failed := await a.until(PrepareFailed)).field == NODES_FAULT:
            assert "cannot run" in failed.detail  # this interpreter is not for every user
            return
        assert (await a.until(PrepareFailed)).field == field

    on_agent(place, scene)


@as_root
def test_a_checkpoint_that_only_its_user_may_see_is_found(place: Path) -> None:
    """On a file system where root is nobody, root would not find it."""
    saves = "trap 'echo x >$SUANLI_CHECKPOINT_DIR/state; touch $SUANLI_CHECKPOINT_ACK; exit 0' USR1"
    script = f"{saves}; echo up >up; while :; do sleep 0.02; done"
    directory = others_directory(place / "checkpoints")

    async def scene(a: Listener) -> None:
        what = spec(script, unix_user=OTHER, checkpoint_dir=str(directory))
        await a.perform([alone(key(), what)])
        await a.until(Started)
        up = place / "state" / "runs" / "1" / "attempt-1" / "worker-0" / "up"
        for _ in range(1500):
            if up.exists():
                break
            await asyncio.sleep(0.01)
        await a.perform([Stop(1, key(), checkpoint=True, grace_s=20.0, cause="preempted")])
        exited = await a.until(Exited)
        assert a.count(Checkpointed, key()) == 1
        assert exited.checkpoint_dir == str(directory / "1" / "attempt-1")
        assert (directory / "1" / "attempt-1" / "state").stat().st_uid == find_account(OTHER).uid

    on_agent(place, scene)


def test_in_single_user_mode_a_named_user_changes_nothing_and_the_node_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "why_single_user", lambda: "the agent runs as alice and not as root")
    monkeypatch.setattr("node_agent.execution.accounts.why_single_user", lambda: "the agent runs as alice")

    async def scene(a: Listener) -> None:
        exited = await a.run(spec("id -u >$SUANLI_RESULT_FILE", unix_user="suanli-no-such"))
        assert exited.result == f"{os.geteuid()}\n"
        (node, *_) = (await a.hello(1)).nodes
        assert any(note.startswith("single-user mode") for note in node.notes)

    on_agent(place, scene)
