"""`suanli node join`: make this machine a node of a running cluster: Ray's keeper with labels, token and directories.

It stays in the foreground (a systemd unit's natural form) and starts Ray again when that dies, while launcher and jobs
live on; ending it takes the node out, its agent and jobs with it.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from scheduler.backoff import Backoff
from scheduler.cli.head_watch import HeadWatch
from scheduler.cli.instance import (
    Home,
    ProcessId,
    Started,
    end_session,
    pid_file_process,
    processes_of_session,
    program_of,
    session_is_ours,
    write_private,
)
from scheduler.cli.parts import instance_environment, keeper_argv, ray_arguments, ray_environment, start_detached
from scheduler.cli.stopping import stop_instance
from scheduler.engine.keeper import RAY_NODE_ID, RAYLET
from scheduler.errors import BadInput, Unavailable

KEEPER = "keeper.json"
LOOK_EVERY_S = 2.0
HEAD_WITHIN_S = 10.0
TELL_WITHIN_S = 15.0


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
@click.option(
    "--devices",
    "sources",
    metavar="SOURCE",
    multiple=True,
    help="Where its devices come from, as node.devices in a site file: nvml, cpu, a vendor's file, replay:FILE. May be "
    "repeated: the first that works. Default: whatever is installed.",
)
@click.option(
    "--expected-devices",
    type=click.IntRange(0, 1024),
    default=None,
    help="How many devices this machine must have; fewer are a fault. Default: as many as its bus has.",
)
@click.option("--metrics", metavar="[ADDRESS:]PORT", default=None, help="Where this node answers Prometheus.")
@click.option(
    "--metrics-token",
    type=click.Path(path_type=Path),
    default=None,
    help="The token that Prometheus shows there, in a 0600 file.",
)
@click.option("--metrics-dcgm", is_flag=True, help="With dcgm-exporter's names beside our own.")
@click.option("--object-store-mb", type=click.IntRange(min=80), default=100, help="Ray's shared memory here.")
def join(
    head: str,
    site: str,
    name: str | None,
    rack: str | None,
    labels: tuple[str, ...],
    ray_token: Path,
    sources: tuple[str, ...],
    expected_devices: int | None,
    metrics: str | None,
    metrics_token: Path | None,
    metrics_dcgm: bool,
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
    own = _own_environment(expected_devices, metrics, metrics_token, metrics_dcgm) | _own_sources(sources)
    _wait_for(host, port)
    home = Home(Home.from_environment().path / "nodes" / name)
    with home.locked(), _termination_is_interruption():
        arguments = [f"--address={head}", *ray_arguments(home.runtime_dir / "r", object_store_mb * 1_000_000, told)]
        _stay(home, head, arguments, ray_token, own, f"{name} joins {head} at site {site}")


def _wait_for(host: str, port: int) -> None:
    """A machine that was just switched on may need seconds to find its way. Raises Unavailable."""
    deadline = time.monotonic() + HEAD_WITHIN_S
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"no Ray head answers at {host}:{port} ({error}); take the address from `suanli status` on the head"
                ) from None
            time.sleep(0.2)


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


def _own_environment(
    expected_devices: int | None, metrics: str | None, token: Path | None, dcgm: bool
) -> dict[str, str]:
    """What this machine's agent is told by its environment. Raises BadInput for a door that could not be opened."""
    from node_agent.config import EXPECTED_VARIABLE
    from node_agent.metrics_door import DoorError, door_config, read_token
    from scheduler.cli.site_nodes import metrics_environment

    told = {} if expected_devices is None else {EXPECTED_VARIABLE: str(expected_devices)}
    if metrics is None:
        if token is not None or dcgm:
            raise BadInput("--metrics: say where metrics are to be had, as PORT or ADDRESS:PORT", field="--metrics")
        return told
    if token is None:
        raise BadInput("--metrics-token: name the file of the token that Prometheus shows", field="--metrics-token")
    door = metrics_environment(metrics, token, dcgm=dcgm)
    try:
        door_config(door, "")
        read_token(token)
    except DoorError as error:
        raise BadInput(f"--metrics: {error}", field="--metrics") from None
    return told | door


def _own_sources(named: Sequence[str]) -> dict[str, str]:
    """The device sources as the agent finds them in its environment. Raises BadInput for what it could not use: the
    agent could say so only in its log."""
    from node_agent.devices.openers import DEFAULT_NAMES, SOURCES_VARIABLE, rooted
    from scheduler.cli.site_nodes import require_sources

    sources = rooted(named, Path.cwd())
    if len(set(sources)) < len(sources):
        raise BadInput("--devices: each source once", field="--devices")
    for why in require_sources(sources or DEFAULT_NAMES, "--devices"):
        click.echo(f"note: --devices: passed over: {why}", err=True)
    return {SOURCES_VARIABLE: json.dumps(sources)} if sources else {}


def _stay(home: Home, head: str, ray_arguments: list[str], ray_token: Path, own: dict[str, str], joins: str) -> None:
    """Keep this machine's Ray alive until we are told to go; then leave nothing behind, and tell the head so."""
    runtime_dir = home.make_runtime_dir()
    environment = instance_environment(home.identity, runtime_dir, home.path)
    environment |= ray_environment(ray_token.absolute(), None) | own
    temp_dir = runtime_dir / "r"
    _end_earlier(home)
    keeper: ProcessId | None = None
    backoff, watch = Backoff(), HeadWatch(lambda: _answers(head))
    try:
        click.echo(f"{joins}; ctrl-C takes it out again", err=True)
        while True:
            keeper = start_detached(keeper_argv(temp_dir, ray_arguments), environment, home.logs / "ray.log")
            write_private(home.path / KEEPER, json.dumps(asdict(keeper)))
            started_s = time.monotonic()
            while not keeper.wait_gone(timeout_s=LOOK_EVERY_S):
                if watch.came_back(time.monotonic()):
                    click.echo("the head is in reach again: Ray joins it anew", err=True)
                    _end_raylet(keeper)
            # Jobs and their launcher live on and are found by the next agent; what is left of Ray is not.
            end_session(keeper.pid)
            pause_s = backoff.after_death(time.monotonic() - started_s)
            later = f" in {pause_s:g} s" if pause_s else ""
            click.echo(f"Ray ended on this node (see {home.logs / 'ray.log'}); it is started again{later}", err=True)
            time.sleep(pause_s)
    except KeyboardInterrupt:
        click.echo("leaving", err=True)
    finally:
        ray_node_id = _ray_node_id(temp_dir)
        processes = {"ray": keeper} if keeper else {}
        ended = stop_instance(home, Started("", home.identity, str(runtime_dir), "", "", processes=processes))
    if ray_node_id and not ended.left:
        _tell_head(head, ray_node_id, environment)


def _end_earlier(home: Home) -> None:
    """A `node join` that was killed left its Ray behind, which would be a second one here."""
    earlier = pid_file_process(home.path / KEEPER)
    if earlier is not None and session_is_ours(home, earlier):
        end_session(earlier.pid)


def _answers(head: str) -> bool:
    try:
        socket.create_connection(_parse_head(head), timeout=1.0).close()
    except OSError:
        return False
    return True


def _end_raylet(keeper: ProcessId) -> None:
    """Its keeper starts it again as a new node."""
    for pid in processes_of_session(keeper.pid):
        raylet = ProcessId.of(pid)
        if raylet is not None and program_of(pid) == RAYLET:
            raylet.signal(signal.SIGKILL)


def _ray_node_id(temp_dir: Path) -> str:
    try:
        return (temp_dir / RAY_NODE_ID).read_text()
    except OSError:
        return ""  # it never joined


def _tell_head(head: str, ray_node_id: str, environment: dict[str, str]) -> None:
    """All processes of this node are gone: jobs that ran here need not wait for its lease."""
    argv = [sys.executable, "-m", "scheduler.engine.leaving", head, ray_node_id]
    try:
        told = subprocess.run(argv, env=environment, capture_output=True, timeout=TELL_WITHIN_S, check=False).returncode
    except subprocess.TimeoutExpired:
        told = 1
    if told != 0:
        click.echo(
            "the head could not be told: jobs that ran here start elsewhere when this node's lease is over", err=True
        )
