"""What is told of runs whose agent, launcher or service has died, or was closed?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node_agent.attempts import ProcessExited
from node_agent.launcher.records import RunRecord
from node_agent.messages import (
    Exited,
    Forget,
    RenewLease,
    Started,
    Stop,
)
from tests.fakes.agent_rig import Listener, agent, alone, condition, config, key, on_agent, play, spec
from tests.fakes.processes import eventually, lives, number_in

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def killed_agent(place: Path, script: str) -> AsyncIterator[int]:
    """An agent process that started `script` and was then killed with SIGKILL; yields the run's pid."""
    argv = [sys.executable, "-m", "tests.fakes.agent_rig", str(place), script]
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    yield pid


def test_a_run_that_ends_while_no_agent_is_there_is_told_truly(place: Path) -> None:
    async def scene() -> None:
        script = "while [ ! -e go ]; do sleep 0.02; done; echo late >&2; exit 7"
        async with killed_agent(place, script) as pid:
            (place / "go").touch()
            await condition(lambda: not lives(pid), "the run's end")
            async with agent(config(place)) as a:
                exited = await a.until(Exited)
                assert (exited.how, exited.code) == ("exit", 7)
                assert "late" in exited.detail
                hello = await a.hello(1)
                assert [(run.phase, run.exited) for run in hello.runs] == [("exited", exited)]
                await a.perform([Forget(1, key())])
            async with agent(config(place)) as a:
                assert (await a.hello(1)).runs == ()

    play(scene)


def test_a_run_that_goes_on_is_found_by_the_next_agent(place: Path) -> None:
    async def scene() -> None:
        async with (
            killed_agent(place, "echo x >>count; while [ ! -e go ]; do sleep 0.02; done; exit 7") as pid,
            agent(config(place)) as a,
        ):
            run = (await a.hello(1)).runs[0]
            assert (run.key, run.phase, run.pid) == (key(), "running", pid)
            command = alone(key(), spec("echo x >>count", working_dir=str(place)))
            await a.perform([command])  # the service does not know better
            await a.until(Started)
            (place / "go").touch()
            exited = await a.until(Exited)
            assert (exited.how, exited.code) == ("exit", 7)
            assert (place / "count").read_text() == "x\n"

    play(scene)


def test_when_the_launcher_dies_runs_go_on_and_their_end_is_unknown(place: Path) -> None:
    async def scene(a: Listener) -> None:
        script = f"echo x >>{place}/count; while [ ! -e {place}/go ]; do sleep 0.02; done"
        await a.perform([alone(key(), spec(script))])
        started = await a.until(Started)
        await condition((place / "count").exists)
        before = (await a.hello(1)).launcher_pid
        os.kill(before, signal.SIGKILL)
        await condition(lambda: number_in_pid_file(place) not in (0, before), "another launcher")
        assert lives(started.pid)
        other = key("2")
        await a.perform([alone(other, spec("exit 4"))])
        assert (await a.until(Exited, other)).code == 4
        (place / "go").touch()
        exited = await a.until(Exited, key())
        assert (exited.how, exited.code) == ("unknown", None)
        assert (place / "count").read_text() == "x\n"

    on_agent(place, scene)


def number_in_pid_file(place: Path) -> int:
    try:
        return int(json.loads((place / "r" / "launcher.pid").read_text())["pid"])
    except FileNotFoundError:
        return 0


def test_a_stop_that_the_dead_launcher_did_not_hear_is_repeated(place: Path) -> None:
    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec("exec sleep 300"))])
        await a.until(Started)
        pid = (await a.hello(1)).launcher_pid
        os.kill(pid, signal.SIGSTOP)
        await a.perform([Stop(1, key(), False, 30.0, "cancelled")])
        await asyncio.sleep(0)  # the request is on its way to a launcher that never reads it
        os.kill(pid, signal.SIGKILL)
        exited = await a.until(Exited)
        assert (exited.how, exited.asked) == ("unknown", "cancelled")

    on_agent(place, scene)


def test_a_silent_service_ends_training_and_not_inference(place: Path) -> None:
    """Silent is also one that only asks how things are, and a launch on its way is no sign of life."""

    async def scene(a: Listener) -> None:
        train, serve = key("1"), key("2")
        await a.perform([RenewLease(1, 2.0)])
        await a.perform([alone(train, spec("exec sleep 300", grace_s=0.5))])
        await a.perform([alone(serve, spec("exec sleep 300", lease_bound=False))])
        pid = (await a.until(Started, serve)).pid
        asking = asyncio.create_task(keep_asking(a))
        exited = await a.until(Exited, train)
        asking.cancel()
        assert exited.how == "lease"
        assert lives(pid)
        late = await a.run(spec("true"), key("3"))
        assert late.how == "never_started"
        assert "lease lapsed" in late.detail
        await a.perform([RenewLease(1, 60.0)])
        assert (await a.run(spec("true"), key("4"))).code == 0

    on_agent(place, scene)


async def keep_asking(a: Listener) -> None:
    while True:
        await a.hello(1)
        await asyncio.sleep(0.05)


def test_shutdown_leaves_nothing_and_close_leaves_everything(place: Path) -> None:
    async def scene() -> None:
        async with agent(config(place), end=False) as a:
            await a.perform([alone(key(), spec(f"echo $$ >{place}/pid; trap '' TERM; while :; do sleep 0.1; done"))])
            await a.until(Started)
        pid = await asyncio.to_thread(eventually, lambda: number_in(place / "pid"))
        assert lives(pid)
        async with agent(config(place)) as a:
            launcher = (await a.hello(1)).launcher_pid
        assert not lives(pid)
        assert not lives(launcher)
        assert list((place / "r").iterdir()) == []

    play(scene)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_greeting_does_not_call_a_run_alive_that_is_over(
    place: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """While what it had left was being looked at it was said to be running, and was billed until its node was last
    heard of. The wait for that look has an end of its own, longer than the look's."""

    async def scene() -> None:
        looked = asyncio.Event()

        async def exit_facts(record: RunRecord, *others: object) -> ProcessExited:
            await looked.wait()
            assert record.exit is not None
            return ProcessExited(record.pid, record.exit.how, record.exit.code, "", record.exit.at_s)

        monkeypatch.setattr("node_agent.host.exit_facts", exit_facts)
        async with agent(config(place)) as a:
            await a.perform([alone(key("2"), spec("sleep", "30")), alone(key(), spec("true"))])
            await condition(lambda: key() in a.host._runs.ending(), "the run's end")
            if hangs:
                monkeypatch.setattr("node_agent.outcome.END_TOLD_S", 0.05)
            greeting = asyncio.create_task(a.hello(1))
            if not hangs:
                await condition(lambda: a.host._runs.session == 2, "the greeting")
                assert not greeting.done()
                looked.set()
            hello = await greeting
            phases = {report.key: report.phase for report in hello.runs}
            assert phases == {key(): "running" if hangs else "exited", key("2"): "running"}
            looked.set()

    play(scene)
