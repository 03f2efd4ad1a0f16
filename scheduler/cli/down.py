"""`suanli down`: let what runs save its work, then end the instance and leave nothing of it behind."""

from __future__ import annotations

import json
import sys
import time

import click

from scheduler.cli.instance import LOCK_WAIT_S, Home, Started
from scheduler.cli.options import output_option
from scheduler.cli.stopping import stop_instance
from scheduler.errors import SuanliError

POLL_S = 0.1


@click.command()
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(0, 86_400),
    default=60.0,
    show_default=True,
    help="Seconds that jobs may take to save their work; each has its own checkpoint grace too.",
)
@output_option
def down(grace_s: float, output: str) -> None:
    """Stop the service, the agents, their jobs and Ray of this instance.

    Jobs that run are asked for a checkpoint and go back to the queue; the next `suanli up` starts them again from it.
    """
    home = Home.from_environment()
    if not home.path.exists() or home.started() is None:
        _say(output, [], f"nothing is running in {home.path}")
        return
    with home.locked(wait_s=LOCK_WAIT_S):
        started = home.started()
        if started is None:  # another `down` was quicker
            _say(output, [], f"nothing is running in {home.path}")
            return
        if grace_s and "service" in started.living():
            _let_jobs_save(home, started, grace_s, quiet=output == "json")
        ended = stop_instance(home, started)
        if ended.left:
            raise SuanliError(
                f"processes {', '.join(map(str, ended.left))} of this instance would not end; "
                "they may be stuck in a driver call: look at them with `ps`, then run `suanli down` again"
            )
        home.forget()
    _say(output, list(ended.names), "stopped " + (", ".join(ended.names) or "nothing: it had already ended"))


def _let_jobs_save(home: Home, started: Started, grace_s: float, *, quiet: bool) -> None:
    """Ask the service to requeue what runs, and wait until it has. A service that does not answer is not waited for:
    its jobs end with their launchers and are taken up again all the same."""
    from scheduler.cli.client import Client

    deadline = time.monotonic() + grace_s
    shown = 0
    try:
        client = Client.from_home(home.path)
        while running := int(client.post("/v1/close-down", {})["running"]):
            if running != shown and not quiet:
                noun = "job is" if running == 1 else "jobs are"
                click.echo(f"... {running} {noun} saving work", err=True)
                sys.stderr.flush()
            shown = running
            if time.monotonic() > deadline:
                click.echo(f"... {running} did not go within {grace_s:g} s and will be ended", err=True)
                return
            time.sleep(POLL_S)
    except SuanliError as error:
        click.echo(f"... the service cannot ask the jobs to save their work: {error.message}", err=True)


def _say(output: str, names: list[str], sentence: str) -> None:
    if output == "json":
        click.echo(json.dumps({"schema": "suanli/down/1", "stopped": names}))
    else:
        click.echo(sentence)
