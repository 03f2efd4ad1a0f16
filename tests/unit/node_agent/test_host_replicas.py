"""When is a replica ready on its node, and when is one that does not answer ended?"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from node_agent.execution.ports import free_port
from node_agent.messages import (
    Exited,
    LaunchSpec,
    PrepareFailed,
    ProbeSpec,
    Ready,
    ServingSpec,
    Stop,
)
from tests.fakes.agent_rig import Listener, alone, key, on_agent, spec
from tests.fakes.processes import eventually


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
