"""The page: what facts, tables and figures tell, placed by one template with its style inline. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from scheduler.simulation.page import facts, figures, tables
from scheduler.simulation.page.numbers import NONE, Numbers
from scheduler.simulation.page.telling import Telling
from scheduler.simulation.page.words import LANGUAGES, Words

_LANGUAGE_TAGS = {"en": "en", "zh": "zh-Hans"}


def render(document: Mapping[str, Any], *, lang: str = "en") -> str:
    """The whole HTML text for the JSON document of `suanli simulate run`.

    ValueError for a document of another kind, one without a run, or a language that the page does not speak.
    """
    language = next((known for known in LANGUAGES if known == lang), None)
    if language is None:
        raise ValueError(f"the page is written in {' or '.join(LANGUAGES)}, not in {lang!r}")
    read = facts.read(document)
    words = Words(language)
    tell = Telling(read, words, Numbers(words))
    rows = tables.headline(tell)
    return _template().render(
        w=words,
        n=tell.n,
        tell=tell,
        html_lang=_LANGUAGE_TAGS[language],
        about=read.about,
        document=read,
        when=_when(read.about.generated_at),
        models=_pieces(tell, read.about.devices_by_model, "about.times", "model", str),
        sites=_pieces(tell, read.about.devices_by_site, "about.site", "site", tell.site_title),
        headline=rows,
        verdicts=tables.verdicts(tell, rows),
        runs_table=tables.runs_table(tell),
        sections=figures.sections(tell),
        raw=tables.raw_table(tell, document["runs"]),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")


def _pieces(tell: Telling, counts: Mapping[str, float | None], key: str, named: str, title_of: Any) -> str:
    said = [tell.w(key, n=tell.n.count(count), **{named: title_of(name)}) for name, count in counts.items()]
    return tell.w("separator").join(said)


def _when(text: str) -> str:
    """2026-11-28 01:02 UTC+00:00 out of an ISO time; any other text as it is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text or NONE
    return f"{at:%Y-%m-%d %H:%M} {at.tzname() or ''}".rstrip()
