"""How does a routing table travel, and how is it remembered? ports.Route as JSON, parsed strictly, kept in a 0600 file.

{"routes": [{"service", "tenant", "priority", "slo_p99_ms", "secret", "version", "weight", "hosts",
             "tenant_rate_per_s", "wakes", "job_id",
             "replicas": [{"job_id", "worker", "attempt", "address", "simulated", "node", "site", "unix_path"}]}]}
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scheduler.errors import BadInput, Unavailable
from scheduler.ports import Replica, Route
from scheduler.private_file import replace_private

log = logging.getLogger(__name__)

TABLE_LIMIT_BYTES = 16 << 20
EPOCH_HEADER = "X-Suanli-Epoch"  # of the service that sends the table
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_VISIBLE = re.compile(r"[\x21-\x7e]*")  # what a header can carry


def table_to_json(routes: Sequence[Route]) -> bytes:
    return json.dumps({"routes": [asdict(route) for route in routes]}).encode()


def table_from_json(text: bytes) -> tuple[Route, ...]:
    """Raises BadInput, whose field says where."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the routing table is not JSON: {error}") from error
    routes = _get(table, "routes", list, "")
    return tuple(_route(route, f"routes[{index}].") for index, route in enumerate(routes))


def save_table(path: Path, text: bytes) -> None:
    """Replace the file as a whole; only its owner can read it, for it holds the replicas' secrets.

    Raises Unavailable when the disk does not take it.
    """
    try:
        replace_private(path, text)
    except OSError as error:
        raise Unavailable(f"cannot keep the routing table in {path}: {error.strerror}") from error


def load_table(path: Path) -> tuple[Route, ...]:
    """The last table that was saved; () when none was. Raises Unavailable or BadInput when it cannot be used."""
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_uid != os.geteuid():
                raise Unavailable(f"the routing table {path} must be this user's own and of mode 0600")
            return table_from_json(file.read(TABLE_LIMIT_BYTES))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise Unavailable(f"cannot read the routing table {path}: {error.strerror}") from error


def _route(value: object, at: str) -> Route:
    slo = _get(value, "slo_p99_ms", (int, float, type(None)), at)
    secret: str = _get(value, "secret", str, at)
    if not _VISIBLE.fullmatch(secret):
        raise BadInput("a replica secret may hold visible ASCII characters only", field=f"{at}secret")
    replicas = _get(value, "replicas", list, at)
    rate = _get(value, "tenant_rate_per_s", (int, float, type(None)), at)
    hosts = _get(value, "hosts", list, at)
    if not all(isinstance(host, str) for host in hosts):
        raise BadInput("hosts are text", field=f"{at}hosts")
    return Route(
        service=_get(value, "service", str, at),
        tenant=_get(value, "tenant", str, at),
        priority=_get(value, "priority", int, at),
        slo_p99_ms=None if slo is None else float(slo),
        replicas=tuple(_usable(replicas, at)),
        secret=secret,
        version=_get(value, "version", int, at),
        weight=_get(value, "weight", int, at),
        hosts=tuple(hosts),
        tenant_rate_per_s=None if rate is None else float(rate),
        wakes=_get(value, "wakes", bool, at),
        job_id=_get(value, "job_id", str, at),
    )


def _usable(replicas: Sequence[object], at: str) -> Iterator[Replica]:
    """One bad replica is left out, with a line in the log: it must not keep the table from every other service."""
    for index, one in enumerate(replicas):
        try:
            yield _replica(one, f"{at}replicas[{index}].")
        except BadInput as error:
            log.warning("a replica is left out of the routing table: %s", error.message)


def _replica(value: object, at: str) -> Replica:
    address: str = _get(value, "address", str, at)
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BadInput(f"{address!r} is not host:port", field=f"{at}address")
    job_id: str = _get(value, "job_id", str, at)
    if not _VISIBLE.fullmatch(job_id):
        raise BadInput("a job id may hold visible ASCII characters only", field=f"{at}job_id")
    return Replica(
        job_id=job_id,
        worker=_get(value, "worker", int, at),
        attempt=_get(value, "attempt", int, at),
        address=address,
        simulated=_get(value, "simulated", bool, at),
        node=_get(value, "node", str, at),
        site=_get(value, "site", str, at),
        unix_path=_get(value, "unix_path", (str, type(None)), at),
    )


def _get(value: object, name: str, kind: type | tuple[type, ...], at: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise BadInput(f"{at}{name} is missing", field=f"{at}{name}")
    held = value[name]
    # bool is an int to Python, and not to JSON.
    if not isinstance(held, kind) or (isinstance(held, bool) and kind is not bool):
        raise BadInput(f"{at}{name} has the wrong type ({type(held).__name__})", field=f"{at}{name}")
    return held
