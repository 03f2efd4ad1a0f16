"""What does the usage statement of a month say? All figures, no words and no layout.

Everything in it follows from the month's entries and rates, whose hash it carries: whoever has them comes to the same
figures (`disagreements` does, for a usage.json). Real and simulated devices are apart throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from scheduler.billing.pflops import Achieved, achieved, written
from scheduler.billing.voucher_views import rules_view, year_view
from scheduler.billing.vouchers import Booked, Rules, VoucherYear
from scheduler.core.usage_book import (
    Correction,
    Entry,
    ModelRate,
    Month,
    RunLine,
    book_sha256,
    decimal_text,
    entry_from_json,
    entry_json,
)
from scheduler.core.usage_sums import Sum, summed

SCHEMA = "suanli/usage-report/1"
JOULES_PER_KWH = 3_600_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. `name` is a tenant or a job; of a job also what it was called, and how its runs ended."""

    total: Sum
    achieved: Achieved
    title: str = ""
    kind: str = ""
    priority_class: str = ""
    ends: tuple[str, ...] = ()
    corrected: bool = False

    @property
    def device_hours(self) -> Decimal:
        return Decimal(self.total.amounts.device_us) / Decimal(3_600 * 10**6)

    @property
    def kwh(self) -> Decimal | None:
        """None: nothing of it was metered."""
        amounts = self.total.amounts
        return Decimal(amounts.millijoules) / (1000 * JOULES_PER_KWH) if amounts.metered_us else None


@dataclass(frozen=True, slots=True)
class Tenant:
    """Its jobs on real devices, and on simulated ones, the largest first; its services with the requests answered."""

    name: str
    real: Row | None
    simulated: Row | None
    jobs: tuple[Row, ...]
    simulated_jobs: tuple[Row, ...]
    services: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class VoucherPart:
    rules: Rules
    years: tuple[VoucherYear, ...]
    open_months: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageReport:
    month: Month
    zone: str
    state: Literal["open", "over", "closed", "to come"]
    closed: Mapping[str, Any] | None
    """As the service tells it: closed_s, by, sha256, entries, intact."""
    tenant: str | None
    generated_s: float
    version: str
    command: str
    records_sha256: str
    entries: tuple[Entry, ...]
    corrections: tuple[Correction, ...]
    rates: tuple[ModelRate, ...]
    totals: tuple[Row, ...]
    """Real devices, then simulated ones."""
    tenants: tuple[Tenant, ...]
    unrated: tuple[tuple[str | None, int], ...]
    goes_on: int
    vouchers: VoucherPart | None


def report(
    head: Mapping[str, Any],
    booked: Booked,
    *,
    generated_s: float,
    version: str,
    command: str,
    vouchers: VoucherPart | None = None,
) -> UsageReport:
    """`head`: what the service says of the month beside its entries."""
    month = Month(head["month"], head["from_ms"], head["to_ms"])
    entries, corrections, rates = tuple(booked.entries), tuple(booked.corrections), tuple(booked.rates)
    rows = [_row(each, rates) for each in summed(entries, corrections, "tenant")]
    names = list(dict.fromkeys(row.total.of for row in rows))
    unrated: dict[str | None, int] = {}
    for row in rows:
        for model, us in () if row.total.simulated else row.achieved.unrated:
            unrated[model] = unrated.get(model, 0) + us
    return UsageReport(
        month=month,
        zone=head["zone"],
        state=head["state"],
        closed=head["closed"],
        tenant=head["tenant"],
        generated_s=generated_s,
        version=version,
        command=command,
        records_sha256=book_sha256(month, head["zone"], rates, [*entries, *corrections]),
        entries=entries,
        corrections=corrections,
        rates=rates,
        totals=_totals(rows, rates),
        tenants=tuple(_tenant(name, entries, corrections, rates) for name in names),
        unrated=tuple(sorted(unrated.items(), key=lambda e: (e[0] is None, e[0] or ""))),
        goes_on=head["goes_on"],
        vouchers=vouchers,
    )


def _row(total: Sum, rates: Sequence[ModelRate], **more: Any) -> Row:
    return Row(total, achieved(total.by_model, rates, simulated=total.simulated), **more)


def _totals(rows: Sequence[Row], rates: Sequence[ModelRate]) -> tuple[Row, ...]:
    found = []
    for simulated in (False, True):
        mine = [row.total for row in rows if row.total.simulated is simulated]
        if not mine:
            continue
        total = Sum("", None, simulated)
        by_model: dict[str | None, int] = {}
        answered = [each.answered for each in mine if each.answered is not None]
        amounts, corrections, runs = total.amounts, total.corrections, 0
        for each in mine:
            amounts, corrections, runs = amounts + each.amounts, corrections + each.corrections, runs + each.runs
            for model, us in each.by_model:
                by_model[model] = by_model.get(model, 0) + us
        whole = Sum(
            "",
            None,
            simulated,
            runs,
            amounts,
            corrections,
            tuple(sorted(by_model.items(), key=lambda e: (e[0] is None, e[0] or ""))),
            answered=sum(answered) if answered else None,
        )
        found.append(_row(whole, rates))
    return tuple(found)


def _tenant(
    name: str, entries: Sequence[Entry], corrections: Sequence[Correction], rates: Sequence[ModelRate]
) -> Tenant:
    mine = [entry for entry in entries if entry.tenant == name]
    put_right = [correction for correction in corrections if correction.tenant == name]
    totals = {each.simulated: _row(each, rates) for each in summed(mine, put_right, "tenant")}
    lines: dict[str, list[RunLine]] = {}
    for entry in [*mine, *(each.after or each.before for each in put_right)]:
        if isinstance(entry, RunLine):
            lines.setdefault(entry.job_id, []).append(entry)
    wrong = {side.job_id for each in put_right if isinstance(side := each.after or each.before, RunLine)}
    jobs = [
        _row(
            each,
            rates,
            title=lines[each.of][0].name,
            kind=lines[each.of][0].kind,
            priority_class=lines[each.of][0].priority_class,
            ends=tuple(sorted({line.end for line in lines[each.of]})),
            corrected=each.of in wrong,
        )
        for each in summed(mine, put_right, "job")
    ]
    jobs.sort(key=lambda row: -row.total.amounts.device_us)
    return Tenant(
        name,
        totals.get(False),
        totals.get(True),
        tuple(row for row in jobs if not row.total.simulated),
        tuple(row for row in jobs if row.total.simulated),
        tuple(_row(each, rates) for each in summed(mine, put_right, "service") if each.answered is not None),
    )


# ---- as JSON -------------------------------------------------------------------------------------------------------


def to_json(made: UsageReport) -> dict[str, Any]:
    """Numbers that are billed are exact decimal numbers as text."""
    return {
        "schema": SCHEMA,
        "month": made.month.name,
        "from_ms": made.month.from_ms,
        "to_ms": made.month.to_ms,
        "zone": made.zone,
        "state": made.state,
        "closed": None if made.closed is None else dict(made.closed),
        "tenant": made.tenant,
        "generated_s": made.generated_s,
        "version": made.version,
        "command": made.command,
        "records_sha256": made.records_sha256,
        "rates": [asdict(rate) for rate in made.rates],
        "totals": [_row_json(row) for row in made.totals],
        "tenants": [
            {
                "tenant": tenant.name,
                "real": None if tenant.real is None else _row_json(tenant.real),
                "simulated": None if tenant.simulated is None else _row_json(tenant.simulated),
                "jobs": [_row_json(row) for row in (*tenant.jobs, *tenant.simulated_jobs)],
                "services": [_row_json(row) for row in tenant.services],
            }
            for tenant in made.tenants
        ],
        "without_rate": [{"model": model, "device_seconds": decimal_text(us, 6)} for model, us in made.unrated],
        "goes_on": made.goes_on,
        "vouchers": None
        if made.vouchers is None
        else {
            "rules": rules_view(made.vouchers.rules),
            "open_months": list(made.vouchers.open_months),
            "years": [year_view(year, made.zone) for year in made.vouchers.years],
        },
        "entries": [entry_json(entry) for entry in (*made.entries, *made.corrections)],
    }


def _row_json(row: Row) -> dict[str, Any]:
    amounts = row.total.amounts
    return {
        "name": row.total.of,
        "title": row.title,
        "kind": row.kind,
        "class": row.priority_class,
        "ends": list(row.ends),
        "simulated": row.total.simulated,
        "runs": row.total.runs,
        "device_seconds": decimal_text(amounts.device_us, 6),
        "share_seconds": decimal_text(amounts.share_us, 6),
        "unseen_device_seconds": decimal_text(amounts.unseen_us, 6),
        "corrections_device_seconds": decimal_text(row.total.corrections.device_us, 6),
        "joules": decimal_text(amounts.millijoules, 3) if amounts.metered_us else None,
        "joules_at_least": amounts.at_least_mj != 0,
        "metered_device_seconds": decimal_text(amounts.metered_us, 6),
        "unmetered_device_seconds": decimal_text(amounts.unmetered_us, 6),
        "pflops_hours": pflops_text(row.achieved.pflops_hours),
        "requests": row.total.requests,
        "answered": row.total.answered,
    }


def pflops_text(value: Fraction | None) -> str | None:
    return None if value is None else written(value)


def disagreements(document: Mapping[str, Any]) -> list[str]:
    """What in a usage.json does not follow from its own entries and rates: hash, totals, tenants. Empty: all does.

    Raises ValueError for what is no such document.
    """
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"not a {SCHEMA} document")
        told = [entry_from_json(entry) for entry in document["entries"]]
        booked = Booked(
            document["month"],
            [entry for entry in told if not isinstance(entry, Correction)],
            [entry for entry in told if isinstance(entry, Correction)],
            [ModelRate(**rate) for rate in document["rates"]],
        )
        again = to_json(
            report(
                document,
                booked,
                generated_s=document["generated_s"],
                version=document["version"],
                command=document["command"],
            )
        )
        wrong = [
            f"{name} is not what its entries come to"
            for name in ("records_sha256", "totals", "tenants", "without_rate")
            if again[name] != document[name]
        ]
        closed = document["closed"]
        if closed is not None and document["tenant"] is None and closed["sha256"] != again["records_sha256"]:
            wrong.append("its entries are not those that the month was closed with")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a {SCHEMA} document: {error!r}") from error
    return wrong
