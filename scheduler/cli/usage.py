"""`suanli usage`: what a month came to, by tenant, job, class, site or service; and closing it."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from scheduler.billing.pflops import Achieved, achieved, written
from scheduler.cli import words
from scheduler.cli.client import Client, Json, home_path
from scheduler.cli.layout import Column
from scheduler.cli.measured_rates import rates_in
from scheduler.cli.render import Table, hint, one_line, show_json, show_table
from scheduler.core.usage_book import BY, ModelRate
from scheduler.errors import BadInput

NO_RATE = "no measured rate"
CSV_FIELDS = (
    "month",
    "state",
    "by",
    "name",
    "tenant",
    "devices",
    "runs",
    "device_seconds",
    "share_seconds",
    "unseen_device_seconds",
    "corrections_device_seconds",
    "joules",
    "joules_at_least",
    "metered_device_seconds",
    "unmetered_device_seconds",
    "pflops_hours",
    "device_seconds_without_rate",
    "requests",
    "answered",
    "within_slo",
    "errors",
)


@click.group(invoke_without_command=True)
@click.option("--tenant", help="One tenant alone. A tenant's token sees its own in any case.")
@click.option("--month", metavar="YYYY-MM", help="Default: this month, in the site's time zone.")
@click.option("--by", "of", type=click.Choice(BY), default="tenant", show_default=True, help="What is summed by.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)
@click.pass_context
def usage(ctx: click.Context, tenant: str | None, month: str | None, of: str, output: str) -> None:
    """Show what a month came to: device time, energy, PFlops-hours, requests.

    DEVICE-S are seconds times devices; of them SHARE-S were held in shares of devices. JOULES are of METERED
    device-seconds of the runs that ended in the month; of UNMETERED ones no reading is known. PFLOPS-H are device-hours
    times the measured 16-bit rate of the model; NO-RATE are the device-seconds of models that were never measured here.
    Simulated devices have lines of their own.
    """
    if ctx.invoked_subcommand is not None:
        return
    _require_month(month, "--month")
    answer = Client.from_env().get("/v1/usage", month=month, tenant=tenant, of=of)
    rates = rates_for(answer)
    if output == "json":
        show_json("usage", with_pflops(answer, rates))
    elif output == "csv":
        _show_csv(with_pflops(answer, rates))
    else:
        _show(answer, rates)


@usage.command()
@click.argument("month", metavar="YYYY-MM")
def close(month: str) -> None:
    """Close a month: it never changes any more.

    What comes to be known of it later is a correction in the month that is open then. The measured rates of the models,
    as this instance's history has them, are kept with it. For operators.
    """
    client = Client.from_env()
    _require_month(month, "MONTH")
    open_month = client.get("/v1/usage", month=month)
    rates = rates_for(open_month)
    closed = client.post("/v1/usage/close", {"month": month, "rates": [as_json(rate) for rate in rates]})
    click.echo(
        f"{closed['month']} is closed: {closed['closed']['entries']} entries, sha256 {closed['closed']['sha256']}"
    )
    for model in sorted(
        {str(e["model"]) for each in closed["sums"] for e in each["models"]} - {r.model for r in rates}
    ):
        hint(f"{model} has no measured rate: its device time is named, and comes to no PFlops-hours")


@usage.command()
@click.argument("contracts", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--year", type=click.IntRange(2020, 9998), help="Default: this year, in the site's time zone.")
@click.option("--rules", type=click.Path(path_type=Path), help="Rules of vouchers. Default: configs/vouchers.yaml.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="Form of the answer; csv has a line for each run.",
)
def vouchers(contracts: tuple[Path, ...], year: int | None, rules: Path | None, output: str) -> None:
    """Show what was executed of tenants' compute contracts, and the vouchers that this entitles to.

    Each FILE is a tenant's contract (see configs/contracts/example.yaml). Simulated devices never count. -o csv and -o
    json name every run (job, attempt, worker, from, to) that an amount is made of.
    """
    from scheduler.cli import usage_vouchers

    found = usage_vouchers.reckoned(Client.from_env(), contracts, rules, year)
    usage_vouchers.show(found, output)


def rates_for(answer: Json, home: Path | None = None) -> list[ModelRate]:
    """Of a closed month those that it was closed with, else what this instance's history has."""
    if answer["closed"] is not None:
        return [ModelRate(**rate) for rate in answer["rates"]]
    return rates_in((home or home_path()) / "bench", answer["to_ms"] / 1000)


def as_json(rate: ModelRate) -> Json:
    from dataclasses import asdict

    return asdict(rate)


def of_sum(each: Mapping[str, Any], rates: Sequence[ModelRate]) -> Achieved:
    by_model = [(entry["model"], micro(entry["device_seconds"])) for entry in each["models"]]
    return achieved(by_model, rates, simulated=each["simulated"])


def micro(seconds: str) -> int:
    """Millionths, from the text of an exact number."""
    return int(Decimal(seconds).scaleb(6))


def with_pflops(answer: Json, rates: Sequence[ModelRate]) -> Json:
    """The answer with what its device time comes to, and the rates that this is from."""
    sums = []
    for each in answer["sums"]:
        found = of_sum(each, rates)
        told = None if found.pflops_hours is None else written(found.pflops_hours)
        unrated = [{"model": model, "device_seconds": _seconds(us)} for model, us in found.unrated]
        sums.append({**each, "pflops_hours": told, "without_rate": unrated})
    return {**{k: v for k, v in answer.items() if k != "schema"}, "sums": sums, "rates": [as_json(r) for r in rates]}


def _seconds(us: int) -> str:
    return format(Decimal(us).scaleb(-6), "f")


def _show(answer: Json, rates: Sequence[ModelRate]) -> None:
    click.echo(heading(answer))
    requests = any(each["answered"] is not None for each in answer["sums"])
    table = Table(
        [
            Column(answer["of"].upper()),
            Column("DEVICES", shed=6),
            Column("RUNS", right=True, shed=4),
            Column("DEVICE-S", right=True),
            Column("SHARE-S", right=True, shed=3),
            Column("JOULES", right=True),
            Column("METERED", right=True, shed=2),
            Column("UNMETERED", right=True, shed=1),
            Column("PFLOPS-H", right=True),
            Column("NO-RATE", right=True),
            *([Column("ANSWERED", right=True)] if requests else []),
        ]
    )
    for each in answer["sums"]:
        found = of_sum(each, rates)
        table.add(
            each["name"],
            "simulated" if each["simulated"] else "real",
            each["runs"],
            number(each["device_seconds"]),
            number(each["share_seconds"]) if Decimal(each["share_seconds"]) else "",
            joules(each),
            number(each["metered_device_seconds"]),
            number(each["unmetered_device_seconds"]),
            NO_RATE if found.pflops_hours is None else f"{Decimal(written(found.pflops_hours, 6)):,f}",
            number(_seconds(sum(us for _, us in found.unrated))) if found.unrated else "",
            *([("" if each["answered"] is None else f"{each['answered']:,}")] if requests else []),
        )
    show_table(table)
    if not answer["sums"]:
        whose = "nothing has run" if answer["tenant"] is None else f"tenant {answer['tenant']} has used nothing"
        click.echo(one_line(f"{whose} in {answer['month']}"))
    for line in notes(answer, rates):
        click.echo(line)


def heading(answer: Json) -> str:
    state = answer["state"]
    if (closed := answer["closed"]) is not None:
        state = (
            f"closed on {moment(closed['closed_s'], answer['zone'])} by {closed['by']}, sha256 {closed['sha256'][:12]}"
        )
        if closed["intact"] is False:
            state += "; ITS ENTRIES ARE NOT THOSE THAT IT WAS CLOSED WITH"
    elif state == "over":
        state = f"over, not closed yet (suanli usage close {answer['month']})"
    whose = f", tenant {answer['tenant']}" if answer["tenant"] is not None else ""
    return f"{answer['month']} ({answer['zone']}){whose}: {state}"


def notes(answer: Json, rates: Sequence[ModelRate]) -> list[str]:
    """What stands below the table: where rates are from, what has none, what runs on, what was corrected."""
    used = {rate for each in answer["sums"] for rate, _ in of_sum(each, rates).rated}
    lines = [
        f"rate of {rate.model}{' (simulated)' if rate.on == 'simulated' else ''}: {Decimal(rate.gflops):,.3f} GFLOP/s"
        f" {rate.precision}, median of {rate.devices}, run {rate.run}"
        f" ({moment(rate.recorded_s, answer['zone'])[:10]})"
        for rate in rates
        if rate in used
    ]
    unrated: dict[str, int] = {}
    for each in answer["sums"]:
        for model, us in of_sum(each, rates).unrated:
            name = (model or "model not known") + (" (simulated)" if each["simulated"] else "")
            unrated[name] = unrated.get(name, 0) + us
    lines += [f"{NO_RATE}: {name}, {number(_seconds(us))} device-seconds" for name, us in sorted(unrated.items())]
    if answer["goes_on"]:
        runs = "1 run" if answer["goes_on"] == 1 else f"{answer['goes_on']} runs"
        lines.append(f"{runs} had not ended within the month: energy is told at the end")
    unseen = sum((Decimal(each["unseen_device_seconds"]) for each in answer["sums"]), Decimal(0))
    if unseen:
        lines.append(
            f"{number(str(unseen))} device-seconds are of runs whose end nobody saw: up to their last sign of life"
        )
    months = [each["of_month"] for each in answer["corrections"]]
    lines += [f"{months.count(month)} corrections of {month} are in it" for month in sorted(set(months))]
    return [one_line(line) for line in lines]


def moment(at_s: float, zone: str) -> str:
    """In the zone of the site, as months are."""
    return datetime.fromtimestamp(at_s, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def joules(each: Mapping[str, Any]) -> str:
    if each["joules"] is None:
        return words.UNREAD
    return f"{'>= ' if each['joules_at_least'] else ''}{Decimal(each['joules']):,.0f}"


def number(seconds: str) -> str:
    return f"{Decimal(seconds):,.3f}"


def _show_csv(answer: Json) -> None:
    writer = csv.DictWriter(sys.stdout, CSV_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for each in answer["sums"]:
        rows = {
            **each,
            "month": answer["month"],
            "state": answer["state"],
            "by": answer["of"],
            "devices": "simulated" if each["simulated"] else "real",
            "device_seconds_without_rate": _seconds(sum(micro(e["device_seconds"]) for e in each["without_rate"])),
        }
        writer.writerow({name: "" if value is None else value for name, value in rows.items()})


def _require_month(month: str | None, given_as: str) -> None:
    if month is not None and re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month) is None:
        raise BadInput(f"{given_as} {month}: expected a year and a month, such as 2027-01", field="month")
