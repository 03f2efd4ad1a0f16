"""What does a month's usage come to, and how does a closed month stay as it was? Exact arithmetic on integers. Pure.

A *book* of a month has one entry for each run (the part of it that lies in the month) and for each service that
answered requests. The rules:

- Times are whole milliseconds, rounded once from what the record says, half to even. Months touch without a gap, so the
  parts of a run add up to the whole run, to the millisecond.
- Device time is counted in thousandths of a device times milliseconds: `device_us`, millionths of a device-second. It
  is an integer, and so is every sum of it. `share_us` is that part of it that was held in shares of devices.
- Energy is told by a run's node once, for the whole run, when it has ended. So it stands in the month in which the run
  ended, with `metered_us` and `unmetered_us`: how much of the whole run's device time the readings cover, and how much
  not. Nothing is spread over months by a guess. What could not be read is unmetered, never 0 joules.
- The end of a run stands in the month in which it lies; in every earlier month the run *goes on*. What still runs has
  an entry up to the last moment at which it is known to have lived.
- A closed month is never changed. Where a later, better account of a run says something else of a closed month, that is
  a *correction* in the first month that is open: it names the month and the run, and holds the entry before and after.
- Simulated devices are summed apart: no sum holds both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal

from scheduler.core.usage_records import WHOLE_DEVICE_MILLI, UsageRecord

US_PER_DEVICE_HOUR = 3600 * 10**6
GFLOPS_PER_PFLOPS = 10**6

By = Literal["tenant", "job", "class", "site", "service"]
BY: tuple[By, ...] = ("tenant", "job", "class", "site", "service")


@dataclass(frozen=True, slots=True)
class Month:
    """`name` is YYYY-MM in the zone of the site; from `from_ms` on, before `to_ms` (epoch milliseconds)."""

    name: str
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Amounts:
    """Integers all, so that they add up and take away exactly. `at_least_mj`: of the millijoules those of runs whose
    counter was set back: they used that or more."""

    device_us: int = 0
    share_us: int = 0
    unseen_us: int = 0
    metered_us: int = 0
    unmetered_us: int = 0
    millijoules: int = 0
    at_least_mj: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return self._with(other, 1)

    def __sub__(self, other: Amounts) -> Amounts:
        return self._with(other, -1)

    def _with(self, other: Amounts, sign: int) -> Amounts:
        return Amounts(
            self.device_us + sign * other.device_us,
            self.share_us + sign * other.share_us,
            self.unseen_us + sign * other.unseen_us,
            self.metered_us + sign * other.metered_us,
            self.unmetered_us + sign * other.unmetered_us,
            self.millijoules + sign * other.millijoules,
            self.at_least_mj + sign * other.at_least_mj,
        )


NOTHING = Amounts()


def key_of(run: RunLine | UsageRecord) -> str:
    """Under which a run stands in every book."""
    return f"run/{run.job_id}/{run.attempt}/{run.worker}"


@dataclass(frozen=True, slots=True)
class RunLine:
    """The part of one run that lies in one month. `models` is of each device, () where they are not known. Energy and
    what it covers are of the whole run, and 0 unless the run ended in this month."""

    job_id: str
    attempt: int
    worker: int
    tenant: str
    name: str
    priority_class: str
    kind: str
    site: str | None
    node: str
    devices: tuple[int, ...]
    models: tuple[str, ...]
    share_milli: int
    simulated: bool
    from_ms: int
    to_ms: int
    end: Literal["seen", "unseen", "goes on"]
    cause: str
    metered_us: int = 0
    unmetered_us: int = 0
    millijoules: int | None = None
    at_least: bool = False

    @property
    def key(self) -> str:
        return key_of(self)

    @property
    def device_us(self) -> int:
        return _milli(self.devices, self.share_milli) * (self.to_ms - self.from_ms)

    @property
    def amounts(self) -> Amounts:
        return Amounts(
            device_us=self.device_us,
            share_us=self.device_us if self.share_milli else 0,
            unseen_us=self.device_us if self.end == "unseen" else 0,
            metered_us=self.metered_us,
            unmetered_us=self.unmetered_us,
            millijoules=self.millijoules or 0,
            at_least_mj=self.millijoules or 0 if self.at_least else 0,
        )

    def by_model(self) -> Mapping[str | None, int]:
        """Its device time by model of device; None: not known which."""
        if not self.models:
            return {None: self.device_us} if self.device_us else {}
        each_us = (self.share_milli or WHOLE_DEVICE_MILLI) * (self.to_ms - self.from_ms)
        found: dict[str | None, int] = {}
        for model in self.models:
            found[model] = found.get(model, 0) + each_us
        return found


@dataclass(frozen=True, slots=True)
class ServedLine:
    """What the gateways said that one service did in one month."""

    tenant: str
    service: str
    simulated: bool
    requests: int
    answered: int
    within_slo: int
    errors: int

    @property
    def key(self) -> str:
        return f"served/{self.tenant}/{self.service}/{'simulated' if self.simulated else 'real'}"


Entry = RunLine | ServedLine


@dataclass(frozen=True, slots=True)
class Correction:
    """Of what was booked of `of_month`, which is closed: `before` is what stands there, `after` what is known now.
    None: no such entry."""

    of_month: str
    before: Entry | None
    after: Entry | None

    @property
    def key(self) -> str:
        entry = self.after or self.before
        assert entry is not None
        return entry.key

    @property
    def tenant(self) -> str:
        entry = self.after or self.before
        assert entry is not None
        return entry.tenant


@dataclass(frozen=True, slots=True)
class ModelRate:
    """The measured rate of one model: `gflops` (a decimal number as text, exact) of one device, the median of the
    `devices` that run `run` verified at `recorded_s`. `on` is its evidence."""

    model: str
    gflops: str
    precision: str
    on: Literal["accelerator", "cpu", "simulated"]
    run: str
    recorded_s: float
    devices: int


# ---- a record's part in a month ----------------------------------------------------------------------------------


def _milli(devices: tuple[int, ...], share_milli: int) -> int:
    return share_milli or WHOLE_DEVICE_MILLI * len(devices)


def in_ms(seconds: float) -> int:
    """Exactly half-way goes to the even one. The float's own value counts, not its shortest spelling."""
    numerator, denominator = seconds.as_integer_ratio()  # Fraction would do, in ten times the time
    if denominator == 1:
        return numerator * 1000
    # The denominator is a power of two: so many bits stand behind the point.
    thousandths, bits = numerator * 1000, denominator.bit_length() - 1
    whole, half = thousandths >> bits, denominator >> 1
    rest = thousandths - (whole << bits)
    return whole + (rest > half or (rest == half and whole & 1))


def part_in(record: UsageRecord, month: Month, *, runs_on: bool = False) -> RunLine | None:
    """None where no millisecond of it lies there. `runs_on`: it has not ended; `to_s` is until when it is known to
    have lived."""
    began_ms, ended_ms = in_ms(record.from_s), in_ms(record.to_s)
    from_ms, to_ms = max(began_ms, month.from_ms), min(ended_ms, month.to_ms)
    if to_ms <= from_ms:
        return None
    ends_here = not runs_on and ended_ms <= month.to_ms
    metered_us, unmetered_us, millijoules, at_least = _energy(record, ended_ms - began_ms) if ends_here else _UNTOLD
    return RunLine(
        job_id=record.job_id,
        attempt=record.attempt,
        worker=record.worker,
        tenant=record.tenant,
        name=record.name,
        priority_class=record.priority_class,
        kind=record.kind,
        site=record.site,
        node=record.node,
        devices=record.devices,
        models=record.models,
        share_milli=record.share_milli,
        simulated=record.simulated,
        from_ms=from_ms,
        to_ms=to_ms,
        end=record.end if ends_here else "goes on",
        cause=record.cause if ends_here else "",
        metered_us=metered_us,
        unmetered_us=unmetered_us,
        millijoules=millijoules,
        at_least=at_least,
    )


_Energy = tuple[int, int, int | None, bool]
"""Metered and unmetered millionths of device-seconds, millijoules, and whether it was that or more."""
_UNTOLD: _Energy = (0, 0, None, False)


def _energy(record: UsageRecord, whole_ms: int) -> _Energy:
    """Of the whole run, for the month in which it ended."""
    whole_us = _milli(record.devices, record.share_milli) * whole_ms
    use = record.use
    if use is None or use.joules is None or use.simulated is not record.simulated or record.share_milli:
        return 0, whole_us, None, False
    metered_us = min(whole_us, _milli(record.devices, 0) * in_ms(use.metered_s))
    return metered_us, whole_us - metered_us, in_ms(use.joules), use.joules_at_least


def parts(records: Iterable[UsageRecord], running: Iterable[UsageRecord], month: Month) -> list[RunLine]:
    """In the order of a book. A run that is in both has ended between the two looks; or it was given up, and its node
    came back with it."""
    return sorted(parts_as_they_come(records, running, month), key=order)


def parts_as_they_come(
    records: Iterable[UsageRecord], running: Iterable[UsageRecord], month: Month
) -> Iterator[RunLine]:
    """The same in no order: who only adds them up need neither sort nor keep a hundred thousand of them. A run has one
    record."""
    alive = {record.key: record for record in running}
    for record in records:
        if alive:
            if record.end != "seen" and record.key in alive:
                continue
            alive.pop(record.key, None)
        if (line := part_in(record, month)) is not None:
            yield line
    for record in alive.values():
        if (line := part_in(record, month, runs_on=True)) is not None:
            yield line


def order(entry: Entry | Correction) -> tuple[Any, ...]:
    """Runs by job, attempt and worker, then services by name; corrections likewise, by month first."""
    if isinstance(entry, Correction):
        inner = entry.after or entry.before
        assert inner is not None
        return (entry.of_month, *order(inner))
    if isinstance(entry, ServedLine):
        return 1, (entry.tenant, entry.service, str(entry.simulated)), 0, 0
    job_id = entry.job_id
    place = (job_id.zfill(18),) if "." not in job_id else tuple(part.zfill(18) for part in job_id.split("."))
    return 0, place, entry.attempt, entry.worker


def corrected(
    booked: Mapping[tuple[str, str], Entry | None], now: Mapping[tuple[str, str], Entry | None]
) -> list[Correction]:
    """What has to be put right, by (month, key): where what is known `now` bills something else than what is `booked`.
    What was never booked there is booked None."""
    found = []
    for place, after in now.items():
        before = booked.get(place)
        if _billed(before) != _billed(after):
            found.append(Correction(place[0], before, after))
    return sorted(found, key=order)


def _billed(entry: Entry | None) -> object:
    """What a bill says of it: the words of its end do not count."""
    return replace(entry, cause="") if isinstance(entry, RunLine) else entry


# ---- as text: what is stored, hashed and printed -------------------------------------------------------------------


def decimal_text(value: int, places: int) -> str:
    """`value` divided by ten to the `places`, written out: 80.500000."""
    whole, part = divmod(abs(value), 10**places)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{places}d}"


def pflops_hours(device_us: int, rate: ModelRate) -> Fraction:
    """Device time times the measured rate of its model, exactly."""
    return Fraction(device_us, US_PER_DEVICE_HOUR) * Fraction(rate.gflops) / GFLOPS_PER_PFLOPS


# What dataclasses.asdict and json.dumps would do anew for each of a hundred thousand entries.
_RUN_FIELDS = tuple(f.name for f in fields(RunLine))
_SERVED_FIELDS = tuple(f.name for f in fields(ServedLine))
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def entry_json(entry: Entry | Correction) -> dict[str, Any]:
    match entry:
        case RunLine():
            told = {name: getattr(entry, name) for name in _RUN_FIELDS}
            return {"entry": "run", **told, "devices": list(entry.devices), "models": list(entry.models)}
        case ServedLine():
            return {"entry": "served", **{name: getattr(entry, name) for name in _SERVED_FIELDS}}
        case Correction():
            before, after = (None if e is None else entry_json(e) for e in (entry.before, entry.after))
            return {"entry": "correction", "of_month": entry.of_month, "before": before, "after": after}


def canonical(value: Mapping[str, Any]) -> str:
    """One line, the same whoever writes it."""
    return _ENCODER.encode(value)


def entry_from_json(told: Mapping[str, Any]) -> Entry | Correction:
    """Raises KeyError, TypeError or ValueError for what `entry_json` did not write."""
    given = {name: value for name, value in told.items() if name != "entry"}
    match told["entry"]:
        case "run":
            return RunLine(**given | {"devices": tuple(given["devices"]), "models": tuple(given["models"])})
        case "served":
            return ServedLine(**given)
        case "correction":
            before, after = (_inner(given[name]) for name in ("before", "after"))
            return Correction(given["of_month"], before, after)
        case other:
            raise ValueError(f"no entry of a book is called {other!r}")


def _inner(told: Mapping[str, Any] | None) -> Entry | None:
    entry = None if told is None else entry_from_json(told)
    if isinstance(entry, Correction):
        raise ValueError("a correction holds another one")
    return entry


def book_sha256(month: Month, zone: str, rates: Sequence[ModelRate], entries: Iterable[Entry | Correction]) -> str:
    """Of the month, its rates and its entries in their order, a line each: the same for the same book, whoever reads
    it."""
    head = {**asdict(month), "zone": zone, "rates": [asdict(rate) for rate in rates]}
    digest = hashlib.sha256(canonical(head).encode() + b"\n")
    for entry in sorted(entries, key=lambda e: (isinstance(e, Correction), order(e))):
        digest.update(canonical(entry_json(entry)).encode() + b"\n")
    return digest.hexdigest()
