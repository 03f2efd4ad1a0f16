"""The books of months, as the service tells them: entries and corrections, in pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from scheduler.billing.vouchers import Booked
from scheduler.cli.client import Json
from scheduler.cli.usage import rates_for
from scheduler.core.usage_book import Correction, Entry, entry_from_json
from scheduler.errors import Unavailable
from scheduler.months import following

PAGE = 20_000


class Asked(Protocol):
    def get(self, path: str, /, **query: object) -> Json: ...


@dataclass(frozen=True, slots=True)
class Told:
    """`head`: everything of the answer but the entries."""

    head: Json
    booked: Booked


def book(client: Asked, month: str | None, tenant: str | None = None) -> Told:
    """Of one month; None: this one."""
    entries: list[Entry] = []
    corrections: list[Correction] = []
    offset = 0
    while True:
        answer = client.get("/v1/usage/entries", month=month, tenant=tenant, offset=offset, limit=PAGE)
        try:
            for told in answer["entries"]:
                entry = entry_from_json(told)
                if isinstance(entry, Correction):
                    corrections.append(entry)
                else:
                    entries.append(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(
                f"an entry of {answer['month']} is not understood; is the service of this version?"
            ) from error
        offset += len(answer["entries"])
        if offset >= answer["total"] or not answer["entries"]:
            head = {
                name: value for name, value in answer.items() if name not in ("entries", "total", "offset", "schema")
            }
            return Told(head, Booked(answer["month"], entries, corrections, rates_for(answer)))
        month = answer["month"]


def books_of_year(client: Asked, year: int, now: Told) -> list[Booked]:
    """All that is known of what ran in it: its months up to now, and the corrections of them that later months hold."""
    months = [f"{year}-{month:02d}" for month in range(1, 13)]
    found = [book(client, month).booked for month in months if month <= now.booked.month]
    closed = now.head["closed_months"]
    later = [month for month in closed if month > months[-1]]
    if closed and (open_month := following(closed[-1])) > months[-1]:
        later.append(open_month)
    for month in later:
        told = book(client, month).booked
        mine = [correction for correction in told.corrections if correction.of_month in months]
        found.append(Booked(month, (), mine, told.rates))
    return found
