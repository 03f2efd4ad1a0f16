"""`suanli bench`: measure what the devices really deliver, on this machine or on every node in one shared window."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.client import Client, home_path
from scheduler.cli.options import output_option
from scheduler.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from benchmarks.record import Answer
    from benchmarks.system.cluster_run import ClusterAnswer, ClusterClient, RunPlan
    from benchmarks.system.site_facts import SiteFacts

EXIT_INVALID = 1
EXIT_INTERRUPTED = 130


@click.group()
def bench() -> None:
    """Measure what the devices really deliver."""


@bench.command("run")
@click.option("--local", is_flag=True, help="This machine only: no service, no Ray, nothing recorded.")
@click.option("--nodes", multiple=True, metavar="NAME", help="Only these nodes; may be repeated or comma-separated.")
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=5.0,
    show_default=True,
    help="Seconds of the window that all devices share. Under 600 the answer is labelled smoke.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp64", "fp32", "bf16", "fp16"]),
    help="Default: fp32 on CPU devices, bf16 on accelerators.",
)
@click.option(
    "--lead",
    "lead_s",
    type=click.FloatRange(min=0, max=3600),
    help="Seconds from submit to the shared start. Default: 12, and 120 for windows of 600 s and more.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Site configuration whose catalogue simulated cards take their figures from. Default: the service's.",
)
@output_option
@click.pass_context
def run(
    context: click.Context,
    local: bool,
    nodes: tuple[str, ...],
    window_s: float,
    precision: str | None,
    lead_s: float | None,
    config: Path | None,
    output: str,
) -> None:
    """Run verified GEMM in one shared window.

    Devices in use are left alone and reported as not covered. Exit code 1 when an accelerator that should count does
    not; trouble on a CPU or a simulated device is told and fails nothing.
    """
    from benchmarks.cli import exit_code, measure_here, show
    from benchmarks.local_run import RunOptions
    from benchmarks.system.cluster_run import RunPlan

    if local:
        if nodes:
            raise click.UsageError("--local measures this machine; --nodes is for runs on the cluster")
        answer = measure_here(RunOptions(window_s=window_s, precision=precision))
        show(answer, output)
        context.exit(exit_code(answer.devices))
    chosen = tuple(name for given in nodes for name in given.split(",") if name)
    plan = RunPlan(window_s=window_s, precision=precision, nodes=chosen, lead_s=lead_s)
    answer, interrupted = measure_cluster(Client.from_env(), plan, home=home_path(), config=config)
    show(answer, output)
    context.exit(EXIT_INTERRUPTED if interrupted else exit_code(answer.devices))


def measure_cluster(
    client: ClusterClient, plan: RunPlan, *, home: Path, config: Path | None = None
) -> tuple[Answer, bool]:
    """Run, record in HOME/bench, and answer; True when it was interrupted. Raises SuanliError."""
    from benchmarks.catalogue import card_figures
    from benchmarks.inventory import keep_inventory
    from benchmarks.provenance import provenance
    from benchmarks.record import Answer, cases_of
    from benchmarks.system.cluster_run import UnknownNode, WallTimer, run_cluster

    timer = WallTimer()
    site_answer = client.get("/v1/config")
    facts = site_facts(site_answer, config)
    directory = home / "bench"
    nodes_answer = client.get("/v1/nodes")
    keep_inventory(directory, nodes=nodes_answer["nodes"], config=site_answer, at_s=timer.now_s())
    precision = plan.precision or "bf16"
    cards = {model: card_figures(card, precision) for model, card in facts.catalogue.items()}
    try:
        with _progress() as progress:
            ran = run_cluster(client, plan, cards, timer=timer, progress=progress)
    except UnknownNode as error:
        raise NotFound(str(error), field="nodes") from None
    about = provenance(window_s=plan.window_s, with_library=False) | {
        "run": ran.run,
        "start_at_s": ran.start_at_s,
        "interrupted": ran.interrupted,
        "seeds_and_libraries": "of each device, in devices[]",
    }
    _record(directory, ran, about["commit"], timer.now_s())
    left = sum(len(n.devices) for n in ran.not_covered)
    answer = Answer(
        about,
        cases_of(ran.records, not_covered=left),
        ran.records,
        not_covered=[n.to_json() for n in ran.not_covered],
    )
    return answer, ran.interrupted


def site_facts(site_answer: Mapping[str, Any], config: Path | None) -> SiteFacts:
    """The site's sites, goals and catalogue: of the file if one is named, else of the service's answer."""
    from benchmarks.system.site_facts import facts_from_api, facts_from_file

    return facts_from_file(config) if config is not None else facts_from_api(site_answer)


def _record(directory: Path, ran: ClusterAnswer, commit: str | None, at_s: float) -> None:
    from benchmarks.history.store import HistoryStore, StoredResult

    try:
        HistoryStore(directory).append(StoredResult(ran.run, at_s, commit, record) for record in ran.records)
    except OSError as error:
        raise Unavailable(
            f"the results could not be recorded in {directory}: {error.strerror or error}; free space or mend the "
            "directory, then run again"
        ) from error


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
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
        task = bars.add_task("submitting", total=1.0)
        yield lambda what, share: bars.update(task, description=what, completed=share)
