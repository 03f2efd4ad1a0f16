"""What do the entries of a book come to, by tenant, job, class, site or service? Exact: sums of integers. Pure.

One pass, an entry at a time and nothing kept of it, so that whoever only wants sums may make entries on the way.
Simulated devices are summed apart: no sum holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from scheduler.core.usage_book import NOTHING, Amounts, By, Correction, Entry, RunLine, ServedLine
from scheduler.core.usage_records import WHOLE_DEVICE_MILLI


@dataclass(frozen=True, slots=True)
class Sum:
    """`of` is the tenant, job, class, site or service; `tenant` whose it is, None for several. `amounts` hold the
    corrections, which are told apart in `corrections`. `by_model` is of device time; None: the model is not known.
    `answered` and `requests`: None where requests cannot be told by this."""

    of: str
    tenant: str | None
    simulated: bool
    runs: int = 0
    amounts: Amounts = NOTHING
    corrections: Amounts = NOTHING
    by_model: tuple[tuple[str | None, int], ...] = ()
    requests: int | None = None
    answered: int | None = None
    within_slo: int | None = None
    errors: int | None = None


@dataclass(slots=True)
class _Growing:
    tenants: set[str] = field(default_factory=set)
    runs: int = 0
    device_us: int = 0
    share_us: int = 0
    unseen_us: int = 0
    metered_us: int = 0
    unmetered_us: int = 0
    millijoules: int = 0
    at_least_mj: int = 0
    corrections: Amounts = NOTHING
    by_model: dict[str | None, int] = field(default_factory=dict)
    served: list[int] | None = None

    def add(self, line: RunLine, sign: int) -> None:
        """In place: a month has a hundred thousand lines."""
        device_us = sign * line.device_us
        self.device_us += device_us
        if line.share_milli:
            self.share_us += device_us
        if line.end == "unseen":
            self.unseen_us += device_us
        self.metered_us += sign * line.metered_us
        self.unmetered_us += sign * line.unmetered_us
        if line.millijoules:
            self.millijoules += sign * line.millijoules
            self.at_least_mj += sign * line.millijoules if line.at_least else 0
        models, by_model = line.models, self.by_model
        if models and models.count(models[0]) == len(models):
            # Of each device, also where a share is held of several.
            each_us = sign * len(models) * (line.share_milli or WHOLE_DEVICE_MILLI) * (line.to_ms - line.from_ms)
            by_model[models[0]] = by_model.get(models[0], 0) + each_us
            return
        for model, us in line.by_model().items():
            by_model[model] = by_model.get(model, 0) + sign * us

    @property
    def amounts(self) -> Amounts:
        return Amounts(
            self.device_us,
            self.share_us,
            self.unseen_us,
            self.metered_us,
            self.unmetered_us,
            self.millijoules,
            self.at_least_mj,
        )


_SERVED = ("requests", "answered", "within_slo", "errors")
UNKNOWN = "not known"

_RUN_KEY: Mapping[By, Callable[[RunLine], str | None]] = {
    "tenant": lambda line: line.tenant,
    "job": lambda line: line.job_id,
    "class": lambda line: line.priority_class,
    "site": lambda line: line.site or UNKNOWN,
    "service": lambda line: f"{line.tenant}/{line.name}" if line.kind == "inference" else None,
}
_SERVED_KEY: Mapping[By, Callable[[ServedLine], str]] = {
    "tenant": lambda line: line.tenant,
    "service": lambda line: f"{line.tenant}/{line.service}",
}


def summed(entries: Iterable[Entry], corrections: Iterable[Correction], by: By) -> tuple[Sum, ...]:
    """By name, real before simulated. By service: runs of services alone."""
    sums: dict[tuple[str, bool], _Growing] = {}
    for entry in entries:
        _count(sums, entry, by, 1, correction=False)
    for correction in corrections:
        if correction.before is not None:
            _count(sums, correction.before, by, -1, correction=True)
        if correction.after is not None:
            _count(sums, correction.after, by, 1, correction=True)
    return tuple(
        Sum(
            of,
            next(iter(grown.tenants)) if len(grown.tenants) == 1 else None,
            simulated,
            grown.runs,
            grown.amounts,
            grown.corrections,
            tuple(
                sorted(((m, us) for m, us in grown.by_model.items() if us), key=lambda e: (e[0] is None, e[0] or ""))
            ),
            *(grown.served or (None,) * len(_SERVED)),
        )
        for (of, simulated), grown in sorted(sums.items())
    )


def _count(sums: dict[tuple[str, bool], _Growing], entry: Entry, by: By, sign: int, *, correction: bool) -> None:
    key = _RUN_KEY[by](entry) if isinstance(entry, RunLine) else _SERVED_KEY[by](entry) if by in _SERVED_KEY else None
    if key is None:
        return
    grown = sums.setdefault((key, entry.simulated), _Growing())
    grown.tenants.add(entry.tenant)
    if isinstance(entry, ServedLine):
        told = [sign * getattr(entry, name) for name in _SERVED]
        grown.served = [a + b for a, b in zip(grown.served or [0] * len(told), told, strict=True)]
        return
    grown.add(entry, sign)
    if correction:
        grown.corrections += entry.amounts if sign > 0 else NOTHING - entry.amounts
    else:
        grown.runs += 1
