"""The node's own door for Prometheus: GET /metrics with a bearer token, at the node's address; shut unless it is told.

    SUANLI_NODE_METRICS=PORT or ADDRESS:PORT   where it listens; without it nothing does
    SUANLI_NODE_METRICS_TOKEN=FILE             the token, in a file that only its owner may read
    SUANLI_NODE_METRICS_DCGM=1                 dcgm-exporter's names beside our own

Requests are small and answers bounded by the number of devices; a client that is slow is let go.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

WHERE_VARIABLE = "SUANLI_NODE_METRICS"
TOKEN_VARIABLE = "SUANLI_NODE_METRICS_TOKEN"  # noqa: S105 (the name of a variable)
DCGM_VARIABLE = "SUANLI_NODE_METRICS_DCGM"
PATH = "/metrics"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEAD_BYTES = 8192
TOKEN_BYTES = 256
SHORTEST_TOKEN = 16
CLIENT_S = 10.0
MOST_CLIENTS = 16

log = logging.getLogger(__name__)


class DoorError(ValueError):
    """What was configured cannot be; the message says what to do."""


@dataclass(frozen=True, slots=True)
class DoorConfig:
    address: str
    port: int
    token_file: Path
    dcgm: bool = False


def door_config(environ: Mapping[str, str], node_address: str) -> DoorConfig | None:
    """None: not configured. Raises DoorError."""
    where = environ.get(WHERE_VARIABLE, "")
    if not where:
        return None
    address, _, port = where.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port[:6]) <= 65535:
        raise DoorError(f"{WHERE_VARIABLE}={where}: expected PORT or ADDRESS:PORT")
    token = environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise DoorError(f"{WHERE_VARIABLE} needs a token: name its file in {TOKEN_VARIABLE}")
    return DoorConfig(address.strip("[]") or node_address, int(port), Path(token), environ.get(DCGM_VARIABLE) == "1")


def read_token(path: Path) -> bytes:
    """The digest of the token. Raises DoorError where others may read it, or it is none."""
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()[: TOKEN_BYTES + 2].strip()
    except OSError as error:
        raise DoorError(f"{path}: the token cannot be read: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise DoorError(f"{path}: others may read the token; chmod 600 it")
    if not SHORTEST_TOKEN <= len(text) <= TOKEN_BYTES:
        raise DoorError(f"{path}: a token of {SHORTEST_TOKEN} to {TOKEN_BYTES} characters was expected")
    return hashlib.sha256(text).digest()


class MetricsDoor:
    """`text` gives what is shown. `await open()` raises DoorError, also where the port cannot be had."""

    def __init__(self, config: DoorConfig, text: Callable[[], Awaitable[str]]) -> None:
        self._config = config
        self._text = text
        self._server: asyncio.Server | None = None
        self._clients = 0

    @property
    def port(self) -> int:
        """Where it listens; with port 0 configured, the one that was found."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def open(self) -> None:
        read_token(self._config.token_file)
        config = self._config
        try:
            self._server = await asyncio.start_server(self._serve, config.address, config.port, limit=HEAD_BYTES)
        except OSError as error:
            raise DoorError(f"{config.address}:{config.port} cannot be listened at: {error.strerror}") from None

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            async with asyncio.timeout(CLIENT_S):
                status, body = (
                    (503, b"too many at once\n") if self._clients > MOST_CLIENTS else await self._answer(reader)
                )
                writer.write(_response(status, body))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it was slow, spoke no HTTP, or is gone
        except Exception:  # a bug here must not take the agent with it, nor be silent
            log.exception("answering for metrics")
        finally:
            self._clients -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, _, rest = head[0].partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        try:
            expected = read_token(self._config.token_file)  # so that it can be changed while this runs
        except DoorError as error:
            log.warning("%s", error)
            return 503, b"the token of this door cannot be read\n"
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode("latin-1")[:HEAD_BYTES]).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, expected):
            return 401, b"a bearer token is needed\n"
        if path != PATH:
            return 404, b"there is only /metrics\n"
        if method != "GET":
            return 405, b"only GET\n"
        return 200, (await self._text()).encode()


_REASONS = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


def _response(status: int, body: bytes) -> bytes:
    head = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(["WWW-Authenticate: Bearer"] if status == 401 else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
