"""How does a capacity report look? JSON, Markdown and one self-contained HTML page, in English or Chinese.

All words come from benchmarks.capacity.words, all figures from CapacityReport; the templates only place them. The page
loads nothing: its style and charts are inline.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.capacity.arithmetic import Ratio, WhyNone
from benchmarks.capacity.report import CapacityReport, to_json
from benchmarks.capacity.words import Language, Words
from benchmarks.provenance import iso_utc

if TYPE_CHECKING:
    import jinja2

FORMATS = ("json", "md", "html")
# Exclusions shown on the page for one goal; the rest is counted there and listed in the JSON.
SHOWN_EXCLUSIONS = 12


def write_reports(
    report: CapacityReport,
    out_dir: Path,
    lang: Language = "en",
    *,
    formats: Sequence[str] = FORMATS,
    stem: str = "capacity",
) -> tuple[Path, ...]:
    """Write OUT_DIR/STEM.json, .md, .html as asked; each file is replaced whole. Returns their paths."""
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in formats:
        path = out_dir / f"{stem}.{name}"
        beside = out_dir / f".{stem}.{name}.{os.getpid()}"
        beside.write_text(_text(report, name, lang), encoding="utf-8")
        os.replace(beside, path)
        paths.append(path)
    return tuple(paths)


def _text(report: CapacityReport, form: str, lang: Language) -> str:
    match form:
        case "json":
            return json_text(report)
        case "md":
            return markdown_text(report, lang)
        case "html":
            return html_text(report, lang)
        case _:
            raise ValueError(f"format {form} is not one of {', '.join(FORMATS)}")


def json_text(report: CapacityReport) -> str:
    """The same in every language."""
    return json.dumps(to_json(report), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def markdown_text(report: CapacityReport, lang: Language) -> str:
    return _environment(lang, escape=False).get_template("capacity.md.j2").render(report=report)


def html_text(report: CapacityReport, lang: Language) -> str:
    return _environment(lang, escape=True).get_template("capacity.html.j2").render(report=report)


def figure(value: float) -> str:
    """A rate as printed: 0, 0.00794, 12.35, 794.5, 12,661. Never rounded up to look like more than three digits."""
    if value == 0:
        return "0"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def goal_figure(pflops: float) -> str:
    """A goal as it was published: 700, not 700.0."""
    return f"{pflops:,.10g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def bar_width(pflops: float, goal_pflops: float) -> str:
    """Length of a bar as a share of the goal's; what is there but too short to see gets a hair."""
    if pflops <= 0 or goal_pflops <= 0:
        return "0"
    return f"{min(100.0, max(0.4, 100 * pflops / goal_pflops)):.2f}%"


def _environment(lang: Language, *, escape: bool) -> jinja2.Environment:
    import jinja2

    words = Words(lang)

    def ratio(answer: Ratio, form: str) -> dict[str, Any]:
        if answer.value is None:
            assert answer.reason is not None, "an undefined ratio says why"
            missing = "unread" if answer.reason is WhyNone.ENERGY_NOT_READ else "undefined"
            return {"text": words(missing), "why": words(f"why.{answer.reason}")}
        return {"text": percent(answer.value) if form == "percent" else figure(answer.value), "why": None}

    def cell(text: object) -> str:
        """Text inside a Markdown table: no pipe and no line break may end the cell."""
        return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"figure": figure, "goal": goal_figure, "percent": percent, "when": iso_utc, "cell": cell}
    environment.globals |= {
        "w": words,
        "lang": lang,
        "ratio": ratio,
        "bar": bar_width,
        "shown_exclusions": SHOWN_EXCLUSIONS,
    }
    return environment
