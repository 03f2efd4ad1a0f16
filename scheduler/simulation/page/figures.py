"""What is drawn, and under which heading? The page's sections: charts, each with its words and table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from scheduler.simulation.page import tables
from scheduler.simulation.page.facts import Run, Series, Service
from scheduler.simulation.page.numbers import short
from scheduler.simulation.page.svg import Line, Panel, time_chart
from scheduler.simulation.page.svg_rows import Bar, Group, Range, bar_chart, range_chart
from scheduler.simulation.page.tables import Table
from scheduler.simulation.page.telling import Telling, keys_of

SHOWN_SERVICES = 6
SHOWN_GROUPS = 16
# With more runs than this, lines over one another cannot be told apart: each gets a strip of its own.
_OVERLAID = 2
# Where the axis of a service's attainment may start: at the highest that is not above its lowest figure.
_FLOORS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)

PickSeries = Callable[[Run], Series]
PickFigures = Callable[[Run], Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Figure:
    """`drawn` is None where there is nothing to draw, which the page then says."""

    title: str
    drawn: Markup | None
    captions: tuple[str, ...] = ()
    lined: bool = True  # the legend shows lines rather than fillings


@dataclass(frozen=True, slots=True)
class Section:
    key: str
    title: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...] = ()


def sections(tell: Telling) -> tuple[Section, ...]:
    return (_over_time(tell), _waiting(tell), _services(tell), _fairness(tell), _energy(tell))


def _over_time(tell: Telling) -> Section:
    figures = (
        _timed(tell, "used", lambda r: r.used, _percent_mark, top=1.0),
        _timed(tell, "fragmentation", lambda r: r.fragmentation_series, _percent_mark),
        _timed(tell, "waiting_devices", lambda r: r.waiting_devices, short, whole=True),
        _timed(tell, "waiting_jobs", lambda r: r.waiting_jobs, short, whole=True),
        _barred(tell, "by_model", lambda r: r.utilisation_by_model, str),
        _barred(tell, "by_site", lambda r: r.utilisation_by_site, tell.site_title),
    )
    return Section("over-time", tell.w("over_time"), figures, lines=(tell.w("gap"),))


def _waiting(tell: Telling) -> Section:
    runs = tell.document.runs
    met = keys_of(run.wait_s.by_class for run in runs)
    classes = [name for name in tell.document.classes if name in met]
    tenants = sorted(keys_of(run.wait_s.by_tenant for run in runs))
    figures = [_ranged(tell, "class", classes), _ranged(tell, "tenant", tenants)]
    if any(run.preemptions_by_class for run in runs):
        figures.append(_preempted(tell))
    told = (
        tables.waits_table(tell, "class", classes),
        tables.waits_table(tell, "tenant", tenants),
        tables.outcomes_table(tell),
    )
    return Section("waiting", tell.w("waiting"), tuple(figures), told)


def _services(tell: Telling) -> Section:
    """The services that keep their limits worst are drawn; of the others the table tells."""
    w = tell.w
    met = [service for run in tell.document.runs for service in run.services]
    if not met:
        return Section("services", w("services"), lines=(w("services.none"),))
    names = list(dict.fromkeys(service.name for service in met))
    worst = {
        name: min((s.attained for s in met if s.name == name and s.attained is not None), default=2.0) for name in names
    }
    shown = sorted(sorted(names, key=lambda name: worst[name])[:SHOWN_SERVICES], key=names.index)
    figures = tuple(_service(tell, name) for name in shown)
    lines = (w("services.shown", n=len(shown), all=len(names)),) if len(shown) < len(names) else ()
    return Section("services", w("services"), figures, (tables.services_table(tell),), lines)


def _fairness(tell: Telling) -> Section:
    w = tell.w
    names = keys_of({tenant.tenant: 0 for tenant in run.tenants} for run in tell.document.runs)
    if not names:
        return Section("fairness", w("fairness"), lines=(w("fairness.none"),))
    groups = []
    for name in names[:SHOWN_GROUPS]:
        bars = []
        for slot, run in tell.runs():
            for tenant in run.tenants:
                if tenant.tenant == name:
                    mark = tables.entitled(run, tenant.weight)
                    said = f"{w('share')} {tell.n.percent(tenant.share)}, {w('entitled')} {tell.n.percent(mark)}"
                    bars.append(_bar(tell, slot, tenant.share, tell.n.percent, said=said, mark=mark))
        groups.append(Group(tell.tenant_title(name), bars))
    drawn = bar_chart(
        _aria(tell, w("fig.share"), [_spoken(tell, group) for group in groups]),
        groups,
        say=_percent_mark,
        axis=w("fig.share.axis"),
        stamp=w("simulated.small"),
    )
    captions = (w("share.marks"), *_more(tell, names))
    return Section(
        "fairness",
        w("fairness"),
        (Figure(w("fig.share"), drawn, captions, lined=False),),
        (tables.fairness_table(tell),),
    )


def _energy(tell: Telling) -> Section:
    w = tell.w
    lines = []
    for slot, run in tell.runs():
        if run.energy_unknown_devices:
            lines.append(w("energy.unknown", run=tell.named(slot), n=tell.n.count(run.energy_unknown_devices)))
    lines += [
        w("energy.basis", basis=basis) for basis in dict.fromkeys(r.energy_basis for r in tell.document.runs) if basis
    ]
    if all(run.energy_kwh is None and not run.energy_by_model for run in tell.document.runs):
        return Section("energy", w("energy"), lines=(w("energy.none"), *lines))
    figure = _barred(tell, "energy", lambda r: r.energy_by_model, str, say=short, text=tell.n.kwh, top=None)
    return Section("energy", w("energy"), (figure,), lines=tuple(lines))


def _timed(
    tell: Telling,
    key: str,
    pick: PickSeries,
    say: Callable[[float], str],
    *,
    top: float | None = None,
    whole: bool = False,
) -> Figure:
    w, runs = tell.w, tell.document.runs
    title, caption = w(f"fig.{key}"), w(f"fig.{key}.axis")
    lines = [_line(tell, slot, pick(run)) for slot, run in tell.runs()]
    held = [value for line in lines for value in line.values if value is not None]
    if not held:
        return Figure(title, None)
    strips = len(runs) > _OVERLAID
    if strips:
        # Strips that are compared share one axis.
        top = top if top is not None else max(held)
        ghost = Line(0, tell.base, lines[0].t_s, lines[0].values, ghost=True)
        behind = [(line,) if line is lines[0] else (ghost, line) for line in lines]
        panels = [
            Panel(f"{line.name} · {caption}", pair, say, top, whole) for line, pair in zip(lines, behind, strict=True)
        ]
    else:
        panels = [Panel(caption, lines, say, top, whole)]
    said = [_range_words(tell, line, tell.n.percent if say is _percent_mark else tell.n.quantity) for line in lines]
    drawn = _over(tell, _aria(tell, title, said), panels, strips=strips)
    return Figure(title, drawn, (w("small_multiples", base=tell.base),) if strips else ())


def _service(tell: Telling, name: str) -> Figure:
    w = tell.w
    found = [(slot, s) for slot, run in tell.runs() for s in run.services if s.name == name]
    parts: tuple[tuple[str, Callable[[Service], Series], Callable[[float], str], float | None, bool], ...] = (
        (w("attained.axis"), lambda s: s.attained_series, _percent_mark, 1.0, False),
        (w("replicas.axis"), lambda s: s.replicas_series, short, None, True),
        (w("requests.axis"), lambda s: s.requests_series, short, None, False),
    )
    lowest = min((at for _, s in found for at in s.attained_series.values if at is not None), default=0.0)
    floor = next((floor for floor in _FLOORS if floor <= lowest), 0.0)
    panels = [
        Panel(caption, [_line(tell, slot, pick(s)) for slot, s in found], say, top, whole, floor if top else 0.0)
        for caption, pick, say, top, whole in parts
    ]
    one = found[0][1]
    tenant, cls = tell.tenant_title(one.tenant), tell.class_title(one.priority_class)
    caption = w("fig.service.caption", tenant=tenant, cls=cls, slo=tell.n.milliseconds(one.slo_p99_ms))
    if not any(value is not None for panel in panels for line in panel.lines for value in line.values):
        return Figure(name, None, (caption,))
    said = [f"{tell.named(slot)}{w('colon')}{w('attained')} {tell.n.percent(s.attained)}" for slot, s in found]
    return Figure(name, _over(tell, _aria(tell, name, said), panels), (caption,))


def _barred(
    tell: Telling,
    key: str,
    pick: PickFigures,
    title_of: Callable[[str], str],
    *,
    say: Callable[[float], str] | None = None,
    text: Callable[[float | None], str] | None = None,
    top: float | None = 1.0,
) -> Figure:
    w = tell.w
    title = w(f"fig.{key}")
    names = keys_of(pick(run) for run in tell.document.runs)
    if not names:
        return Figure(title, None, lined=False)
    groups = [
        Group(
            title_of(name),
            [
                _bar(tell, slot, pick(run)[name], text or tell.n.percent)
                for slot, run in tell.runs()
                if name in pick(run)
            ],
        )
        for name in names[:SHOWN_GROUPS]
    ]
    drawn = bar_chart(
        _aria(tell, title, [_spoken(tell, group) for group in groups]),
        groups,
        say=say or _percent_mark,
        axis=w("fig.energy.axis" if key == "energy" else "fig.utilisation.axis"),
        stamp=w("simulated.small"),
        top=top,
    )
    return Figure(title, drawn, _more(tell, names), lined=False)


def _preempted(tell: Telling) -> Figure:
    w = tell.w
    met = keys_of(run.preemptions_by_class for run in tell.document.runs)
    groups = [
        Group(
            tell.class_title(name),
            [
                _bar(tell, slot, run.preemptions_by_class[name], tell.n.count)
                for slot, run in tell.runs()
                if name in run.preemptions_by_class
            ],
        )
        for name in tell.document.classes
        if name in met
    ]
    label = _aria(tell, w("preempted"), [_spoken(tell, group) for group in groups])
    stamp = w("simulated.small")
    drawn = bar_chart(label, groups, say=short, axis=w("preempted.axis"), stamp=stamp, whole=True)
    return Figure(w("preempted"), drawn, lined=False)


def _ranged(tell: Telling, kind: Literal["class", "tenant"], names: Sequence[str]) -> Figure:
    w, n = tell.w, tell.n
    title = w(f"fig.wait_{kind}")
    title_of = tell.class_title if kind == "class" else tell.tenant_title
    groups = []
    for name in names[:SHOWN_GROUPS]:
        rows = []
        for slot, run in tell.runs():
            q = tables.grouped(run.wait_s, kind).get(name)
            if q is not None:
                said = ", ".join(f"{w(key)} {n.duration(getattr(q, key))}" for key in ("p50", "p95", "p99"))
                tip = f"{tell.named(slot)}{w('colon')}{said}".strip()
                rows.append(Range(slot, tell.letter(slot), tip, q.p50, q.p95, q.p99, n.duration(q.p99)))
        groups.append(Group(title_of(name), rows))
    if not any(at is not None for group in groups for row in group.rows for at in (row.p50, row.p95, row.p99)):
        return Figure(title, None)
    drawn = range_chart(
        _aria(
            tell,
            title,
            [f"{group.name}{w('colon')}{w('semicolon').join(r.tip for r in group.rows)}" for group in groups],
        ),
        groups,
        say=lambda at_s: tell.n.tick(at_s, at_s),
        axis=w("fig.wait.axis"),
        heading=w("p99"),
        stamp=w("simulated.small"),
    )
    return Figure(title, drawn, (w("wait.marks"), *_more(tell, names)))


def _over(tell: Telling, label: str, panels: Sequence[Panel], *, strips: bool = False) -> Markup:
    drawn = [at for panel in panels for line in panel.lines for at in line.t_s]
    simulated = [run.simulated_s for run in tell.document.runs if run.simulated_s is not None]
    end_s = max([*drawn, *simulated], default=1.0)
    stamp, axis = tell.w("simulated.small"), tell.w("simulated_time.axis")
    tick, at = tell.n.tick, tell.n.duration
    return time_chart(label, panels, end_s=end_s, tick=tick, at=at, axis=axis, stamp=stamp, strips=strips)


def _line(tell: Telling, slot: int, series: Series) -> Line:
    return Line(slot, tell.named(slot), series.t_s, series.values)


def _bar(
    tell: Telling,
    slot: int,
    value: float | None,
    text: Callable[[float | None], str],
    *,
    said: str = "",
    mark: float | None = None,
) -> Bar:
    shown = text(value)
    return Bar(slot, tell.letter(slot), f"{tell.named(slot)}{tell.w('colon')}{said or shown}", value, shown, mark)


def _aria(tell: Telling, title: str, said: Sequence[str]) -> str:
    return tell.w("aria", title=title, summary=tell.w("semicolon").join(said))


def _spoken(tell: Telling, group: Group[Bar]) -> str:
    return f"{group.name}{tell.w('colon')}{tell.w('semicolon').join(bar.tip for bar in group.rows)}"


def _range_words(tell: Telling, line: Line, say: Callable[[float | None], str]) -> str:
    held = [value for value in line.values if value is not None]
    if not held:
        return tell.w("aria.nothing", run=line.name)
    return tell.w("aria.range", run=line.name, low=say(min(held)), high=say(max(held)))


def _more(tell: Telling, names: Sequence[str]) -> tuple[str, ...]:
    rest = len(names) - SHOWN_GROUPS
    return (tell.w("more_rows", n=rest),) if rest > 0 else ()


def _percent_mark(share: float) -> str:
    """A mark of an axis whose caption says %: 25, 2.5."""
    return short(100 * share)
