"""`suanli hold`, `release` and `requeue`: whether jobs may start, and whether they keep their place."""

from __future__ import annotations

from typing import Any

import click

from scheduler.cli.client import Client
from scheduler.cli.ids import named
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json
from scheduler.errors import from_wire

_jobs = click.argument("job_ids", metavar="ID...", nargs=-1, required=True)


@click.command()
@_jobs
@click.option("--reason", required=True, help="Why: shown to whoever asks why it waits.")
@output_option
@click.pass_context
def hold(context: click.Context, job_ids: tuple[str, ...], reason: str, output: str) -> None:
    """Let waiting jobs not start until they are released.

    An array's number means those of its tasks that wait. What runs is left as it is: `suanli requeue --hold` takes it
    back. What an operator holds only operators release.
    """
    _change(context, "hold", job_ids, {"reason": reason}, output)


@click.command()
@_jobs
@output_option
@click.pass_context
def release(context: click.Context, job_ids: tuple[str, ...], output: str) -> None:
    """Let held jobs start again; an array's number means its held tasks."""
    _change(context, "release", job_ids, {}, output)


@click.command()
@_jobs
@click.option("--reason", required=True, help="Why: kept with the job.")
@click.option("--hold", "hold_too", is_flag=True, help="It then waits until it is released.")
@output_option
@click.pass_context
def requeue(context: click.Context, job_ids: tuple[str, ...], reason: str, hold_too: bool, output: str) -> None:
    """Take running jobs back to the queue: each saves its work, goes, and waits again without using up a retry.

    A job that has ended is submitted anew, with the same spec and under a new id; so is an array of which every task
    has ended. It starts from the beginning.
    """
    _change(context, "requeue", job_ids, {"reason": reason, "hold": hold_too}, output)


def _change(context: click.Context, verb: str, job_ids: tuple[str, ...], more: dict[str, Any], output: str) -> None:
    """Every id is tried; the exit code is the worst of them."""
    client = Client.from_env()
    ids = list(dict.fromkeys(named(client, given) for given in job_ids))
    answer = client.post(f"/v1/jobs/{verb}", {"ids": ids, **more})
    errors = [row["error"] for row in answer["jobs"] if row["error"] is not None]
    if output == "json":
        show_json(verb, {key: value for key, value in answer.items() if key != "schema"})
    else:
        for row in answer["jobs"]:
            if row["error"] is None:
                what = "array" if row["tasks"] is not None else "job"
                click.echo(one_line(f"{what} {row['id']} ({row['name']}): {row['detail']}"))
        for error in errors:
            click.echo(f"suanli: {error['message']}", err=True)
    if errors:
        context.exit(max(from_wire(error["type"], 0, error["message"], None).exit_code for error in errors))
