"""How `suanli usage vouchers` shows what was executed of contracts, and what it entitles to."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from scheduler.billing.pflops import written
from scheduler.billing.vouchers import ExecutedLine, Rules, VoucherYear, vouchers, yuan
from scheduler.cli.client import Json
from scheduler.cli.layout import Column
from scheduler.cli.render import Table, hint, one_line, show_json, show_table
from scheduler.cli.usage_books import Asked, book, books_of_year
from scheduler.core.usage_book import decimal_text

CSV_FIELDS = (
    "tenant",
    "contract",
    "year",
    "month",
    "booked_in",
    "job",
    "attempt",
    "worker",
    "name",
    "node",
    "model",
    "devices",
    "from",
    "to",
    "device_seconds",
    "price_cny",
    "per",
    "price_source",
    "price_line",
    "rate_gflops",
    "rate_run",
    "amount_cny",
    "chain",
    "in_force",
)


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
    found = [each for each in vouchers(books, signed, rules) if each.year == wanted]
    open_months = tuple(each.month for each in books if each.month not in closed)
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


def rules_view(rules: Rules) -> Json:
    return {
        "source": rules.source,
        "share": written(rules.share, 4),
        "max_cny": rules.cap,
        "max_cny_vertical": rules.vertical_cap,
        "key_chains": list(rules.chains),
        "rounding": "executed amount: to the fen, half up, once; voucher: down to the fen",
    }


def year_view(year: VoucherYear, zone: str) -> Json:
    return {
        "tenant": year.tenant,
        "year": year.year,
        "contracts": list(year.contracts),
        "executed_cny": yuan(year.executed_fen),
        "ordinary_cny": yuan(year.ordinary_fen),
        "vertical_cny": yuan(year.vertical_fen),
        "out_of_force_cny": yuan(year.out_of_force_fen),
        "voucher_cny": yuan(year.voucher_fen),
        "limited_by": year.limited_by,
        "left_out": [
            {"why": each.why, "model": each.model, "device_seconds": decimal_text(each.device_us, 6)}
            for each in year.left_out
        ],
        "lines": [line_view(line, zone) for line in year.lines],
    }


def line_view(line: ExecutedLine, zone: str) -> Json:
    """`amount_cny` is shown to a millionth; what is added up is exact: device_seconds times price over 3600."""
    return {
        "tenant": line.tenant,
        "contract": line.contract,
        "year": line.year,
        "month": line.month,
        "booked_in": line.booked_in,
        "job": line.job_id,
        "attempt": line.attempt,
        "worker": line.worker,
        "name": one_line(line.name),
        "node": line.node,
        "model": line.model,
        "devices": decimal_text(line.device_milli, 3),
        "from": moment(line.from_ms, zone),
        "to": moment(line.to_ms, zone),
        "device_seconds": decimal_text(line.device_us, 6),
        "price_cny": format(line.price.cny, "f"),
        "per": line.price.per,
        "price_source": line.price.source,
        "price_line": line.price.where,
        "rate_gflops": None if line.rate is None else line.rate.gflops,
        "rate_run": None if line.rate is None else line.rate.run,
        "amount_cny": written(line.amount, 6),
        "chain": line.chain,
        "in_force": line.in_force,
    }


def moment(at_ms: int, zone: str) -> str:
    """To the millisecond, with the offset of the zone."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).isoformat(timespec="milliseconds")


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
