"""`suanli simulate faults`: the live scheduler's logic under faults, in virtual time, one seed after the other.

No device, process, socket or file is touched. A broken promise is a bug: it is shortened, told, and can be replayed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from scheduler.cli.options import output_option
from scheduler.cli.render import hint, safe, show_json
from scheduler.errors import BadInput

if TYPE_CHECKING:
    from scheduler.simulation.faults.campaign import Breach
    from scheduler.simulation.faults.chance import Rates
    from scheduler.simulation.faults.world import Run

EXIT_BROKEN = 1
EXIT_INTERRUPTED = 130
MOST_SEED = 2**31 - 1
MOST_SEEDS = 10_000_000
MOST_EXPLAINED = 20  # more than so many broken seeds tell nothing new
EVENTS_SHOWN = 60
MOST_OF_A_FAULT = 100


class ShowProgress(Protocol):
    def __call__(self, what: str, done: int, total: int) -> None: ...


@click.command("faults")
@click.option(
    "--seeds", type=click.IntRange(1, MOST_SEEDS), default=1000, show_default=True, help="How many stories to play."
)
@click.option(
    "--from", "first", type=click.IntRange(0, MOST_SEED), default=0, show_default=True, help="The first seed."
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that play seeds. Default: one a core.")
@click.option("--only", metavar="N,N,...", help="Of one seed's story these steps alone, as a violation tells them.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="FAULT=N",
    help="So many of this fault in an average story, and no fault that is not named; may be repeated.",
)
@click.option("--trace", is_flag=True, help="With --seeds 1: tell everything that happens.")
@output_option
@click.pass_context
def faults(
    context: click.Context,
    seeds: int,
    first: int,
    workers: int | None,
    only: str | None,
    rates: tuple[str, ...],
    trace: bool,
    output: str,
) -> None:
    """Break a simulated site in every way, and see that the scheduler keeps its promises.

    Service, agents and launchers are the live ones; network, disks, clocks and processes are virtual. Each seed is a
    story of jobs and faults. Exit code 1 where a promise was broken: the story is then shortened and told, with the
    command that replays it.
    """
    if (only is not None or trace) and seeds != 1:
        raise BadInput("--only and --trace go with --seeds 1: they are about one story", field="seeds")
    if only is not None or trace:
        context.exit(_one(first, only, _rates(rates), trace, output))
    context.exit(_many(first, seeds, _rates(rates), workers or len(os.sched_getaffinity(0)), output))


def _rates(given: tuple[str, ...]) -> Rates | None:
    from scheduler.simulation.faults.chance import FAULTS

    rates: dict[str, float] = {}
    for each in given:
        name, _, number = each.partition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        if name not in FAULTS:
            raise BadInput(f"there is no fault {name[:40]!r}; faults: {', '.join(FAULTS)}", field="rate")
        if not 0 <= rate <= MOST_OF_A_FAULT:
            raise BadInput(f"expected {name}=N with N from 0 to {MOST_OF_A_FAULT}; got {each[:60]!r}", field="rate")
        rates[name] = rate
    return rates or None


# ---- one story -----------------------------------------------------------------------------------------------------


def _one(seed: int, only: str | None, rates: Rates | None, trace: bool, output: str) -> int:
    from scheduler.simulation.faults.campaign import breach_of
    from scheduler.simulation.faults.chance import story_of
    from scheduler.simulation.faults.shrink import chosen
    from scheduler.simulation.faults.world import World

    story = story_of(seed, rates)
    if only is not None:
        try:
            story = chosen(story, _numbers(only))
        except KeyError as error:
            last = len(story.steps) - 1
            raise BadInput(
                f"seed {seed} has no step {error.args[0]}; its steps are 0 to {last}", field="only"
            ) from None
    show = trace and output != "json"
    run = World(story, (lambda line: click.echo(safe(line))) if show else None).run()
    breaches = [] if run.violation is None else [breach_of(run, rates)]
    _tell(
        seed, 1, run.steps, breaches, broken=len(breaches), output=output, partial=False, run=run, with_events=not show
    )
    return EXIT_BROKEN if breaches else 0


def _numbers(only: str) -> set[int]:
    if only == "none":
        return set()
    try:
        return {int(part) for part in only.split(",")}
    except ValueError:
        raise BadInput(f"expected numbers of steps, such as 0,4,9; got {only[:60]!r}", field="only") from None


# ---- many ----------------------------------------------------------------------------------------------------------


def _many(first: int, seeds: int, rates: Rates | None, workers: int, output: str) -> int:
    from scheduler.simulation.faults.campaign import explain, run_seeds

    done = steps = 0
    broken: list[tuple[int, str]] = []
    breaches: list[Breach] = []
    partial = False
    with _progress() as show:
        try:
            for part in run_seeds(first, seeds, rates, workers=workers):
                done += part.seeds
                steps += part.steps
                broken += part.broken
                show(f"seeds, {len(broken)} broken", done, seeds)
            for number, (seed, promise) in enumerate(sorted(broken)[:MOST_EXPLAINED]):
                show(f"shortening seed {seed}", number, min(len(broken), MOST_EXPLAINED))
                breaches.append(explain(seed, promise, rates))
        except KeyboardInterrupt:
            partial = True
    _tell(first, done, steps, breaches, broken=len(broken), output=output, partial=partial)
    if partial:
        return EXIT_INTERRUPTED
    return EXIT_BROKEN if broken else 0


@contextmanager
def _progress() -> Iterator[ShowProgress]:
    """A bar on stderr where that is a terminal; otherwise nothing."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("simulating {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("seeds")
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)


# ---- telling -------------------------------------------------------------------------------------------------------


def _tell(
    first: int,
    seeds: int,
    steps: int,
    breaches: list[Breach],
    *,
    broken: int,
    output: str,
    partial: bool,
    run: Run | None = None,
    with_events: bool = True,
) -> None:
    if output == "json":
        document: dict[str, Any] = {
            "evidence": "simulated",
            "from": first,
            "seeds": seeds,
            "steps": steps,
            "broken": broken,
            "violations": [_told(breach) for breach in breaches],
        }
        show_json("simulate-faults", document | ({"partial": True} if partial else {}))
        return
    last = f" to {first + seeds - 1}" if seeds > 1 else ""
    ended = "; partial, interrupted" if partial else ""
    click.echo(f"simulated: seed {first}{last}, {steps:,} steps of virtual time, {broken} broken promises{ended}")
    if run is not None:
        click.echo(f"{run.jobs} jobs; the story ended after {run.at_s:,.1f} s of virtual time")
    for breach in breaches:
        _show(breach, with_events)
    if broken > len(breaches) and not partial:
        hint(f"{broken - len(breaches)} more broken seeds are not told; mend these first")


def _told(breach: Breach) -> dict[str, Any]:
    return {
        "seed": breach.seed,
        "promise": breach.promise,
        "text": breach.text,
        "at_s": breach.at_s,
        "setup": breach.setup,
        "history": list(breach.history),
        "events": list(breach.events),
        "command": breach.command,
    }


def _show(breach: Breach, with_events: bool) -> None:
    click.echo("")
    click.echo(click.style(f"seed {breach.seed}: {breach.promise}", bold=True))
    click.echo(safe(f"  {breach.text}"))
    click.echo(f"  {breach.setup}")
    click.echo("  the shortest story found:")
    for line in breach.history:
        click.echo(safe(f"    {line}"))
    if with_events:
        left_out = len(breach.events) - EVENTS_SHOWN
        click.echo(
            "  what happened" + (f" (the last {EVENTS_SHOWN} of {len(breach.events)} lines):" if left_out > 0 else ":")
        )
        for line in breach.events[-EVENTS_SHOWN:]:
            click.echo(safe(f"    {line}"))
    click.echo(f"  again: {breach.command}")
