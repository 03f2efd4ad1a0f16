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

OLD_AFTER = 3.0  # intervals without news before it is said


@dataclass(frozen=True, slots=True)
class Form:
    """How much a line of devices says: the nodes too, a bar of so many cells, and which word for those out of use."""

    nodes: bool
    bar: int
    ill: str


FORMS = (Form(True, 20, "not schedulable"), Form(True, 10, "ill"), Form(True, 0, "ill"), Form(False, 0, "ill"))


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
    """`real  18 nodes, 144 devices  [||||    ] 114 used (79%)  util 49%  power 63.6 kW  1 not schedulable`; in
    the first form in which every line fits."""
    for form in FORMS:
        lines = [_kind_line(name, of, form) for name, of in kinds]
        if all(line.cell_len <= width for line in lines):
            break
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _kind_line(name: str, of: Totals, form: Form) -> Text:
    share = of.used_milli / (1000 * of.devices) if of.devices else 0.0
    line = Text()
    line.append(f"{name:<11}", "magenta" if name == "simulated" else "")
    line.append(f"{_counted(of.nodes, 'node')}, " if form.nodes else "")
    line.append(_counted(of.devices, "device") + "  ")
    if form.bar:
        full = round(share * form.bar)
        line.append("[")
        line.append("|" * full, "green")
        line.append(" " * (form.bar - full) + "] ")
    line.append(f"{of.used_milli / 1000:,.6g} used ({share:.0%})")
    if of.utilisation is not None:
        line.append(f"  util {of.utilisation:.0f}%")
    if of.watts is not None:
        line.append(("  power " if form.nodes else "  ") + power_text(of.watts))
        if of.watts_of < of.devices:
            line.append(f" (of {of.watts_of:,})")
    silent = [what for what, value in (("util", of.utilisation), ("power", of.watts)) if value is None]
    if silent and of.devices:
        line.append(f"  {' and '.join(silent)} not told")
    if of.unhealthy:
        line.append(f"  {of.unhealthy:,} {form.ill}", "bold red")
    return line


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
