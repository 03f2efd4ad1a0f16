"""`python -m node_agent.serving --model FILE.py --class NAME`: one replica of a tenant's model, in this process.

Listens on SUANLI_BIND_HOST (default 127.0.0.1), on a port of the system's choice, and writes host:port to
SUANLI_READY_FILE once the model is loaded, warm and listened for. Exit code 0 after SIGTERM, 1 when the model cannot be
served (the reason is on stderr), 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from node_agent.serving.batching import Batcher
from node_agent.serving.model import ModelUnusable, find_class, load_model
from node_agent.serving.server import ReplicaApp, ReplicaServer


def write_ready_file(path: Path, address: str) -> None:
    """All of it or nothing: whoever waits for the file never reads half an address."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(address, encoding="ascii")
    os.replace(partial, path)


def listen(host: str) -> socket.socket:
    """A TCP socket on `host`, with a port of the system's choice."""
    family, kind, protocol, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.bind(where)
    return listener


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m node_agent.serving", description="Serve a Python model over HTTP.")
    parser.add_argument("--model", required=True, type=Path, metavar="FILE.py")
    parser.add_argument("--class", required=True, dest="class_name", metavar="NAME")
    arguments = parser.parse_args()
    # One thread for all of a model's life: some libraries bind what they load to the thread that loaded it.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
    try:
        predict = thread.submit(load_model, find_class(arguments.model, arguments.class_name)).result()
    except ModelUnusable as unusable:
        # The log is the tenant's own: there the stack trace helps. The last line is what operators are shown.
        if unusable.__cause__ is not None:
            traceback.print_exception(unusable.__cause__)
        print(f"error: {unusable}", file=sys.stderr, flush=True)
        return 1
    host = os.environ.get("SUANLI_BIND_HOST") or "127.0.0.1"
    try:
        listener = listen(host)
    except OSError as error:
        print(f"error: cannot listen on {host}: {error}; set SUANLI_BIND_HOST", file=sys.stderr, flush=True)
        return 1
    port = listener.getsockname()[1]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def on_listening() -> None:
        if ready_file := os.environ.get("SUANLI_READY_FILE"):
            write_ready_file(Path(ready_file), address)
        print(f"serving {arguments.class_name} on {address}", flush=True)

    batcher = Batcher(predict, thread)
    app = ReplicaApp(batcher, os.environ.get("SUANLI_REPLICA_SECRET") or None)
    ReplicaServer(app, batcher, on_listening).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
