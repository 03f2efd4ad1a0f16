"""`suanli cancel`: end jobs."""

from __future__ import annotations

import click

from scheduler.cli import words
from scheduler.cli.client import Client, job_path
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", help="Kept with the job, for whoever asks later.")
@output_option
def cancel(job_ids: tuple[str, ...], reason: str, output: str) -> None:
    """End jobs: their processes are asked to go, and killed when their grace is over."""
    client = Client.from_env()
    views = [client.post(job_path(job_id, "cancel"), {"reason": reason}) for job_id in job_ids]
    if output == "json":
        show_json("cancel", {"jobs": views})
        return
    for view in views:
        stopping = "" if view["state"] in words.ENDED else " (being stopped)"
        click.echo(one_line(words.sentence(view)) + stopping)
