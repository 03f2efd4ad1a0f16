"""`suanli reserve`: keep nodes free for a time, for maintenance or for jobs that name the reservation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.layout import Column
from scheduler.cli.options import duration_s, output_option
from scheduler.cli.render import Table, hint, one_line, show_json, show_table
from scheduler.errors import BadInput

EVERY_S = {"day": 86_400.0, "week": 7 * 86_400.0}


class ReserveGroup(click.Group):
    """`reserve list` and `reserve cancel NAME`; any other first word is the name of a new reservation."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "NAME", make, args
        return super().resolve_command(ctx, args)


@click.group(cls=ReserveGroup, subcommand_metavar="NAME|list|cancel [ARGS]...")
def reserve() -> None:
    """Keep nodes free for a time.

    \b
    suanli reserve fans --nodes edge-0,edge-1 --start "in 2h" --for 1h --reason "new fans"
    suanli reserve night --count 2 --device "H100 SXM" --start 2026-12-01T02:00+08:00 --for 1h --every day --reason x
    suanli reserve list
    suanli reserve cancel night

    Only jobs that name the reservation (reservation: NAME) run there then, and nothing starts there before that would
    still run when it begins. What runs already is not ended for it. Tenants may name it that it is made for (--tenant);
    without, only jobs that operators submit may.
    """


@click.command()
@click.argument("name")
@click.option("--nodes", metavar="A,B,...", help="These nodes.")
@click.option("--count", type=click.IntRange(min=1), help="So many nodes, chosen by the service.")
@click.option("--device", metavar="MODEL", help="With --count: nodes that carry this model.")
@click.option("--start", required=True, metavar="TIME", help='"2026-12-01T02:00+08:00", "in 2h" or "now".')
@click.option("--for", "lasts", required=True, metavar="TIME", help="How long: 1h, 90m.")
@click.option("--every", type=click.Choice(list(EVERY_S)), default=None, help="Again and again, until it is cancelled.")
@click.option("--reason", required=True, help="Why: shown to whoever waits for these nodes.")
@click.option(
    "--tenant",
    "tenants",
    metavar="NAME",
    multiple=True,
    help="Its jobs may name the reservation; may be repeated. Without: operators' jobs alone.",
)
@output_option
def make(
    name: str,
    nodes: str | None,
    count: int | None,
    device: str | None,
    start: str,
    lasts: str,
    every: str | None,
    reason: str,
    tenants: tuple[str, ...],
    output: str,
) -> None:
    """Make the reservation NAME."""
    now_s = time.time()
    start_s = start_of(start, now_s)
    body: dict[str, Any] = {
        "name": name,
        "nodes": None if nodes is None else [node.strip() for node in nodes.split(",") if node.strip()],
        "count": count,
        "device": device,
        "start_s": start_s,
        "end_s": start_s + duration_s("--for", lasts),
        "every_s": None if every is None else EVERY_S[every],
        "reason": reason,
        "tenants": list(tenants) or None,
    }
    made = Client.from_env().post("/v1/reservations", {key: value for key, value in body.items() if value is not None})
    if output == "json":
        show_json("reservation", made)
        return
    when = f"{words.moment(made['start_s'])} to {words.moment(made['end_s'])}" + _again(made)
    click.echo(f"reserved {', '.join(made['nodes'])} for {name}: {when}")
    click.echo(f"  for jobs of {for_whom(made)}")
    if late := made["running_past_start"]:
        limits = "its time limit allows it" if len(late) == 1 else "their time limits allow it"
        click.echo(f"  {_jobs(late)} may still run there when it starts: {limits}")
    if named := made["waiting"]:
        click.echo(f"  {_jobs(named)} {'names' if len(named) == 1 else 'name'} it already, and may run there")


@reserve.command("list")
@output_option
def list_reservations(output: str) -> None:
    """List reservations that are active or to come, the next one first."""
    answer = Client.from_env().get("/v1/reservations")
    if output == "json":
        show_json("reservations", answer)
        return
    show_table(table_of(answer["reservations"]))
    if not answer["reservations"]:
        hint("nothing is reserved")


@reserve.command()
@click.argument("name")
@output_option
def cancel(name: str, output: str) -> None:
    """Take the reservation NAME back."""
    was = Client.from_env().delete(f"/v1/reservations/{quote(name, safe='')}")
    if output == "json":
        show_json("reservation", was)
        return
    take = "takes" if len(was["nodes"]) == 1 else "take"
    click.echo(f"reservation {name} is cancelled: {', '.join(was['nodes'])} {take} any job again")
    if waiting := was["waiting"]:
        still, them = ("still waits", "it") if len(waiting) == 1 else ("still wait", "them")
        click.echo(f"  {_jobs(waiting)} {still} for it: cancel {them}, or reserve anew under that name")


def table_of(found: Sequence[Json]) -> Table:
    table = Table(
        [
            Column("NAME"),
            Column("STATE", styled=True),
            Column("START"),
            Column("END"),
            Column("EVERY", shed=2),
            Column("NODES", folds=True, least=12),
            Column("TENANTS", folds=True, least=8, shed=1),
            Column("JOBS", folds=True, least=6, shed=1),
            Column("BY", shed=3),
            Column("REASON", folds=True, below=True),
        ]
    )
    for view in found:
        table.add(
            view["name"],
            view["state"],
            words.moment(view["start_s"]),
            words.moment(view["end_s"]),
            "" if view["every_s"] is None else words.duration(view["every_s"]),
            " ".join(view["nodes"]),
            for_whom(view),
            " ".join(view["jobs"]),
            view["by"],
            one_line(view["reason"]),
        )
    return table


def for_whom(view: Json) -> str:
    return ", ".join(view["tenants"]) or "operators alone"


def _jobs(ids: Sequence[str]) -> str:
    return f"{'job' if len(ids) == 1 else 'jobs'} {', '.join(ids)}"


def start_of(text: str, now_s: float) -> float:
    """Epoch seconds from "now", "in 2h" or ISO 8601 with a zone. Raises BadInput."""
    from pydantic_core import PydanticCustomError

    from scheduler.schema.fields import as_moment_s

    word = text.strip()
    if word == "now":
        return now_s
    if word.startswith("in "):
        return now_s + duration_s("--start in", word.removeprefix("in "))
    try:
        return as_moment_s(word)
    except PydanticCustomError:
        raise BadInput(
            f'--start: expected a time with its zone such as "2026-12-01T02:00+08:00", "in 2h" or "now"; got {text!r}',
            field="start",
        ) from None


def _again(view: Json) -> str:
    return "" if view["every_s"] is None else f", again every {words.duration(view['every_s'])}"
