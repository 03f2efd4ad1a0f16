"""How `suanli usage vouchers` shows what was executed of contracts, and what it entitles to."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import click

from scheduler.billing.voucher_views import CSV_FIELDS, line_view, rules_view, year_view
from scheduler.billing.vouchers import Rules, VoucherYear, vouchers, yuan
from scheduler.cli.client import Json
from scheduler.cli.layout import Column
from scheduler.cli.render import Table, hint, one_line, show_json, show_table
from scheduler.cli.usage_books import Asked, book, books_of_year


@dataclass(frozen=True, slots=True)
class Reckoned:
    rules: Rules
    zone: str
    years: tuple[VoucherYear, ...]
    open_months: tuple[str, ...]
    """Of those that were looked at: their figures may still change."""


def rules_path() -> Path:
    import configs

    return Path(next(iter(configs.__path__))) / "vouchers.yaml"


def reckoned(client: Asked, contracts: Sequence[Path], rules_file: Path | None, year: int | None) -> Reckoned:
    """Raises BadInput for what is wrong with the files, before anything is asked of the service but its time zone."""
    from scheduler.schema.voucher_file import load_contracts, load_rules

    now = book(client, None)
    zone = now.head["zone"]
    rules = load_rules(rules_file or rules_path(), zone)
    signed = load_contracts(contracts, rules, zone)
    wanted = int(now.booked.month[:4]) if year is None else year
    books = books_of_year(client, wanted, now)
    closed = now.head["closed_months"]
    last = closed[-1] if closed else ""
    found = [each for each in vouchers(books, signed, rules) if each.year == wanted]
    open_months = tuple(each.month for each in books if each.month > last and (each.entries or each.corrections))
    return Reckoned(rules, zone, tuple(found), open_months)


def show(found: Reckoned, output: str) -> None:
    match output:
        case "json":
            show_json("vouchers", as_json(found))
        case "csv":
            writer = csv.DictWriter(sys.stdout, CSV_FIELDS, lineterminator="\n")
            writer.writeheader()
            for year in found.years:
                writer.writerows(line_view(line, found.zone) for line in year.lines)
        case _:
            _show_table(found)


def as_json(found: Reckoned) -> Json:
    return {
        "zone": found.zone,
        "rules": rules_view(found.rules),
        "open_months": list(found.open_months),
        "years": [year_view(year, found.zone) for year in found.years],
    }


def _show_table(found: Reckoned) -> None:
    table = Table(
        [
            "TENANT",
            Column("YEAR", right=True),
            Column("CONTRACTS", shed=2),
            Column("RUNS", right=True, shed=1),
            Column("EXECUTED-CNY", right=True),
            Column("OF-IT-VERTICAL", right=True),
            Column("VOUCHER-CNY", right=True),
            "LIMITED-BY",
        ]
    )
    for year in found.years:
        runs = len({(line.job_id, line.attempt, line.worker) for line in year.lines})
        table.add(
            year.tenant,
            year.year,
            " ".join(year.contracts),
            runs,
            f"{Decimal(yuan(year.executed_fen)):,}",
            f"{Decimal(yuan(year.vertical_fen)):,}",
            f"{Decimal(yuan(year.voucher_fen)):,}",
            {
                "nothing": "",
                "cap": f"at most {found.rules.cap:,}",
                "vertical cap": f"at most {found.rules.vertical_cap:,}",
            }[year.limited_by],
        )
    show_table(table)
    if not found.years:
        hint("none of these tenants has held a device in that year")
    for line in notes(found):
        click.echo(line)


def notes(found: Reckoned) -> list[str]:
    lines = []
    for year in found.years:
        for each in year.left_out:
            model = "" if each.model is None else f" ({each.model})"
            lines.append(
                f"{year.tenant}: {Decimal(each.device_us).scaleb(-6):,.3f} device-seconds left out: {each.why}{model}"
            )
        if year.out_of_force_fen:
            lines.append(f"{year.tenant}: {yuan(year.out_of_force_fen)} CNY lie outside the plan's time in force")
    if found.open_months:
        lines.append(f"not closed yet, and may change: {', '.join(found.open_months)}")
    if not found.rules.chains and any(year.vertical_fen for year in found.years):
        lines.append(
            "the key industry chains are not entered in the rules: the contract's word was taken for its chain"
        )
    lines.append(f"rules: {found.rules.source}")
    lines.append("executed amounts are rounded to the fen, half up; vouchers down to the fen")
    return [one_line(line) for line in lines]
