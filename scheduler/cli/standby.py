"""`suanli standby`: a second service on the store of a running one, which takes over when that one is gone.

It stays in the foreground (a systemd unit's natural form). Ray's head, the gateway and the nodes are the first
service's own and go on without it. What both must have in common is copied by hand, once: the secrets and the tokens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from scheduler.cli.instance import INSTANCE_VARIABLE, Home, ProcessId, Started, free_port, require_free
from scheduler.cli.parts import ray_environment
from scheduler.cli.up import _url
from scheduler.errors import BadInput, Conflict

if TYPE_CHECKING:
    from scheduler.schema.model import SiteConfig

COPIED = ("secrets/ray_token", "secrets/service_secret", "secrets/gateway_control", "tokens.json")


@click.command()
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The site file of the running service.")
@click.option("--ray", "ray_address", required=True, help="HOST:PORT of Ray's head, as `suanli status` prints it.")
@click.option("--gateway", required=True, help="The gateway's URL, as `suanli status` prints it.")
@click.option("--api-port", type=click.IntRange(0, 65535), default=None, help="Overrides api.port (0: any free one).")
def standby(config: Path, ray_address: str, gateway: str, api_port: int | None) -> None:
    """Stand by for the service of another machine, on the same PostgreSQL store, and take over when it is gone.

    This machine must be a node of the cluster (`suanli node join`). Its SUANLI_HOME must hold copies, 0600, of the
    running service's secrets/ and tokens.json. Until it leads its API answers 503 and names the leader.
    """
    from scheduler.cli.node import _parse_head
    from scheduler.schema.load import load_site

    _parse_head(ray_address)
    if not gateway.startswith(("http://", "https://")):
        raise BadInput(f"--gateway: expected http://HOST:PORT; got {gateway!r}", field="--gateway")
    home = Home.from_environment()
    site = load_site(config)
    check(home, site)
    with home.locked():
        known = home.started()
        if known is not None and known.living():
            raise Conflict(
                f"{home.path} is in use: {', '.join(known.living())} of it lives; choose another SUANLI_HOME"
            )
        port = site.api.port if api_port is None else api_port
        if port:
            require_free(site.api.host, port, door="api")
        own = ProcessId.of(os.getpid())
        assert own is not None
        started = Started(
            config=str(site.path.absolute()),
            instance=home.identity,
            runtime_dir=str(home.runtime_dir),
            api=_url("https" if site.tls else "http", site.api.host, port or free_port(site.api.host)),
            gateway=gateway.rstrip("/"),
            ray_address=ray_address,
            ca_file=str(site.tls.cert) if site.tls else None,
            cert_file=str(site.tls.cert) if site.tls else None,
            key_file=str(site.tls.key) if site.tls else None,
            processes={"service": own},
        )
        home.record(started)
        home.record_client(started)
    click.echo(f"the service's API door here is {started.api}", err=True)
    _become_the_service(home, site)


def check(home: Home, site: SiteConfig) -> None:
    """Raises BadInput for what would make a standby useless when it is needed."""
    if site.store_url is None or not site.store_url.startswith("postgresql"):
        raise BadInput(
            "store: a standby needs a store that both services reach: write `store: postgresql://USER@HOST/DATABASE`"
            " in the site file of both",
            field="store",
        )
    if site.node_name is None:
        raise BadInput(
            "node.name: the head's node must have the same name whichever service leads: write its name in the site"
            " file of both",
            field="node.name",
        )
    check_copies(home, COPIED)


def check_copies(home: Home, names: Sequence[str]) -> None:
    """What was to be copied from the home of the running service."""
    for name in names:
        path = home.path / name
        if not path.is_file():
            raise BadInput(f"{path} is missing: copy {name} from the home of the running service", field=name)
        if path.stat().st_mode & 0o077:
            raise BadInput(f"{path} may be read by others: chmod 600 {path}", field=name)


def _become_the_service(home: Home, site: SiteConfig) -> NoReturn:
    """The same process, so that whoever started us watches over the service itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {
        INSTANCE_VARIABLE: home.identity,
        "PYTHONUNBUFFERED": "1",
        **ray_environment(home.secret_file("ray_token"), site),
    }
    argv = [sys.executable, "-m", "scheduler.cli.service_process", "--home", str(home.path)]
    sys.stderr.flush()
    os.execve(sys.executable, argv, environment)  # noqa: S606 - our own argv, no shell
