"""Which months are there, and what stands in their books? Reads the store; what is closed comes from there as it was.

A month that is over may stay open for a while. The first open month (the one after the last that was closed) also holds
the corrections of closed ones: a record that was written since the last closing and bills something else of a closed
month than stands in the books. They are found by what the store says was written since, and are settled, with the
month, when it is closed.

Checks of idle devices are the site's own, and stand in no book: nobody is to be billed for them, and a sum over all
tenants is of what tenants used. Their records stay, and `suanli show` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from scheduler.core.usage_book import Correction, Entry, Month, ServedLine, corrected, key_of, parts, parts_as_they_come
from scheduler.core.usage_records import UsageRecord
from scheduler.months import day_at, following, month_named
from scheduler.ports import ClosedMonth, ServedDay, Store
from scheduler.service.check_book import is_checks_record

State = Literal["open", "over", "closed", "to come"]
_ROUNDING_S = 1.0
"""Records are asked for with so much to spare on both sides: their times are floats, and a month's are milliseconds."""


@dataclass(frozen=True, slots=True)
class Book:
    """Of one month. `write_number`: all that the store wrote up to then is in it. `entries` stand in a book's order; of
    one that was asked for as they come they are in none, and are to be gone through once."""

    month: Month
    state: State
    entries: Iterable[Entry]
    corrections: tuple[Correction, ...]
    closed: ClosedMonth | None
    write_number: int = 0


def book_of(
    store: Store,
    zone: str,
    name: str,
    running: Sequence[UsageRecord],
    now_s: float,
    *,
    tenant: str | None = None,
    as_they_come: bool = False,
) -> Book:
    """`running`: what ran when it was asked for, before this. `tenant`: its entries alone. Raises BadInput for what is
    no month."""
    closed = store.closed_months()
    for each in closed:
        if each.month.name == name:
            found = store.usage_book(name, tenant)
            entries = tuple(entry for entry in found if not isinstance(entry, Correction))
            corrections = tuple(entry for entry in found if isinstance(entry, Correction))
            return Book(each.month, "closed", entries, corrections, each, each.write_number)
    month = month_named(name, zone)
    last = closed[-1] if closed else None
    first_open = last is not None and following(last.month.name) == name
    if last is not None and first_open and last.month.to_ms <= month.to_ms:
        month = Month(name, last.month.to_ms, month.to_ms)  # the zone may have been changed since
    write_number = store.usage_write_number()
    records = store.usage_records_between(month.from_ms / 1000 - _ROUNDING_S, month.to_ms / 1000 + _ROUNDING_S, tenant)
    wanted = [record for record in running if tenant in (None, record.tenant)]
    parts_of = parts_as_they_come if as_they_come else parts
    lines: Iterable[Entry] = chain(
        parts_of(of_tenants(records), of_tenants(wanted), month), served_in(store, zone, month, tenant)
    )
    corrections = ()
    if last is not None and first_open:
        corrections = tuple(c for c in outstanding(store, closed, zone, running) if tenant in (None, c.tenant))
    state: State = "to come" if now_s * 1000 < month.from_ms else "open" if now_s * 1000 < month.to_ms else "over"
    return Book(month, state, lines if as_they_come else tuple(lines), corrections, None, write_number)


def of_tenants(records: Iterable[UsageRecord]) -> list[UsageRecord]:
    """Those that are anybody's to be billed for."""
    return [record for record in records if not is_checks_record(record)]


def served_in(store: Store, zone: str, month: Month, tenant: str | None = None) -> list[ServedLine]:
    first, last = day_at(month.from_ms / 1000, zone), day_at(month.to_ms / 1000 - 1, zone)
    sums: dict[tuple[str, str, bool], list[ServedDay]] = {}
    for day in store.served_days(first, f"{last}+"):  # days are text: `+` comes after the day itself, before the next
        if tenant in (None, day.tenant):
            sums.setdefault((day.tenant, day.service, day.simulated), []).append(day)
    return [
        ServedLine(
            *key,
            sum(day.requests for day in days),
            sum(day.answered for day in days),
            sum(day.within_slo for day in days),
            sum(day.errors for day in days),
        )
        for key, days in sorted(sums.items())
    ]


def outstanding(
    store: Store, closed: Sequence[ClosedMonth], zone: str, running: Sequence[UsageRecord]
) -> list[Correction]:
    """What is to be put right of closed months, and stands in no book yet."""
    last = closed[-1]
    changed = of_tenants(store.usage_records_changed(last.write_number, last.month.to_ms / 1000 + _ROUNDING_S))
    alive = [record for record in running if record.key in {each.key for each in changed}]
    now: dict[tuple[str, str], Entry | None] = {}
    for each in closed:
        now |= {(each.month.name, line.key): line for line in parts(changed, alive, each.month)}
    keys = [key_of(record) for record in changed]
    for served in served_in(store, zone, last.month):
        now[last.month.name, served.key] = served
        keys.append(served.key)
    booked = store.usage_booked(keys)
    gone = {place: None for place in booked if place not in now and place[1].startswith("run/")}
    return corrected(booked, {**gone, **now})
