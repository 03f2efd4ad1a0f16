"""The API over a fake service, really served: uvicorn on a free loopback port in a thread, and a home that knows it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from tests.fakes.api_site import Site, make_site
from tests.fakes.fake_control import FakeControl


@dataclass(frozen=True, slots=True)
class LiveApi:
    site: Site
    url: str
    home: Path

    @property
    def control(self) -> FakeControl:
        return self.site.control


def write_private(path: Path, text: str) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path


@contextmanager
def serving(home: Path) -> Iterator[LiveApi]:
    """`home` becomes an instance's home, with the operator's token in client.json. The server ends with the block."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    site = make_site(home)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(site.app, log_level="critical", timeout_graceful_shutdown=1, lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        for who, token in site.tokens.items():
            write_private(home / f"{who}.token", token + "\n")
        known = {"api": url, "gateway": None, "token_file": str(home / "operator.token"), "ca_file": None}
        write_private(home / "client.json", json.dumps(known))
        yield LiveApi(site, url, home)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive(), "the server did not end"
