"""The answer of `suanli simulate run` for people: headline figures, waits by class and tenant, services; run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from scheduler.cli.layout import Column
from scheduler.cli.render import Table, safe, show_table


def show(document: Mapping[str, Any]) -> None:
    about, runs = document["about"], document["runs"]
    head = (
        f"simulated: {about['workload']} ({about['jobs']:,} jobs, {about['services']} services, seed {about['seed']}) "
        f"on {about['cluster']} ({about['nodes']:,} nodes, {about['devices']:,} devices)"
    )
    click.echo(safe(f"{head}; partial, interrupted" if about["partial"] else head))
    _headline(runs)
    for title, group in (("CLASS", "by_class"), ("TENANT", "by_tenant")):
        click.echo()
        _waits(title, group, runs)
    if any(run["services"] for run in runs):
        click.echo()
        _services(runs)
    for run in runs:
        for each in run["jobs"]["refused_reasons"]:
            click.echo(safe(f"refused in {run['name']}: {each['jobs']} jobs: {each['reason']}"))
    click.echo()
    for note in about["notes"]:
        click.echo(safe(f"note: {note}"))


def _headline(runs: Sequence[Mapping[str, Any]]) -> None:
    table = Table([Column("FIGURE"), *(Column(run["name"].upper(), right=True, cuts=True, least=12) for run in runs)])
    for name, value in _FIGURES:
        values = [value(run) for run in runs]
        if any(each is not None for each in values):
            table.add(name, *values)
    show_table(table)


def _waits(title: str, group: str, runs: Sequence[Mapping[str, Any]]) -> None:
    several = len(runs) > 1
    table = Table(
        [
            Column(title),
            *([Column("RUN", cuts=True, least=10)] if several else []),
            Column("JOBS", right=True),
            Column("WAIT P50", right=True),
            Column("P95", right=True),
            Column("P99", right=True),
            Column("NEVER", right=True, shed=2),
            Column("COMPLETION P50", right=True, shed=1),
            Column("P95", right=True, shed=3),
            Column("SLOWDOWN P95", right=True, shed=4),
        ]
    )
    names = dict.fromkeys(name for run in runs for name in run["wait_s"][group])
    for name in names:
        for run in runs:
            waits = run["wait_s"][group].get(name)
            if waits is None:
                continue
            took, slow = run["completion_s"][group][name], run["slowdown"][group][name]
            table.add(
                name,
                *([run["name"]] if several else []),
                f"{waits['count']:,}",
                *(_time(waits[q]) for q in ("p50", "p95", "p99")),
                waits["never"] or None,
                _time(took["p50"]),
                _time(took["p95"]),
                None if slow["p95"] is None else f"{slow['p95']:.2f}",
            )
    show_table(table)


def _services(runs: Sequence[Mapping[str, Any]]) -> None:
    several = len(runs) > 1
    table = Table(
        [
            Column("SERVICE"),
            *([Column("RUN", cuts=True, least=10)] if several else []),
            Column("SLO P99", right=True),
            Column("IN TIME", right=True),
            Column("P99", right=True),
            Column("REQUESTS", right=True, shed=2),
            Column("REPLICAS", right=True, shed=1),
        ]
    )
    for number in range(len(runs[0]["services"])):
        for run in runs:
            each = run["services"][number]
            table.add(
                each["name"],
                *([run["name"]] if several else []),
                f"{each['slo_p99_ms']:g} ms",
                f"{100 * each['attained']:.3f}%",
                None if each["p99_ms"] is None else f"{each['p99_ms']:.4g} ms",
                f"{each['requests']:,.0f}",
                f"{each['replicas_mean']:.1f}",
            )
    show_table(table)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}%"


def _hours(device_s: float) -> str:
    return f"{device_s / 3600:,.1f} device hours"


def _time(seconds: float | None) -> str | None:
    """`0 s`, `42 s`, `8.5 min`, `3.2 h`, `2.1 d`: three figures are enough to compare."""
    if seconds is None:
        return None
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


_FIGURES = (
    ("used while work arrives", lambda run: _percent(run["utilisation"]["mean_while_arriving"])),
    ("used until the end", lambda run: _percent(run["utilisation"]["mean"])),
    ("peak", lambda run: _percent(run["utilisation"]["peak"])),
    ("devices", lambda run: f"{run['devices']:,}"),
    ("jobs succeeded", lambda run: f"{run['jobs']['succeeded']:,}"),
    ("ended at their limit", lambda run: run["jobs"]["ended_at_limit"] or None),
    ("failed", lambda run: run["jobs"]["failed"] or None),
    ("refused", lambda run: run["jobs"]["refused"] or None),
    ("still waiting or running", lambda run: (run["jobs"]["waiting"] + run["jobs"]["running"]) or None),
    ("wait, mean", lambda run: _time(run["wait_s"]["all"]["mean"])),
    ("wait, p50 / p95 / p99", lambda run: _quantiles(run["wait_s"]["all"])),
    ("completion, p50 / p95", lambda run: _quantiles(run["completion_s"]["all"], ("p50", "p95"))),
    ("makespan", lambda run: _time(run["makespan_s"])),
    ("preemptions", lambda run: f"{run['preemptions']['count']:,}"),
    ("work lost by them", lambda run: _hours(run["preemptions"]["work_lost_device_s"])),
    ("fragmentation of what idles", lambda run: _percent(run["fragmentation"]["mean"])),
    ("fairness (Jain)", lambda run: None if run["fairness"]["jain"] is None else f"{run['fairness']['jain']:.3f}"),
    ("energy of known devices", lambda run: _kwh(run["energy"])),
    ("devices of unknown power", lambda run: run["energy"]["unknown_devices"] or None),
    ("simulated time", lambda run: _time(run["simulated_s"])),
    ("computed in", lambda run: f"{run['elapsed_s']:.1f} s, {_passes(run)}"),
)


def _passes(run: Mapping[str, Any]) -> str:
    passes = f"{run['passes']:,} passes"
    if not run["passes"] or "planning" not in run:
        return passes
    return f"{passes} of {1000 * run['planning']['elapsed_s'] / run['passes']:.1f} ms"


def _quantiles(of: Mapping[str, Any], names: Sequence[str] = ("p50", "p95", "p99")) -> str:
    return " / ".join(_time(of[name]) or "-" for name in names)


def _kwh(energy: Mapping[str, Any]) -> str | None:
    return None if energy["kwh"] is None else f"{energy['kwh']:,.0f} kWh"
