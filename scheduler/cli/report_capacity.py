"""`suanli report capacity`: what was achieved against the published goals, and what is missing."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from scheduler.cli.client import Client, home_path
from scheduler.cli.options import output_option
from scheduler.cli.render import safe
from scheduler.errors import BadInput, NotFound, SuanliError, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from benchmarks.capacity import CapacityReport
    from benchmarks.capacity.words import Language
    from benchmarks.inventory import Node
    from benchmarks.system.cluster_run import ClusterClient
    from scheduler.schema.model import Goal

DEFAULT_DAYS = 30.0
DAY_S = 86_400.0


@click.command()
@click.option("--site", "site_name", metavar="SITE", help="Only goals of this site, and its cards.")
@click.option("--since", metavar="DATE", help="Use results from this day on (2027-01-31), or of the last days (90d).")
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    help=f"Use results that are at most so many days old.  [default: {DEFAULT_DAYS:g}]",
)
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the words.")
@click.option(
    "--format",
    "formats",
    default="json,md,html",
    show_default=True,
    help="Which of json, md, html, pdf, csv, xlsx to write.",
)
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="Directory of the files.",
)
@click.option("--font", type=click.Path(path_type=Path), help="TrueType or OpenType file to set the PDF in.")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="Site configuration. Default: the service's."
)
@output_option
def capacity(
    site_name: str | None,
    since: str | None,
    days: float | None,
    lang: Literal["en", "zh"],
    formats: str,
    out_dir: Path,
    font: Path | None,
    config: Path | None,
    output: str,
) -> None:
    """Nominal, measured, extrapolated and simulated PFlops against each goal; what is missing, and until when."""
    from benchmarks.capacity import write_all
    from benchmarks.capacity.as_json import json_text, to_json
    from benchmarks.capacity.fonts import NoFont
    from benchmarks.capacity.writing import FORMATS

    chosen = tuple(dict.fromkeys(name.strip() for name in formats.split(",") if name.strip()))
    for name in chosen:
        if name not in FORMATS:
            raise BadInput(f"--format {name} is not one of {', '.join(FORMATS)}", field="format")
    if not chosen:
        raise BadInput(f"--format names nothing; it is a list of {', '.join(FORMATS)}", field="format")
    now_s = time.time()
    since_s = since_moment(since, days, now_s)
    made = capacity_report(_client(), home=home_path(), config=config, now_s=now_s, since_s=since_s, site=site_name)
    try:
        paths = write_all(made, out_dir, languages=(lang,), formats=chosen, font=font)
    except NoFont as error:
        raise BadInput(str(error), field="font") from error
    except OSError as error:
        raise Unavailable(
            f"the report could not be written to {out_dir}: {error.strerror or error}; choose another with --out"
        ) from error
    if output == "json":
        click.echo(json_text(to_json(made)), nl=False)
        return
    from benchmarks.capacity.words import Words

    for line in summary(made, lang):
        click.echo(safe(line))
    for path in paths:
        click.echo(Words(lang)("line.wrote", path=path))


def since_moment(since: str | None, days: float | None, now_s: float) -> float:
    """From when on results are used. A date is a day in China Standard Time. Raises BadInput."""
    if since is None:
        return now_s - (DEFAULT_DAYS if days is None else days) * DAY_S
    if days is not None:
        raise BadInput("--since and --days both say from when on; give one of them", field="since")
    relative = re.fullmatch(r"(\d{1,5})d", since.strip())
    if relative is not None:
        return now_s - int(relative[1]) * DAY_S
    try:
        day = datetime.strptime(since.strip(), "%Y-%m-%d").replace(tzinfo=timezone(timedelta(hours=8)))
    except ValueError:
        raise BadInput(
            f"--since {since}: expected a date such as 2027-01-31, or days such as 90d", field="since"
        ) from None
    if day.timestamp() > now_s:
        raise BadInput(f"--since {since} is in the future: no result can be from then on", field="since")
    return day.timestamp()


def summary(made: CapacityReport, lang: Language) -> list[str]:
    """A few lines for the terminal, evidence by evidence."""
    from benchmarks.capacity import telling
    from benchmarks.capacity.numbers import figure, moment
    from benchmarks.capacity.words import Words

    words = Words(lang)
    lines = []
    if made.inventory_from == "kept":
        lines.append(words("line.kept", at=moment(made.inventory_at_s)))
    if made.unreadable_history_lines:
        lines.append(words("unreadable", n=made.unreadable_history_lines))
    if made.label is None:
        lines.append(words("label.none"))
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
                missing=figure(g.missing_pflops),
                **{part.key: telling.line_figure(part, words) for part in telling.parts(g, words)},
            )
        )
        if g.measured.devices:
            lines.append(f"  {telling.outlook_text(g, words)}")
        if g.simulated_installed:
            lines.append(words("line.simulated", told=telling.simulated_text(g, words)))
    for entry in made.cpu:
        why = words(f"excluded.{entry.verdict}")
        state = words("line.verified") if entry.verified else words("line.not_verified", reason=why)
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
    client: ClusterClient | None,
    *,
    home: Path,
    config: Path | None,
    now_s: float,
    since_s: float,
    site: str | None = None,
) -> CapacityReport:
    """The report from the service's inventory, or from the one kept last where no service answers.

    Raises NotFound where there is neither, BadInput where no such site is configured.
    """
    from benchmarks.capacity import build
    from benchmarks.capacity.audit import read_log
    from benchmarks.capacity.by_nights import told_by_nights
    from benchmarks.provenance import provenance
    from benchmarks.system.site_facts import facts_from_api, facts_from_file

    directory = home / "bench"
    inventory = _inventory(client, directory, now_s)
    facts = facts_from_file(config) if config is not None else facts_from_api(inventory.config)
    goals, nodes = _of_site(site, facts.goals, inventory.nodes, facts.sites)
    try:
        history, log = read_log(directory, since_s=since_s, until_s=now_s)
    except OSError as error:
        raise Unavailable(f"the results log in {directory} cannot be read: {error.strerror or error}") from error
    told = told_by_nights(history, nodes, goals)
    about = provenance(window_s=1.0, at_s=now_s, with_library=False)
    return build(
        goals=goals,
        sites=facts.sites,
        catalogue=facts.catalogue,
        nodes=nodes,
        history=history,
        log=log,
        generated_at_s=now_s,
        provenance={k: about[k] for k in ("host", "os", "cpu", "python", "commit", "protocol", "generated_at")},
        inventory_from=inventory.source,
        inventory_at_s=inventory.at_s,
        changes=told.changes,
        outliers=told.outliers,
        estimates=told.estimates,
    )


def _of_site(
    site: str | None, goals: Sequence[Goal], nodes: Sequence[Node], sites: Mapping[str, object]
) -> tuple[tuple[Goal, ...], tuple[Node, ...]]:
    """Goals that the site is part of, with the cards that stand at these goals' sites."""
    if site is None:
        return tuple(goals), tuple(nodes)
    if site not in sites:
        known = ", ".join(sorted(sites)) or "none"
        raise BadInput(f"--site {site}: no such site is configured; there are {known}", field="site")
    mine = tuple(goal for goal in goals if site in goal.sites)
    places = {site} | {name for goal in mine if not goal.is_context for name in goal.sites}
    return mine, tuple(node for node in nodes if node.site in places)


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
