"""`suanli schedules`: the jobs that are submitted again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.owned import Owned, tenant_of
from scheduler.cli.render import Table, hint, one_line, show_json, show_pairs, show_table

_SCHEDULES = Owned("schedules")

_name = click.argument("name", metavar="[TENANT/]NAME")
MISFIRES = {"once": "a missed time is made up for, once", "skip": "a missed time is left out"}


@click.group(invoke_without_command=True)
@output_option
@click.pass_context
def schedules(context: click.Context, output: str) -> None:
    """Jobs that are submitted again and again.

    \b
    suanli submit configs/jobs/nightly-benchmark.yaml       makes one: a job file with `schedule: "0 2 * * *"`
    suanli schedules                                        lists them, the next one first
    suanli schedules pause nightly-benchmark --reason "new fans"

    A time is left out while the last job of the schedule has not ended.
    """
    if context.invoked_subcommand is None:
        _list(output)


@schedules.command("list")
@output_option
def list_schedules(output: str) -> None:
    """List them, the next one first."""
    _list(output)


@schedules.command()
@_name
@output_option
def show(name: str, output: str) -> None:
    """What NAME submits, when it comes next, and what became of its last times."""
    client = Client.from_env()
    view = client.get(_SCHEDULES.path(name), **tenant_of(name))
    if output == "json":
        show_json("schedule", view)
        return
    show_pairs(
        [
            ("schedule", view["name"]),
            ("tenant", view["tenant"]),
            ("class", view["priority_class"]),
            ("kind", view["kind"]),
            ("state", view["state"]),
            ("paused", _paused(view)),
            ("times", f"{view['cron']} in {view['zone']}; {MISFIRES[view['misfire']]}"),
            ("made", f"{words.moment(view['made_s'])} by {view['by']}"),
            ("runs", view["runs"]),
            ("last run", _last(view)),
            ("left out", view["skips"] or ""),
            ("last of these", _skipped(view)),
            ("if resumed" if view["paused"] else "next", "\n".join(words.moment(at_s) for at_s in view["upcoming_s"])),
            ("command", _command(view["spec"])),
            ("working dir", view["spec"].get("working_dir")),
        ]
    )


@schedules.command()
@_name
@click.option("--reason", required=True, help="Why: shown with the schedule.")
@output_option
def pause(name: str, reason: str, output: str) -> None:
    """Let the times of NAME pass without submitting anything."""
    _change(name, "/pause", {"reason": reason}, output, "paused")


@schedules.command()
@_name
@output_option
def resume(name: str, output: str) -> None:
    """Go on with the next time of NAME; those that passed are not made up for."""
    _change(name, "/resume", {}, output, "resumed")


@schedules.command()
@_name
@output_option
def delete(name: str, output: str) -> None:
    """Submit nothing more by NAME. Its jobs stay as they are."""
    was = Client.from_env().delete(_SCHEDULES.path_with_tenant(name, ""))
    if output == "json":
        show_json("schedule", was)
        return
    click.echo(f"schedule {was['name']} of tenant {was['tenant']} is deleted")
    if was["last_is_live"]:
        click.echo(f"  job {was['last_job']}, its last one, goes on (`suanli cancel {was['last_job']}` ends it)")


def _list(output: str) -> None:
    answer = Client.from_env().get("/v1/schedules")
    if output == "json":
        show_json("schedules", answer)
        return
    show_table(table_of(answer["schedules"]))
    if not answer["schedules"]:
        hint("no job is submitted again and again")


def table_of(views: Sequence[Json]) -> Table:
    table = Table(
        [
            Column("NAME"),
            Column("TENANT", shed=2),
            Column("STATE", styled=True),
            Column("CRON"),
            Column("ZONE", shed=1),
            Column("NEXT"),
            Column("LAST"),
            Column("RUNS", right=True),
            Column("LEFT-OUT", right=True, shed=3),
            Column("NOTE", folds=True, below=True),
        ]
    )
    for view in views:
        table.add(
            view["name"],
            view["tenant"],
            view["state"],
            view["cron"],
            view["zone"],
            words.moment(view["next_s"]),
            "" if view["last_job"] is None else f"job {view['last_job']}" + (" (live)" if view["last_is_live"] else ""),
            view["runs"],
            view["skips"] or "",
            one_line(_paused(view) or _skipped(view)),
        )
    return table


def made(view: Json) -> str:
    """What `suanli submit` says of a new one."""
    when = f"{view['cron']} in {view['zone']}"
    return f"scheduled {one_line(view['name'])}: {when}; next {words.moment(view['next_s'])}, this machine's time"


def _change(name: str, verb: str, body: dict[str, Any], output: str, done: str) -> None:
    view = Client.from_env().post(_SCHEDULES.path_with_tenant(name, verb), body)
    if output == "json":
        show_json("schedule", view)
        return
    then = f"; next {words.moment(view['next_s'])}" if view["next_s"] is not None else ""
    click.echo(f"schedule {view['name']} of tenant {view['tenant']} is {done}{then}")


def _paused(view: Json) -> str:
    held = view["paused"]
    return "" if held is None else f"paused since {words.moment(held['at_s'])} by {held['by']}: {held['reason']}"


def _skipped(view: Json) -> str:
    return "" if view["skipped_s"] is None else f"{words.moment(view['skipped_s'])} left out: {view['skipped_why']}"


def _last(view: Json) -> str:
    if view["last_job"] is None:
        return ""
    return f"job {view['last_job']} for {words.moment(view['last_s'])}" + (" (live)" if view["last_is_live"] else "")


def _command(spec: Json) -> str:
    import shlex

    return shlex.join(str(part) for part in spec.get("command") or ())
