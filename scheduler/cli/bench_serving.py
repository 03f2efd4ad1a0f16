"""`suanli bench serving`: what callers of a service get, through an instance of the benchmark's own, beside peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scheduler.cli.client import Client
from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, safe, show_json, show_table
from scheduler.errors import BadInput

if TYPE_CHECKING:
    from benchmarks.system.serving.answer import PeerFigures, ServingAnswer

MOST_CLIENTS = 512


@click.command("serving")
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(min=1, max=3600),
    default=10.0,
    show_default=True,
    help="Seconds of each measurement.",
)
@click.option("--clients", default="1,8,32", show_default=True, help="Of closed loops, comma-separated.")
@click.option(
    "--against",
    multiple=True,
    metavar="PEER",
    help="Run a peer too, on this machine: ray-serve, ray-serve-best, mosec, uvicorn; repeated or comma-separated.",
)
@click.option(
    "--cases", multiple=True, metavar="GROUP", help="Only these groups of cases; repeated or comma-separated."
)
@click.option("--nightly", is_flag=True, help="Over 10,000 urgent requests, and open loops of a minute.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of when requests are due.")
@output_option
@click.pass_context
def serving(
    context: click.Context,
    duration_s: float,
    clients: str,
    against: tuple[str, ...],
    cases: tuple[str, ...],
    nightly: bool,
    seed: int,
    output: str,
) -> None:
    """Measure services: latency, rates, overload, and what callers notice when something dies.

    An instance of the benchmark's own is brought up in a private directory and ended again; the running one is not
    touched, but would be measured with it: leave the machine alone meanwhile. A model that does nothing, a small
    network, and models whose time is known are served; no accelerator is used. A peer that is not installed is skipped
    and named. Exit code 1 when a case misses what it must reach. Ctrl-C ends it early and shows what was done.
    """
    from benchmarks.system.serving.answer import GROUPS
    from benchmarks.system.serving.bench import Plan
    from benchmarks.system.serving.peers import AGAINST
    from benchmarks.system.serving.run import run_serving
    from scheduler.cli.bench import _progress

    plan = Plan(
        duration_s,
        _clients(clients),
        _chosen("--cases", "group of cases", cases, GROUPS) or GROUPS,
        _chosen("--against", "peer", against, AGAINST),
        nightly,
        seed,
    )
    with _progress("serving") as progress:
        answer = run_serving(Client.from_home, plan, progress)
    if output == "json":
        show_json("bench", answer.to_json())
    else:
        show_serving(answer)
    if answer.partial:
        hint("interrupted: only the cases that were done are shown")
    context.exit(answer.exit_code)


def _clients(given: str) -> tuple[int, ...]:
    found = []
    for word in given.split(","):
        if not word.strip().isdecimal() or not 0 < int(word) <= MOST_CLIENTS:
            raise BadInput(
                f"--clients: expected numbers from 1 to {MOST_CLIENTS}, comma-separated; got {given!r}", field="clients"
            )
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def _chosen(option: str, what: str, given: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for each in given for name in each.split(",") if name))
    for name in names:
        if name not in known:
            raise BadInput(
                f"{option}: there is no {what} {name!r}; there are: {', '.join(known)}", field=option.strip("-")
            )
    return names


def show_serving(answer: ServingAnswer) -> None:
    from benchmarks.system.serving.answer import demand_of
    from scheduler.cli.bench import _case, _case_table

    about = answer.provenance
    loads = f"load {about['load_1m']:g} before and {about['load_1m_after']:g} after"
    click.echo(safe(f"serving on {about['cpu']}, {about['cores']} cores, {about['label']}, {loads}"))
    click.echo(safe(f"closed loops by {about['generator']}; no device was measured"))
    table = _case_table(Column("95%", shed=3), Column("MEASURES", shed=1), Column("WHAT", shed=2))
    for case in answer.cases():
        demand = demand_of(case)
        counted = answer.proportions.get(case)
        interval = None if counted is None else f"{counted.low:.4f}-{counted.high:.4f} of {counted.of:,}"
        shown = _case(case, answer.values[case], demand.bound, answer.ok(case))
        table.add(*shown, interval, demand.measures, demand.about)
    show_table(table)
    for what, why in answer.missing.items():
        click.echo(safe(f"not measured: {what}: {why}"))
    if answer.peers:
        show_table(_peers(answer.peers))


def _peers(peers: tuple[PeerFigures, ...]) -> Table:
    numbers = (Column("CLIENTS", right=True), Column("P50 MS", right=True), Column("REQUESTS/S", right=True))
    table = Table([Column("PEER"), Column("MODEL"), *numbers, Column("NOTES", shed=1)])
    for peer in peers:
        name = f"{peer.name} {peer.version}".strip()
        for model, loops in peer.loops.items():
            for loop in loops:
                p50 = None if loop.p50_ms is None else f"{loop.p50_ms:,.4g}"
                table.add(name, model, loop.clients, p50, f"{loop.per_s:,.0f}", peer.notes)
        if peer.skipped:
            table.add(name, None, None, None, None, f"skipped: {peer.skipped}")
    return table
