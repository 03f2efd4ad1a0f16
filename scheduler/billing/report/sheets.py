"""The usage statement as a workbook for the office: one sheet for tenants, jobs, entries, corrections, rates, vouchers.

Numbers are numbers (a spreadsheet keeps fifteen digits of them; the exact ones are in usage.json and usage.csv). Text
that came from tenants is text and never a formula.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from scheduler.billing.pflops import written
from scheduler.billing.plain import one_line
from scheduler.billing.report.document import Row, UsageReport
from scheduler.billing.report.render import described, difference, moment, run_of
from scheduler.billing.report.words import Language, Words
from scheduler.billing.vouchers import yuan
from scheduler.core.usage_book import RunLine

_LONGEST_CELL = 32_000
_WIDEST = 48


def workbook_bytes(made: UsageReport, lang: Language) -> bytes:
    from openpyxl import Workbook

    w = Words(lang)
    book = Workbook()
    book.remove(book.active)
    _about(book, made, w)
    _sheet(book, w("overview"), _heads(w, w("tenant"), w("simulated"), last=w("answered")), _tenants(made, w))
    _sheet(
        book,
        w("job"),
        _heads(w, w("tenant"), w("simulated"), w("job"), w("name"), w("kind"), w("class"), last=w("answered")),
        _jobs(made, w),
    )
    _sheet(
        book,
        w("entries"),
        [
            *(w(key) for key in ("tenant", "job", "run_of", "name", "kind", "model", "simulated", "from", "to")),
            *(w(key) for key in ("device_s", "kwh", "metered", "unmetered", "end", "requests", "answered")),
        ],
        _entries(made, w),
    )
    _sheet(
        book,
        w("corrections")[:31],
        [w(key) for key in ("of_month", "tenant", "run_of", "booked", "known", "difference")],
        (
            [
                c.of_month,
                c.tenant,
                run_of(c, w),
                described(c.before, w, made.zone),
                described(c.after, w, made.zone),
                difference(c),
            ]
            for c in made.corrections
        ),
    )
    _sheet(
        book,
        w("rates"),
        [w(key) for key in ("model", "simulated", "rate", "precision", "measured_devices", "run", "at")],
        (
            [
                rate.model,
                w("watermark") if rate.on == "simulated" else "",
                Decimal(rate.gflops),
                rate.precision,
                rate.devices,
                rate.run,
                moment(rate.recorded_s * 1000, made.zone)[:10],
            ]
            for rate in made.rates
        ),
    )
    if made.vouchers is not None:
        _vouchers(book, made, w)
    stamp = datetime.fromtimestamp(made.generated_s, UTC).replace(tzinfo=None)
    book.properties.created = book.properties.modified = stamp
    book.properties.creator = "Suanli"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _about(book: Any, made: UsageReport, w: Words) -> None:
    state = f"state.{made.state}"
    told = w(state)
    if made.closed is not None:
        told = w(state, at=moment(made.closed["closed_s"] * 1000, made.zone)[:19], by=made.closed["by"])
    rows = [
        [w("title", month=made.month.name), ""],
        [told, ""],
        *([[w("broken"), ""]] if made.closed is not None and made.closed["intact"] is False else []),
        [w("apart"), ""],
        [w("sha"), made.records_sha256],
        [w("command"), made.command],
        [w("version"), made.version],
        [w("method"), w("method.text")],
    ]
    if made.vouchers is not None:
        rules = made.vouchers.rules
        text = w("method.vouchers", cap=f"{rules.cap:,}", vertical=f"{rules.vertical_cap:,}", source=rules.source)
        rows.append(["", text])
    _sheet(book, made.month.name, None, rows)


def _heads(w: Words, *first: str, last: str) -> list[str]:
    figures = ("runs", "device_s", "device_h", "share_s", "kwh", "metered", "unmetered", "pflops_h")
    return [*first, *(w(key) for key in figures), last]


def _figures(row: Row, w: Words) -> list[Any]:
    amounts = row.total.amounts
    pflops_hours = row.achieved.pflops_hours
    return [
        row.total.runs,
        Decimal(amounts.device_us).scaleb(-6),
        round(row.device_hours, 6),
        Decimal(amounts.share_us).scaleb(-6),
        w("unread") if row.kwh is None else round(row.kwh, 6),
        Decimal(amounts.metered_us).scaleb(-6),
        Decimal(amounts.unmetered_us).scaleb(-6),
        w("unrated") if pflops_hours is None else Decimal(written(pflops_hours)),
        "" if row.total.answered is None else row.total.answered,
    ]


def _tenants(made: UsageReport, w: Words) -> Iterable[list[Any]]:
    for tenant in made.tenants:
        for row in (tenant.real, tenant.simulated):
            if row is not None:
                yield [tenant.name, w("watermark") if row.total.simulated else "", *_figures(row, w)]


def _jobs(made: UsageReport, w: Words) -> Iterable[list[Any]]:
    for tenant in made.tenants:
        for row in (*tenant.jobs, *tenant.simulated_jobs):
            stamp, kind = w("watermark") if row.total.simulated else "", w.or_as_given("kind", row.kind)
            yield [tenant.name, stamp, row.total.of, row.title, kind, row.priority_class, *_figures(row, w)]


def _entries(made: UsageReport, w: Words) -> Iterable[list[Any]]:
    for entry in made.entries:
        stamp = w("watermark") if entry.simulated else ""
        if not isinstance(entry, RunLine):
            blank = [""] * 7
            yield [entry.tenant, "", "", entry.service, "", "", stamp, *blank, entry.requests, entry.answered]
            continue
        yield [
            entry.tenant,
            entry.job_id,
            f"{entry.attempt}.{entry.worker}",
            entry.name,
            w.or_as_given("kind", entry.kind),
            "; ".join(entry.models),
            stamp,
            moment(entry.from_ms, made.zone),
            moment(entry.to_ms, made.zone),
            Decimal(entry.device_us).scaleb(-6),
            "" if entry.millijoules is None else round(Decimal(entry.millijoules) / 3_600_000_000, 6),
            Decimal(entry.metered_us).scaleb(-6),
            Decimal(entry.unmetered_us).scaleb(-6),
            w(f"end.{entry.end}"),
            "",
            "",
        ]


def _vouchers(book: Any, made: UsageReport, w: Words) -> None:
    assert made.vouchers is not None
    rules = made.vouchers.rules
    _sheet(
        book,
        w("vouchers", year=made.month.name[:4]),
        [w(key) for key in ("tenant", "contract", "executed", "vertical", "voucher", "limited")],
        (
            [
                year.tenant,
                ", ".join(year.contracts),
                Decimal(yuan(year.executed_fen)),
                Decimal(yuan(year.vertical_fen)),
                Decimal(yuan(year.voucher_fen)),
                w(
                    f"limited.{year.limited_by}",
                    cap=f"{rules.cap if year.limited_by == 'cap' else rules.vertical_cap:,}",
                ),
            ]
            for year in made.vouchers.years
        ),
    )
    _sheet(
        book,
        w("voucher.lines")[:31],
        [
            *(w(key) for key in ("tenant", "contract", "job", "run_of", "name", "model", "from", "to")),
            *(w(key) for key in ("device_s", "price", "per.device-hour", "amount", "chain", "booked_in")),
        ],
        (
            [
                line.tenant,
                line.contract,
                line.job_id,
                f"{line.attempt}.{line.worker}",
                line.name,
                line.model,
                moment(line.from_ms, made.zone),
                moment(line.to_ms, made.zone),
                Decimal(line.device_us).scaleb(-6),
                line.price.cny,
                w(f"per.{line.price.per}"),
                Decimal(written(line.amount, 6)),
                line.chain or "",
                line.booked_in,
            ]
            for year in made.vouchers.years
            for line in year.lines
        ),
    )


def _sheet(book: Any, title: str, heads: Sequence[str] | None, rows: Iterable[Sequence[Any]]) -> None:
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    sheet = book.create_sheet(title.replace("/", " ").replace(":", " ")[:31])
    widths: list[int] = []
    for number, row in enumerate([*([heads] if heads is not None else []), *rows], start=1):
        for column, value in enumerate(row, start=1):
            cell = sheet.cell(number, column)
            if isinstance(value, str):
                cell.value = one_line(value)[:_LONGEST_CELL]
                cell.data_type = "s"  # also where it begins as a formula would
            else:
                cell.value = value
            if heads is not None and number == 1:
                cell.font = Font(bold=True)
                cell.alignment = Alignment(wrap_text=True, vertical="top")
            if len(widths) < column:
                widths.append(8)
            if number > 1 or heads is None:
                widths[column - 1] = min(_WIDEST, max(widths[column - 1], len(str(value)) + 2))
    for column, width in enumerate(widths, start=1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    if heads is not None:
        sheet.freeze_panes = "A2"
