"""`suanli queue`: which jobs there are, where they stand, and why the waiting ones wait."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from scheduler.cli import words
from scheduler.cli.client import Client
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, show_json, show_table

MOST = 10_000  # jobs that the API lists at once
LIVE = "pending,starting,running,preempting"

COLUMNS = (
    Column("ID"),
    Column("NAME", cuts=True),
    Column("TENANT", shed=4),
    Column("CLASS", shed=2),
    Column("KIND", shed=3),
    Column("STATE", styled=True),
    Column("WORKERS", right=True, shed=1),
    Column("ON", folds=True),
    Column("REASON", folds=True, below=True),
    Column("EST-START"),
    Column("AGE", right=True),
)


@click.command()
@click.option("-a", "--all", "ended_too", is_flag=True, help="Ended jobs too.")
@click.option("--tenant", help="Only this tenant's jobs.")
@click.option("--state", "states", multiple=True, help="Only jobs in this state; may be repeated.")
@click.option("--limit", type=click.IntRange(1, MOST), default=1000, show_default=True, help="At most so many.")
@output_option
def queue(ended_too: bool, tenant: str | None, states: tuple[str, ...], limit: int, output: str) -> None:
    """List live jobs in the order in which they will be considered."""
    wanted = ",".join(states) or (None if ended_too else LIVE)
    answer = Client.from_env().get("/v1/jobs", state=wanted, tenant=tenant, limit=limit)
    if output == "json":
        show_json("jobs", answer)
        return
    show_table(table_of(answer["jobs"], now_s=time.time()))
    if not answer["jobs"]:
        hint("no jobs" if ended_too or states else "no jobs wait or run; -a shows ended ones")
    elif (cut := cut_short(len(answer["jobs"]), answer.get("total"), limit)) is not None:
        click.echo(cut)


def cut_short(shown: int, total: int | None, limit: int) -> str | None:
    """The line under a listing that ends at its limit; None where it is whole. `total` None: more, nobody counted."""
    if total is not None and total <= shown:
        return None
    how_many = "the first" if total is None else f"{shown:,} of"
    of = f"{shown:,}" if total is None else f"{total:,}"
    more = f"--limit shows more, up to {MOST:,}" if limit < MOST else "narrow it down with --tenant or --state"
    return f"{how_many} {of} jobs shown; {more}"


def table_of(views: Sequence[words.View], *, now_s: float) -> Table:
    table = Table(COLUMNS)
    for view in views:
        table.add(
            view["id"],
            words.name(view),
            view["tenant"],
            view["priority_class"],
            view["kind"],
            view["state"],
            words.workers(view),
            words.place(view),
            words.reason(view),
            words.estimated_start(view, now_s),
            words.duration(now_s - view["submitted_s"]),
        )
    return table
