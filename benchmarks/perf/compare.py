"""Which of our hot paths became faster or slower since a record of the same machine? Pure: no files, no clock.

Of each benchmark a record keeps the median of its rounds and their robust spread: 1.4826 x MAD, an estimate of the
standard deviation (P. Rousseeuw and C. Croux, "Alternatives to the median absolute deviation", JASA 88, 1993) that a
few rounds held up by something else do not carry along. Of fewer than FEW_ROUNDS the MAD knows too little: there it is
the farthest round's distance from the median.

A benchmark moved when its medians differ by more than SMALLEST_CHANGE of the earlier one and by more than SPREADS times
the larger of both spreads. The first because two runs of the same code differ by some percent whatever their rounds
say: memory is laid out otherwise, clocks and caches are in another state, and rounds of one run share all of that. The
second because on a machine that is busy the rounds themselves lie far apart: there only what stands out of them is
told. Either alone would call noise a change; the price is that a small change on a busy machine reads `same`, so the
bound that a row had to pass stands beside it.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SCHEMA = "suanli/perf/1"
SMALLEST_CHANGE = 0.10
SPREADS = 3.0
FEW_ROUNDS = 5
MAD_TO_SD = 1.4826
# A fixed piece of NumPy work (benchmarks.planner.timing.reference_loop): where it moved, the machine did.
REFERENCE = "planner::the_reference_loop"


class NotARecord(Exception):
    """What was read is no record, or no answer of pytest-benchmark. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What must be the same for two figures to be compared. `host`: a hash of the host's name, not the name."""

    cpu: str
    cores: int
    python: str
    host: str

    @property
    def key(self) -> str:
        """Names it in a path."""
        return hashlib.sha256(repr((self.cpu, self.cores, self.python, self.host)).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one call. `rounds`: how many were timed."""

    median_s: float
    spread_s: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Record:
    """`commit`: None where it is not known; `at`: when, as ISO 8601 in UTC. `load`: of the machine over the minute
    before it began, None where it cannot be read. `versions`: of packages that figures depend on."""

    machine: Machine
    commit: str | None
    at: str
    load: float | None
    versions: Mapping[str, str]
    timings: Mapping[str, Timing]


class Moved(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Row:
    """One benchmark. `ratio`: now / before; `bound`: the share of the earlier median by which it would have had to
    differ. None where there is only one of both."""

    name: str
    before: Timing | None
    now: Timing | None
    ratio: float | None
    bound: float | None
    moved: Moved


def timing_of(rounds_s: Sequence[float]) -> Timing:
    """Raises NotARecord where these are no durations."""
    if not rounds_s or not all(math.isfinite(each) and each > 0.0 for each in rounds_s):
        raise NotARecord("a benchmark without rounds, or with one that took no time")
    median_s = statistics.median(rounds_s)
    off_s = [abs(each - median_s) for each in rounds_s]
    spread_s = max(off_s) if len(off_s) < FEW_ROUNDS else MAD_TO_SD * statistics.median(off_s)
    return Timing(median_s, spread_s, len(rounds_s))


def timings_of(report: Mapping[str, Any]) -> dict[str, Timing]:
    """From what pytest-benchmark's --benchmark-json wrote, in its order. Raises NotARecord."""
    try:
        found = {short_name(str(one["fullname"])): timing_of(one["stats"]["data"]) for one in report["benchmarks"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise NotARecord(f"pytest-benchmark's answer is not as expected: {error!r}") from error
    if not found:
        raise NotARecord("no benchmark was run")
    return found


def short_name(node_id: str) -> str:
    """`wire::events_of_64_jobs` of `benchmarks/perf/test_wire.py::test_events_of_64_jobs`."""
    file, _, name = node_id.partition("::")
    return f"{file.rpartition('/')[2].removeprefix('test_').removesuffix('.py')}::{name.removeprefix('test_')}"


def compared(before: Mapping[str, Timing], now: Mapping[str, Timing]) -> tuple[Row, ...]:
    """In the order of `now`; what is gone comes last."""
    rows = [_row(name, before.get(name), timing) for name, timing in now.items()]
    rows += [Row(name, timing, None, None, None, Moved.GONE) for name, timing in before.items() if name not in now]
    return tuple(rows)


def _row(name: str, before: Timing | None, now: Timing) -> Row:
    if before is None:
        return Row(name, None, now, None, None, Moved.NEW)
    ratio = now.median_s / before.median_s
    bound = max(SMALLEST_CHANGE, SPREADS * max(before.spread_s, now.spread_s) / before.median_s)
    moved = Moved.SAME if abs(ratio - 1.0) <= bound else Moved.SLOWER if ratio > 1.0 else Moved.FASTER
    return Row(name, before, now, ratio, bound, moved)


# ---- as JSON -----------------------------------------------------------------------------------------------------


def record_json(record: Record) -> dict[str, Any]:
    return {"schema": SCHEMA, **asdict(record)}


def record_of(data: object) -> Record:
    """Raises NotARecord."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise NotARecord(f"it is not of the form {SCHEMA}")
    try:
        timings = {str(name): Timing(**of) for name, of in data["timings"].items()}
        sound = all(_is_sound(each) for each in timings.values())
        record = Record(
            Machine(**data["machine"]), data["commit"], data["at"], data["load"], dict(data["versions"]), timings
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotARecord(f"something is missing or of another kind: {error!r}") from error
    if not timings or not sound or not isinstance(record.at, str) or not isinstance(record.commit, str | None):
        raise NotARecord("it holds no durations, or such as cannot be")
    return record


def _is_sound(timing: Timing) -> bool:
    return 0.0 < timing.median_s < math.inf and 0.0 <= timing.spread_s < math.inf


# ---- for a person ------------------------------------------------------------------------------------------------


def told(before: Record | None, now: Record) -> list[str]:
    """Lines: what is set against what, a row a benchmark, and what moved."""
    lines = [f"now     {_named(now)}"]
    if before is None:
        lines += ["before  no record of this machine yet: there is nothing to compare with", ""]
        rows = [("BENCHMARK", "NOW", "SPREAD", "ROUNDS")]
        rows += [(n, _duration(t.median_s), _duration(t.spread_s), str(t.rounds)) for n, t in now.timings.items()]
        return [*lines, *_aligned(rows)]
    lines += [f"before  {_named(before)}", ""]
    found = compared(before.timings, now.timings)
    table = [("BENCHMARK", "BEFORE", "NOW", "RATIO", "BOUND", "MOVED")]
    table += [
        (
            row.name,
            "-" if row.before is None else _duration(row.before.median_s),
            "-" if row.now is None else _duration(row.now.median_s),
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            "-" if row.bound is None else f"±{row.bound:.0%}",
            str(row.moved),
        )
        for row in found
    ]
    lines += [*_aligned(table), "", _summary(found)]
    return lines + _cautions(before, now, found)


def _summary(rows: Sequence[Row]) -> str:
    parts = []
    for kind in (Moved.SLOWER, Moved.FASTER, Moved.NEW, Moved.GONE):
        names = [row.name for row in rows if row.moved is kind]
        if names:
            parts.append(f"{kind}: {', '.join(names)}")
    rule = (
        f"(moved: medians differ by more than {SMALLEST_CHANGE:.0%} and by more than {SPREADS:g} times the larger "
        "robust spread)"
    )
    return f"{'; '.join(parts) or 'nothing moved'} {rule}"


def _cautions(before: Record, now: Record, rows: Sequence[Row]) -> list[str]:
    lines = []
    reference = next((row for row in rows if row.name == REFERENCE), None)
    if reference is not None and reference.ratio is not None and abs(reference.ratio - 1.0) > SMALLEST_CHANGE:
        low, high = min(1.0, reference.ratio), max(1.0, reference.ratio)
        with_it = [
            row.name
            for row in rows
            if row.moved in (Moved.FASTER, Moved.SLOWER)
            and row.name != REFERENCE
            and row.ratio is not None
            and low <= row.ratio <= high
        ]
        lines.append(
            f"The machine itself was not as it was: its fixed reference loop took {reference.ratio:.2f} times as long"
            f"{'; no further than that went ' if with_it else ''}{', '.join(with_it)}."
        )
    for when, record in (("before", before), ("now", now)):
        if record.load is not None and record.load > record.machine.cores:
            lines.append(f"Other work ran {when} (load {record.load:.1f} on {record.machine.cores} cores).")
    changed = sorted(name for name in before.versions if now.versions.get(name) != before.versions[name])
    if changed:
        told_of = (f"{name} {before.versions[name]}, now {now.versions.get(name, 'none')}" for name in changed)
        lines.append(f"Not only our code changed: {'; '.join(told_of)}.")
    return lines


def _named(record: Record) -> str:
    machine = record.machine
    return (
        f"{record.commit or 'of no known commit'}, {record.at}, "
        f"{machine.cores} x {machine.cpu}, Python {machine.python}"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(each.rjust(width) for each, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return lines
