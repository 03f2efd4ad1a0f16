"""`suanli report usage`: the usage statement of a month, as files."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from scheduler.cli.client import Client
from scheduler.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from scheduler.billing.report.document import UsageReport
    from scheduler.cli.usage_books import Asked


@click.command()
@click.option("--month", metavar="YYYY-MM", help="Default: this month, in the site's time zone.")
@click.option("--tenant", help="One tenant alone. A tenant's token sees its own in any case.")
@click.option(
    "--contract",
    "contracts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A tenant's contract file, for its vouchers of that year. May be repeated.",
)
@click.option("--rules", type=click.Path(path_type=Path), help="Rules of vouchers. Default: configs/vouchers.yaml.")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the words.")
@click.option(
    "--format", "formats", default="html,md,json,csv,xlsx", show_default=True, help="Which of these to write."
)
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="Directory of the files.",
)
def usage(
    month: str | None,
    tenant: str | None,
    contracts: tuple[Path, ...],
    rules: Path | None,
    lang: Literal["en", "zh"],
    formats: str,
    out_dir: Path,
) -> None:
    """The usage statement of a month: a table for each tenant, corrections, vouchers, method and hash."""
    from scheduler.billing.report.render import FORMATS, write_reports
    from scheduler.billing.report.words import Words

    chosen = tuple(name.strip() for name in formats.split(",") if name.strip())
    for name in chosen:
        if name not in FORMATS:
            raise BadInput(f"--format {name} is not one of {', '.join(FORMATS)}", field="format")
    made = usage_report(
        Client.from_env(), month, tenant, contracts, rules, lang=lang, formats=chosen, now_s=time.time()
    )
    try:
        paths = write_reports(made, out_dir, lang, formats=chosen)
    except OSError as error:
        raise Unavailable(
            f"the statement could not be written to {out_dir}: {error.strerror or error}; choose another with --out"
        ) from error
    for path in paths:
        click.echo(Words(lang)("line.wrote", path=path))


def usage_report(
    client: Asked,
    month: str | None,
    tenant: str | None,
    contracts: Sequence[Path],
    rules: Path | None,
    *,
    lang: str,
    formats: Sequence[str],
    now_s: float,
) -> UsageReport:
    from scheduler import __version__
    from scheduler.billing.report.document import VoucherPart, report
    from scheduler.cli import usage_vouchers
    from scheduler.cli.usage_books import book

    told = book(client, month, tenant)
    name = told.booked.month
    part = None
    if contracts:
        found = usage_vouchers.reckoned(client, contracts, rules, int(name[:4]))
        years = tuple(year for year in found.years if told.head["tenant"] in (None, year.tenant))
        part = VoucherPart(found.rules, years, found.open_months)
    words = ["suanli", "report", "usage", "--month", name, "--lang", lang, "--format", ",".join(formats)]
    words += ["--tenant", told.head["tenant"]] if told.head["tenant"] is not None else []
    words += [word for path in contracts for word in ("--contract", str(path))]
    return report(
        told.head,
        told.booked,
        generated_s=now_s,
        version=__version__,
        command=shlex.join(words),
        vouchers=part,
    )
