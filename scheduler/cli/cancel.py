"""`suanli cancel`: end jobs."""

from __future__ import annotations

import contextlib

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json, job_path
from scheduler.cli.ids import every_id
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json
from scheduler.errors import Conflict, SuanliError, Unavailable


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", help="Kept with the job, for whoever asks later.")
@output_option
@click.pass_context
def cancel(context: click.Context, job_ids: tuple[str, ...], reason: str, output: str) -> None:
    """End jobs: their processes are asked to go, and killed when their grace is over.

    An array's number means all its tasks that have not ended. Every id is tried; the exit code is the worst of them.
    """
    client = Client.from_env()
    views: list[Json] = []
    failures: list[SuanliError] = []
    for job_id in job_ids:
        try:
            views.extend(_cancel(client, job_id, reason))
        except Unavailable:
            raise
        except SuanliError as error:
            failures.append(error)
    if output == "json":
        show_json("cancel", {"jobs": views, "errors": [failure.message for failure in failures]})
    else:
        for view in views:
            stopping = "" if view["state"] in words.ENDED else " (being stopped)"
            click.echo(one_line(words.sentence(view)) + stopping)
        for failure in failures:
            click.echo(f"suanli: {failure.message}", err=True)
    if failures:
        context.exit(max(failure.exit_code for failure in failures))


def _cancel(client: Client, job_id: str, reason: str) -> list[Json]:
    ids = every_id(client, [job_id])
    if len(ids) == 1:
        return [client.post(job_path(ids[0], "cancel"), {"reason": reason})]
    views = []
    for task in ids:
        with contextlib.suppress(Conflict):  # of an array, what has ended already is no failure
            views.append(client.post(job_path(task, "cancel"), {"reason": reason}))
    if not views:
        raise Conflict(f"every task of {job_id} has ended already")
    return views
