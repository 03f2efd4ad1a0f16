"""Runs a gateway application in this process, with the server settings that its latency needs."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from scheduler.gateway.app import GatewayApp
from scheduler.gateway.fast import protocol_for

GC_THRESHOLD = 20_000  # objects


class GatewayServer(uvicorn.Server):
    """uvicorn, ended by SIGTERM or SIGINT without the signal being raised again after the graceful stop.

    In a thread other than the main one signals are nobody's here: set `should_exit`.
    """

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, setattr, self, "should_exit", True)
        yield


def gateway_server(
    app: GatewayApp, *, tls_certificate: Path | None = None, tls_key: Path | None = None
) -> GatewayServer:
    """Call `.run(sockets=[...])` on it; a stop lets it finish what is in flight (at most 30 s).

    Idle callers' connections are kept for a minute: making a new one costs more than a request.
    """
    return GatewayServer(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=protocol_for(app.fast),
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=30,
            ssl_certfile=str(tls_certificate) if tls_certificate is not None else None,
            ssl_keyfile=str(tls_key) if tls_key is not None else None,
        )
    )


def run_gateway(
    app: GatewayApp,
    listener: socket.socket,
    *,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT."""
    # Requests leave no cycles behind: what the collector walks over and over is what lives as long as the process.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    gateway_server(app, tls_certificate=tls_certificate, tls_key=tls_key).run(sockets=[listener])
