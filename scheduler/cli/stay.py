"""`suanli stay`: bring the instance up and stay in the foreground, as a systemd unit wants it.

The supervisor brings the parts of the instance back; this brings the supervisor back. When it is ended itself nothing
else is: `suanli down` takes the instance down, and then this ends too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path

import click

from scheduler.cli.instance import LOCK_WAIT_S, Home
from scheduler.cli.parts import PARTS, start_part
from scheduler.cli.up import bring_up, default_config
from scheduler.errors import Conflict

LOOKS_EVERY_S = 1.0


@click.command()
@click.option("--config", type=click.Path(), default=None, help="Site file; default: configs/local.yaml.")
def stay(config: str | None) -> None:
    """Bring the instance up and watch over it until `suanli down`. For systemd; people say `suanli up`.

    Ending this (ctrl-C, SIGTERM) leaves the instance running.
    """
    home = Home.from_environment()
    started = home.started() if home.path.exists() else None
    if started is None or len(started.living()) < len(PARTS):
        bring_up(Path(config) if config else default_config(), None, None, lambda text: click.echo(f"... {text}"))
    told_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: told_to_end.set())
    notify("READY=1")
    click.echo("the instance is up; `suanli down` takes it down")
    while not told_to_end.wait(LOOKS_EVERY_S):
        if not watch_over(home):
            click.echo("the instance was taken down")
            return
    click.echo("no longer watched; the instance goes on")


def watch_over(home: Home) -> bool:
    """Whether there still is an instance. Its supervisor lives afterwards, unless `up` or `down` are at work on it."""
    started = home.started()
    if started is None:
        return False
    if "supervisor" in started.living():
        return True
    with contextlib.suppress(Conflict), home.locked(wait_s=LOCK_WAIT_S):
        started = home.started()  # `down` may just have ended it
        if started is None:
            return False
        if "supervisor" not in started.living():
            from scheduler.schema.load import load_site

            click.echo("the supervisor had ended; it is started again")
            start_part(home, load_site(Path(started.config)), started, "supervisor")
    return True


def notify(said: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door, contextlib.suppress(OSError):
        door.connect("\0" + address[1:] if address.startswith("@") else address)
        door.send(said.encode())
