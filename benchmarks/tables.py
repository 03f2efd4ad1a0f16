"""A benchmark's answer for a person: one section a kind of evidence, so that no column mixes them.

Measured accelerators, CPU (measured, never counted) and simulated each have their own table, title and note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from benchmarks.record import Answer, DeviceRecord
from benchmarks.served import Served

_HEAD = ("DEVICE", "NODE", "MODEL", "WORKLOAD", "PRECISION", "RATE", "BATCH P50", "VERIFIED", "CHECKS", "NOTE")
_SIMULATED_HEAD = ("NODE", "MODEL", "DEVICES", "PRECISION", "SIMULATED RATE", "NOTE")


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(answer: Answer) -> tuple[Section, ...]:
    """Only the sections that have something to say; a missing kind of evidence is no table of zeros."""
    accelerators = [d for d in answer.devices if d.should_count()]
    cpus = [d for d in answer.devices if d.evidence == "measured" and d.on == "cpu"]
    simulated = [d for d in answer.devices if d.evidence == "simulated"]
    window_s, label = answer.provenance.get("window_s"), answer.provenance.get("label")
    made = [
        Section(
            "MEASURED ON ACCELERATORS",
            f"{label} window of {window_s:g} s, shared by all; verified inside it",
            _HEAD,
            tuple(_measured_row(d) for d in accelerators),
        ),
        Section(
            "MEASURED ON CPU",
            f"{label} window of {window_s:g} s; true, but never counted towards a goal",
            _HEAD,
            tuple(_measured_row(d) for d in cpus),
        ),
        Section(
            "SIMULATED", "made up from catalogue figures; no product was run", _SIMULATED_HEAD, _by_node(simulated)
        ),
        Section(
            "NOT COVERED",
            "left alone; their last verified figures are older than this window",
            ("NODE", "DEVICES", "LAST VERIFIED", "REASON"),
            tuple(
                (str(n.get("node")), str(len(n.get("devices", []))), _age_text(n), str(n.get("reason")))
                for n in answer.not_covered
            ),
        ),
    ]
    return tuple(s for s in made if s.rows)


def print_answer(answer: Answer, *, terminal: bool) -> None:
    """To stdout: rich tables on a terminal, aligned plain text otherwise."""
    for section in sections(answer):
        if terminal:
            _print_rich(section)
        else:
            click.echo(f"{section.title}  ({section.note})")
            for line in _aligned([section.head, *section.rows]):
                click.echo("  " + line)
        click.echo()
    for sentence in answer.provenance.get("left_out", ()):
        click.echo(f"left out: {sentence}")
    if answer.provenance.get("interrupted"):
        missing = answer.provenance.get("windows_not_begun")
        click.echo("interrupted: these are partial" + (f", and {missing} windows were not begun" if missing else ""))
    for case in answer.cases:
        if case.value is not None:
            demanded = "" if case.ok is None else ("  ok" if case.ok else f"  FAILED (must be {case.must:g})")
            click.echo(f"{case.case:<30}{case.value:>16,.6g} {case.unit}{demanded}")


def _print_rich(section: Section) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=section.title, caption=section.note, title_justify="left", caption_justify="left")
    for name in section.head:
        table.add_column(
            name, justify="right" if "RATE" in name or name in ("DEVICES", "BATCH P50", "CHECKS") else "left"
        )
    for row in section.rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _measured_row(record: DeviceRecord) -> tuple[str, ...]:
    name = record.device if len(record.covers) == 1 else f"{record.device} ({len(record.covers)} as one group)"
    return (
        name,
        record.node or "-",
        record.model,
        record.workload,
        record.precision,
        rate_text(record.gflops) if record.unit is None else _value_text(record),
        rate_text(record.batch_gflops_p50) if record.unit is None else "",
        "yes" if record.verified else "NO",
        str(record.samples),
        _note(record),
    )


def _value_text(record: DeviceRecord) -> str:
    return "0" if record.value is None else f"{record.value:,.4g} {record.unit}"


def _note(record: DeviceRecord) -> str:
    if not record.verified:
        return f"{record.verdict}: {record.reason}"
    said = [] if record.serving is None else [_served_text(record.serving)]
    if record.best_shape_gflops is not None and record.best_shape is not None:
        said.append(f"best shape {'x'.join(map(str, record.best_shape))}: {rate_text(record.best_shape_gflops)}")
    if record.mfu is not None:
        said.append(f"MFU {record.mfu:.1%}")
    if record.mean_power_watts is not None:
        said.append(f"{record.mean_power_watts:.0f} W")
    if record.mean_clock_megahertz is not None:
        said.append(f"{record.mean_clock_megahertz:.0f} MHz")
    return "; ".join(said)


def _served_text(served: Served) -> str:
    """`p50 4.1 ms, p95 9 ms, p99 12 ms at 70% of 1,760 requests/s`."""
    quantiles = (("p50", served.latency_p50_ms), ("p95", served.latency_p95_ms), ("p99", served.latency_p99_ms))
    told = ", ".join(f"{name} {'not known' if ms is None else f'{ms:.3g} ms'}" for name, ms in quantiles)
    return f"{told} at {served.load_share:.0%} of {served.capacity_per_s:,.4g} requests/s"


def _age_text(left: Mapping[str, Any]) -> str:
    """How old the last verified figures of these devices are: the oldest, or that some have none."""
    ages = [figure["age_s"] for figure in (left.get("last_verified") or {}).values()]
    if not ages:
        return "never"
    text = f"{max(ages) / 86_400:.1f} days ago" if max(ages) >= 86_400 else f"{max(ages) / 3600:.1f} h ago"
    missing = len(left.get("devices", [])) - len(ages)
    return text if missing <= 0 else f"{text}; {missing} never"


def _by_node(records: Sequence[DeviceRecord]) -> tuple[tuple[str, ...], ...]:
    """Simulated cards by node and model: eight made-up lines a node would only bury the measured ones."""
    groups: dict[tuple[str, str, str], list[DeviceRecord]] = {}
    for record in records:
        groups.setdefault((record.node or "-", record.model, record.precision), []).append(record)
    rows = []
    for (node, model, precision), members in groups.items():
        known = [m.gflops for m in members if m.gflops is not None]
        note = "simulated" if known else f"simulated; {members[0].reason}"
        rows.append((node, model, str(len(members)), precision, rate_text(sum(known) if known else None), note))
    return tuple(rows)


def rate_text(gflops: float | None) -> str:
    """`794.5 TFLOP/s`, `61.2 GFLOP/s`, `unavailable`."""
    if gflops is None:
        return "unavailable"
    for unit, size in (("PFLOP/s", 1e6), ("TFLOP/s", 1e3)):
        if gflops >= size:
            return f"{gflops / size:,.4g} {unit}"
    return f"{gflops:,.4g} GFLOP/s"
