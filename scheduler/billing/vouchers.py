"""What was executed of a compute contract, and to which voucher does that entitle? Exact, every fen traceable.

Rules (their numbers and their source are in configs/vouchers.yaml):

- The executed amount is the sum over the contract's runs of device time times the agreed price, by model: an hour of a
  device, or a benchmarked PFlops-hour (device-hours times the model's measured rate). Only real devices count; a model
  without a price, or without a measured rate where the price is by PFlops-hours, is named and comes to nothing.
- It counts in the calendar year, in the site's time zone, in which the devices were held: also where it was corrected
  later. A run is split at the borders of months, of the contract's period and of the plan's time in force.
- The voucher is at most `share` of what was executed while the plan was in force: at most `cap` a tenant and year from
  compute of any kind; where compute trains vertical models for the key chains, at most `vertical_cap` for all of the
  tenant's year together. So ordinary compute never brings more than `cap`, whatever else there is.
- Rounding. Amounts are fractions until the end: no line is rounded, as thousands of small ones would drift. The
  executed amount is then rounded to the fen, half up, as an invoice is. The voucher is rounded down to the fen: it is
  "up to" 30%, and one fen more would be over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from scheduler.core.usage_book import US_PER_DEVICE_HOUR, Correction, Entry, ModelRate, RunLine, pflops_hours
from scheduler.core.usage_records import WHOLE_DEVICE_MILLI

FEN = 100


@dataclass(frozen=True, slots=True)
class Rules:
    """`from_ms` and `until_ms`: the plan's time in force, epoch milliseconds, the second one past its last day. Caps in
    CNY. `chains`: names of the key industry chains; empty: nobody has entered them."""

    source: str
    from_ms: int
    until_ms: int
    share: Fraction
    cap: int
    vertical_cap: int
    chains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Price:
    """`model` None: of every model that has no price of its own. `where`: the contract's own source, and FILE:LINE."""

    model: str | None
    per: Literal["device-hour", "pflops-hour"]
    cny: Decimal
    source: str
    where: str


@dataclass(frozen=True, slots=True)
class Vertical:
    """Which jobs train a vertical model for `chain`: those of these ids, and those of these kinds whose names match."""

    chain: str
    jobs: frozenset[str]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    source: str
    where: str

    def holds(self, line: RunLine) -> bool:
        number = line.job_id.partition(".")[0]
        if line.job_id in self.jobs or number in self.jobs:
            return True
        return line.kind in self.kinds and any(fnmatchcase(line.name, name) for name in self.names)


@dataclass(frozen=True, slots=True)
class Contract:
    """From `from_ms` on, before `until_ms` (epoch milliseconds). `file`: as it was named."""

    tenant: str
    number: str
    from_ms: int
    until_ms: int
    prices: tuple[Price, ...]
    verticals: tuple[Vertical, ...]
    file: str

    def price_of(self, model: str | None) -> Price | None:
        own = [price for price in self.prices if price.model is not None and price.model == model]
        return next(iter(own or [price for price in self.prices if price.model is None and model is not None]), None)


@dataclass(frozen=True, slots=True)
class Booked:
    """A month's book: its entries, its corrections of earlier months, and the rates of its models."""

    month: str
    entries: Sequence[Entry]
    corrections: Sequence[Correction]
    rates: Sequence[ModelRate]


@dataclass(frozen=True, slots=True)
class ExecutedLine:
    """One run's devices of one model, for as long as they were held within month, contract and (or out of) the plan's
    time in force. `sign` is -1 for what a correction takes back. `device_us`, `amount`: with their sign."""

    tenant: str
    contract: str
    year: int
    month: str
    booked_in: str
    job_id: str
    attempt: int
    worker: int
    name: str
    node: str
    model: str
    device_milli: int
    from_ms: int
    to_ms: int
    sign: int
    device_us: int
    price: Price
    rate: ModelRate | None
    amount: Fraction
    chain: str | None
    in_force: bool


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Device time of the tenant that comes to nothing, and why."""

    why: Literal["simulated", "outside the period", "no price", "no measured rate", "model not known"]
    model: str | None
    device_us: int


@dataclass(frozen=True, slots=True)
class VoucherYear:
    """Of one tenant and calendar year. Amounts in fen. `limited_by`: which of the caps held, if one did."""

    tenant: str
    year: int
    contracts: tuple[str, ...]
    executed_fen: int
    ordinary_fen: int
    vertical_fen: int
    out_of_force_fen: int
    voucher_fen: int
    limited_by: Literal["nothing", "cap", "vertical cap"]
    lines: tuple[ExecutedLine, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(slots=True)
class _Year:
    lines: list[ExecutedLine] = field(default_factory=list)
    left_out: dict[tuple[str, str | None], int] = field(default_factory=dict)


def vouchers(books: Iterable[Booked], contracts: Sequence[Contract], rules: Rules) -> tuple[VoucherYear, ...]:
    """By tenant and year, of tenants that have a contract, for years in which they held devices. A run is under the
    contract in whose period it lies; contracts of one tenant must not overlap (`overlap`)."""
    assert overlap(contracts) is None
    years: dict[tuple[str, int], _Year] = {}
    of_tenant: dict[str, list[Contract]] = {}
    for contract in contracts:
        of_tenant.setdefault(contract.tenant, []).append(contract)
    for book in books:
        for month, sign, line in _signed(book):
            if line.tenant in of_tenant:
                year = years.setdefault((line.tenant, int(month[:4])), _Year())
                _execute(year, of_tenant[line.tenant], rules, book, month, sign, line)
    return tuple(_reckoned(tenant, year, found, rules) for (tenant, year), found in sorted(years.items()))


def overlap(contracts: Sequence[Contract]) -> tuple[Contract, Contract] | None:
    """Two contracts of one tenant that hold at the same time."""
    ordered = sorted(contracts, key=lambda c: (c.tenant, c.from_ms))
    for one, other in pairwise(ordered):
        if one.tenant == other.tenant and other.from_ms < one.until_ms:
            return one, other
    return None


def _signed(book: Booked) -> Iterable[tuple[str, int, RunLine]]:
    for entry in book.entries:
        if isinstance(entry, RunLine):
            yield book.month, 1, entry
    for correction in book.corrections:
        if isinstance(correction.before, RunLine):
            yield correction.of_month, -1, correction.before
        if isinstance(correction.after, RunLine):
            yield correction.of_month, 1, correction.after


def _execute(
    year: _Year, contracts: Sequence[Contract], rules: Rules, book: Booked, month: str, sign: int, line: RunLine
) -> None:
    def leave_out(why: str, model: str | None, device_us: int) -> None:
        year.left_out[why, model] = year.left_out.get((why, model), 0) + sign * device_us

    if line.simulated:
        leave_out("simulated", None, line.device_us)
        return
    rates = {rate.model: rate for rate in book.rates if rate.on == "accelerator"}
    within_ms = 0
    for contract in contracts:
        for from_ms, to_ms in _spans(line, contract, rules):
            within_ms += to_ms - from_ms
            for model, milli in _by_model(line).items():
                device_us = milli * (to_ms - from_ms)
                price = contract.price_of(model)
                if model is None or price is None:
                    leave_out("model not known" if model is None else "no price", model, device_us)
                    continue
                rate = rates.get(model) if price.per == "pflops-hour" else None
                if price.per == "pflops-hour" and rate is None:
                    leave_out("no measured rate", model, device_us)
                    continue
                held = pflops_hours(device_us, rate) if rate else Fraction(device_us, US_PER_DEVICE_HOUR)
                year.lines.append(
                    ExecutedLine(
                        tenant=line.tenant,
                        contract=contract.number,
                        year=int(month[:4]),
                        month=month,
                        booked_in=book.month,
                        job_id=line.job_id,
                        attempt=line.attempt,
                        worker=line.worker,
                        name=line.name,
                        node=line.node,
                        model=model,
                        device_milli=milli,
                        from_ms=from_ms,
                        to_ms=to_ms,
                        sign=sign,
                        device_us=sign * device_us,
                        price=price,
                        rate=rate,
                        amount=sign * held * Fraction(price.cny),
                        chain=next((v.chain for v in contract.verticals if v.holds(line)), None),
                        in_force=rules.from_ms <= from_ms and to_ms <= rules.until_ms,
                    )
                )
    outside_ms = line.to_ms - line.from_ms - within_ms
    if outside_ms:
        for model, milli in _by_model(line).items():
            leave_out("outside the period", model, milli * outside_ms)


def _by_model(line: RunLine) -> Mapping[str | None, int]:
    """Thousandths of devices by model."""
    each = line.share_milli or WHOLE_DEVICE_MILLI
    found: dict[str | None, int] = {}
    for model in line.models or (None,) * len(line.devices):
        found[model] = found.get(model, 0) + each
    return found


def _spans(line: RunLine, contract: Contract, rules: Rules) -> list[tuple[int, int]]:
    """The run's time within the contract, cut where the plan comes into force and where it ends."""
    begin, end = max(line.from_ms, contract.from_ms), min(line.to_ms, contract.until_ms)
    borders = [begin, *(b for b in (rules.from_ms, rules.until_ms) if begin < b < end), end]
    return [(a, b) for a, b in pairwise(borders) if a < b]


def _reckoned(tenant: str, year: int, found: _Year, rules: Rules) -> VoucherYear:
    def total(lines: Iterable[ExecutedLine]) -> Fraction:
        return sum((line.amount for line in lines), Fraction(0))

    ordinary = total(line for line in found.lines if line.in_force and line.chain is None)
    vertical = total(line for line in found.lines if line.in_force and line.chain is not None)
    late_or_early = total(line for line in found.lines if not line.in_force)
    voucher, limited_by = entitled(ordinary, vertical, rules)
    return VoucherYear(
        tenant=tenant,
        year=year,
        contracts=tuple(dict.fromkeys(line.contract for line in found.lines)),
        executed_fen=half_up(ordinary + vertical + late_or_early),
        ordinary_fen=half_up(ordinary),
        vertical_fen=half_up(vertical),
        out_of_force_fen=half_up(late_or_early),
        voucher_fen=down(voucher),
        limited_by=limited_by,
        lines=tuple(sorted(found.lines, key=_line_order)),
        left_out=tuple(
            LeftOut(why, model, us)  # type: ignore[arg-type]
            for (why, model), us in sorted(found.left_out.items(), key=lambda e: (e[0][0], e[0][1] or ""))
            if us
        ),
    )


def entitled(
    ordinary: Fraction, vertical: Fraction, rules: Rules
) -> tuple[Fraction, Literal["nothing", "cap", "vertical cap"]]:
    """The voucher in CNY for these executed amounts of one tenant and year, before rounding."""
    from_ordinary = min(rules.share * ordinary, Fraction(rules.cap))
    limited_by: Literal["nothing", "cap", "vertical cap"] = "nothing"
    if from_ordinary < rules.share * ordinary:
        limited_by = "cap"
    together = from_ordinary + rules.share * vertical
    if vertical > 0 and together > rules.vertical_cap:
        return Fraction(rules.vertical_cap), "vertical cap"
    return together, limited_by


def _line_order(line: ExecutedLine) -> tuple[object, ...]:
    job = tuple(part.zfill(18) for part in line.job_id.split("."))
    return line.from_ms, job, line.attempt, line.worker, line.model, line.booked_in, line.sign


def half_up(cny: Fraction) -> int:
    """In fen; half a fen is a whole one."""
    return int((cny * FEN + Fraction(1, 2)) // 1)


def down(cny: Fraction) -> int:
    return int(cny * FEN // 1)


def yuan(fen: int) -> str:
    """1234567 -> 12345.67."""
    return f"{'-' if fen < 0 else ''}{abs(fen) // FEN}.{abs(fen) % FEN:02d}"
