"""`suanli top`: the command. Textual is imported here, once it is known that there is a terminal to draw on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from scheduler.cli.client import Client
from scheduler.errors import BadInput

if TYPE_CHECKING:
    from scheduler.cli.top.app import Top

TERMINATED = 128 + signal.SIGTERM
TURN_S = 0.0005
PANES = ("nodes", "devices", "queue", "services")


@click.command()
@click.option(
    "--every", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, help="Seconds between looks."
)
@click.option("--pane", type=click.Choice(PANES), default="nodes", show_default=True, help="What is shown first.")
@click.pass_context
def top(context: click.Context, every: float, pane: str) -> None:
    """Watch the site on the whole screen: nodes, devices, queue and services.

    F1 shows the keys, q leaves. Without a terminal: `suanli devices -w`, `suanli queue`. NO_COLOR is honoured.
    """
    need_terminal()
    from scheduler.cli.top.app import Top

    # Two threads take turns, and a key waits for as long as the other's turn lasts: by default five milliseconds.
    sys.setswitchinterval(TURN_S)
    app = Top(Client.from_env, every_s=every, pane=pane)
    code = asyncio.run(_run(app))
    if app.failure is not None:
        raise app.failure
    context.exit(code)


async def _run(app: Top) -> int:
    loop = asyncio.get_running_loop()
    for number, code in ((signal.SIGTERM, TERMINATED), (signal.SIGINT, 0)):
        loop.add_signal_handler(number, app.exit, code)
    return await app.run_async() or 0


def need_terminal() -> None:
    """Raises BadInput that names what to use instead."""
    instead = "`suanli devices` (-w: again and again), `suanli nodes` and `suanli queue` write plain text"
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise BadInput(f"top draws on a terminal, and this is none; {instead}")
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        raise BadInput(
            f"top draws on a terminal, and TERM={os.environ.get('TERM', '')!r} cannot be drawn on; {instead}"
        )
