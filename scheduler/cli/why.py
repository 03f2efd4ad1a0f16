"""`suanli why`: the service's explanation of why a job does not run, or where it runs."""

from __future__ import annotations

import click

from scheduler.cli.client import Client, job_path
from scheduler.cli.options import job_argument, output_option
from scheduler.cli.render import safe, show_json


@click.command()
@job_argument
@output_option
def why(job_id: str, output: str) -> None:
    """Say why job ID (default: last) does not run."""
    answer = Client.from_env().get(job_path(job_id, "why"))
    if output == "json":
        show_json("why", answer)
    else:
        click.echo(safe(answer["text"]).rstrip("\n"))
