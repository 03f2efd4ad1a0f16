"""The gateway's process: serves inference requests, with the last routing table even while the service is away."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from scheduler.cli.instance import Home
from scheduler.cli.system_clock import SystemClock


@click.command()
@click.option("--home", "home_path", type=click.Path(path_type=Path), required=True)
@click.option("--node", default="", help="The node that this machine is: its replicas are reached over Unix sockets.")
@click.option("--site", default="", help="The site of this machine: its replicas come first.")
def main(home_path: Path, node: str, site: str) -> None:
    """Run the gateway of the instance at --home."""
    from scheduler.gateway.app import create_gateway_app
    from scheduler.gateway.run import run_gateway
    from scheduler.tokens import TokenTable

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    home = Home(home_path)
    started = home.started()
    if started is None:
        raise click.ClickException(f"{home.path} has no instance; start it with `suanli up`")
    door = urlsplit(started.gateway)
    assert door.hostname is not None, started.gateway
    assert door.port is not None, started.gateway
    app = create_gateway_app(
        TokenTable(home.tokens),
        home.secret("gateway_control"),
        SystemClock(),
        table_path=home.path / "routes.json",
        node=node,
        site=site,
    )
    with socket.create_server((door.hostname, door.port), reuse_port=False, backlog=1024) as listener:
        run_gateway(
            app,
            listener,
            tls_certificate=Path(started.cert_file) if started.cert_file else None,
            tls_key=Path(started.key_file) if started.key_file else None,
        )


if __name__ == "__main__":
    main()
