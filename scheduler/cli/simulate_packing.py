"""`suanli simulate packing`: how much of a cluster's devices does a packing policy get allocated before nothing fits?

Tried on recorded work without touching any device; all its figures are simulated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import click

from scheduler.cli.layout import Column
from scheduler.cli.options import output_option
from scheduler.cli.render import Table, hint, safe, show_json, show_table
from scheduler.errors import BadInput

if TYPE_CHECKING:
    from scheduler.core.packing.policies import PackingPolicy
    from scheduler.simulation.packing import PackingExperiment, PackingRun

EXIT_INTERRUPTED = 130

MOST_SEED = 2**63 - 1

ShowProgress = Callable[[str, int, int], None]
_file = click.Path(path_type=Path, dir_okay=False)


def as_seed(given: Any) -> int:
    """A seed; refused in few words, however long it is."""
    try:
        seed = int(given)
    except ValueError:
        seed = -1
    if not 0 <= seed <= MOST_SEED:
        raise click.BadParameter(f"expected a whole number from 0 to {MOST_SEED}; got {str(given)[:40]}")
    return seed


@click.command()
@click.option("--nodes", "nodes_file", type=_file, required=True, help="CSV: sn,cpu_milli,memory_mib,gpu,model.")
@click.option(
    "--pods",
    "pods_file",
    type=_file,
    required=True,
    help="CSV: name,cpu_milli,memory_mib,num_gpu,gpu_milli and, if it is there, gpu_spec.",
)
@click.option("--policy", metavar="NAME", help="Packing policy. Default: default.")
@click.option("--compare", metavar="NAME,NAME", help="Several policies beside one another.")
@click.option(
    "--seed", type=as_seed, metavar="INTEGER", default=0, show_default=True, help="Of the order of pods and nodes."
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Means over so many seeds, from --seed upwards.",
)
@click.option(
    "--arrived-to",
    type=click.FloatRange(min=0, min_open=True, max=10),
    default=1.3,
    show_default=True,
    help="Demand that arrives, in multiples of the cluster.",
)
@output_option
@click.pass_context
def packing(
    ctx: click.Context,
    nodes_file: Path,
    pods_file: Path,
    policy: str | None,
    compare: str | None,
    seed: int,
    seeds: int,
    arrived_to: float,
    output: str,
) -> None:
    """Simulate packing: pods arrive one at a time, none departs, and what does not fit is dropped.

    Shown is the mean share of device milli allocated when the demand that has arrived is 80, 90, ... 130% of the
    cluster's; `-` where no arrival came to that. Ctrl-C ends it early and shows what was computed.
    """
    from scheduler.simulation.openb import read_nodes, read_pods
    from scheduler.simulation.packing import PackingExperiment

    policies = _policies(policy, compare)
    experiment = PackingExperiment(read_nodes(nodes_file), read_pods(pods_file))
    with _progress() as show:
        answers = _answers(experiment, policies, range(seed, seed + seeds), arrived_to, show)
    partial = any(answer.partial for answer in answers)
    if output == "json":
        show_json("simulate-packing", _document(answers, alone=compare is None))
    else:
        _show(answers, experiment, arrived_to, partial)
    if partial:
        hint("interrupted: the figures are of what was simulated until then")
        ctx.exit(EXIT_INTERRUPTED)


def _policies(policy: str | None, compare: str | None) -> list[PackingPolicy]:
    from scheduler.core.packing.policies import packing_named

    if policy is not None and compare is not None:
        raise BadInput("give --policy or --compare, not both", field="compare")
    field = "policy" if compare is None else "compare"
    names = [policy or "default"] if compare is None else [name.strip() for name in compare.split(",") if name.strip()]
    if not names:
        raise BadInput("--compare names no policy", field=field)
    try:
        return [packing_named(name) for name in dict.fromkeys(names)]
    except ValueError as error:
        raise BadInput(f"--{field}: {error}", field=field) from None


# ---- running -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """The runs of one policy; where it was interrupted, the finished ones, or the broken one if none finished."""

    policy: str
    runs: tuple[PackingRun, ...]
    partial: bool

    def allocated_pct(self) -> dict[int, float]:
        """Means over the runs, at the levels that all of them reached."""
        levels = [level for level in self.runs[0].allocated_pct if all(level in run.allocated_pct for run in self.runs)]
        return {level: fmean(run.allocated_pct[level] for run in self.runs) for level in levels}

    def per_second(self) -> float:
        elapsed_s = sum(run.elapsed_s for run in self.runs)
        return sum(run.placements for run in self.runs) / elapsed_s if elapsed_s > 0 else 0.0


def _answers(
    experiment: PackingExperiment,
    policies: Sequence[PackingPolicy],
    seeds: Sequence[int],
    arrived_to: float,
    show: ShowProgress,
) -> list[_Answer]:
    answers: list[_Answer] = []
    for policy in policies:
        finished: list[PackingRun] = []
        broken: list[PackingRun] = []
        for seed in seeds:
            name = policy.name if len(seeds) == 1 else f"{policy.name}, seed {seed}"
            run = experiment.run(
                policy,
                seed,
                clock=time.perf_counter,
                arrived_to=arrived_to,
                progress=lambda done, total, name=name: show(name, done, total),  # type: ignore[misc]
            )
            if run.partial:
                broken.append(run)
                break
            finished.append(run)
        answers.append(_Answer(policy.name, tuple(finished or broken), partial=bool(broken)))
        if broken:
            break
    return answers


@contextmanager
def _progress() -> Iterator[ShowProgress]:
    """A bar on stderr where that is a terminal; otherwise nothing."""
    if not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("simulating {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("")
        yield lambda name, done, total: bars.update(task, description=name, completed=done, total=total)


# ---- telling -----------------------------------------------------------------------------------------------------


def _document(answers: Sequence[_Answer], *, alone: bool) -> Mapping[str, Any]:
    if alone:
        return _told(answers[0])
    return {"evidence": "simulated", "policies": {answer.policy: _told(answer) for answer in answers}}


def _told(answer: _Answer) -> dict[str, Any]:
    """Counts are of the run; with several seeds all figures are means, and `runs` has each."""
    runs = answer.runs
    told: dict[str, Any] = {
        "evidence": "simulated",
        "policy": answer.policy,
        "seed": runs[0].seed,
        "allocated_pct": {str(level): None if pct is None else round(pct, 4) for level, pct in _levels(answer).items()},
        "final": {
            "arrived_pct": round(fmean(run.arrived_pct for run in runs), 4),
            "allocated_pct": round(fmean(run.final_allocated_pct for run in runs), 4),
        },
        "placements": _mean([run.placements for run in runs]),
        "failed": _mean([run.failed for run in runs]),
        "placements_per_s": round(answer.per_second(), 1),
        "fragmentation": round(fmean(run.fragmentation for run in runs), 4),
    }
    if answer.partial:
        told["partial"] = True
    if len(runs) > 1:
        told["seeds"] = len(runs)
        told["runs"] = [_told(_Answer(answer.policy, (run,), partial=False)) for run in runs]
    return told


def _levels(answer: _Answer) -> dict[int, float | None]:
    """All levels; None at those that a run did not hit."""
    from scheduler.simulation.packing import LEVELS

    hit = answer.allocated_pct()
    return {level: hit.get(level) for level in LEVELS}


def _mean(counts: Sequence[int]) -> int | float:
    return counts[0] if len(counts) == 1 else round(fmean(counts), 1)


def _show(answers: Sequence[_Answer], experiment: PackingExperiment, arrived_to: float, partial: bool) -> None:
    runs = answers[0].runs
    seeds = f"seed {runs[0].seed}" if len(runs) == 1 else f"means over seeds {runs[0].seed} to {runs[-1].seed}"
    devices = experiment.capacity_milli // 1000
    head = f"simulated: {len(experiment.nodes)} nodes, {devices} devices, {len(experiment.pods)} pods, {seeds}"
    click.echo(safe(f"{head}; partial, interrupted" if partial else head))
    click.echo("percent of devices allocated when so much demand has arrived:")
    levels = list(_levels(answers[0]))
    table = Table(
        [
            Column("POLICY"),
            *(Column(f"{level}%", right=True) for level in levels),
            Column("PLACED", right=True),
            Column("FAILED", right=True, shed=1),
            Column("PLACED/S", right=True, shed=2),
        ]
    )
    for answer in answers:
        table.add(
            answer.policy,
            *(None if pct is None else _pct(answer, level) for level, pct in _levels(answer).items()),
            _mean([run.placements for run in answer.runs]),
            _mean([run.failed for run in answer.runs]),
            round(answer.per_second()),
        )
    show_table(table)
    for answer in answers:
        arrived, allocated = (
            fmean(getattr(run, name) for run in answer.runs) for name in ("arrived_pct", "final_allocated_pct")
        )
        click.echo(f"at the end, {arrived:.2f}% arrived: {allocated:.2f}% allocated by {answer.policy}")
    for note in _notes(answers, arrived_to):
        click.echo(note)


def _notes(answers: Sequence[_Answer], arrived_to: float) -> list[str]:
    """Why there is a `-` at a level: the run was interrupted or told to end before it, or passed it by."""
    why: dict[str, list[str]] = {}
    for level in _levels(answers[0]):
        without = [answer for answer in answers if _levels(answer)[level] is None]
        if not without:
            continue
        if level > 100 * arrived_to:
            said = f"--arrived-to {arrived_to:g} ends before"
        elif any(answer.partial and level >= _last_level(answer) for answer in without):
            said = "interrupted before"
        else:
            said = "no arrival rounds to it, the cluster is so small"
        why.setdefault(said, []).append(f"{level}%")
    return [f"- at {', '.join(levels)}: {said}" for said, levels in why.items()]


def _last_level(answer: _Answer) -> int:
    return min(round(run.arrived_pct) for run in answer.runs)


def _pct(answer: _Answer, level: int) -> str:
    shares = [run.allocated_pct[level] for run in answer.runs]
    spread = f" ±{stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{fmean(shares):.2f}{spread}"
