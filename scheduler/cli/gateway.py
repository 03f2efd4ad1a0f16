"""`suanli gateway`: one more gateway, on a machine near its users.

It stays in the foreground (a systemd unit's natural form). The service sends it the routing table, as it does to its
own gateway, once the site file names it; replicas must be reachable from here. What both have in common is copied by
hand, once: the control token and the API tokens.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from scheduler.cli.instance import INSTANCE_VARIABLE, Home, ProcessId, Started, require_free
from scheduler.cli.standby import check_copies
from scheduler.errors import BadInput, Conflict

COPIED = ("secrets/gateway_control", "tokens.json")


@click.command()
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where requests come in.")
@click.option("--cert", type=click.Path(path_type=Path), default=None, help="Certificate, PEM.")
@click.option("--key", type=click.Path(path_type=Path), default=None, help="Its key, PEM.")
@click.option("--node", default=None, help="The node that this machine is, where it is one (default: its host name).")
@click.option("--site", default="", help="The site of this machine: replicas there come first.")
def gateway(listen: str, cert: Path | None, key: Path | None, node: str | None, site: str) -> None:
    """Run one more gateway. Name it in the head's site file: `gateway: {..., also: [https://HOST:PORT]}`.

    SUANLI_HOME here must hold copies, 0600, of the head's secrets/gateway_control and tokens.json.
    """
    from scheduler.schema.doors import is_loopback

    host, port = _where(listen)
    if (cert is None) != (key is None):
        raise BadInput("--cert and --key go together", field="--cert")
    if cert is None and not is_loopback(host):
        raise BadInput(
            "--cert: beyond this machine the gateway speaks TLS alone; give --cert and --key (tokens would travel in"
            " the clear)",
            field="--cert",
        )
    for name, path in (("--cert", cert), ("--key", key)):
        if path is not None and not path.is_file():
            raise BadInput(f"{name}: there is no file {path}", field=name)
    home = Home.from_environment()
    check_copies(home, COPIED)
    with home.locked():
        known = home.started()
        if known is not None and known.living():
            raise Conflict(
                f"{home.path} is in use: {', '.join(known.living())} of it lives; choose another SUANLI_HOME"
            )
        require_free(host, port, door="gateway")
        own = ProcessId.of(os.getpid())
        assert own is not None
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if cert else 'http'}://{shown}:{port}"
        home.record(
            Started(
                config="",
                instance=home.identity,
                runtime_dir=str(home.runtime_dir),
                api="",
                gateway=url,
                cert_file=None if cert is None else str(cert.absolute()),
                key_file=None if key is None else str(key.absolute()),
                processes={"gateway": own},
            )
        )
    click.echo(f"this gateway is {url}; it serves once the service has sent it its table", err=True)
    environment = os.environ | {INSTANCE_VARIABLE: home.identity, "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "scheduler.cli.gateway_process", "--home", str(home.path)]
    argv += ["--node", node or socket.gethostname(), "--site", site]
    sys.stderr.flush()
    os.execve(sys.executable, argv, environment)  # noqa: S606 - our own argv, no shell


def _where(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"--listen: expected HOST:PORT; got {listen!r}", field="--listen")
    return host, int(port)
