"""What each format says, word for word, in both languages: tests/data/capacity holds what was looked at and found good.

Text is compared as a reader would take it out of the file; digests are left out, since they change with every field of
the log. After a change that is meant: SUANLI_SNAPSHOTS=write, then look at the difference before committing it.
"""

from __future__ import annotations

import html
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from benchmarks.capacity import CapacityReport, write_all
from benchmarks.capacity.words import LANGUAGES, Language
from tests.fakes.capacity_reports import cpu_only, logged
from tests.fakes.tiny_font import CHINESE, write_font

HELD = Path(__file__).parents[3] / "data" / "capacity"


def same(name: str, text: str) -> None:
    text = re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text)
    path = HELD / name
    if os.environ.get("SUANLI_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), f"{name} says something else; see the top of this file"


def visible(page: str) -> str:
    """Words in their order, charts as their labels and shapes."""
    body = re.sub(r"<style>.*?</style>|<template.*?</template>", "", page, flags=re.DOTALL)
    shapes = re.sub(r"<(line|rect|circle|path)\b([^>]*)>", r"⟨\1\2⟩", body)
    lines = (html.unescape(line).strip() for line in re.sub(r"<[^>]*>", "\n", shapes).splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def cells(data: bytes) -> str:
    lines = []
    for sheet in load_workbook(io.BytesIO(data)):
        lines.append(f"# {sheet.title}")
        for row in sheet.iter_rows():
            lines.append(" | ".join("" if c.value is None else _short(c.value) for c in row))
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def rounded(value: Any) -> Any:
    """The last digits of a sum are the machine's."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_format(tmp_path: Path, lang: Language) -> None:
    font = write_font(tmp_path / "boxes.ttf", CHINESE + "东阳子节点边缘云目标")
    write_all(logged(tmp_path), tmp_path, languages=(lang,), font=font)
    same(f"full-{lang}.md", (tmp_path / "capacity.md").read_text())
    same(f"full-{lang}.html.txt", visible((tmp_path / "capacity.html").read_text()))
    pages = PdfReader(tmp_path / "capacity.pdf").pages
    same(f"full-{lang}.pdf.txt", "\f\n".join(page.extract_text() + "\n" for page in pages))
    same(f"full-{lang}.xlsx.txt", cells((tmp_path / "capacity.xlsx").read_bytes()))
    for name in ("capacity.csv", "capacity-cards.csv"):
        same(f"full-{lang}-{name}.txt", (tmp_path / name).read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
    if lang == "en":
        document = json.loads((tmp_path / "capacity.json").read_text())
        same("full.json", json.dumps(rounded(document), ensure_ascii=False, indent=1) + "\n")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_machine_without_accelerators(tmp_path: Path, lang: Language) -> None:
    made: CapacityReport = cpu_only()
    write_all(made, tmp_path, languages=(lang,), formats=("md", "html"))
    same(f"cpu-only-{lang}.md", (tmp_path / "capacity.md").read_text())
    same(f"cpu-only-{lang}.html.txt", visible((tmp_path / "capacity.html").read_text()))
