"""Runs a gateway application in this process, with the server settings that its latency needs."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn

from scheduler.gateway.app import GatewayApp


def gateway_server(
    app: GatewayApp, *, tls_certificate: Path | None = None, tls_key: Path | None = None
) -> uvicorn.Server:
    """Call `.run(sockets=[...])` on it; SIGTERM lets it finish what is in flight (at most 30 s).

    Idle callers' connections are kept for a minute: making a new one costs more than a request.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
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
    gateway_server(app, tls_certificate=tls_certificate, tls_key=tls_key).run(sockets=[listener])
