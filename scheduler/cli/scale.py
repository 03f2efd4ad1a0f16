"""`suanli scale`: give an inference service more replicas, or fewer."""

from __future__ import annotations

import click

from scheduler.cli import words
from scheduler.cli.client import Client, job_path
from scheduler.cli.options import job_argument, output_option
from scheduler.cli.render import one_line, show_json


@click.command()
@job_argument
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="Within min and max of its job file.")
@output_option
def scale(job_id: str, replicas: int, output: str) -> None:
    """Give service ID so many replicas: those too many are told to go, new ones wait in the queue."""
    view = Client.from_env().post(job_path(job_id, "scale"), {"replicas": replicas})
    if output == "json":
        show_json("scale", view)
    else:
        click.echo(
            f"job {view['id']} ({one_line(view['name'])}) is to have {replicas}: {words.workers(view)} placed now"
        )
