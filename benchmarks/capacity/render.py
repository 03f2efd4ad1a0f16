"""How does a capacity report look as Markdown and as one self-contained HTML page, in English or Chinese?

All words come from benchmarks.capacity.words, all figures from CapacityReport; the templates only place them. The page
loads nothing: its style and charts are inline, and it carries the report's JSON for `suanli report verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.capacity import charts, numbers, tables, telling
from benchmarks.capacity.carried import packed
from benchmarks.capacity.report import CapacityReport
from benchmarks.capacity.words import Language, Words

if TYPE_CHECKING:
    import jinja2


def markdown_text(report: CapacityReport, lang: Language, document: Mapping[str, Any]) -> str:
    """`document` is the report as JSON."""
    return _rendered("capacity.md.j2", report, lang, document, escape=False)


def html_text(report: CapacityReport, lang: Language, document: Mapping[str, Any]) -> str:
    return _rendered("capacity.html.j2", report, lang, document, escape=True)


def bar_width(pflops: float | None, goal_pflops: float) -> str:
    """Length of a bar as a share of the goal's; what is there but too short to see gets a hair."""
    if pflops is None or pflops <= 0 or goal_pflops <= 0:
        return "0"
    return f"{min(100.0, max(0.4, 100 * pflops / goal_pflops)):.2f}%"


def _rendered(
    template: str, report: CapacityReport, lang: Language, document: Mapping[str, Any], *, escape: bool
) -> str:
    words = Words(lang)
    held = tables.report_tables(report, words)
    return (
        _environment(words, escape=escape)
        .get_template(template)
        .render(
            report=report,
            tables=held,
            figures_sha256=document["figures_sha256"],
            carried=packed(document) if escape else "",
        )
    )


def _environment(words: Words, *, escape: bool) -> jinja2.Environment:
    import jinja2

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
    environment.filters |= {
        "figure": numbers.figure,
        "goal": numbers.goal_figure,
        "percent": numbers.percent,
        "when": numbers.moment,
        "cell": cell,
    }
    environment.globals |= {
        "w": words,
        "lang": words.language,
        "colon": "：" if words.language == "zh" else ": ",
        "bar": bar_width,
        "tell": telling,
        "trend_chart": charts.trend_chart,
        "spread_chart": charts.spread_chart,
        "shown_text": tables.shown_text,
        "goal_title": tables.goal_title,
        "site_title": tables.site_title,
    }
    return environment
