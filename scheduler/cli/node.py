"""`suanli node join`: make this machine a node of a running cluster: `ray start` with labels, token and directories.

It stays in the foreground (a systemd unit's natural form); ending it takes the node out, its agent and jobs with it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from scheduler.cli.instance import (
    INSTANCE_VARIABLE,
    RUNTIME_VARIABLE,
    STATE_VARIABLE,
    Home,
    ProcessId,
    Started,
)
from scheduler.cli.stopping import stop_instance
from scheduler.cli.up import ray_environment, start_detached
from scheduler.errors import BadInput, Unavailable


@click.group()
def node() -> None:
    """Make this machine part of a cluster."""


@node.command()
@click.argument("head")
@click.option("--site", required=True, help="The site this machine stands at, as named in the head's configuration.")
@click.option("--name", default=None, help="This node's name; default: the host name.")
@click.option("--rack", default=None, help="The rack this machine stands in, for jobs that ask to stay within one.")
@click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="What jobs may ask for; may be repeated.")
@click.option(
    "--ray-token",
    type=click.Path(path_type=Path),
    required=True,
    help="A 0600 copy of the head's secrets/ray_token.",
)
@click.option("--object-store-mb", type=click.IntRange(min=80), default=100, help="Ray's shared memory here.")
def join(
    head: str,
    site: str,
    name: str | None,
    rack: str | None,
    labels: tuple[str, ...],
    ray_token: Path,
    object_store_mb: int,
) -> None:
    """Join the cluster whose Ray head is HEAD (HOST:PORT, as `suanli status` on the head prints it)."""
    from scheduler.cli.up import _termination_is_interruption
    from scheduler.engine.joining import ray_labels

    name = name or socket.gethostname()
    host, port = _parse_head(head)
    for value, field in ((name, "--name"), (site, "--site")):
        if not value or len(value) > 63 or not all(c.isalnum() or c in "-_." for c in value):
            raise BadInput(
                f"{field}: expected letters, digits, '-', '_' or '.', at most 63; got {value!r}", field=field
            )
    told = ray_labels(name, site, rack, _own_labels(rack, labels))
    if not ray_token.is_file() or ray_token.stat().st_mode & 0o077:
        raise BadInput(
            f"--ray-token: {ray_token} must be a file that only you may read (copy secrets/ray_token from the head's "
            "home and `chmod 600` it)",
            field="--ray-token",
        )
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise Unavailable(
            f"no Ray head answers at {head} ({error}); take the address from `suanli status` on the head"
        ) from None
    home = Home(Home.from_environment().path / "nodes" / name)
    with home.locked(), _termination_is_interruption():
        _stay(home, host, port, told, ray_token, object_store_mb, f"{name} joins {head} at site {site}")


def _own_labels(rack: str | None, labels: Sequence[str]) -> dict[str, str]:
    """The labels as names and values. Raises BadInput for what Ray would not take."""
    from scheduler.engine.joining import is_label_word

    said = "letters, digits, '-', '_' or '.', at most 50, first and last a letter or digit"
    if rack is not None and not is_label_word(rack):
        raise BadInput(f"--rack: expected {said}; got {rack!r}", field="--rack")
    own = {}
    for label in labels:
        key, _, value = label.partition("=")
        if not is_label_word(key) or not is_label_word(value):
            raise BadInput(f"--label: expected NAME=VALUE, each of {said}; got {label!r}", field="--label")
        own[key] = value
    return own


def _parse_head(head: str) -> tuple[str, int]:
    host, _, port = head.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"HEAD: expected HOST:PORT; got {head!r}", field="HEAD")
    return host, int(port)


def _stay(home: Home, host: str, port: int, labels: str, ray_token: Path, object_store_mb: int, joins: str) -> None:
    """Run `ray start --block` until it ends or we are told to go; then leave nothing behind."""
    runtime_dir = home.make_runtime_dir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment = kept | {
        INSTANCE_VARIABLE: home.identity,
        RUNTIME_VARIABLE: str(runtime_dir / "n"),
        STATE_VARIABLE: str(home.path / "node"),
        **ray_environment(ray_token.absolute(), None),
    }
    argv = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        f"--address={host}:{port}",
        f"--temp-dir={runtime_dir / 'r'}",
        "--include-log-monitor=false",
        "--dashboard-agent-listen-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--num-cpus=1",
        f"--object-store-memory={object_store_mb * 1_000_000}",
        f"--labels={labels}",
    ]
    ray: ProcessId | None = None
    try:
        ray = start_detached(argv, environment, home.logs / "ray.log")
        click.echo(f"{joins}; ctrl-C takes it out again", err=True)
        while not ray.wait_gone(timeout_s=3600.0):
            pass
        raise Unavailable(f"Ray ended on this node; see {home.logs / 'ray.log'}")
    except KeyboardInterrupt:
        click.echo("leaving", err=True)
    finally:
        processes = {"ray": ray} if ray else {}
        stop_instance(home, Started("", home.identity, str(runtime_dir), "", "", processes=processes))
