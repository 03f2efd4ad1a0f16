"""`suanli bench nightly`: a night's run, what it says beside the nights before, and what health is told of it.

`suanli bench changes` says the last again from what is recorded, without running anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli import words
from scheduler.cli.client import Client, home_path
from scheduler.cli.layout import Column
from scheduler.cli.options import Number, duration_s, output_option
from scheduler.cli.render import Table, safe, show_json, show_table
from scheduler.errors import BadInput, NotFound, SuanliError

if TYPE_CHECKING:
    from benchmarks.history.analysis import Findings
    from benchmarks.history.findings import ChangePoint, Estimate, Outlier, Series
    from benchmarks.record import Answer, Case, DeviceRecord
    from benchmarks.system.cluster_run import ClusterClient

FLAGS_PATH = "/v1/health/flags"
DAY_S = 86_400.0
# What came up within so many days is what a night has to say; older changes stay in `bench changes`.
RECENT_DAYS = 14.0
SHOWN_ROWS = 40
NO_FLAGS = "this service does not take flags; slow cards are told here alone"


@click.command("nightly")
@click.option(
    "--window",
    "window_s",
    type=Number(min=0, min_open=True, max=4_200),
    default=600.0,
    show_default=True,
    help="Seconds of the shared window. Nights of other windows are not compared with it.",
)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Run about N cards, whole nodes, and estimate.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the sample. Default: the day's number.")
@click.option("--precisions", metavar="P,...", help="One window each. Default: one, in each device's own.")
@click.option(
    "--workloads",
    metavar="NAME,...",
    default="gemm",
    show_default=True,
    help="Also bandwidth, attention, training, collective, serving; in the first precision, or in their own.",
)
@click.option("--lead", "lead_s", type=Number(min=0, max=3600), help="Seconds from submit to the start.")
@click.option("--days", type=Number(min=1, max=180), default=90.0, show_default=True, help="To look back on.")
@click.option("--no-flags", is_flag=True, help="Tell health nothing.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Site configuration whose catalogue simulated cards take their figures from. Default: the service's.",
)
@output_option
@click.pass_context
def nightly(
    context: click.Context,
    window_s: float,
    sample: int | None,
    seed: int | None,
    precisions: str | None,
    workloads: str,
    lead_s: float | None,
    days: float,
    no_flags: bool,
    config: Path | None,
    output: str,
) -> None:
    """Run the suite, record it, say what changed over the nights, and tell health which cards are slow.

    Every night at two: `suanli submit configs/jobs/nightly.yaml` (see docs/nights.md). Exit code 1 when an accelerator
    that should count does not, 130 when it was interrupted. Simulated cards are never flagged.
    """
    night = Night(
        window_s=window_s,
        precisions=_precisions(precisions),
        workloads=_workloads(workloads),
        sample=sample,
        seed=seed,
        lead_s=lead_s,
        days=days,
    )
    client = Client.from_env()
    made = run_night(client, night, home=home_path(), config=config)
    flagged = Flagged(None, ()) if no_flags else tell_health(client, made)
    made = replace(made, flagged=flagged)
    if output == "json":
        show_json("bench", made.to_json())
    else:
        show_night(made)
    if flagged.why_not:
        _remark(flagged.why_not)
    context.exit(made.exit_code)


@click.command("changes")
@click.option("--since", default="90d", show_default=True, metavar="DURATION", help="How far to look back, as in 30d.")
@click.option(
    "--window",
    "window_s",
    type=Number(min=0, min_open=True),
    help="Nights of this window. Default: that of the last run.",
)
@click.option("--all", "every", is_flag=True, help="Cards that changed with their whole group, too.")
@output_option
def changes(since: str, window_s: float | None, every: bool, output: str) -> None:
    """Change points and outliers of the recorded nights. Needs no service, and runs nothing."""
    from benchmarks.history.analysis import analysed, findings_json
    from benchmarks.history.columns import read_columns
    from benchmarks.history.store import HistoryStore

    back_s = duration_s("--since", since)
    columns = read_columns(HistoryStore(home_path() / "bench"), since_s=time.time() - back_s)
    found = analysed(columns, window_s=window_s)
    if output == "json":
        about = {"unreadable_lines": columns.unreadable_lines, "failed": columns.failed}
        show_json("bench-changes", {"findings": [findings_json(each) for each in found], **about})
        return
    for each in found:
        show_findings(each, each.changes if every else each.own_changes)
    if not found:
        _remark(f"nothing was recorded in {home_path() / 'bench'} in that time; `suanli bench nightly` records a night")
    if columns.unreadable_lines:
        _remark(f"{columns.unreadable_lines} lines of the record cannot be read and were left out")


@click.command("night")
@click.option("--cards", type=click.IntRange(min=100, max=20_000), default=10_000, show_default=True)
@click.option("--nights", type=click.IntRange(min=20, max=179), default=90, show_default=True, help="Before tonight.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@output_option
@click.pass_context
def night(context: click.Context, cards: int, nights: int, seed: int, output: str) -> None:
    """A simulated night, from raw batches to reports: what it takes. Needs no service; no device is measured.

    Exit code 1 where it takes over a minute or a gibibyte.
    """
    import subprocess

    asked = ["--cards", str(cards), "--nights", str(nights), "--seed", str(seed), "-o", output]
    # In a process of its own, so that its peak of memory is the night's.
    done = subprocess.run([sys.executable, "-m", "benchmarks.history.simulated_night", *asked], check=False)
    context.exit(done.returncode)


# ---- a night -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Night:
    """What is asked for. `precisions`: (None,) is each device's own."""

    window_s: float
    precisions: tuple[str | None, ...] = (None,)
    workloads: tuple[str, ...] = ("gemm",)
    sample: int | None = None
    seed: int | None = None
    lead_s: float | None = None
    days: float = 90.0


@dataclass(frozen=True, slots=True)
class Flagged:
    """`sent`: what the service took; None where nothing was sent, and `why_not` where something should have been."""

    sent: int | None
    flags: tuple[dict[str, Any], ...]
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class NightAnswer:
    """`answers`: a window each. `estimates` by precision, where a sample was run."""

    answers: tuple[Answer, ...]
    interrupted: bool
    findings: tuple[Findings, ...]
    estimates: Mapping[str, Estimate]
    simulated_sample: bool
    flagged: Flagged

    @property
    def devices(self) -> tuple[DeviceRecord, ...]:
        return tuple(device for answer in self.answers for device in answer.devices)

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(str(answer.provenance["run"]) for answer in self.answers)

    @property
    def exit_code(self) -> int:
        from benchmarks.cli import EXIT_INTERRUPTED, exit_code

        return EXIT_INTERRUPTED if self.interrupted else exit_code(self.devices)

    @property
    def cases(self) -> tuple[Case, ...]:
        """Those of each window, under its precision where there are several, and what the nights say."""
        from benchmarks.record import Case

        made = []
        for answer in self.answers:
            end = "" if len(self.answers) == 1 else f"_{answer.devices[0].precision}" if answer.devices else "_none"
            made += [replace(case, case=case.case.removesuffix(end) + end) for case in answer.cases]
        for found in self.findings:
            kind, mark = ("", "") if found.evidence.value == "measured" else ("simulated_", " (simulated)")
            slow = {o.series.device for o in found.outliers if o.series.device}
            made += [
                Case(f"{kind}nights", found.nights, f"nights{mark}"),
                Case(f"{kind}series", found.series, f"series{mark}"),
                Case(f"{kind}recent_changes", len(_recent(found)), f"change points{mark}"),
                Case(f"{kind}slow_cards", len(slow), f"cards{mark}"),
            ]
        for precision, each in self.estimates.items():
            mark = " (extrapolated from simulated)" if self.simulated_sample else " (extrapolated)"
            made.append(Case(f"estimated_pflops_{precision}", each.pflops, f"PFlops{mark}"))
        made.append(Case("flags_sent", self.flagged.sent, "flags"))
        return tuple(made)

    def to_json(self) -> dict[str, Any]:
        from benchmarks.history.analysis import findings_json

        document: dict[str, Any] = {
            "provenance": {**self.answers[-1].provenance, "runs": list(self.runs), "interrupted": self.interrupted},
            "cases": [asdict(case) for case in self.cases],
            "devices": [device.to_json() for device in self.devices],
            "peers": {},
            "not_covered": [dict(each) for answer in self.answers for each in answer.not_covered],
            "findings": [findings_json(found) for found in self.findings],
            "flags": {"sent": self.flagged.sent, "why_not": self.flagged.why_not, "flags": list(self.flagged.flags)},
        }
        if self.estimates:
            evidence = "simulated" if self.simulated_sample else "extrapolated"
            document["estimates"] = {p: {"evidence": evidence, **asdict(e)} for p, e in self.estimates.items()}
        return document


def run_night(client: ClusterClient, night: Night, *, home: Path, config: Path | None = None) -> NightAnswer:
    """Run, record and analyse. Raises SuanliError where it cannot be run at all."""
    from benchmarks.history.analysis import analysed
    from benchmarks.history.columns import read_columns
    from benchmarks.history.night_sample import drawn, estimated, units_of
    from benchmarks.history.sampling import CannotEstimate
    from benchmarks.history.store import HistoryStore
    from benchmarks.suite import with_own_where_missing
    from benchmarks.system.run_plan import RunPlan
    from scheduler.cli.bench import measure_cluster

    now_s = time.time()
    nodes: tuple[str, ...] = ()
    units, able, simulated = units_of(client.get("/v1/nodes")) if night.sample else ((), frozenset(), False)
    if night.sample:
        try:
            chosen = drawn(units, able, night.sample, seed=int(now_s // DAY_S) if night.seed is None else night.seed)
        except CannotEstimate as error:
            raise BadInput(f"--sample: {error}", field="sample") from None
        if not chosen:
            raise NotFound("no node with free accelerators is there to draw a sample from", field="sample")
        nodes = tuple(unit.name for unit in chosen)
    answers = []
    estimates: dict[str, Estimate] = {}
    interrupted = False
    for number, precision in enumerate(night.precisions):
        workloads = with_own_where_missing(night.workloads, precision) if number == 0 else ("gemm",)
        plan = RunPlan(night.window_s, precision, nodes, night.lead_s, workloads=workloads)
        answer, interrupted = measure_cluster(client, plan, home=home, config=config)
        answers.append(answer)
        if night.sample and not interrupted:
            products = [d for d in answer.devices if d.workload == "gemm" and d.on != "cpu"]
            for name in sorted({d.precision for d in products}):
                try:
                    estimates[name] = estimated(units, [d for d in products if d.precision == name])
                except CannotEstimate as error:
                    _remark(f"{name}: {error}")
        if interrupted:
            break
    columns = read_columns(HistoryStore(home / "bench"), since_s=now_s - night.days * DAY_S)
    found = analysed(columns, window_s=night.window_s)
    return NightAnswer(tuple(answers), interrupted, found, estimates, simulated, Flagged(None, ()))


def tell_health(client: ClusterClient, made: NightAnswer) -> Flagged:
    """The set of slow cards, which takes the place of the one before. Nothing is sent of a night that was interrupted,
    of one on which no real accelerator was verified, nor of windows that do not stand because another of this night ran
    more cards: the earlier set stands. A service that cannot take it is told of."""
    from benchmarks.history.analysis import flags

    real = {d.device: d.node or "" for d in made.devices if d.should_count() and d.verified}
    if made.interrupted or not real:
        return Flagged(None, ())
    tonight = [found for found in made.findings if found.run in made.runs and found.evidence.value == "measured"]
    if not tonight:
        return Flagged(None, (), "slow cards were not told to health: another window of this night has more cards")
    entries = tuple(flags(tonight, real))
    try:
        client.post(FLAGS_PATH, {"run": made.runs[-1], "flags": list(entries)})
    except NotFound:
        return Flagged(None, entries, NO_FLAGS)
    except SuanliError as error:
        return Flagged(None, entries, f"slow cards could not be told to health: {error.message}")
    return Flagged(len(entries), entries)


def _precisions(text: str | None) -> tuple[str | None, ...]:
    from benchmarks.protocol import PRECISIONS

    if text is None:
        return (None,)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in PRECISIONS:
            raise BadInput(f"--precisions: {name} is not one of {', '.join(PRECISIONS)}", field="precisions")
    if not names:
        raise BadInput(f"--precisions: name one or more of {', '.join(PRECISIONS)}", field="precisions")
    return names


def _workloads(text: str) -> tuple[str, ...]:
    from benchmarks.suite import WORKLOADS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in WORKLOADS:
            raise BadInput(f"--workloads: {name} is not one of {', '.join(WORKLOADS)}", field="workloads")
    if "gemm" not in names:
        raise BadInput("--workloads: gemm is what goals are counted in; name it beside others", field="workloads")
    return names


def _recent(found: Findings) -> tuple[ChangePoint, ...]:
    return tuple(c for c in found.own_changes if c.at_s >= found.at_s - RECENT_DAYS * DAY_S)


# ---- for a person ------------------------------------------------------------------------------------------------


def show_night(made: NightAnswer) -> None:
    from benchmarks.record import Answer
    from benchmarks.tables import print_answer

    for answer in made.answers:
        print_answer(
            Answer(answer.provenance, (), answer.devices, answer.peers, answer.not_covered),
            terminal=sys.stdout.isatty(),
        )
    for found in made.findings:
        show_findings(found, _recent(found))
    for precision, each in made.estimates.items():
        kind = "extrapolated from simulated cards" if made.simulated_sample else "extrapolated"
        click.echo(
            f"{precision}: {each.pflops:,.4g} PFlops [{each.low_pflops:,.4g}, {each.high_pflops:,.4g}] at "
            f"{each.confidence:.0%}, {kind} from {each.sampled} of {each.cards} cards in {each.strata} strata"
        )
        click.echo(f"  {each.method}")
    table = Table([Column("CASE"), Column("VALUE", right=True), Column("UNIT"), Column("OK", styled=True)])
    for case in made.cases:
        if case.value is not None:
            table.add(
                case.case, f"{case.value:,.6g}", case.unit, None if case.ok is None else "ok" if case.ok else "bad"
            )
    show_table(table)


def show_findings(found: Findings, shown: Sequence[ChangePoint]) -> None:
    """What changed, and who is slow."""
    kind = "" if found.evidence.value == "measured" else "SIMULATED: "
    click.echo(
        safe(
            f"{kind}nights of {found.window_s:g} s windows: {found.nights}; cards: {found.cards}, "
            f"groups: {found.groups}, series: {found.series}; the last window {words.moment(found.at_s)}"
        )
    )
    numbers = (Column("BEFORE", right=True), Column("AFTER", right=True), Column("CHANGE", right=True))
    table = Table([Column("SINCE"), Column("WHAT"), *numbers, Column("UNIT"), Column("NIGHTS", right=True, shed=1)])
    for change in sorted(shown, key=lambda c: (bool(c.series.device), -c.at_s, c.relative))[:SHOWN_ROWS]:
        levels = (f"{change.before:,.5g}", f"{change.after:,.5g}", f"{change.relative:+.1%}", change.unit)
        table.add(words.moment(change.at_s), name_of(change.series), *levels, change.nights_after)
    click.echo("changes of level:" if shown else "no change of level")
    if shown:
        show_table(table)
    hidden = len(found.changes) - len(shown)
    if len(shown) > SHOWN_ROWS or hidden:
        click.echo(f"  {max(0, len(shown) - SHOWN_ROWS)} more of these, {hidden} older or with their whole group")
    _show_outliers(found.outliers)


def _show_outliers(outliers: Sequence[Outlier]) -> None:
    click.echo("slow on the last night:" if outliers else "none slow on the last night")
    if not outliers:
        return
    numbers = (Column("RATE", right=True), Column("EXPECTED", right=True), Column("LESS", right=True))
    table = Table([Column("WHAT"), Column("NODE", shed=1), Column("THAN"), *numbers, Column("UNIT")])
    for outlier in sorted(outliers, key=lambda o: o.value / o.expected)[:SHOWN_ROWS]:
        than = "its like" if outlier.kind == "slow_than_like" else "before"
        less = f"{1 - outlier.value / outlier.expected:.1%}"
        rates = (f"{outlier.value:,.5g}", f"{outlier.expected:,.5g}", less, outlier.unit)
        table.add(name_of(outlier.series), outlier.node, than, *rates)
    show_table(table)
    if len(outliers) > SHOWN_ROWS:
        click.echo(f"  and {len(outliers) - SHOWN_ROWS} more")


def name_of(series: Series) -> str:
    """`card gpu-0`, `rack r3 at SITE`, `H100 SXM at SITE`, `site SITE`; with what was run."""
    if series.device:
        which = f"card {series.device}"
    elif series.rack:
        which = f"{series.model} in rack {series.rack} at {series.site}"
    else:
        which = f"{series.model} at {series.site}" if series.model else f"site {series.site}"
    return f"{which}, {series.workload} {series.precision}"


def _remark(text: str) -> None:
    """To stderr, also where nobody sits at a terminal: a night's log is read in the morning."""
    click.echo(safe(text), err=True)
