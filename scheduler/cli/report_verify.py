"""`suanli report verify`: does a report say what its log says? For an auditor, who needs no service and no Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scheduler.cli.client import home_path
from scheduler.cli.options import output_option
from scheduler.cli.render import safe
from scheduler.errors import BadInput, NotFound, Unavailable

if TYPE_CHECKING:
    from benchmarks.capacity.verify import Difference, Verification
    from benchmarks.system.site_facts import SiteFacts

SHOWN = 20
VERIFY_SCHEMA = "suanli/capacity-verification/1"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--log", "log", type=click.Path(path_type=Path), help="The results log: its file or its directory.")
@click.option("--home", type=click.Path(path_type=Path), help="Take the log in this Suanli home. Default: SUANLI_HOME.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Goals and catalogue to compute with. Default: those kept beside the log, or the shipped ones.",
)
@click.option("--font", type=click.Path(path_type=Path), help="The font that a PDF was set in, where it was named.")
@output_option
def verify(
    file: Path, log: Path | None, home: Path | None, config: Path | None, font: Path | None, output: str
) -> None:
    """Compute every figure of a capacity report again from the results log, and say which differ.

    FILE is a capacity.json, or an HTML page or PDF that carries it. Exit code 1 where anything differs.
    """
    from benchmarks.capacity.by_nights import told_by_nights
    from benchmarks.capacity.carried import NotAReport, read_document
    from benchmarks.capacity.verify import Auditor, compare_page, compare_pdf
    from benchmarks.capacity.verify import verify as recompute
    from benchmarks.capacity.verify_words import in_words

    if log is not None and home is not None:
        raise BadInput("--log and --home both say where the log is; give one of them", field="log")
    place = log if log is not None else (home if home is not None else home_path()) / "bench"
    facts, source = _facts(config, place)
    try:
        document = read_document(file)
        found = recompute(document, Auditor(place, facts.goals, facts.sites, facts.catalogue, told_by_nights))
        seen: tuple[Difference, ...] = ()
        note = ""
        if file.suffix.lower() in (".html", ".htm"):
            seen = compare_page(file.read_text(encoding="utf-8", errors="replace"), found)
        elif file.suffix.lower() == ".pdf":
            seen, note = compare_pdf(file.read_bytes(), found, font)
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename} does not exist") from error
    except OSError as error:
        raise Unavailable(f"{error.filename or file} cannot be read: {error.strerror or error}") from error
    except NotAReport as error:
        raise BadInput(str(error), field="file") from error
    ok = found.ok and not seen
    if output == "json":
        click.echo(_as_json(file, found, seen, note, source, in_words(document, found)))
    else:
        for line in _lines(file, found, seen, note, source, str(document["provenance"].get("commit") or "")):
            click.echo(safe(line))
        for line in in_words(document, found):
            click.echo(safe(f"that means: {line}"))
    if not ok:
        raise SystemExit(1)


def _facts(config: Path | None, place: Path) -> tuple[SiteFacts, str]:
    """Goals and catalogue, and whose they are."""
    from benchmarks.inventory import kept_inventory
    from benchmarks.system.site_facts import facts_from_api, facts_from_file, shipped_facts

    if config is not None:
        return facts_from_file(config), str(config)
    directory = place if place.is_dir() else place.parent
    try:
        kept = kept_inventory(directory)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    if kept is not None and kept.config:
        return facts_from_api(kept.config), f"kept in {directory}"
    return shipped_facts(), "shipped with Suanli"


def _lines(
    file: Path, found: Verification, seen: tuple[Difference, ...], note: str, source: str, written_by: str
) -> list[str]:
    from benchmarks.provenance import commit

    lines = [
        f"{file}: {found.compared:,} figures and words recomputed from {found.lines:,} lines of the log; goals and "
        f"catalogue {source}"
    ]
    told = (*found.differences, *seen)
    lines += [f"  differs: {d.where}: the report says {d.stated}; recomputed: {d.recomputed}" for d in told[:SHOWN]]
    if len(told) > SHOWN:
        lines.append(f"  and {len(told) - SHOWN:,} more differences; all are in -o json")
    raw = found.raw
    if raw.named:
        lines.append(f"raw batches: {raw.found:,} of the {raw.named:,} that results name are there and were recomputed")
        lines += [f"  differs: {text}" for text in raw.told[:SHOWN]]
    else:
        lines.append("raw batches: no result of these windows names any")
    if note:
        lines.append(note)
    here = commit() or ""
    if seen and written_by != here:
        lines.append(
            f"the page was written by commit {written_by or 'unknown'} and this is {here or 'unknown'}: words may "
            "differ for that reason alone; verify the page with the version that wrote it"
        )
    agrees = not told and not raw.told
    lines.append("every figure agrees" if agrees else f"{len(told) + len(raw.told):,} differences: it does not agree")
    return lines


def _as_json(
    file: Path, found: Verification, seen: tuple[Difference, ...], note: str, source: str, means: Sequence[str]
) -> str:
    return json.dumps(
        {
            "schema": VERIFY_SCHEMA,
            "file": str(file),
            "ok": found.ok and not seen,
            "compared": found.compared,
            "log_lines": found.lines,
            "facts_from": source,
            "differences": [
                {"where": d.where, "stated": d.stated, "recomputed": d.recomputed} for d in (*found.differences, *seen)
            ],
            "means": list(means),
            "raw": {"named": found.raw.named, "found": found.raw.found, "contradictions": list(found.raw.told)},
            "pages": note or None,
        },
        ensure_ascii=False,
        indent=1,
    )
