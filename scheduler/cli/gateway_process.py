"""The gateway's process: serves inference requests, with the last routing table even while the service is away."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from scheduler.cli.instance import Home


@click.command()
@click.option("--home", "home_path", type=click.Path(path_type=Path), required=True)
def main(home_path: Path) -> None:
    """Run the gateway of the instance at --home."""
    import uvicorn

    from scheduler.gateway.app import create_gateway_app
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
        TokenTable(home.tokens), home.secret("gateway_control"), table_file=home.path / "routes.json"
    )
    uvicorn.run(
        app,
        host=door.hostname,
        port=door.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=started.cert_file,
        ssl_keyfile=started.key_file,
    )


if __name__ == "__main__":
    main()
