"""`suanli down`: end the instance and leave nothing of it behind. Jobs that ran are requeued by the next `up`."""

from __future__ import annotations

import json

import click

from scheduler.cli.instance import Home
from scheduler.cli.options import output_option
from scheduler.cli.stopping import stop_instance
from scheduler.errors import SuanliError


@click.command()
@output_option
def down(output: str) -> None:
    """Stop the service, the agents, their jobs and Ray of this instance.

    Jobs that were running are kept in the store and start again, from their checkpoints, at the next `suanli up`.
    """
    home = Home.from_environment()
    started = home.started() if home.path.exists() else None
    if started is None:
        _say(output, [], f"nothing is running in {home.path}")
        return
    with home.locked():
        ended = stop_instance(home, started)
        if ended.left:
            raise SuanliError(
                f"processes {', '.join(map(str, ended.left))} of this instance would not end; "
                "they may be stuck in a driver call: look at them with `ps`, then run `suanli down` again"
            )
        home.forget()
    _say(output, list(ended.names), "stopped " + (", ".join(ended.names) or "nothing: it had already ended"))


def _say(output: str, names: list[str], sentence: str) -> None:
    if output == "json":
        click.echo(json.dumps({"schema": "suanli/down/1", "stopped": names}))
    else:
        click.echo(sentence)
