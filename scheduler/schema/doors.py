"""Who can reach the API and the gateway, and is that as it should be?"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from scheduler.schema.problems import Problems
from scheduler.schema.site_models import (
    LocalShape,
)


def is_loopback(host: str) -> bool:
    """Only this machine can reach `host`. A name other than localhost may mean anything, so it is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_doors(local: LocalShape, here: Path, main: Problems) -> None:
    doors = {"api": local.api, "gateway": local.gateway}
    if local.api.port == local.gateway.port != 0:
        main.add(
            "gateway.port", f"{local.gateway.port} is also the port of api; give each its own, or 0 for any free one"
        )
    for field, door in doors.items():
        if not is_loopback(door.host) and local.tls is None:
            main.add(
                f"{field}.host",
                f"{door.host!r} can be reached from other machines. Beyond loopback: TLS. Add tls with cert and key, "
                "or use 127.0.0.1",
            )
    if local.tls is not None:
        for field, name in (("tls.cert", local.tls.cert), ("tls.key", local.tls.key)):
            _check_readable(field, here / name, main)


def _check_readable(field: str, path: Path, main: Problems) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        main.add(field, f"expected a PEM file that can be read, relative to this one; {path}: {reason}")
        return
    if b"-----BEGIN " not in start:
        main.add(field, f"expected a PEM file (-----BEGIN ...); {path} is none")
