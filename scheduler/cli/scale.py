"""`suanli scale`: give an inference service more replicas, or fewer, or let its load decide."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json, job_path
from scheduler.cli.options import output_option
from scheduler.cli.render import one_line, show_json

_ID = re.compile(r"\d+(\.\d+)?|last")
AUTO = "auto"


@click.command()
@click.argument("service", metavar="ID|[TENANT/]NAME", default="last")
@click.argument("to", metavar="[N|auto]", required=False)
@click.option("--replicas", type=click.IntRange(min=0), help="The same as N.")
@output_option
def scale(service: str, to: str | None, replicas: int | None, output: str) -> None:
    """Give a service N replicas, within min and max of its job file: those too many are told to go, new ones wait in
    the queue. It stays at so many, whatever its load, until `auto` lets its load decide again.

    The service is named by its job's ID, or by its NAME: then its live version is meant.
    """
    wanted = _wanted(to, replicas)
    client = Client.from_env()
    if _ID.fullmatch(service):
        view = client.post(job_path(service, "scale"), {"replicas": wanted})
    else:
        tenant, _, name = service.rpartition("/")
        path = f"/v1/services/{quote(name, safe='')}/scale" + (f"?{urlencode({'tenant': tenant})}" if tenant else "")
        view = client.post(path, {"replicas": wanted})
    if output == "json":
        show_json("scale" if _ID.fullmatch(service) else "service", view)
    else:
        click.echo(_said(view, wanted))


def _wanted(to: str | None, replicas: int | None) -> int | None:
    """None: as its load says."""
    if (to is None) == (replicas is None):
        raise click.UsageError("say how many replicas it is to have: N, --replicas N, or auto")
    if to == AUTO:
        return None
    if to is not None and not to.isdecimal():
        raise click.UsageError(f"expected a number of replicas or {AUTO}; got {to!r}")
    return replicas if to is None else int(to)


def _said(view: Json, wanted: int | None) -> str:
    if "versions" in view:
        what, now = f"service {one_line(view['name'])}", f"{view['replicas_ready']} answer now"
    else:
        what, now = f"job {view['id']} ({one_line(view['name'])})", f"{words.workers(view)} placed now"
    return f"{what} is scaled by its load: {now}" if wanted is None else f"{what} is to have {wanted}: {now}"
