"""Which figures decide, and how do the runs differ in them? The headline, and the tables with exact values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scheduler.simulation.page.facts import Grouped, Quantiles, Run, clean, number
from scheduler.simulation.page.numbers import NONE, Numbers, short, signed
from scheduler.simulation.page.telling import Telling, keys_of

Verdict = Literal["", "better", "worse", "same", "unjudged"]
# A change of more than this many times over is said as a multiple, not in percent.
_TIMES = 10.0
# Lists of the document whose items are told by a name rather than by their place.
_NAMED_BY = ("name", "tenant")


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of one run. `change` against the first run with `mark` (▲ ▼ =) and `verdict`; empty in the first run."""

    text: str
    change: str = ""
    mark: str = ""
    verdict: Verdict = ""


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    title: str
    means: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """`texts`: how many columns from the left hold words; the others hold figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1


@dataclass(frozen=True, slots=True)
class _Metric:
    key: str
    means: str
    get: Callable[[Run], float | None]
    say: Callable[[Numbers, float | None], str]
    higher_is_better: bool
    share: bool = False  # its change is said in points
    same_size_only: bool = False  # between clusters of different size neither better nor worse


_METRICS = (
    _Metric(
        "utilisation", "utilisation", lambda r: r.utilisation, Numbers.percent, True, share=True, same_size_only=True
    ),
    _Metric("wait_p50", "wait", lambda r: r.wait_s.all.p50, Numbers.duration, False),
    _Metric("wait_p95", "wait", lambda r: r.wait_s.all.p95, Numbers.duration, False),
    _Metric("wait_p99", "wait", lambda r: r.wait_s.all.p99, Numbers.duration, False),
    _Metric("never_started", "never_started", lambda r: r.wait_s.all.never, Numbers.count, False),
    _Metric("completion_p50", "completion", lambda r: r.completion_s.all.p50, Numbers.duration, False),
    _Metric("completion_p95", "completion", lambda r: r.completion_s.all.p95, Numbers.duration, False),
    _Metric("succeeded", "succeeded", lambda r: r.jobs.get("succeeded"), Numbers.count, True),
    _Metric("preemptions", "preemptions", lambda r: r.preemptions, Numbers.count, False),
    _Metric("work_lost", "work_lost", lambda r: r.work_lost_device_s, Numbers.device_hours, False),
    _Metric("attained", "attained", lambda r: r.attained, Numbers.percent, True, share=True),
    _Metric("fragmentation", "fragmentation", lambda r: r.fragmentation, Numbers.percent, False, share=True),
    _Metric("makespan", "makespan", lambda r: r.makespan_s, Numbers.duration, False),
    _Metric("jain", "jain", lambda r: r.jain, Numbers.ratio, True),
    _Metric("energy", "energy", lambda r: r.energy_kwh, Numbers.kwh, False),
)


def headline(tell: Telling) -> tuple[HeadlineRow, ...]:
    runs = tell.document.runs
    rows = []
    for metric in _METRICS:
        base = metric.get(runs[0])
        cells = [Cell(metric.say(tell.n, base))]
        for run in runs[1:]:
            resized = metric.same_size_only and run.devices != runs[0].devices
            judged = not (run.partial or runs[0].partial or resized)
            cells.append(_cell(tell, metric, base, metric.get(run), judged=judged))
        rows.append(HeadlineRow(tell.w(f"metric.{metric.key}"), tell.w(f"means.{metric.means}"), tuple(cells)))
    return tuple(rows)


def verdicts(tell: Telling, rows: Sequence[HeadlineRow]) -> tuple[str, ...]:
    """One sentence for each run but the first."""
    said = []
    for slot, run in enumerate(tell.document.runs[1:], 1):
        if run.partial or tell.document.runs[0].partial:
            said.append(tell.w("verdict.partial", run=tell.named(slot)))
            continue
        met = [row.cells[slot].verdict for row in rows]
        counts = {verdict: met.count(verdict) for verdict in ("better", "worse", "same")}
        said.append(tell.w("verdict", run=tell.named(slot), **counts))
    return tuple(said)


def _cell(tell: Telling, metric: _Metric, base: float | None, value: float | None, *, judged: bool) -> Cell:
    text = metric.say(tell.n, value)
    if base is None or value is None:
        return Cell(text)
    if text == metric.say(tell.n, base):
        return Cell(text, mark="=", verdict="same")
    rose = value > base
    verdict: Verdict = "unjudged" if not judged else "better" if rose == metric.higher_is_better else "worse"
    if metric.share:
        change = tell.n.points(value - base)
    elif base <= 0:
        change = ("+" if rose else "−") + metric.say(tell.n, abs(value - base))
    elif value / base > _TIMES:
        change = "× " + tell.n.quantity(value / base)
    else:
        change = tell.w("percent", n=signed(f"{100 * (value - base) / base:+.1f}"))
    return Cell(text, change, "▲" if rose else "▼", verdict)


def runs_table(tell: Telling) -> Table:
    w, n = tell.w, tell.n
    head = tuple(w(key) for key in ("run", "policy", "added", "size", "simulated_time", "took", "state"))
    rows = []
    for slot, run in tell.runs():
        policy = ", ".join(f"{key}={value}" for key, value in run.policy.items())
        size = w("about.size", nodes=n.count(run.nodes), devices=n.count(run.devices))
        added = w("semicolon").join(run.added) or w("none")
        times = (n.duration(run.simulated_s), n.duration(run.elapsed_s))
        state = w("partial.short") if run.partial else w("complete")
        rows.append((tell.full_name(slot), policy or NONE, added, size, *times, state))
    return Table(w("runs"), head, tuple(rows), texts=len(head))


def outcomes_table(tell: Telling) -> Table:
    outcomes = ("submitted", "succeeded", "ended_at_limit", "refused", "waiting", "running")
    head = (tell.w("run"), *(tell.w(f"jobs.{outcome}") for outcome in outcomes))
    rows = tuple(
        (tell.named(slot), *(tell.n.count(run.jobs.get(outcome)) for outcome in outcomes)) for slot, run in tell.runs()
    )
    return Table(tell.w("outcomes"), head, rows)


def waits_table(tell: Telling, kind: Literal["class", "tenant"], names: Sequence[str]) -> Table:
    """Every run of a group stands under the same run of the one before it."""
    w, n = tell.w, tell.n
    figures = ("count", "p50", "p95", "p99", "max", "never_started")
    head = (w(kind), *((w("run"),) if tell.several else ()), *(w(figure) for figure in figures))
    title_of = tell.class_title if kind == "class" else tell.tenant_title
    rows = []
    for name in (None, *names):
        for slot, run in tell.runs():
            q = run.wait_s.all if name is None else grouped(run.wait_s, kind).get(name)
            if q is None:
                continue
            lettered = (tell.letter(slot),) if tell.several else ()
            times = (n.duration(at) for at in (q.p50, q.p95, q.p99, q.max))
            title = w("all") if name is None else title_of(name)
            rows.append((title, *lettered, n.count(q.count), *times, n.count(q.never)))
    return Table(w(f"fig.wait_{kind}"), head, tuple(rows), texts=2 if tell.several else 1)


def grouped(figures: Grouped, kind: Literal["class", "tenant"]) -> Mapping[str, Quantiles]:
    return figures.by_class if kind == "class" else figures.by_tenant


def services_table(tell: Telling) -> Table:
    w, n = tell.w, tell.n
    keys = ("slo", "requests", "attained", "service_p99", "replicas_mean")
    head = (w("service"), *((w("run"),) if tell.several else ()), w("tenant"), w("class"), *map(w, keys))
    rows = []
    for name in keys_of({service.name: 0 for service in run.services} for run in tell.document.runs):
        for slot, run in tell.runs():
            for s in run.services:
                if s.name == name:
                    about = (*((tell.letter(slot),) if tell.several else ()), tell.tenant_title(s.tenant))
                    times = (n.milliseconds(s.slo_p99_ms), n.count(s.requests), n.percent(s.attained))
                    rest = (n.milliseconds(s.p99_ms), n.quantity(s.replicas_mean))
                    rows.append((s.name, *about, tell.class_title(s.priority_class), *times, *rest))
    return Table(w("services"), head, tuple(rows), texts=4 if tell.several else 3)


def entitled(run: Run, weight: float | None) -> float | None:
    """A tenant's part of the run's weights."""
    total = sum(tenant.weight for tenant in run.tenants if tenant.weight is not None and tenant.weight > 0)
    return weight / total if weight is not None and weight >= 0 and total > 0 else None


def fairness_table(tell: Telling) -> Table:
    w, n = tell.w, tell.n
    keys = ("weight", "entitled", "share", "device_hours", "wait_p95")
    head = (w("tenant"), *((w("run"),) if tell.several else ()), *map(w, keys))
    rows = []
    for name in keys_of({tenant.tenant: 0 for tenant in run.tenants} for run in tell.document.runs):
        for slot, run in tell.runs():
            for t in run.tenants:
                if t.tenant == name:
                    hours = NONE if t.device_s is None else n.quantity(t.device_s / 3600)
                    shares = (
                        NONE if t.weight is None else short(t.weight),
                        n.percent(entitled(run, t.weight)),
                        n.percent(t.share),
                    )
                    lettered = (tell.letter(slot),) if tell.several else ()
                    rows.append((tell.tenant_title(name), *lettered, *shares, hours, n.duration(t.wait_p95_s)))
    return Table(w("fairness"), head, tuple(rows), texts=2 if tell.several else 1)


def raw_table(tell: Telling, runs: Sequence[Mapping[str, Any]]) -> Table:
    """Every single figure of the document by its path, unrounded but for digits nobody reads; no series."""
    columns = [dict(_flat(run)) for run in runs]
    head = (tell.w("raw.name"), *(tell.named(slot) for slot in range(len(columns))))
    rows = tuple((path, *(column.get(path, NONE) for column in columns)) for path in keys_of(columns))
    return Table(tell.w("raw"), head, rows)


def _flat(value: object, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() if key != "series" for pair in _flat(item, _below(path, key))]
    if isinstance(value, Sequence) and not isinstance(value, str):
        pairs = []
        for index, item in enumerate(value):
            named = [item[key] for key in _NAMED_BY if key in item] if isinstance(item, Mapping) else []
            pairs += _flat(item, _below(path, named[0] if named else index))
        return pairs
    if isinstance(value, int | float) and not isinstance(value, bool):
        finite = number(value)
        return [(path, NONE if finite is None else str(value) if isinstance(value, int) else f"{value:.8g}")]
    if isinstance(value, bool):
        return [(path, str(value).lower())]
    return [(path, NONE if value is None else clean(str(value)))]


def _below(path: str, key: object) -> str:
    return f"{path}.{clean(str(key))}" if path else clean(str(key))
