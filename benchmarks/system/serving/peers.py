"""Peers, each in a process of its own: `python -m benchmarks.system.serving.peers NAME MODEL PORT DIRECTORY` serves.

Every peer answers a POST of `{"inputs": [...]}` with `{"outputs": [...]}`, parses and writes JSON, and has one replica;
none checks a token. `replica-alone` is our own model server without the gateway. The one that measures starts a peer in
a directory and a session of its own, waits until it answers, and ends what it started by pid.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.provenance import CHECKOUT
from benchmarks.system.serving.generators import Call
from benchmarks.system.serving.site import Asking, marked_and_below, until
from scheduler.errors import SuanliError, Unavailable

MODELS: Mapping[str, tuple[str, str]] = {"noop": ("serve_noop", "Noop"), "mlp": ("serve_mlp", "Mlp")}
MAX_BATCH = 32
START_WITHIN_S = 120.0
END_WITHIN_S = 20.0
MARK = "SUANLI_BENCH_PEER"
DIRECT = 1  # Ray Serve's direct ingress: the first port of the range that its replicas are given
# As many threads of arithmetic as our replica has by its demand: more of them than cores would be slower.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Peer:
    """`package`: what must be installed. `path`: of a call. `port_offset`: where it listens, from the port that it is
    given."""

    package: str
    notes: str
    serve: Callable[[str, int, Path], None]
    path: str = "/"
    environment: Mapping[str, str] | None = None
    port_offset: int = 0


@contextlib.contextmanager
def peer_serving(name: str, model: str) -> Iterator[Call]:
    """A call without a body that reaches the peer. Raises Unavailable with its last words where it does not serve."""
    peer = PEERS[name]
    port, mark = _free_port(), uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="sp", dir="/tmp", ignore_cleanup_errors=True) as home:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SUANLI_", "MOSEC_"))}
        environment = kept | {"HOME": home, "TMPDIR": home, "PYTHONPATH": str(CHECKOUT), MARK: mark}
        environment |= {**ONE_THREAD, **(peer.environment or {})}
        if name.startswith("ray-serve"):
            environment |= ray_serve_ports(port)
        log = Path(home) / "peer.log"
        with open(log, "wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.system.serving.peers", name, model, str(port), home],
                env=environment,
                cwd=CHECKOUT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Call(f"http://127.0.0.1:{_answering(child, port, peer, model, log)}{peer.path}", "")
        finally:
            _end(child, mark)


def _answering(child: subprocess.Popen[bytes], port: int, peer: Peer, model: str, log: Path) -> int:
    """The port on which it answers: our replica chooses it and tells."""
    found: list[int] = []
    told = log.with_name("address")

    def answers() -> bool:
        if child.poll() is not None:
            raise Unavailable(f"it ended while starting: {_last_words(log)}")
        own = [int(told.read_text().split("\n")[0].rpartition(":")[2])] if told.exists() else []
        for one in own or (port + peer.port_offset,):
            caller = Asking(Call(f"http://127.0.0.1:{one}{peer.path}", body_of(model)))
            answer = caller.ask()
            caller.close()
            if answer is not None and answer.status == 200 and answer.outputs:
                found.append(one)
                return True
        return False

    until(answers, within_s=START_WITHIN_S, what=f"it answers ({_last_words(log)})", pause_s=0.1)
    return found[0]


def _end(child: subprocess.Popen[bytes], mark: str) -> None:
    """In good order if it goes; then whatever is left of it, by pid."""
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(END_WITHIN_S)
    for pid in marked_and_below(MARK, mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait()


def installed(name: str) -> bool:
    return importlib.util.find_spec(PEERS[name].package) is not None


def version_of(name: str) -> str:
    package = PEERS[name].package
    return "" if package == "node_agent" else importlib.metadata.version(package)


def body_of(model: str) -> str:
    """The same octets for every system."""
    if model == "mlp":
        return json.dumps({"inputs": [[round(0.001 * number, 3) for number in range(512)]]})
    return '{"inputs": [1]}'


def ray_serve_ports(port: int) -> dict[str, str]:
    """Direct ingress has its replicas listen on ports of a range; ours begins at the first of two that are ours."""
    return {
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(port + DIRECT),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(port + 50),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(port + 51),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(port + 99),
    }


# ---- what each serves, in its own process --------------------------------------------------------------------------


def predict_of(model: str) -> Callable[[list[Any]], Any]:
    """The same model class that our replicas load."""
    module, name = MODELS[model]
    made = getattr(importlib.import_module(f"examples.{module}"), name)()
    if hasattr(made, "load"):
        made.load()
    predict: Callable[[list[Any]], Any] = made.predict
    return predict


def plain(outputs: Any) -> list[Any]:
    found = outputs.tolist() if hasattr(outputs, "tolist") else outputs
    return list(found)


def uvicorn_bare(model: str, port: int, directory: Path) -> None:
    """An ASGI application of ten lines under uvicorn, with what makes it fastest. No batching."""
    import uvicorn

    predict = predict_of(model)
    kind = (b"content-type", b"application/json")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        answer = json.dumps({"outputs": plain(predict(json.loads(body)["inputs"]))}).encode()
        headers = [kind, (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


def replica_alone(model: str, port: int, directory: Path) -> None:
    """Our model server, as an agent would start it, without gateway and secret; its answers go to whoever asks."""
    module, name = MODELS[model]
    ready = directory / "ready"
    os.environ["SUANLI_READY_FILE"] = str(ready)
    argv = ["-m", "node_agent.serving", "--model", str(CHECKOUT / "examples" / f"{module}.py"), "--class", name]
    child = subprocess.Popen([sys.executable, *argv])
    _on_end(child.terminate)
    until(lambda: ready.exists() or child.poll() is not None, within_s=START_WITHIN_S, what="the replica is ready")
    if ready.exists():
        os.replace(ready, directory / "address")
    sys.exit(child.wait())


def ray_serve(model: str, port: int, directory: Path) -> None:
    """Ray Serve with one replica in a Ray of its own. Its settings come as environment variables."""
    serve: Any = importlib.import_module("ray.serve")
    ray: Any = importlib.import_module("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        _temp_dir=str(directory / "r"),
        _node_ip_address="127.0.0.1",
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    best = os.environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED") == "1"

    class Alone:
        def __init__(self) -> None:
            self._predict = predict_of(model)

        async def __call__(self, request: Any) -> dict[str, Any]:
            return {"outputs": plain(self._predict((await request.json())["inputs"]))}

    class Batched:
        def __init__(self) -> None:
            self._predict = predict_of(model)

        @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.0)  # type: ignore[untyped-decorator]
        async def one(self, inputs: list[Any]) -> list[Any]:
            return plain(self._predict(inputs))

        async def __call__(self, request: Any) -> dict[str, Any]:
            (value,) = (await request.json())["inputs"]
            return {"outputs": [await self.one(value)]}

    options: dict[str, Any] = {"num_replicas": 1, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0}}
    if best:
        options["logging_config"] = {"enable_access_log": False}
    deployment = serve.deployment(**options)(Batched if model == "mlp" else Alone)
    serve.run(deployment.bind(), name=model, route_prefix="/")

    def end() -> None:
        ray.shutdown()  # a Ray of its own ends with its driver

    _on_end(end)
    threading.Event().wait()


def mosec(model: str, port: int, directory: Path) -> None:
    from benchmarks.system.serving.peer_mosec import run

    run(model, port, directory)


def _on_end(action: Callable[[], None]) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        action()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)


PEERS: Mapping[str, Peer] = {
    "ray-serve": Peer("ray", "one replica behind its default proxy; MLP with serve.batch of 32 and no wait", ray_serve),
    "ray-serve-best": Peer(
        "ray",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED=1: direct ingress, no proxy; no access log; MLP with serve.batch of 32",
        ray_serve,
        environment={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1"},
        port_offset=DIRECT,
    ),
    "mosec": Peer("mosec", "one worker; MLP with batches of up to 32 and 1 ms", mosec, path="/inference"),
    "uvicorn": Peer("uvicorn", "a bare ASGI application; the model in its event loop, no batching", uvicorn_bare),
    "replica-alone": Peer("node_agent", "our model server without the gateway", replica_alone, path="/predict"),
}
AGAINST = tuple(name for name in PEERS if name != "replica-alone")


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "it said nothing"


def _free_port() -> int:
    """The first of a hundred that nobody has, below those that the kernel gives to connections."""
    start = 20_000 + os.getpid() % 100 * 100 + int(time.monotonic()) % 10
    for port in range(start, 32_000, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unavailable("no port is free for a peer")


def main(name: str, model: str, port: int, directory: Path) -> None:
    try:
        PEERS[name].serve(model, port, directory)
    except SuanliError as error:
        raise SystemExit(error.message) from None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
