"""Writing a report to a directory: any of the formats, in one language or both, each file replaced whole.

JSON is the same in every language and is written once. With one language the files are capacity.html, capacity.md and
so on; with several each carries its own: capacity-en.html, capacity-zh.html.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.capacity.as_json import json_text, to_json
from benchmarks.capacity.report import CapacityReport
from benchmarks.capacity.words import LANGUAGES, Language

if TYPE_CHECKING:
    from benchmarks.capacity.fonts import Faces

FORMATS = ("json", "md", "html", "pdf", "csv", "xlsx")
STEM = "capacity"


class UnknownFormat(ValueError):
    """`name` is none of FORMATS."""

    def __init__(self, name: str) -> None:
        super().__init__(f"format {name} is not one of {', '.join(FORMATS)}")


def write_all(
    report: CapacityReport,
    directory: Path,
    *,
    languages: Sequence[Language] = LANGUAGES,
    formats: Sequence[str] = FORMATS,
    font: Path | None = None,
) -> tuple[Path, ...]:
    """Write what is asked for and return the paths. `font`: for the PDF; otherwise one is looked for.

    Raises UnknownFormat or benchmarks.capacity.fonts.NoFont before anything is written, and OSError.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownFormat(name)
    document = to_json(report)
    made: list[tuple[str, Callable[[], bytes]]] = []
    if "json" in formats:
        made.append((f"{STEM}.json", lambda: json_text(document).encode()))
    faces = None
    if "pdf" in formats:
        from benchmarks.capacity.fonts import find_faces

        faces = find_faces(languages, font)
    for language in languages:
        stem = STEM if len(languages) == 1 else f"{STEM}-{language}"
        for name, content in _contents(report, language, document, faces, formats):
            made.append((f"{stem}{name}", content))
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(_write(directory / name, content()) for name, content in made)


def _contents(
    report: CapacityReport,
    language: Language,
    document: Mapping[str, Any],
    faces: Faces | None,
    formats: Sequence[str],
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Endings and what makes their files. Libraries are loaded only for what is asked for."""
    if "md" in formats:
        from benchmarks.capacity.render import markdown_text

        yield ".md", lambda: markdown_text(report, language, document).encode()
    if "html" in formats:
        from benchmarks.capacity.render import html_text

        yield ".html", lambda: html_text(report, language, document).encode()
    if faces is not None:
        from benchmarks.capacity.pdf import pdf_bytes

        yield ".pdf", lambda: pdf_bytes(report, language, document, faces)
    if "csv" in formats:
        from benchmarks.capacity.office import cards_csv_text, csv_text

        yield ".csv", lambda: csv_text(report, language).encode()
        yield "-cards.csv", lambda: cards_csv_text(report, language).encode()
    if "xlsx" in formats:
        from benchmarks.capacity.office import workbook_bytes

        yield ".xlsx", lambda: workbook_bytes(report, language)


def _write(path: Path, content: bytes) -> Path:
    """Replaced whole: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path
