"""How does a replica begin and end? Arguments and environment in, a loaded model behind sockets, an exit code out."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from node_agent.serving.batching import MAX_BATCH, BatchSettings
from node_agent.serving.model import LoadedModel, ModelUnusable, find_class, load_model
from node_agent.serving.server import STUCK_S, ReplicaServer, ServerSettings

BACKLOG = 1024


class BadSetting(Exception):
    """A variable of the environment that cannot be understood."""


def settings_of(model: LoadedModel, environ: Mapping[str, str]) -> ServerSettings:
    """Raises BadSetting."""
    slo_ms = _number(environ, "SUANLI_SLO_MS")
    most, wait_s = _number(environ, "SUANLI_BATCH_MAX"), _number(environ, "SUANLI_BATCH_WAIT_S")
    own = model.batching
    batches = BatchSettings(
        max_batch=max(1, int(own.get("max", MAX_BATCH) if most is None else most)),
        max_wait_s=own.get("max_wait", 0.0) if wait_s is None else wait_s,
        slo_s=None if slo_ms is None else slo_ms / 1e3,
    )
    secret = environ.get("SUANLI_REPLICA_SECRET") or None
    return ServerSettings(secret, batches, _number(environ, "SUANLI_STUCK_S") or STUCK_S)


def _number(environ: Mapping[str, str], name: str) -> float | None:
    said = environ.get(name)
    if not said:
        return None
    try:
        value = float(said)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise BadSetting(f"{name} is {said[:40]!r}; it must be a number from 0 on")
    return value


def write_ready_file(path: Path, text: str) -> None:
    """All of it or nothing: whoever waits for the file never reads half an address."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def listen(host: str) -> socket.socket:
    """A TCP socket on `host`, with a port of the system's choice."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.bind(where)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """For this user alone (and root). However long the way to its directory is: a Unix address holds 107 bytes, so it
    is named from the open directory, proc(5)."""
    path.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.umask(old)
        os.close(directory)
    return listener


class ModelThread:
    """The one thread of all of a model's life: some libraries bind what they load to the thread that loaded it."""

    def __init__(self, path: Path, class_name: str) -> None:
        self._path = path
        self._class_name = class_name
        self._model: LoadedModel | ModelUnusable | None = None
        self._server: ReplicaServer | None = None
        self._loaded = threading.Event()
        self._begins = threading.Event()
        self._thread = threading.Thread(target=self._live, name="predict", daemon=True)
        self._thread.start()

    def loaded(self) -> LoadedModel:
        """Waits for it. Raises ModelUnusable."""
        self._loaded.wait()
        if isinstance(self._model, LoadedModel):
            return self._model
        raise self._model or ModelUnusable("the model's thread ended while it loaded")

    def serve(self, server: ReplicaServer) -> None:
        self._server = server
        self._begins.set()

    def join(self) -> None:
        self._thread.join()

    def _live(self) -> None:
        try:
            self._model = load_model(find_class(self._path, self._class_name))
        except ModelUnusable as unusable:
            self._model = unusable
        except BaseException as error:  # what a tenant's file may raise and is no Exception
            self._model = ModelUnusable(f"loading {self._class_name} failed: {type(error).__name__}")
            self._model.__cause__ = error
        self._loaded.set()
        self._begins.wait()
        assert self._server is not None
        try:
            self._server.serve()
        except BaseException:  # a bug of ours: a replica without its model must not look alive
            traceback.print_exc()
            print("error: the model server failed; the lines above say where", file=sys.stderr, flush=True)
            os._exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m node_agent.serving", description="Serve a Python model over HTTP.")
    parser.add_argument("--model", required=True, type=Path, metavar="FILE.py")
    parser.add_argument("--class", required=True, dest="class_name", metavar="NAME")
    arguments = parser.parse_args(argv)
    thread = ModelThread(arguments.model, arguments.class_name)
    try:
        model = thread.loaded()
        settings = settings_of(model, os.environ)
    except ModelUnusable as unusable:
        # The log is the tenant's own: there the stack trace helps. The last line is what operators are shown.
        if unusable.__cause__ is not None:
            traceback.print_exception(unusable.__cause__)
        return _failed(str(unusable))
    except BadSetting as error:
        return _failed(str(error))
    host = os.environ.get("SUANLI_BIND_HOST") or "127.0.0.1"
    try:
        listeners = [listen(host)]
    except OSError as error:
        return _failed(f"cannot listen on {host}: {error}; set SUANLI_BIND_HOST")
    port = listeners[0].getsockname()[1]
    told = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    address = told
    if at := os.environ.get("SUANLI_UNIX_SOCKET"):
        try:
            listeners.append(listen_unix(Path(at)))
            told += f"\n{at}"
        except OSError as error:  # it is the quicker of two ways, and the other is there
            print(f"no Unix socket at {at}: {error}", file=sys.stderr, flush=True)
    server = ReplicaServer(model, listeners, settings)
    for listener in listeners:
        listener.listen(BACKLOG)
    thread.serve(server)

    def on_listening() -> None:
        if ready_file := os.environ.get("SUANLI_READY_FILE"):
            write_ready_file(Path(ready_file), told)
        print(f"serving {arguments.class_name} on {address}", flush=True)

    server.run(on_listening)
    thread.join()
    with contextlib.suppress(OSError):
        if at:
            Path(at).unlink(missing_ok=True)
    return 0


def _failed(text: str) -> int:
    print(f"error: {text}", file=sys.stderr, flush=True)
    return 1
