"""An agent with its launcher, end to end and without Ray: commands in, events out, through every kind of crash."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node_agent import housekeeping, preparing
from node_agent.execution.logs import NoSuchLog
from node_agent.execution.ports import free_port
from node_agent.host import AgentConfig, StaleEpoch, with_directories
from node_agent.messages import (
    NODES_FAULT,
    Checkpointed,
    Exited,
    Forget,
    LaunchSpec,
    Prepare,
    Prepared,
    PrepareFailed,
    ProbeSpec,
    Ready,
    Refused,
    Release,
    RenewLease,
    ServingSpec,
    Started,
    Stop,
)
from node_agent.readings_wire import batch_of
from tests.fakes.agent_rig import CPU, Listener, agent, alone, config, key, spec
from tests.fakes.processes import carrying, end_all, eventually, lives, number_in

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="suanli-h-", dir="/tmp"))
    try:
        yield directory
        left = list(carrying(str(directory)))
        assert not left, f"processes were left: {left}"
    finally:
        end_all(str(directory))
        shutil.rmtree(directory)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scene(), 60.0)

    asyncio.run(bounded())


def on_agent(place: Path, scene: Callable[[Listener], Awaitable[None]]) -> None:
    async def with_agent() -> None:
        async with agent(config(place)) as listener:
            await scene(listener)

    play(with_agent)


async def condition(ask: Callable[[], object], what: str = "the condition") -> None:
    await asyncio.to_thread(eventually, ask, what)


# ---- the life of a run -----------------------------------------------------------------------------------------------


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


# ---- stopping and checkpoints ----------------------------------------------------------------------------------------

TRAINING = """
import os, pathlib, time
from node_agent.checkpointing import checkpoints
with checkpoints() as c:
    pathlib.Path(os.environ["SUANLI_RESULT_FILE"]).with_name("up").touch()
    for step in range(100000):
        time.sleep(0.01)
        if c.requested:
            c.save(lambda directory: (directory / "state").write_text(str(step)), step)
        if c.should_exit:
            break
"""


def test_preemption_saves_first(place: Path) -> None:
    async def scene(a: Listener) -> None:
        (place / "train.py").write_text(TRAINING)
        changes = {"checkpoint_dir": str(place / "ckpt"), "env": (("PYTHONPATH", str(ROOT)),)}
        await a.perform([alone(key(), spec(sys.executable, str(place / "train.py"), **changes))])
        await a.until(Started)
        await condition((place / "state/runs/1/attempt-1/worker-0/up").exists, "the training loop")
        await a.perform([Stop(1, key(), True, 10.0, "preempted")])
        exited = await a.until(Exited)
        assert a.count(Checkpointed, key()) == 1
        assert exited.asked == "preempted"
        assert exited.checkpoint_dir == str(place / "ckpt" / "1" / "attempt-1")
        assert (Path(exited.checkpoint_dir) / "latest").exists()

    on_agent(place, scene)


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM"])
def test_preemption_asks_with_the_signal_that_the_job_wants(place: Path, name: str) -> None:
    async def scene(a: Listener) -> None:
        (place / "train.py").write_text(TRAINING)
        changes = {
            "checkpoint_dir": str(place / "ckpt"),
            "env": (("PYTHONPATH", str(ROOT)),),
            "checkpoint_signal": name,
        }
        await a.perform([alone(key(), spec(sys.executable, str(place / "train.py"), **changes))])
        await a.until(Started)
        await condition((place / "state/runs/1/attempt-1/worker-0/up").exists, "the training loop")
        await a.perform([Stop(1, key(), True, 10.0, "preempted", checkpoint_signal=name)])
        exited = await a.until(Exited)
        assert a.count(Checkpointed, key()) == 1
        assert exited.checkpoint_dir == str(place / "ckpt" / "1" / "attempt-1")

    on_agent(place, scene)


def test_a_run_that_has_saved_and_does_not_go_is_killed_before_its_grace_is_over(place: Path) -> None:
    """With everything that it has started, wherever that went."""

    async def scene(a: Listener) -> None:
        saves = "trap 'touch $SUANLI_CHECKPOINT_ACK' USR1; trap '' TERM"
        leaves = f"(setsid sh -c \"trap '' TERM; echo \\$\\$ >{place}/left; while :; do sleep 0.02; done\" &)"
        script = f"{saves}; {leaves}; echo x >{place}/up; while :; do sleep 0.02; done"
        await a.perform([alone(key(), spec(script, checkpoint_dir=str(place / "ckpt")))])
        await condition(lambda: (place / "up").exists() and number_in(place / "left"))
        left = number_in(place / "left")
        await a.perform([Stop(1, key(), True, 600.0, "preempted", kill_wait_s=0.3)])
        exited = await a.until(Exited)
        assert (exited.how, exited.code, exited.asked) == ("signal", 9, "preempted")
        assert a.count(Checkpointed, key()) == 1
        await condition(lambda: not lives(left))

    on_agent(place, scene)


def test_a_run_without_a_checkpoint_names_none(place: Path) -> None:
    async def scene(a: Listener) -> None:
        exited = await a.run(spec("true", checkpoint_dir=str(place / "ckpt")))
        assert exited.checkpoint_dir is None

    on_agent(place, scene)


def test_a_stubborn_run_is_killed_at_the_end_of_its_grace(place: Path) -> None:
    async def scene(a: Listener) -> None:
        script = f"trap '' TERM; echo x >{place}/up; while :; do sleep 0.02; done"
        await a.perform([alone(key(), spec(script))])
        await condition((place / "up").exists)
        await a.perform([Stop(1, key(), False, 0.3, "cancelled")])
        exited = await a.until(Exited)
        assert (exited.how, exited.code, exited.asked) == ("signal", 9, "cancelled")

    on_agent(place, scene)


def test_a_later_attempt_finds_what_a_lost_node_had_saved(place: Path) -> None:
    async def scene(a: Listener) -> None:
        saved = place / "ckpt" / "1" / "attempt-2"
        saved.mkdir(parents=True)
        (saved / "weights").touch()
        what = spec("echo $SUANLI_RESUME_FROM", checkpoint_dir=str(place / "ckpt"), resume_from=f"{place}/attempt-1")
        await a.run(what, key(attempt=3))
        assert (await a.host.read_log("1", 3, 0, "stdout", 0, 999)).data.decode() == f"{saved}\n"

    on_agent(place, scene)


def test_a_clock_that_is_set_kills_nobody_early(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(a: Listener) -> None:
        script = f"trap '' TERM; echo x >{place}/up; while [ ! -e {place}/go ]; do sleep 0.02; done; exit 5"
        await a.perform([alone(key(), spec(script))])
        await condition((place / "up").exists)
        stop = Stop(1, key(), False, 30.0, "cancelled")
        await a.perform([stop])
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600.0)
        await a.perform([stop])  # whatever comes now, the deadlines are looked at again
        assert not any(isinstance(event, Exited) for event in (await a.host.events(a.seq, 0.3)).events[1:])
        (place / "go").touch()
        assert (await a.until(Exited)).code == 5

    on_agent(place, scene)


def test_an_acknowledgement_is_a_file(place: Path) -> None:
    async def scene(a: Listener) -> None:
        ack = place / "state/runs/1/attempt-1/worker-0/checkpoint-ack"
        script = f"mkdir {ack}; echo x >{place}/up; exec sleep 300"
        await a.perform([alone(key(), spec(script, checkpoint_dir=str(place / "ckpt")))])
        await condition((place / "up").exists)
        await a.perform([Stop(1, key(), True, 0.5, "preempted")])
        assert (await a.until(Exited)).asked == "preempted"
        assert a.count(Checkpointed, key()) == 0

    on_agent(place, scene)


# ---- replicas --------------------------------------------------------------------------------------------------------


def test_a_command_is_ready_when_its_port_answers(place: Path) -> None:
    async def scene(a: Listener) -> None:
        server = f'exec {sys.executable} -m http.server "$SUANLI_PORT" --bind 127.0.0.1 --directory {place}'
        await a.perform([alone(key(), spec(server, serves=True, lease_bound=False, kind="inference"))])
        ready = await a.until(Ready)
        host, port = ready.address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        assert (await a.hello(1)).runs[0].phase == "ready"

    on_agent(place, scene)


def test_a_ready_file_says_where(place: Path) -> None:
    async def scene(a: Listener) -> None:
        script = "echo half >$SUANLI_READY_FILE.new; echo 127.0.0.1:4567 >$SUANLI_READY_FILE; exec sleep 300"
        await a.perform([alone(key(), spec(script, serves=True, lease_bound=False))])
        assert (await a.until(Ready)).address == "127.0.0.1:4567"

    on_agent(place, scene)


SERVER = """
import http.server, os, sys, time
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[1] + ".asked", "w").close()
        well = os.path.exists(sys.argv[1])
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SUANLI_PORT"])), Answers).serve_forever()
"""


def server(place: Path, well: Path, **serving: object) -> LaunchSpec:
    (place / "server.py").write_text(SERVER)
    argv = (sys.executable, str(place / "server.py"), str(well))
    return spec(*argv, serves=True, lease_bound=False, kind="inference", serving=ServingSpec(**serving))  # type: ignore[arg-type]


def test_a_command_with_a_path_is_ready_when_it_says_so(place: Path) -> None:
    async def scene(a: Listener) -> None:
        well = place / "well"
        await a.perform([alone(key(), server(place, well, readiness=ProbeSpec("/health", interval_s=0.05)))])
        await asyncio.to_thread(eventually, (place / "well.asked").exists)
        assert a.count(Ready, key()) == 0
        well.touch()
        assert (await a.until(Ready)).unix_path is None

    on_agent(place, scene)


def test_one_that_is_not_ready_in_time_is_ended_and_nobody_is_said_to_have_asked(place: Path) -> None:
    async def scene(a: Listener) -> None:
        probe = ProbeSpec("/health", interval_s=0.05, timeout_s=1.0)
        await a.perform([alone(key(), server(place, place / "never", readiness=probe))])
        exited = await a.until(Exited)
        assert (exited.how, exited.code, exited.asked) == ("signal", signal.SIGKILL, None)
        assert exited.detail.startswith("it was not ready within 1 s")

    on_agent(place, scene)


def test_one_that_does_not_answer_well_any_more_is_ended(place: Path) -> None:
    async def scene(a: Listener) -> None:
        well = place / "well"
        well.touch()
        probe = ProbeSpec("/health", interval_s=0.05, timeout_s=2.0, failures=2)
        await a.perform([alone(key(), server(place, well, readiness=probe, liveness=probe))])
        await a.until(Ready)
        well.unlink()
        exited = await a.until(Exited)
        assert (exited.how, exited.asked) == ("signal", None)
        assert "it was ended, for GET /health on port" in exited.detail
        assert "was answered with 503, not 200, 2 times in a row" in exited.detail

    on_agent(place, scene)


def test_a_port_of_the_job_files_is_what_the_command_is_told(place: Path) -> None:
    async def scene(a: Listener) -> None:
        port = free_port("127.0.0.1")
        (place / "well").touch()
        await a.perform([alone(key(), server(place, place / "well", port=port))])
        assert (await a.until(Ready)).address == f"127.0.0.1:{port}"
        await a.perform([alone(key("2"), server(place, place / "well", port=port))])
        failed = await a.until(PrepareFailed)
        assert (failed.field, f"port {port} of node n1 is in use" in failed.detail) == ("node", True)

    on_agent(place, scene)


def test_a_model_answers_on_a_socket_that_the_agent_has_published(place: Path) -> None:
    async def scene(a: Listener) -> None:
        model = place / "same.py"
        model.write_text("class Same:\n    def predict(self, batch):\n        return batch\n")
        told = spec(model_path=str(model), model_class="Same", serves=True, lease_bound=False, kind="inference")
        await a.perform([alone(key(), told)])
        ready = await a.until(Ready)
        assert ready.unix_path is not None
        assert Path(ready.unix_path).parent == place / "state" / "sockets"
        assert (await a.hello(1)).runs[0].unix_path == ready.unix_path
        reader, writer = await asyncio.open_unix_connection(ready.unix_path)
        writer.write(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await a.perform([Stop(1, key(), False, 5.0, "cancelled")])
        assert (await a.until(Exited)).code == 0
        assert not os.listdir(place / "state" / "sockets")

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
        assert len(first.events) == 0 or first.events[-1].seq == a.seq
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


# ---- crashes ---------------------------------------------------------------------------------------------------------


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


# ---- logs ------------------------------------------------------------------------------------------------------------

CHATTER = "i=0; while [ $i -lt 4000 ]; do printf '%01023d\\n' $i; i=$((i+1)); done; echo the end >&2; exec sleep 300"


def test_a_log_is_capped_while_its_run_goes_on_writing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CAP_PERIOD_S", 0.05)
    cap, run = 256 << 10, place / "state" / "runs" / "1" / "attempt-1" / "worker-0"

    def kept() -> int:
        beside = [each for each in run.iterdir() if "stdout" in each.name]
        return sum(each.stat().st_blocks * 512 for each in beside)

    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec(CHATTER, log_cap_bytes=cap))])
        await a.until(Started)
        await condition(lambda: (run / "stderr").stat().st_size and kept() <= cap + 4096, "the cap")
        data, offset, skipped = b"", 0, 0
        while (chunk := await a.host.read_log("1", 1, 0, "stdout", offset, 1 << 20)).data:
            data, offset, skipped = data + chunk.data, chunk.next_offset, skipped + chunk.skipped
        assert (offset, len(data) + skipped) == (4000 * 1024, 4000 * 1024)
        assert skipped > 3 << 20
        assert data.startswith(b"0" * 1023 + b"\n")
        assert data.endswith(b"%01023d\n" % 3999)

    on_agent(place, scene)


def test_a_run_that_is_over_before_anybody_looked_is_capped_at_its_end(place: Path) -> None:
    run = place / "state" / "runs" / "1" / "attempt-1" / "worker-0"

    async def scene(a: Listener) -> None:
        await a.run(spec("head -c 3000000 /dev/zero | tr '\\0' x", log_cap_bytes=256 << 10))
        await condition(lambda: (run / "stdout").stat().st_blocks * 512 <= 256 << 10)

    on_agent(place, scene)


def test_files_of_forgotten_runs_are_removed_and_of_others_not(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CAP_PERIOD_S", 0.05)
    monkeypatch.setattr(housekeeping, "RETENTION_PERIOD_S", 0.05)
    monkeypatch.setattr(housekeeping, "FIRST_RETENTION_S", 0.05)
    runs = place / "state" / "runs"

    async def scene(a: Listener) -> None:
        for job in ("1", "2"):
            await a.run(spec("echo hello", log_keep_s=0.2), key(job))
        await a.perform([Forget(1, key("1"))])
        await condition(lambda: not (runs / "1").exists(), "the end of what was kept")
        assert (await a.host.read_log("2", 1, 0, "stdout", 0, 100)).data == b"hello\n"
        with pytest.raises(NoSuchLog):
            await a.host.read_log("1", 1, 0, "stdout", 0, 100)

    on_agent(place, scene)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_served_with_who_holds_each_device(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = place / "token"
    token.write_text("suanli_0123456789abcdef")
    token.chmod(0o600)
    monkeypatch.setenv("SUANLI_NODE_METRICS", "127.0.0.1:0")
    monkeypatch.setenv("SUANLI_NODE_METRICS_TOKEN", str(token))

    async def scene(a: Listener) -> None:
        await a.perform([alone(key(), spec("exec sleep 30", device_indices=(0,)))])
        await a.until(Started, key())
        assert a.host._door is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", a.host._door.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer suanli_0123456789abcdef\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        assert text.startswith("HTTP/1.1 200 OK")
        held = [line for line in text.splitlines() if 'job_id="1",tenant="studio"' in line]
        assert any(line.startswith("suanli_device_memory_used_bytes") for line in held)
        assert 'suanli_node_devices_found{node="s1"} 2.0' in text

    on_agent(place, scene)


def test_a_door_that_cannot_be_opened_is_a_note_and_stops_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUANLI_NODE_METRICS", "127.0.0.1:0")

    async def scene(a: Listener) -> None:
        hello = await a.hello(1)
        assert any("no metrics are served here" in note for note in hello.nodes[0].notes)

    on_agent(place, scene)


def test_a_runs_end_tells_what_its_devices_used(place: Path) -> None:
    async def scene(a: Listener) -> None:
        simulated = await a.run(spec("sleep 0.3", device_indices=(0, 1)), key("1", node="s1"))
        assert simulated.use is not None
        assert (simulated.use.devices, simulated.use.simulated) == (2, True)
        assert simulated.use.joules is not None
        assert simulated.use.joules > 0
        shared = await a.run(spec("true", share_milli=250), key("2", node="s1"))
        on_cpu = await a.run(spec("true"), key("3"))
        assert (shared.use, on_cpu.use) == (None, None)

    on_agent(place, scene)
