"""`suanli bench`: measure what the devices really deliver, on this machine or on every node in one shared window, and
what the planner, the simulator and the way of a job cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.bench_harness import harness
from scheduler.cli.bench_nightly import changes, night, nightly
from scheduler.cli.bench_run import measure_cluster as measure_cluster
from scheduler.cli.bench_run import run
from scheduler.cli.bench_run import site_facts as site_facts
from scheduler.cli.bench_serving import serving
from scheduler.cli.client import Client
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, safe, show_json, show_table
from scheduler.errors import BadInput

if TYPE_CHECKING:
    from benchmarks.planner.answer import Bound, PlannerAnswer
    from benchmarks.planner.openb import OpenbFleet
    from benchmarks.system.dispatch.answer import DispatchAnswer

EXIT_INVALID = 1
EXIT_INTERRUPTED = 130


@click.group()
def bench() -> None:
    """Measure what the devices really deliver, and what the planner costs."""


bench.add_command(serving)
bench.add_command(nightly)
bench.add_command(changes)
bench.add_command(night)
bench.add_command(run)
bench.add_command(harness)


# ---- the planner -------------------------------------------------------------------------------------------------


@bench.command("planner")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of clusters, jobs and ties.")
@click.option("--quick", is_flag=True, help="Fewer repeats and no scaling beyond 1,250 nodes; labelled so.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Only this case; may be repeated.")
@click.option(
    "--openb-nodes",
    "nodes_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV of the openb trace's nodes. Default: ../shared/data, else a cluster of the same make-up.",
)
@output_option
@click.pass_context
def planner(
    context: click.Context, seed: int, quick: bool, cases: tuple[str, ...], nodes_file: Path | None, output: str
) -> None:
    """Time the planner's own hot paths at 1,250 nodes x 8 devices, on one core of this machine.

    The clusters are synthetic, and no device is measured or used. Exit code 1 when a case misses what it must reach.
    Ctrl-C ends it early and shows what was done.
    """
    from benchmarks.planner.answer import BOUNDS
    from benchmarks.planner.cases import FULL, QUICK, Bench
    from benchmarks.planner.run import run_planner

    for name in cases:
        if name not in BOUNDS:
            raise BadInput(f"--case: there is no case {name!r}; there are: {', '.join(BOUNDS)}", field="case")
    sizes = QUICK if quick else FULL
    with _progress("planner") as progress:
        answer = run_planner(
            Bench(seed=seed, sizes=sizes, openb=_openb(nodes_file)), wanted=cases, quick=quick, progress=progress
        )
    if output == "json":
        show_json("bench", answer.to_json())
    else:
        _show_planner(answer)
    if answer.partial:
        hint("interrupted: only the cases that were done are shown")
    context.exit(answer.exit_code)


@bench.command("simulator")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the workload that is drawn.")
@click.option("--quick", is_flag=True, help="1,000 and 10,000 jobs only; labelled so.")
@output_option
@click.pass_context
def simulator(context: click.Context, seed: int, quick: bool, output: str) -> None:
    """Time replays of 1,000, 10,000 and 100,000 jobs on 10,000 simulated cards, on one core of this machine.

    Exit code 1 when a case misses what it must reach. Ctrl-C ends it early and shows what was done.
    """
    from benchmarks.simulator.cases import BOUNDS, run_simulator

    with _progress("simulator") as progress:
        answer = run_simulator(seed=seed, quick=quick, progress=progress)
    if output == "json":
        show_json("bench", answer.to_json())
    else:
        about = answer.provenance
        click.echo(safe(f"the simulator on {about['cpu']}, one thread, seed {about['seed']}, {about['label']}"))
        click.echo("cluster and jobs are invented; no device was measured")
        table = _case_table()
        for case, bound in BOUNDS.items():
            if case in answer.values:
                table.add(*_case(case, answer.values[case], bound, answer.ok(case)))
        show_table(table)
    if answer.partial:
        hint("interrupted: only the cases that were done are shown")
    context.exit(answer.exit_code)


@bench.command("telemetry")
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=2, max=3600),
    default=30.0,
    show_default=True,
    help="For how long the sampling is watched.",
)
@output_option
@click.pass_context
def telemetry(context: click.Context, window_s: float, output: str) -> None:
    """What it costs to watch eight cards once a second: CPU and memory, with a driver library that is made up. And what
    it costs the service to be told of 1,250 such nodes every two seconds, by agents that are made up.

    Needs a C compiler. No device is measured or used. Exit code 1 when a case misses what it must reach.
    """
    from benchmarks.telemetry.cases import BOUNDS, run_telemetry
    from benchmarks.telemetry.ingestion import SendersTooSlow
    from benchmarks.telemetry.stub import CompilerMissing
    from node_agent.devices.source import DeviceSourceError

    try:
        with _progress("telemetry") as progress:
            answer = run_telemetry(window_s=window_s, progress=progress)
    except (CompilerMissing, DeviceSourceError, SendersTooSlow) as error:
        raise BadInput(str(error), field="telemetry") from None
    if output == "json":
        show_json("bench", answer.to_json())
    else:
        about = answer.provenance
        click.echo(safe(f"sampling {about['cards']} made-up cards for {window_s:g} s on {about['cpu']}"))
        table = _case_table()
        for case, bound in BOUNDS.items():
            if case in answer.values:
                table.add(*_case(case, answer.values[case], bound, answer.ok(case)))
        show_table(table)
    context.exit(answer.exit_code)


# ---- dispatch ----------------------------------------------------------------------------------------------------


@bench.command("dispatch")
@click.option(
    "--jobs",
    type=click.IntRange(min=10, max=5_000),
    default=1_000,
    show_default=True,
    help="Of an array, and of a bulk submission; one at a time at most 200.",
)
@click.option(
    "--against",
    multiple=True,
    metavar="PEER",
    help="Run a peer too, on this machine: ray-job-submit, ray-tasks, dask, hyperqueue; repeated or comma-separated.",
)
@output_option
@click.pass_context
def dispatch(context: click.Context, jobs: int, against: tuple[str, ...], output: str) -> None:
    """Time how jobs start and end through the running service, on the node that is this machine.

    The jobs do nothing and take next to nothing; the node must have no other work. Each peer gets a cluster of its own,
    after the service was timed; one that is not installed is skipped and named. Exit code 1 when a case misses what it
    must reach. Ctrl-C ends it early and shows what was done.
    """
    from benchmarks.system.dispatch.peers import PEERS
    from benchmarks.system.dispatch.run import run_dispatch

    peers = tuple(dict.fromkeys(name for given in against for name in given.split(",") if name))
    for name in peers:
        if name not in PEERS:
            raise BadInput(f"--against: there is no peer {name!r}; there are: {', '.join(PEERS)}", field="against")
    with _progress("dispatch") as progress:
        answer = run_dispatch(Client.from_env(), jobs=jobs, peers=peers, progress=progress)
    if output == "json":
        show_json("bench", answer.to_json())
    else:
        _show_dispatch(answer)
    if answer.partial:
        hint("interrupted: only the cases that were done are shown")
    context.exit(answer.exit_code)


def _show_dispatch(answer: DispatchAnswer) -> None:
    from benchmarks.system.dispatch.answer import DEMANDS

    about = answer.provenance
    loads = f"load {about['load_1m']:g} before and {about['load_1m_after']:g} after"
    click.echo(safe(f"dispatch on node {about['node']}: {about['cpu']}, {about['cores']} cores, {loads}"))
    click.echo("the jobs do nothing; no device was measured")
    table = _case_table(Column("MEASURES", shed=1), Column("WHAT", shed=2))
    for case, demand in DEMANDS.items():
        if case in answer.values:
            shown = _case(case, answer.values[case], demand.bound, answer.ok(case))
            table.add(*shown, demand.measures, demand.about)
    show_table(table)
    if answer.peers:
        numbers = (Column("START P50 MS", right=True), Column("TASKS/S", right=True))
        peers = Table([Column("PEER"), *numbers, Column("NOTES")])
        for peer in answer.peers:
            start_ms = peer.start_p50_ms
            peers.add(
                f"{peer.name} {peer.version}".strip(),
                None if start_ms is None else f"{start_ms:,.4g}",
                None if peer.array_per_s is None else f"{peer.array_per_s:,.4g}",
                f"skipped: {peer.skipped}" if peer.skipped else peer.notes,
            )
        show_table(peers)


def _openb(nodes_file: Path | None) -> OpenbFleet:
    from benchmarks.planner.openb import fleet_of, made_up
    from benchmarks.provenance import CHECKOUT
    from scheduler.simulation.openb import read_nodes

    beside = CHECKOUT.parent / "shared" / "data" / "openb" / "openb_node_list_gpu_node.csv"
    file = nodes_file or (beside if beside.is_file() else None)
    if file is None:
        return made_up()
    return fleet_of([node for node in read_nodes(file) if node.devices], f"read from {file.name}")


def _show_planner(answer: PlannerAnswer) -> None:
    about = answer.provenance
    click.echo(safe(f"the planner on {about['cpu']}, one thread, seed {about['seed']}, {about['label']}"))
    click.echo("clusters and jobs are synthetic; no device was measured")
    table = _case_table(Column("REACHED", shed=1), Column("REPEATS", right=True, shed=2))
    for figure in answer.figures:
        reached = None if figure.reaches_aim is None else "yes" if figure.reaches_aim else "no"
        table.add(*_case(figure.case, figure.value, figure.bound, figure.ok), reached, figure.repeats)
    show_table(table)
    if answer.partial:
        click.echo("partial: interrupted before all cases were done")


# ---- what they share ---------------------------------------------------------------------------------------------


def _case_table(*more: Column) -> Table:
    numbers = (Column("VALUE", right=True), Column("UNIT"), Column("MUST", right=True), Column("OK", styled=True))
    return Table([Column("CASE"), *numbers, Column("AIM", right=True, shed=1), *more])


def _case(case: str, value: float, bound: Bound, ok: bool | None) -> tuple[str | None, ...]:
    """A row's beginning, as `_case_table` has its columns."""
    shown = f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    word = None if ok is None else "ok" if ok else "bad"
    return case, shown, bound.unit, _demanded(bound, bound.must), word, _demanded(bound, bound.aim)


def _demanded(bound: Bound, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{'<=' if bound.better == 'lower' else '>='} {value:,g}"


@contextmanager
def _progress(at_first: str = "submitting") -> Iterator[Callable[[str, float], None]]:
    """One bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(at_first, total=1.0)
        yield lambda what, share: bars.update(task, description=what, completed=share)
