"""What may be asked of the books of months, and how a month is closed. From any thread.

A book is read in this order: what runs now, the number of the store's last write, then the records. So a run that ends
meanwhile is in one of them or in both, and what is written meanwhile is found again by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from scheduler.core.usage_book import By, Entry, ModelRate, RunLine, book_sha256, decimal_text, entry_json
from scheduler.core.usage_records import UsageRecord
from scheduler.core.usage_sums import Sum, summed
from scheduler.errors import BadInput, Conflict, Forbidden
from scheduler.months import following, month_at, month_named
from scheduler.ports import Clock, ClosedMonth, Json, Principal, Store
from scheduler.service import metering
from scheduler.service.check_book import TENANT
from scheduler.service.loop import ServiceLoop
from scheduler.service.months import Book, book_of, of_tenants
from scheduler.service.rights import must_be_operator

SETTLES_S = 60.0
"""A month may be closed so long after its end: until then nodes that went silent before it are found out, and what
services answered is kept."""
MOST_RATES = 1_000


class UsageControl:
    def __init__(self, store: Store, clock: Clock, loop: Callable[[], ServiceLoop], zone: str) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._zone = zone

    def sums(self, by: Principal, month: str | None, tenant: str | None, of: By) -> Json:
        tenant = _own(by, tenant)
        book = self._book(month, tenant, as_they_come=True)
        going = 0

        def looked_at() -> Iterator[Entry]:
            nonlocal going
            for entry in book.entries:
                going += _goes_on(entry)
                yield entry

        found = summed(looked_at(), book.corrections, of)
        if not found:
            self._must_be_known(by, tenant)
        return {
            **self._head(book, tenant, going),
            "of": of,
            "sums": [sum_view(each) for each in found],
            "corrections": [entry_json(each) for each in book.corrections],
        }

    def entries(self, by: Principal, month: str | None, tenant: str | None, offset: int, limit: int) -> Json:
        tenant = _own(by, tenant)
        book = self._book(month, tenant)
        found = [*book.entries, *book.corrections]
        if not found:
            self._must_be_known(by, tenant)
        return {
            **self._head(book, tenant, sum(map(_goes_on, book.entries))),
            "total": len(found),
            "offset": offset,
            "entries": [entry_json(each) for each in found[offset : offset + limit]],
        }

    def close(self, by: Principal, month: str, rates: Sequence[ModelRate]) -> Json:
        must_be_operator(by, "close months")
        if len(rates) > MOST_RATES:
            raise BadInput(f"at most {MOST_RATES} rates are kept with a month", field="rates")
        now_s = self._clock.now_s()
        self._may_be_closed(month, now_s)
        book = self._book(month, None)
        entries = (*book.entries, *book.corrections)
        sha256 = book_sha256(book.month, self._zone, rates, entries)
        closed = ClosedMonth(
            book.month, self._zone, now_s, by.name, book.write_number, len(entries), sha256, tuple(rates)
        )
        self._store.close_month(closed, entries)
        return self.sums(by, month, None, "tenant")

    def _may_be_closed(self, name: str, now_s: float) -> None:
        month, closed = month_named(name, self._zone), self._store.closed_months()
        this = month_at(now_s, self._zone).name
        if name > this:
            raise Conflict(f"{name} has not begun: this month is {this}, and one is closed a minute after its end")
        if any(each.month.name == name for each in closed):
            raise Conflict(f"{name} is closed already, and a closed month never changes")
        if now_s * 1000 < month.to_ms + SETTLES_S * 1000:
            raise Conflict(f"{name} is not over yet: a month is closed a minute after its end at the earliest")
        if closed:
            due = following(closed[-1].month.name)
            if name != due:
                raise Conflict(f"months are closed one after the other, and {due} is next")
            return
        records = self._store.usage_records_between(0.0, month.from_ms / 1000)
        earlier = of_tenants((*self._running(now_s), *records))
        first_s = min((record.from_s for record in earlier if record.from_s * 1000 < month.from_ms), default=None)
        if first_s is not None:
            due = month_at(first_s, self._zone).name
            raise Conflict(f"months are closed one after the other, and {due} is the first in which anything ran")

    def _book(self, month: str | None, tenant: str | None, *, as_they_come: bool = False) -> Book:
        now_s = self._clock.now_s()
        this = month_at(now_s, self._zone).name
        name = this if month is None else month_named(month, self._zone).name
        if name > this:
            raise BadInput(f"{name} has not begun: this month is {this}", field="month")
        running = self._running(now_s)
        return book_of(self._store, self._zone, name, running, now_s, tenant=tenant, as_they_come=as_they_come)

    def _must_be_known(self, by: Principal, tenant: str | None) -> None:
        """Of whom nothing is there: whether there is such a tenant at all. One that was taken out of the configuration
        keeps what it used; a policy that names no tenant says nothing of which there are."""
        if tenant is None or by.role == "tenant":
            return
        known = self._loop().call(lambda state: sorted(state.policy.tenants))
        if known and tenant not in (*known, TENANT):
            raise BadInput(f"there is no tenant {tenant[:60]!r}; there are: {', '.join(known[:20])}", field="tenant")

    def _running(self, now_s: float) -> list[UsageRecord]:
        return self._loop().call(lambda state: metering.running(state, now_s))

    def _head(self, book: Book, tenant: str | None, going: int) -> Json:
        months = self._store.closed_months()
        return {
            "month": book.month.name,
            "tenant": tenant,
            "zone": self._zone if book.closed is None else book.closed.zone,
            "from_ms": book.month.from_ms,
            "to_ms": book.month.to_ms,
            "state": book.state,
            "closed": None if book.closed is None else self._closed_view(book, book.closed, tenant),
            "rates": [asdict(rate) for rate in (book.closed.rates if book.closed is not None else ())],
            "closed_months": [each.month.name for each in months],
            "goes_on": going,
        }

    def _closed_view(self, book: Book, closed: ClosedMonth, tenant: str | None) -> Json:
        """`intact`: its entries still have the hash that it was closed with. Not looked at for one tenant's part."""
        entries = (*book.entries, *book.corrections)
        intact = (
            None
            if tenant is not None
            else closed.sha256 == book_sha256(closed.month, closed.zone, closed.rates, entries)
        )
        return {
            "closed_s": closed.closed_s,
            "by": closed.by,
            "sha256": closed.sha256,
            "entries": closed.entries,
            "intact": intact,
        }


def _goes_on(entry: Entry) -> bool:
    return isinstance(entry, RunLine) and entry.end == "goes on"


def _own(by: Principal, tenant: str | None) -> str | None:
    if by.role != "tenant":
        return tenant
    if tenant not in (None, by.tenant):
        raise Forbidden(f"your token is of tenant {by.tenant}; it sees no usage of {tenant}", field="tenant")
    return by.tenant


def sum_view(each: Sum) -> Json:
    """Device time as decimal numbers of seconds in text: exact, whoever reads them."""
    amounts = each.amounts
    return {
        "name": each.of,
        "tenant": each.tenant,
        "simulated": each.simulated,
        "runs": each.runs,
        "device_seconds": decimal_text(amounts.device_us, 6),
        "share_seconds": decimal_text(amounts.share_us, 6),
        "unseen_device_seconds": decimal_text(amounts.unseen_us, 6),
        "corrections_device_seconds": decimal_text(each.corrections.device_us, 6),
        "joules": decimal_text(amounts.millijoules, 3) if amounts.metered_us else None,
        "joules_at_least": amounts.at_least_mj != 0,
        "metered_device_seconds": decimal_text(amounts.metered_us, 6),
        "unmetered_device_seconds": decimal_text(amounts.unmetered_us, 6),
        "models": [{"model": model, "device_seconds": decimal_text(us, 6)} for model, us in each.by_model],
        "requests": each.requests,
        "answered": each.answered,
        "within_slo": each.within_slo,
        "errors": each.errors,
    }
