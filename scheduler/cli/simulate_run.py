"""`suanli simulate run`: replay a workload through the live planner in virtual time, on a cluster as it is or might be.

Everything it prints is simulated. The figures are computed in `scheduler.simulation`; the page is drawn there, too.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scheduler import __version__
from scheduler.cli.render import hint, show_json
from scheduler.cli.simulate_packing import EXIT_INTERRUPTED, as_seed
from scheduler.cli.simulate_run_table import show
from scheduler.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from scheduler.schema.cluster_file import ClusterConfig
    from scheduler.schema.model import PolicySettings
    from scheduler.simulation.simulated_cluster import AddedNodes
    from scheduler.simulation.whatif import Progress, Question, Way
    from scheduler.simulation.workload import Workload

MOST_WAYS = 4
DEFAULT_PAGE = "suanli-simulation.html"
# Above so many jobs a replay looks only now and again unless told otherwise: see docs/what-if.md, "What it costs".
MANY_JOBS = 20_000
PASS_EVERY_S = 300.0
_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--cluster", "cluster_file", type=_file, required=True, help="Cluster file, or a site file.")
@click.option(
    "--workload", "workload_file", type=_file, required=True, help="YAML, or CSV of jobs, openb pods or requests."
)
@click.option("--policy", metavar="NAME|FILE", help="Packing policy or policy.yaml. Default: the cluster's.")
@click.option("--compare", metavar="A,B", help="Several policies beside one another.")
@click.option("--backfill", type=click.Choice(["easy", "conservative", "none"]), help="Default: the policy's.")
@click.option(
    "--add-nodes", "adds", multiple=True, metavar="COUNTxMODEL@SITE", help="What if there were more? May be repeated."
)
@click.option(
    "--baseline/--no-baseline",
    default=None,
    help="The cluster as it is, beside the one with more nodes. Default: with --add-nodes.",
)
@click.option(
    "--seed", type=as_seed, metavar="INTEGER", default=0, show_default=True, help="Of what is drawn of the workload."
)
@click.option(
    "--pass-every",
    "pass_every_s",
    type=click.FloatRange(min=0, max=86_400),
    metavar="SECONDS",
    help=f"The planner looks at most so often in virtual time; 0: at every event. Default: 0, and {PASS_EVERY_S:g} for "
    f"more than {MANY_JOBS} jobs.",
)
@click.option(
    "--until",
    "until_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop at this virtual time. Default: when all has ended.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "html"]),
    default="table",
    show_default=True,
    help="Form of the answer.",
)
@click.option("--out", "page", type=_file, default=DEFAULT_PAGE, show_default=True, help="Where -o html writes.")
@click.pass_context
def run(
    ctx: click.Context,
    cluster_file: Path,
    workload_file: Path,
    policy: str | None,
    compare: str | None,
    backfill: str | None,
    adds: tuple[str, ...],
    baseline: bool | None,
    seed: int,
    pass_every_s: float | None,
    until_s: float | None,
    output: str,
    page: Path,
) -> None:
    """Replay a workload through the live planner in virtual time: what would this cluster make of it?

    Shown are use, waits, completion, services within their SLO, preemptions and the work they cost, fragmentation,
    fairness and energy. Ctrl-C ends it early and shows what was computed.
    """
    from scheduler.schema.cluster_file import load_cluster
    from scheduler.simulation.simulated_cluster import added_nodes
    from scheduler.simulation.whatif import Question, answer
    from scheduler.simulation.workloads.reading import read_workload

    cluster = load_cluster(cluster_file)
    added = tuple(added_nodes(said, cluster, number) for number, said in enumerate(adds))
    ways = _ways(cluster, policy, compare, backfill, added, baseline)
    workload = read_workload(workload_file, cluster, seed)
    if pass_every_s is None:
        pass_every_s = PASS_EVERY_S if len(workload.jobs) > MANY_JOBS else 0.0
    question = Question(cluster, workload, ways, seed, pass_every_s, until_s)
    if output == "html":
        _check_writable(page)
    with _progress(question) as progress:
        document = answer(question, clock=time.perf_counter, progress=progress, about=_about())
    _tell(document, output, page)
    if document["about"]["partial"]:
        hint("interrupted: the figures are of what was simulated until then")
        ctx.exit(EXIT_INTERRUPTED)


def _about() -> Mapping[str, object]:
    from benchmarks.provenance import commit

    return {
        "version": __version__,
        "commit": commit(),
        "generated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": shlex.join(["suanli", *sys.argv[1:]]),
    }


def _tell(document: Mapping[str, Any], output: str, page: Path) -> None:
    if output == "json":
        name = document["schema"].split("/")[1]
        show_json(name, {key: value for key, value in document.items() if key != "schema"})
    elif output == "html":
        text = str(import_module("scheduler.simulation.page").render(document))
        try:
            page.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Unavailable(f"{page}: {error.strerror or error}; name another file by --out") from None
        click.echo(f"simulated: wrote {page}")
    else:
        show(document)


def _check_writable(page: Path) -> None:
    """Before anything is computed."""
    if not page.absolute().parent.is_dir():
        raise BadInput(
            f"--out: there is no directory {page.absolute().parent}; make it, or name another file", field="out"
        )


# ---- the ways to run it ----------------------------------------------------------------------------------------------


def _ways(
    cluster: ClusterConfig,
    policy: str | None,
    compare: str | None,
    backfill: str | None,
    added: Sequence[AddedNodes],
    baseline: bool | None,
) -> tuple[Way, ...]:
    """Each policy on the cluster as it is and, where nodes are added, with those."""
    from scheduler.simulation.whatif import Way

    if policy is not None and compare is not None:
        raise BadInput("give --policy or --compare, not both", field="compare")
    words = [policy] if compare is None else [word.strip() for word in compare.split(",") if word.strip()]
    if not words:
        raise BadInput("--compare names no policy", field="compare")
    policies = {word: _policy(word, cluster, backfill) for word in dict.fromkeys(words)}
    with_added = "with " + " and ".join(each.said for each in added)
    ways: list[Way] = []
    for word, settings in policies.items():
        name = settings.packing if word is None else word
        alone = len(policies) == 1
        if not added or baseline is not False:
            ways.append(Way("baseline" if added and alone else name, settings))
        if added:
            ways.append(Way(with_added if alone else f"{name} {with_added}", settings, tuple(added)))
    if len(ways) > MOST_WAYS:
        raise BadInput(
            f"--compare: {len(ways)} runs beside one another; at most {MOST_WAYS} can be read", field="compare"
        )
    return tuple(ways)


def _policy(word: str | None, cluster: ClusterConfig, backfill: str | None) -> PolicySettings:
    from dataclasses import replace
    from typing import cast

    from scheduler.core.decisions import Backfill
    from scheduler.core.packing.policies import packing_named
    from scheduler.schema.cluster_file import load_policy

    settings = cluster.policy
    if word is not None and word.endswith((".yaml", ".yml")):
        settings = load_policy(Path(word))
    elif word is not None:
        try:
            settings = replace(settings, packing=packing_named(word).name)
        except ValueError as error:
            raise BadInput(f"--policy: {error}; or the name of a policy.yaml file", field="policy") from None
    return settings if backfill is None else replace(settings, backfill=cast(Backfill, backfill))


# ---- progress --------------------------------------------------------------------------------------------------------


@contextmanager
def _progress(question: Question) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal: days of virtual time, and jobs that have ended."""
    if not sys.stderr.isatty():
        yield lambda name, now_s, ended: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("simulating {task.description}"),
        BarColumn(),
        TextColumn("day {task.fields[day]:.1f}, {task.fields[ended]} of {task.total} jobs ended"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=max(1, len(_jobs(question.workload))), day=0.0, ended=0)
        yield lambda name, now_s, ended: bars.update(
            task, description=name, completed=ended, day=now_s / 86_400, ended=ended
        )


def _jobs(workload: Workload) -> Sequence[object]:
    return workload.jobs
