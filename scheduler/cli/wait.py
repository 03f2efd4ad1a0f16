"""`suanli wait`: block until jobs have ended, and say by the exit code whether all of them succeeded."""

from __future__ import annotations

import time

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.ids import every_id
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json

TIMED_OUT = 7


@click.command()
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--timeout", type=click.FloatRange(0, 10_000_000), help="Give up after so many seconds.")
@output_option
@click.pass_context
def wait(context: click.Context, job_ids: tuple[str, ...], timeout: float | None, output: str) -> None:
    """Wait until the jobs (default: last) have ended; an array's number means all its tasks.

    Exit code 0 if all succeeded, 1 if one did not, 7 if --timeout was over first.
    """
    views = wait_for(Client.from_env(), job_ids or ("last",), timeout_s=timeout)
    if output == "json":
        show_json("wait", {"jobs": views})
    else:
        for view in views:
            still = "" if view["state"] in words.ENDED else f" (still so after {timeout:g} s)"
            click.echo(one_line(words.sentence(view)) + still)
    if any(view["state"] in words.ENDED and view["state"] != "succeeded" for view in views):
        context.exit(1)
    if not all_succeeded(views):
        context.exit(TIMED_OUT)


def wait_for(client: Client, job_ids: tuple[str, ...], *, timeout_s: float | None) -> list[Json]:
    """The views of all, once they have ended or the time for all of them together is over."""
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    views = []
    # `last` is looked up first: while an earlier one is waited for, another job may become the last.
    for name in every_id(client, job_ids):
        left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
        views.append(client.wait_for_job(name, timeout_s=left_s))
    return views


def all_succeeded(views: list[Json]) -> bool:
    return all(view["state"] == "succeeded" for view in views)
