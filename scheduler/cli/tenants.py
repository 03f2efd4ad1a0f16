"""`suanli tenants`: what each tenant may hold, what it holds and waits for, and whose turn is next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from scheduler.cli import words
from scheduler.cli.client import Client, Json
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, show_json, show_table

COLUMNS = (
    Column("TENANT"),
    Column("DEVICES", shed=5),
    Column("WEIGHT", right=True, shed=4),
    Column("GUARANTEED", right=True),
    Column("MAXIMUM", right=True),
    Column("HELD", right=True),
    Column("BORROWED", right=True, shed=2),
    Column("RUNNING", right=True),
    Column("WAITING", right=True),
    Column("QUEUED-DEVICES", right=True, shed=3),
    Column("USAGE", right=True, shed=1),
    Column("STANDING", right=True),
)


@click.command()
@output_option
def tenants(output: str) -> None:
    """List the tenants: what each may hold, holds, waits for and has used.

    Within a class the tenant of the lowest STANDING goes first: the mean of its decayed USAGE and of its share now,
    over its weight. HELD and QUEUED-DEVICES are in devices, jobs that allow simulated devices counted apart; RUNNING,
    WAITING and QUEUED-DEVICES show their limit after a slash where there is one.
    """
    answer = Client.from_env().get("/v1/tenants")
    if output == "json":
        show_json("tenants", answer)
        return
    show_table(tenants_table(answer["tenants"]))
    if not answer["tenants"]:
        hint("no tenant is configured, and none has used anything")


def tenants_table(found: Sequence[Json]) -> Table:
    table = Table(COLUMNS)
    for tenant in found:
        for row in _rows(tenant):
            table.add(*row)
    return table


def _rows(tenant: Json) -> Iterator[Sequence[str]]:
    """One for real devices, and one for simulated ones where they were used; jobs are counted together, once."""
    jobs = (
        _of(str(tenant["running_jobs"]), tenant["max_running_jobs"]),
        _of(str(tenant["queued_jobs"]), tenant["max_queued_jobs"]),
    )
    for kind in ("real", "simulated"):
        account = tenant[kind]
        if account is None:
            continue
        most_queued = tenant["max_queued_milli"]
        yield (
            tenant["name"],
            kind,
            f"{tenant['weight']:g}",
            words.milli(tenant["guaranteed_milli"]),
            "" if tenant["maximum_milli"] is None else words.milli(tenant["maximum_milli"]),
            words.milli(account["held_milli"]),
            words.milli(account["borrowed_milli"]),
            *(jobs if kind == "real" else ("", "")),
            _of(words.milli(account["queued_milli"]), None if most_queued is None else words.milli(most_queued)),
            f"{account['usage']:.1%}",
            f"{account['standing']:.3f}",
        )


def _of(now: str, most: object) -> str:
    return now if most is None else f"{now}/{most}"
