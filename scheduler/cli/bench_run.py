"""`suanli bench run`: measure what devices really deliver, on this machine or on every node in one shared window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.client import Client, home_path
from scheduler.cli.options import Number, output_option
from scheduler.errors import BadInput, NotFound, Unavailable

if TYPE_CHECKING:
    from benchmarks.record import Answer
    from benchmarks.system.cluster_records import LastFigure
    from benchmarks.system.cluster_run import ClusterAnswer, ClusterClient
    from benchmarks.system.meeting_place import MeetingPlace
    from benchmarks.system.run_plan import RunPlan
    from benchmarks.system.site_facts import SiteFacts

EXIT_INTERRUPTED = 130
LONGEST_WINDOW_S = 4200.0  # benchmarks.protocol's, which is not loaded for the help text
NO_MEETING = "none"


@click.command("run")
@click.option("--local", is_flag=True, help="This machine only: no service, no Ray, nothing recorded.")
@click.option("--nodes", multiple=True, metavar="NAME,...", help="Only these nodes; may be repeated.")
@click.option("--reservation", metavar="NAME", help="Run within this reservation, on its nodes.")
@click.option(
    "--workloads",
    multiple=True,
    metavar="NAME,...",
    help="gemm (the default), bandwidth, attention, training, collective, serving; a window each. "
    "`NAME:PRECISION` in that precision alone.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    metavar="NAME,...",
    help="fp64, fp32, tf32, bf16, fp16, fp8, int8. Default: fp32 on CPU devices, bf16 on accelerators.",
)
@click.option(
    "--window",
    "window_s",
    type=Number(min=0, min_open=True, max=LONGEST_WINDOW_S),
    default=5.0,
    show_default=True,
    help="Seconds of the window that all devices share. Under 600 the answer is labelled smoke.",
)
@click.option("--best-shape", is_flag=True, help="After each GEMM window, look for the fastest of some shapes.")
@click.option(
    "--raw", type=click.Path(path_type=Path, dir_okay=False), help="With --local: append raw batches to this."
)
@click.option(
    "--lead",
    "lead_s",
    type=Number(min=0, max=3600),
    help="Seconds that nodes have to arm. Default: 60, and 600 for windows of 600 s and more.",
)
@click.option(
    "--meet",
    metavar="ADDRESS",
    help="Address of this machine at which nodes come to hear the start. Default: the one that faces them. "
    "`none`: name the start at submission; clocks are then not compared.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Site configuration whose catalogue cards take their figures from. Default: the service's.",
)
@output_option
@click.pass_context
def run(
    context: click.Context,
    local: bool,
    nodes: tuple[str, ...],
    reservation: str | None,
    workloads: tuple[str, ...],
    precisions: tuple[str, ...],
    window_s: float,
    best_shape: bool,
    raw: Path | None,
    lead_s: float | None,
    meet: str | None,
    config: Path | None,
    output: str,
) -> None:
    """Run verified work in one shared window.

    Devices in use are left alone and reported as not covered. Exit code 1 when an accelerator that should count does
    not; trouble on a CPU or a simulated device is told and fails nothing.
    """
    from dataclasses import replace

    from benchmarks.cli import (
        exit_code,
        exit_code_of,
        keep_raw,
        measure_here,
        names_of,
        options_of,
        refuse_unwritable,
        show,
    )
    from benchmarks.system.run_plan import RunPlan

    options = options_of(window_s, workloads, precisions)  # says what there is not, before anything is submitted
    if local:
        for name, given in (("--nodes", nodes), ("--reservation", reservation), ("--meet", meet)):
            if given:
                raise click.UsageError(f"--local measures this machine; {name} is for runs on the cluster")
        refuse_unwritable(raw)
        answer, ran = measure_here(replace(options, best_shape=best_shape))
        show(answer, output)
        keep_raw(raw, ran.raw_lines)
        context.exit(exit_code_of(answer))
    if raw is not None:
        raise click.UsageError("--raw is for --local; runs on the cluster keep raw batches beside their results")
    plan = RunPlan(
        window_s=window_s,
        nodes=names_of("--nodes", nodes),
        lead_s=lead_s,
        workloads=names_of("--workloads", workloads),
        precisions=names_of("--precision", precisions),
        reservation=reservation,
        best_shape=best_shape,
    )
    try:
        answer, interrupted = measure_cluster(Client.from_env(), plan, home=home_path(), config=config, meet=meet)
    except NotRecorded as lost:
        show(lost.answer, output)  # what was measured is not lost with the disk
        raise
    show(answer, output)
    context.exit(EXIT_INTERRUPTED if interrupted else exit_code(answer.devices))


class NotRecorded(Unavailable):
    """The windows were run, and their results could not be written. `answer` holds them."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


def measure_cluster(
    client: ClusterClient, plan: RunPlan, *, home: Path, config: Path | None = None, meet: str | None = None
) -> tuple[Answer, bool]:
    """Run, record in HOME/bench, and answer; True when it was interrupted. Raises SuanliError; NotRecorded where it was
    run, and anything else where it was not."""
    from benchmarks.catalogue import card_facts, card_figures
    from benchmarks.inventory import keep_inventory
    from benchmarks.provenance import provenance
    from benchmarks.record import Answer, cases_of
    from benchmarks.suite import asked
    from benchmarks.system.cluster_run import UnknownNode, UnknownReservation, WallTimer, run_cluster

    timer = WallTimer()
    site_answer = client.get("/v1/config")
    facts = site_facts(site_answer, config)
    directory = home / "bench"
    nodes_answer = client.get("/v1/nodes")
    try:
        keep_inventory(directory, nodes=nodes_answer["nodes"], config=site_answer, at_s=timer.now_s())
    except OSError as error:
        raise Unavailable(
            f"results could not be recorded in {directory}: {error.strerror or error}; free space or mend the "
            "directory. Nothing was submitted"
        ) from error
    precision = (plan.made_up and plan.made_up.precision) or "bf16"
    try:
        with _progress() as progress, _meeting(client, nodes_answer, meet) as meeting:
            ran = run_cluster(
                client,
                plan,
                {model: card_figures(card, precision) for model, card in facts.catalogue.items()},
                meeting=meeting,
                facts={model: card_facts(card) for model, card in facts.catalogue.items()},
                last=_last_verified(directory),
                timer=timer,
                progress=progress,
            )
    except UnknownNode as error:
        raise NotFound(str(error), field="nodes") from None
    except UnknownReservation as error:
        raise NotFound(str(error), field="reservation") from None
    about = provenance(window_s=plan.window_s, with_library=False) | {
        "run": ran.run,
        "start_at_s": ran.start_at_s,
        "interrupted": ran.interrupted,
        "clocks_compared": meeting is not None,
        "seeds_and_libraries": "of each device, in devices[]",
    }
    if left_out := asked(plan.workloads, plan.asked_precisions).left_out:
        about["left_out"] = list(left_out)
    left = sum(len(n.devices) for n in ran.not_covered)
    answer = Answer(
        about,
        cases_of(ran.records, not_covered=left),
        ran.records,
        not_covered=[n.to_json() for n in ran.not_covered],
    )
    try:
        _record(directory, ran, about["commit"], timer.now_s())
    except OSError as error:
        raise NotRecorded(
            f"the results could not be recorded in {directory}: {error.strerror or error}; free space or mend the "
            "directory, then run again",
            answer,
        ) from error
    return answer, ran.interrupted


def site_facts(site_answer: Mapping[str, Any], config: Path | None) -> SiteFacts:
    """The site's sites, goals and catalogue: of the file if one is named, else of the service's answer."""
    from benchmarks.system.site_facts import facts_from_api, facts_from_file

    return facts_from_file(config) if config is not None else facts_from_api(site_answer)


@contextmanager
def _meeting(client: ClusterClient, nodes_answer: Mapping[str, Any], meet: str | None) -> Iterator[MeetingPlace | None]:
    """Where workers come to hear the start. None with `--meet none`, and for a client that has no address."""
    from benchmarks.starts import SystemClock
    from benchmarks.system.meeting_place import MeetingPlace, own_address

    api = getattr(client, "api", None)
    if meet == NO_MEETING or api is None:
        yield None
        return
    towards = [str(node.get("address") or "") for node in nodes_answer["nodes"] if not node.get("simulated")]
    host = meet or own_address([address for address in towards if address])
    try:
        place = MeetingPlace(host, SystemClock())
    except OSError as error:
        raise BadInput(
            f"nodes cannot be met at {host} ({error.strerror or error}); --meet takes an address of this machine, or "
            "none",
            field="meet",
        ) from None
    try:
        yield place
    finally:
        place.close()


@contextmanager
def _progress() -> Iterator[Any]:
    from scheduler.cli.bench import _progress as bar

    with bar() as progress:
        yield progress


def _last_verified(directory: Path) -> dict[str, LastFigure]:
    """By device, of what was recorded here. A history that cannot be read leaves the ages unknown."""
    from benchmarks.history.store import HistoryStore
    from benchmarks.system.cluster_records import LastFigure

    try:
        results = HistoryStore(directory).read().results
    except OSError:
        return {}
    return {
        uuid: LastFigure(
            stored.recorded_at_s,
            stored.record.workload,
            stored.record.precision,
            stored.record.gflops,
            stored.record.value,
            stored.record.unit,
        )
        for stored in sorted(results, key=lambda r: r.recorded_at_s)
        if stored.record.verified
        for uuid in stored.record.covers
    }


def _record(directory: Path, ran: ClusterAnswer, commit: str | None, at_s: float) -> None:
    """Raises OSError."""
    from benchmarks.history.store import HistoryStore, StoredResult

    store = HistoryStore(directory)
    store.append_raw(ran.raw_lines)  # before the results that name them
    store.append(StoredResult(ran.run, at_s, commit, record) for record in ran.records)
