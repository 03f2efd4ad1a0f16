"""`suanli report`: reports for the site. `report capacity` sets what was achieved against the published goals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from scheduler.cli.client import Client, home_path
from scheduler.cli.options import output_option
from scheduler.cli.render import safe
from scheduler.cli.report_usage import usage
from scheduler.errors import BadInput, NotFound, SuanliError, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from benchmarks.capacity import CapacityReport
    from benchmarks.capacity.words import Language
    from benchmarks.inventory import Node
    from benchmarks.system.cluster_run import ClusterClient

DEFAULT_DAYS = 30.0


@click.group()
def report() -> None:
    """Reports for the site, such as achieved capacity."""


report.add_command(usage)


@report.command()
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the words.")
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="Directory of the files.",
)
@click.option(
    "--format", "formats", default="json,md,html", show_default=True, help="Which of json, md, html to write."
)
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Site configuration. Default: the service's."
)
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_DAYS,
    show_default=True,
    help="Use results that are at most so many days old.",
)
@output_option
def capacity(
    lang: Literal["en", "zh"], out_dir: Path, formats: str, config: Path | None, days: float, output: str
) -> None:
    """Nominal, measured, extrapolated and simulated PFlops against each goal."""
    from benchmarks.capacity import write_reports
    from benchmarks.capacity.render import FORMATS, json_text

    chosen = tuple(name.strip() for name in formats.split(",") if name.strip())
    for name in chosen:
        if name not in FORMATS:
            raise BadInput(f"--format {name} is not one of {', '.join(FORMATS)}", field="format")
    made = capacity_report(_client(), home=home_path(), config=config, now_s=time.time(), days=days)
    try:
        paths = write_reports(made, out_dir, lang, formats=chosen)
    except OSError as error:
        raise Unavailable(
            f"the report could not be written to {out_dir}: {error.strerror or error}; choose another with --out"
        ) from error
    if output == "json":
        click.echo(json_text(made), nl=False)
        return
    from benchmarks.capacity.words import Words

    for line in summary(made, lang):
        click.echo(safe(line))
    for path in paths:
        click.echo(Words(lang)("line.wrote", path=path))


def summary(made: CapacityReport, lang: Language) -> list[str]:
    """A few lines for the terminal, evidence by evidence."""
    from benchmarks.capacity.render import figure
    from benchmarks.capacity.words import Words

    words = Words(lang)
    lines = []
    if made.inventory_from == "kept":
        lines.append(words("line.kept", at=_moment(made.inventory_at_s)))
    if made.label == "smoke":
        lines.append(words("line.smoke"))
    for g in made.goals:
        lines.append(
            words(
                "line.goal",
                title=g.goal.title_zh if lang == "zh" else g.goal.title_en,
                pflops=figure(g.goal.goal_pflops),
                precision=words.or_as_given("precision", g.goal.precision),
                due=g.goal.due,
            )
        )
        lines.append(
            words(
                "line.figures",
                measured=figure(g.measured.rate.pflops),
                measured_devices=g.measured.devices,
                missing=figure(g.missing_pflops),
                nominal=figure(g.nominal.rate.pflops),
                nominal_devices=g.nominal.devices,
                extrapolated=figure(g.extrapolated.rate.pflops),
                extrapolated_devices=g.extrapolated.devices,
            )
        )
        if g.simulated_installed:
            lines.append(
                words(
                    "line.simulated",
                    pflops=figure(g.simulated.rate.pflops),
                    devices=g.simulated.devices,
                    installed=g.simulated_installed,
                )
            )
    for entry in made.cpu:
        state = words("line.verified") if entry.verified else words("line.not_verified", reason=entry.reason)
        lines.append(
            words(
                "line.cpu",
                node=entry.node,
                gflops=figure(entry.gflops),
                precision=entry.precision,
                devices=entry.devices,
                state=state,
            )
        )
    return lines


@dataclass(frozen=True, slots=True)
class _Inventory:
    nodes: tuple[Node, ...]
    config: Mapping[str, Any]
    source: Literal["service", "kept"]
    at_s: float


def capacity_report(
    client: ClusterClient | None, *, home: Path, config: Path | None, now_s: float, days: float = DEFAULT_DAYS
) -> CapacityReport:
    """The report from the service's inventory, or from the one kept last where no service answers.

    Raises NotFound where there is neither.
    """
    from benchmarks.capacity import build
    from benchmarks.history.store import HistoryStore
    from benchmarks.provenance import provenance
    from benchmarks.system.site_facts import facts_from_api, facts_from_file

    directory = home / "bench"
    inventory = _inventory(client, directory, now_s)
    facts = facts_from_file(config) if config is not None else facts_from_api(inventory.config)
    about = provenance(window_s=1.0, at_s=now_s, with_library=False)
    return build(
        goals=facts.goals,
        sites=facts.sites,
        catalogue=facts.catalogue,
        nodes=inventory.nodes,
        history=HistoryStore(directory).read(since_s=now_s - days * 86_400, until_s=now_s),
        generated_at_s=now_s,
        provenance={k: about[k] for k in ("host", "os", "cpu", "python", "commit", "protocol", "generated_at")},
        inventory_from=inventory.source,
        inventory_at_s=inventory.at_s,
    )


def _client() -> Client | None:
    """None where no service is known here; a service that is known but silent shows when it is asked."""
    try:
        return Client.from_env()
    except (Unavailable, Unauthenticated, NotFound):
        return None


def _inventory(client: ClusterClient | None, directory: Path, now_s: float) -> _Inventory:
    from benchmarks.inventory import keep_inventory, kept_inventory, parse_nodes

    silence: SuanliError | None = None
    if client is not None:
        try:
            nodes, config = client.get("/v1/nodes"), client.get("/v1/config")
        except Unavailable as error:
            silence = error
        else:
            keep_inventory(directory, nodes=nodes["nodes"], config=config, at_s=now_s)
            return _Inventory(parse_nodes(nodes), config, "service", now_s)
    try:
        kept = kept_inventory(directory)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    if kept is None:
        told = silence.message if silence is not None else "no Suanli service is known here"
        raise NotFound(f"{told}; and no inventory was kept in {directory}. Start the service with `suanli up`")
    return _Inventory(kept.nodes, kept.config, "kept", kept.recorded_at_s)


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))
