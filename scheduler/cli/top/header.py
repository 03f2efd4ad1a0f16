"""The lines above the panes: what the site has and does, real and simulated apart, and whether that is news. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from scheduler.cli import words
from scheduler.cli.device_listing import SiteTotals, Totals, power_text
from scheduler.cli.render import one_line
from scheduler.cli.top.pane import fitted

BAR = 20
OLD_AFTER = 3.0  # intervals without news before it is said


@dataclass(frozen=True, slots=True)
class Condition:
    """How the view stands with its service: `age_s` of what is shown, None where nothing ever came."""

    every_s: float
    age_s: float | None
    lost: str
    paused: bool


def header_lines(
    width: int, totals: SiteTotals | None, jobs: Mapping[str, int], nodes: Mapping[str, int], condition: Condition
) -> list[Text]:
    """Each at most `width` cells; a line for simulated devices where there are any."""
    lines = [_state(width, condition)]
    if totals is not None:
        kinds = [("real", totals.real)] if totals.real.devices or not totals.simulated.devices else []
        kinds += [("simulated", totals.simulated)] if totals.simulated.devices else []
        lines += _kinds(kinds, width)
    counts = [f"{count:,} {state}" for state, count in jobs.items() if count]
    away = [f"{count:,} {state}" for state, count in nodes.items() if count and state != "ready"]
    told = f"jobs       {', '.join(counts) or 'none'}" + (f"    nodes: {', '.join(away)}" if away else "")
    lines.append(Text(fitted(told, width)))
    return lines


def _state(width: int, condition: Condition) -> Text:
    clock = time.strftime("%H:%M:%S")
    age = "" if condition.age_s is None else words.duration(condition.age_s)
    if condition.lost:
        since = f"what is shown is {age} old" if age else "nothing is known yet"
        return Text(fitted(f"suanli top  {clock}  NO ANSWER, {since}: {one_line(condition.lost)}", width), "bold red")
    if condition.paused:
        return Text(fitted(f"suanli top  {clock}  STANDS STILL (p goes on), {age or '0s'} old", width), "bold yellow")
    if condition.age_s is not None and condition.age_s > OLD_AFTER * condition.every_s:
        return Text(fitted(f"suanli top  {clock}  the service takes its time: {age} old", width), "bold yellow")
    return Text(fitted(f"suanli top  {clock}  every {condition.every_s:g} s", width), "bold")


def _kinds(kinds: Sequence[tuple[str, Totals]], width: int) -> list[Text]:
    """`real  18 nodes, 144 devices  [||||    ] 114 used (79%)  util 49%  power 63.6 kW  1 not schedulable`; without
    nodes and bar where there is no room for them in each line."""
    lines = [_kind_line(name, of, wide=True) for name, of in kinds]
    if any(line.cell_len > width for line in lines):
        lines = [_kind_line(name, of, wide=False) for name, of in kinds]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _kind_line(name: str, of: Totals, *, wide: bool) -> Text:
    share = of.used_milli / (1000 * of.devices) if of.devices else 0.0
    line = Text()
    line.append(f"{name:<11}", "magenta" if name == "simulated" else "")
    if wide:
        full = round(share * BAR)
        line.append(f"{_counted(of.nodes, 'node')}, {_counted(of.devices, 'device')}  [")
        line.append("|" * full, "green")
        line.append(" " * (BAR - full) + "]")
    else:
        line.append(f"{_counted(of.devices, 'device')} ")
    line.append(f" {of.used_milli / 1000:,.6g} used ({share:.0%})")
    line.append("  util " + ("-" if of.utilisation is None else f"{of.utilisation:.0f}%"))
    line.append(("  power " if wide else "  ") + ("-" if of.watts is None else power_text(of.watts)))
    if of.watts is not None and of.watts_of < of.devices:
        line.append(f" (of {of.watts_of:,})")
    if of.unhealthy:
        line.append(f"  {of.unhealthy:,} {'not schedulable' if wide else 'ill'}", "bold red")
    return line


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
