"""Does a report say what its log says? Recompute every figure and tell which differ.

From the report come the inventory as it was, the moment and the period; from the auditor come the log, the goals and
the catalogue. What differs then is named by its place: a changed figure, a changed or missing line of the log (its
digest), another catalogue (the peaks), another goal. For a page the text that a reader sees is compared as well, by
writing the page again from the recomputed figures; a PDF is written again in the same font and compared whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.capacity.as_json import CAPACITY_SCHEMA, figures_sha256, nodes_of, to_json
from benchmarks.capacity.audit import log_files, read_log
from benchmarks.capacity.carried import NotAReport
from benchmarks.capacity.raw_check import RawChecked, check_raw
from benchmarks.capacity.report import CapacityReport, build
from benchmarks.capacity.words import Language
from benchmarks.history.findings import ChangePoint, Estimate, Outlier
from benchmarks.history.store import History, StoredResult
from benchmarks.inventory import Node
from scheduler.schema.model import Card, Goal, Site

# Figures went through JSON, which gives every digit back; the rest is for another machine's last bit.
RELATIVE = 1e-12
# By which members of a list are recognised, so that a missing card is told as such and not as all cards after it.
_NAMES = ("uuid", "name", "run", "model", "node")
ABSENT = "(not there)"


@dataclass(frozen=True, slots=True)
class Told:
    """What benchmarks.history finds in a history. `estimates` by the goal's name."""

    changes: Sequence[ChangePoint] = ()
    outliers: Sequence[Outlier] = ()
    estimates: Mapping[str, Estimate] | None = None


@dataclass(frozen=True, slots=True)
class Auditor:
    """What is taken from the auditor and not from the report. `told`: how the history's findings are made."""

    log: Path
    goals: Sequence[Goal]
    sites: Mapping[str, Site]
    catalogue: Mapping[str, Card]
    told: Callable[[History, Sequence[Node], Sequence[Goal]], Told] = lambda _history, _nodes, _goals: Told()


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure, by its place in the JSON (`goals.dongyang-700.measured.pflops`)."""

    where: str
    stated: str
    recomputed: str


@dataclass(frozen=True, slots=True)
class Verification:
    """`compared` figures and words. `report` is the recomputed one, `document` it as JSON."""

    compared: int
    differences: tuple[Difference, ...]
    raw: RawChecked
    lines: int
    report: CapacityReport
    document: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        return not self.differences and not self.raw.told


def verify(document: Mapping[str, Any], auditor: Auditor) -> Verification:
    """Raises NotAReport where the document cannot be recomputed at all, and OSError where the log cannot be read."""
    if document.get("schema") != CAPACITY_SCHEMA:
        raise NotAReport(f"this is {document.get('schema')}; only {CAPACITY_SCHEMA} carries what a recomputation needs")
    if not isinstance(document.get("log"), Mapping):
        raise NotAReport("this report was not made from a log file, so nothing can be recomputed from one")
    if not log_files(auditor.log):
        raise NotAReport(f"there is no results log at {auditor.log}; name its file or directory with --log")
    try:
        report, history = _recomputed(document, auditor)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAReport(f"the report's inputs cannot be read: {type(error).__name__}: {error}") from None
    recomputed = to_json(report)
    differences = []
    if figures_sha256(document) != document.get("figures_sha256"):
        said = str(document.get("figures_sha256", ABSENT))
        differences.append(Difference("figures_sha256", said, "the file was changed after it was written"))
    skipped = ("provenance", "figures_sha256")
    compared = 0
    for here in _compared("", *({k: v for k, v in d.items() if k not in skipped} for d in (document, recomputed))):
        compared += 1
        if here is not None:
            differences.append(here)
    directory = auditor.log if auditor.log.is_dir() else auditor.log.parent
    raw = check_raw(_standing_results(report, history), directory)
    lines = 0 if report.log is None else report.log.lines
    return Verification(compared, tuple(differences), raw, lines, report, recomputed)


def _recomputed(document: Mapping[str, Any], auditor: Auditor) -> tuple[CapacityReport, History]:
    log, inputs = document["log"], document["inputs"]
    history, used = read_log(auditor.log, since_s=float(log["since_s"]), until_s=float(log["until_s"]))
    names = [goal["name"] for goal in (*document["goals"], *document["context"])]
    nodes = nodes_of(inputs["nodes"])
    goals = [goal for goal in auditor.goals if goal.name in names]
    told = auditor.told(history, nodes, goals)
    report = build(
        goals=goals,
        sites=auditor.sites,
        catalogue=auditor.catalogue,
        nodes=nodes,
        history=history,
        generated_at_s=float(document["generated_at_s"]),
        provenance=document["provenance"],
        inventory_from=str(document["inventory"]["from"]),
        inventory_at_s=float(inputs["inventory_at_s"]),
        log=used,
        changes=told.changes,
        outliers=told.outliers,
        estimates=told.estimates,
    )
    return report, history


def _standing_results(report: CapacityReport, history: History) -> list[StoredResult]:
    """Results behind the report's figures, each once: of the windows that stand, and of the CPUs beside them."""
    wanted = {(g.window.run, g.window.precision, card.uuid) for g in report.goals if g.window for card in g.cards}
    cpus = {(cpu.recorded_at_s, cpu.node, cpu.precision) for cpu in report.cpu}
    return [
        r
        for r in history.results
        if (r.run, r.record.precision, r.record.device) in wanted
        or (r.record.on == "cpu" and (r.recorded_at_s, r.record.node, r.record.precision) in cpus)
    ]


# ---- comparing ---------------------------------------------------------------------------------------------------


def _compared(where: str, stated: Any, recomputed: Any) -> Iterator[Difference | None]:
    """None for each place where both say the same."""
    if isinstance(stated, Mapping) and isinstance(recomputed, Mapping):
        for key in dict.fromkeys((*stated, *recomputed)):
            place = f"{where}.{key}" if where else str(key)
            yield from _compared(place, stated.get(key, ABSENT), recomputed.get(key, ABSENT))
    elif isinstance(stated, (list, tuple)) and isinstance(recomputed, (list, tuple)):
        yield from _compared_lists(where, stated, recomputed)
    elif _same(stated, recomputed):
        yield None
    else:
        yield Difference(where, _short(stated), _short(recomputed))


def _compared_lists(where: str, stated: Sequence[Any], recomputed: Sequence[Any]) -> Iterator[Difference | None]:
    name = next((n for n in _NAMES if _names_all(stated, n) and _names_all(recomputed, n)), None)
    if name is None:
        for index, (left, right) in enumerate(zip_longest(stated, recomputed, fillvalue=ABSENT)):
            yield from _compared(f"{where}[{index}]", left, right)
        return
    left_by, right_by = ({entry[name]: entry for entry in entries} for entries in (stated, recomputed))
    for key in dict.fromkeys((*left_by, *right_by)):
        yield from _compared(f"{where}.{key}", left_by.get(key, ABSENT), right_by.get(key, ABSENT))


def _names_all(entries: Sequence[Any], name: str) -> bool:
    values = [entry[name] for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get(name), str)]
    return len(values) == len(entries) == len(set(values))


def _same(stated: Any, recomputed: Any) -> bool:
    numbers = (int, float)
    both = isinstance(stated, numbers) and isinstance(recomputed, numbers)
    if both and not isinstance(stated, bool) and not isinstance(recomputed, bool):
        return stated == recomputed or math.isclose(stated, recomputed, rel_tol=RELATIVE)
    return type(stated) is type(recomputed) and bool(stated == recomputed)


def _short(value: Any) -> str:
    return str(value) if len(str(value)) <= 90 else f"{str(value)[:87]}..."


# ---- what a reader sees ------------------------------------------------------------------------------------------


def compare_page(text: str, found: Verification) -> tuple[Difference, ...]:
    """An HTML page against the same page written from the recomputed figures: visible words and drawings alike."""
    from benchmarks.capacity.render import html_text

    language: Language = "zh" if '<html lang="zh-Hans">' in text else "en"
    again = html_text(found.report, language, found.document)
    if text == again:
        return ()
    pairs = zip_longest(_visible(text), _visible(again), fillvalue="")
    told = [Difference("the page's text", _short(left), _short(right)) for left, right in pairs if left != right]
    return tuple(told[:5]) or (Difference("the page", "drawings or style", "are not those of these figures"),)


def compare_pdf(data: bytes, found: Verification, font: Path | None = None) -> tuple[tuple[Difference, ...], str]:
    """A PDF against the same one written again; and why that could not be told, where it could not."""
    from benchmarks.capacity.fonts import NoFont, find_faces
    from benchmarks.capacity.pdf import font_mark, pdf_bytes

    language: Language = "zh" if b"/Lang (zh-CN)" in data else "en"
    try:
        faces = find_faces((language,), font)
    except NoFont as error:
        return (), f"its pages were not compared: {error}"
    if font_mark(faces).encode() not in data:
        return (), "its pages were not compared: it is set in another font than is found here; name it with --font"
    if data == pdf_bytes(found.report, language, found.document, faces):
        return (), ""
    return (Difference("the pages", "as they stand in the file", "are not those of these figures"),), ""


def _visible(page: str) -> list[str]:
    body = re.sub(r"<style>.*?</style>|<template.*?</template>|<defs>.*?</defs>", "", page, flags=re.DOTALL)
    return [line.strip() for line in re.sub(r"<[^>]*>", "\n", body).splitlines() if line.strip()]
