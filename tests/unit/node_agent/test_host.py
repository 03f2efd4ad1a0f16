"""An agent with its launcher, end to end and without Ray: commands in, events out."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node_agent import preparing
from node_agent.execution.logs import NoSuchLog
from node_agent.host import AgentConfig, StaleEpoch, with_directories
from node_agent.messages import (
    NODES_FAULT,
    Exited,
    Forget,
    LaunchSpec,
    Prepare,
    Prepared,
    PrepareFailed,
    Refused,
    Release,
    RenewLease,
    Started,
    Stop,
)
from node_agent.readings_wire import batch_of
from tests.fakes.agent_rig import CPU, Listener, alone, condition, config, key, on_agent, spec
from tests.fakes.processes import lives


def test_from_prepare_to_exited(place: Path) -> None:
    async def scene(a: Listener) -> None:
        script = 'echo hello; echo {\\"loss\\": 0.5} >$SUANLI_RESULT_FILE; echo why >&2; exit 3'
        exited = await a.run(spec(script))
        assert [event.kind for event in a.events] == ["started", "exited"]
        assert (exited.how, exited.code, exited.asked) == ("exit", 3, None)
        assert exited.result is not None
        assert json.loads(exited.result) == {"loss": 0.5}
        assert exited.detail == "last lines of stderr:\nwhy"
        assert time.time() - exited.at_s < 5.0
        chunk = await a.host.read_log("1", 1, 0, "stdout", 0, 100)
        assert (chunk.data, chunk.end) == (b"hello\n", True)
        with pytest.raises(NoSuchLog):
            await a.host.read_log("2", 1, 0, "stdout", 0, 100)

    on_agent(place, scene)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"argv": ("no-such-program",)}, "command"),
        ({"working_dir": "/no/such/dir"}, "working_dir"),
        ({"checkpoint_dir": "/proc/no"}, "checkpoint.dir"),
        ({"argv": None, "model_path": "/no/model.py", "model_class": "M"}, "model"),
        ({"device_indices": (99,)}, NODES_FAULT),
        ({"working_dir": "/a\0b"}, "working_dir"),
        ({"checkpoint_dir": "/a\0b"}, NODES_FAULT),
    ],
)
def test_what_cannot_start_is_said_before_anything_starts(place: Path, changes: dict[str, object], field: str) -> None:
    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec("true", **changes))])
        failed = await a.until(PrepareFailed)
        assert failed.field == field
        assert [event.kind for event in a.events] == ["prepare_failed"]

    on_agent(place, scene)


def test_a_path_that_does_not_answer_is_named_and_holds_up_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, silent = preparing.check, threading.Event()

    def hanging(what: LaunchSpec, *arguments: Any) -> object:
        if what.working_dir == "/shared/data":
            arguments[3](Path("/shared/data"))
            silent.wait()
        return real(what, *arguments)

    monkeypatch.setattr(preparing, "check", hanging)
    monkeypatch.setattr(preparing, "CHECK_TIMEOUT_S", 2.0)

    async def scene(a: Listener) -> None:
        running = key("running")
        await a.perform([alone(running, spec(f"echo x; while [ ! -e {place}/go ]; do sleep 0.02; done; exit 4"))])
        await a.until(Started, running)
        hung = [key(str(number)) for number in range(40)]
        await a.perform([alone(each, spec("true", working_dir="/shared/data")) for each in hung])
        (place / "go").touch()
        assert (await a.until(Exited, running)).code == 4
        assert (await a.host.read_log("running", 1, 0, "stdout", 0, 9)).data == b"x\n"
        assert a.count(PrepareFailed, hung[0]) == 0, "that was to happen while the checks hang"
        failed = [await a.until(PrepareFailed, each) for each in hung]
        assert {each.field for each in failed} == {"node"}
        assert failed[0].detail.startswith("/shared/data did not answer within 2 s on node n1")
        assert "still waits for file systems" in failed[-1].detail

    try:
        on_agent(place, scene)
    finally:
        silent.set()


def test_a_check_that_breaks_is_an_answer(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(preparing, "check", broken)

    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec("true"))])
        failed = await a.until(PrepareFailed)
        assert failed.field == "node"
        assert "a bug" in failed.detail

    on_agent(place, scene)


def test_a_launch_that_breaks_is_an_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        raise KeyError("a bug")

    monkeypatch.setattr(preparing, "launch_order", broken)

    async def scene(a: Listener) -> None:
        exited = await a.run(spec("true"))
        assert exited.how == "never_started"
        assert exited.detail == "node n1 could not start it: 'a bug'"

    on_agent(place, scene)


def test_a_command_that_cannot_be_executed_ends_as_the_jobs_own_fault(place: Path) -> None:
    async def scene(a: Listener) -> None:
        (place / "plain").write_text("echo hello\n")
        (place / "plain").chmod(0o755)
        exited = await a.run(spec(str(place / "plain"), "x"))
        assert (exited.how, exited.code) == ("exit", 126)
        assert exited.detail.startswith("cannot be executed: ")
        assert exited.detail.endswith("give it a #! line or run it by its interpreter")
        assert [event.kind for event in a.events] == ["exited"]

    on_agent(place, scene)


def test_a_run_gets_the_devices_that_it_was_prepared_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's devices are enumerated anew between Prepare and Release."""

    async def scene(a: Listener) -> None:
        node = a.host._nodes["s1"]
        first, second = node.devices((0, 1))
        moved, gone = key("1", node="s1"), key("2", node="s1")
        what = spec("echo $SUANLI_DEVICES", world_size=2)
        await a.perform([Prepare(1, each, what, release=False) for each in (moved, gone)])
        port = (await a.until(Prepared, moved)).master_port
        await a.until(Prepared, gone)
        node._devices = (replace(second, index=0), replace(first, index=1))
        await a.perform([Release(1, moved, "127.0.0.1", port)])
        await a.until(Exited, moved)
        assert (await a.host.read_log("1", 1, 0, "stdout", 0, 99)).data.decode() == f"{first.uuid}\n"
        node._devices = (second,)
        await a.perform([Release(1, gone, "127.0.0.1", port)])
        exited = await a.until(Exited, gone)
        assert exited.how == "never_started"
        assert f"device 0 ({first.uuid}) is not there any more" in exited.detail

    on_agent(place, scene)


def test_a_node_that_is_not_here_and_a_bad_job_id(place: Path) -> None:
    async def scene(a: Listener) -> None:
        elsewhere, escaping = key(node="n9"), key(job_id="../../etc")
        await a.perform([alone(elsewhere, spec("true")), alone(escaping, spec("true"))])
        assert (await a.until(PrepareFailed, elsewhere)).field == "node"
        assert (await a.until(PrepareFailed, escaping)).field == "node"

    on_agent(place, scene)


def test_a_gang_starts_when_released_and_meets_where_it_is_told(place: Path) -> None:
    async def scene(a: Listener) -> None:
        keys = [key(worker=0), key(worker=1)]
        what = spec("echo $RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT", world_size=2)
        await a.perform([Prepare(1, each, what, release=False) for each in keys])
        first, second = [await a.until(Prepared, each) for each in keys]
        assert first.master_port != second.master_port
        assert not any(isinstance(event, Started) for event in a.events)
        await a.perform([Release(1, each, first.address, first.master_port) for each in keys])
        for rank, each in enumerate(keys):
            assert (await a.until(Exited, each)).code == 0
            chunk = await a.host.read_log("1", 1, rank, "stdout", 0, 100)
            assert chunk.data.decode() == f"{rank}/2 127.0.0.1:{first.master_port}\n"

    on_agent(place, scene)


def test_a_simulated_run_says_so_and_sees_no_card(place: Path) -> None:
    async def scene(a: Listener) -> None:
        run = key(node="s1")
        what = spec(
            "echo $SUANLI_SIMULATED,$SUANLI_DEVICE_MODEL,[$CUDA_VISIBLE_DEVICES]; sleep 300", device_indices=(1,)
        )
        await a.perform([alone(run, what)])
        await a.until(Started, run)
        await condition(lambda: (place / "state/runs/1/attempt-1/worker-0/stdout").read_text().endswith("\n"))
        chunk = await a.host.read_log("1", 1, 0, "stdout", 0, 100)
        assert (chunk.data, chunk.end) == (b"1,H100 SXM,[]\n", False)
        readings = (await a.host.readings())["s1"]
        busy = [fields["utilisation_percent"]["value"] > 0 for fields in readings.values()]
        assert busy == [False, True]
        assert {fields["power_watts"]["quality"] for fields in readings.values()} == {"simulated"}
        await a.perform([Stop(1, run, False, 5.0, "cancelled")])
        await a.until(Exited, run)
        readings = (await a.host.readings())["s1"]
        assert [fields["utilisation_percent"]["value"] for fields in readings.values()] == [0.0, 0.0]

    on_agent(place, scene)


def test_asked_twice_is_answered_twice_and_started_once(place: Path) -> None:
    async def scene(a: Listener) -> None:
        command = alone(key(), spec(f"echo x >>{place}/count; while [ ! -e {place}/go ]; do sleep 0.02; done"))
        await a.perform([command, command])
        await a.until(Started)
        await a.perform([command])
        (place / "go").touch()
        await a.until(Exited)
        await a.perform([command, Stop(1, key(), False, 1.0, "late")])
        await a.perform([Forget(1, key())])
        assert (await a.hello(1)).runs == ()
        await a.perform([Stop(1, key("none"), False, 1.0, "stray")])
        assert (await a.until(Exited, key("none"))).how == "never_started"
        ends = {event for event in a.events if isinstance(event, Exited) and event.key == key()}
        assert a.count(Exited, key()) == 3
        assert len(ends) == 1
        assert (place / "count").read_text() == "x\n"

    on_agent(place, scene)


# ---- epochs, events, readings ----------------------------------------------------------------------------------------


def test_a_service_that_was_replaced_is_refused(place: Path) -> None:
    async def scene(a: Listener) -> None:
        await a.hello(5)
        await a.perform([alone(key(), spec("true"), epoch=4), RenewLease(4, 9.0)])
        assert (await a.until(Refused)).epoch == 5
        with pytest.raises(StaleEpoch):
            await a.hello(4)
        assert (await a.hello(5)).runs == ()

    on_agent(place, scene)


def test_events_are_kept_until_committed(place: Path) -> None:
    async def scene(a: Listener) -> None:
        await a.run(spec("true"))
        first = await a.host.events(0, 0.0)
        again = await a.host.events(0, 0.0)
        assert first.events == again.events
        assert first.clock_s <= again.clock_s
        assert [event.seq for event in first.events][-1:] == [a.seq]
        assert (await a.host.events(a.seq, 0.0)).events == ()
        waiting = asyncio.create_task(a.host.events(a.seq, 10.0))
        await a.perform([Stop(1, key("x"), False, 1.0, "stray")])
        assert [numbered.seq for numbered in (await waiting).events] == [a.seq + 1]

    on_agent(place, scene)


def test_hello_tells_who_is_here(place: Path) -> None:
    async def scene(a: Listener) -> None:
        hello = await a.hello(1)
        assert [(node.name, node.simulated, len(node.devices) > 0) for node in hello.nodes] == [
            ("n1", False, True),
            ("s1", True, True),
        ]
        assert hello.nodes[0].cpus_milli == 2000
        assert hello.nodes[1].devices[0].simulated
        assert any("simulated" in note for note in hello.nodes[1].notes)
        assert lives(hello.launcher_pid)
        assert os.getsid(hello.launcher_pid) != os.getsid(0)
        readings = await a.host.readings()
        assert set(readings) == {"n1", "s1"}
        told = await a.host.read(0, 0)
        heads = [section.head for body in told.batches for section in batch_of(body).sections]
        assert [head and len(head.devices) for head in heads] == [len(node.devices) for node in hello.nodes]
        more = await a.host.read(told.book, told.number)
        assert (more.book, more.number) == (told.book, told.number + 1)
        assert len(b"".join(more.batches)) < len(b"".join(told.batches)) / 2
        assert {"value", "unit", "at_s", "quality"} == set(next(iter(readings["n1"].values()))["memory_used_bytes"])

    on_agent(place, scene)


def test_directories_come_from_the_node_when_the_engine_names_none(tmp_path: Path) -> None:
    named = with_directories(
        AgentConfig("n/1", (CPU,), "", ""), {"SUANLI_NODE_STATE": "/s", "SUANLI_NODE_RUNTIME": "/r"}
    )
    assert (named.state_dir, named.runtime_dir) == (Path("/s/n_1"), Path("/r/n_1"))
    assert with_directories(config(tmp_path), {}) == config(tmp_path)
    with pytest.raises(RuntimeError, match="SUANLI_NODE_RUNTIME not set"):
        with_directories(AgentConfig("n1", (CPU,), "", ""), {"SUANLI_NODE_STATE": "/s"})
