"""The PDF: glyphs embedded, text that can be taken out again, tables that go on over pages, a word where no font is.

Set in a made-up font, so that it needs none of the machine's."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from benchmarks.capacity import write_all
from benchmarks.capacity.as_json import to_json
from benchmarks.capacity.fonts import Face, Faces, NoFont, find_faces
from benchmarks.capacity.pdf import pdf_bytes
from benchmarks.capacity.pdf_sheet import Sheet
from benchmarks.capacity.words import LANGUAGES, Language, Words
from tests.fakes.capacity_reports import cpu_only, full
from tests.fakes.tiny_font import CHINESE, write_font

EACH_LANGUAGE = pytest.mark.parametrize("lang", LANGUAGES)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return find_faces(
        LANGUAGES, write_font(tmp_path_factory.mktemp("font") / "boxes.ttf", CHINESE + "东阳子节点边缘云目标")
    )


def made(report: Any, lang: Language, faces: Faces) -> PdfReader:
    return PdfReader(io.BytesIO(pdf_bytes(report, lang, to_json(report), faces)))


def text_of(reader: PdfReader) -> str:
    return " ".join(" ".join(page.extract_text().split()) for page in reader.pages)


@EACH_LANGUAGE
def test_the_text_can_be_taken_out_and_the_glyphs_are_inside(faces: Faces, lang: Language) -> None:
    reader, words = made(full(), lang, faces), Words(lang)
    text = text_of(reader)
    for key in ("title", "nominal", "availability", "exclusions", "changes", "audit", "sign", "watermark"):
        assert words(key) in text, key
    assert "11.20" in text
    assert to_json(full())["figures_sha256"] in text
    fonts = [f.get_object() for page in reader.pages for f in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert "/FontFile2" in descriptor or "/FontFile3" in descriptor
        assert "/ToUnicode" in font


@EACH_LANGUAGE
def test_it_carries_the_reports_json(faces: Faces, lang: Language) -> None:
    report = cpu_only()
    (attached,) = made(report, lang, faces).attachments["capacity.json"]
    assert json.loads(attached) == json.loads(json.dumps(to_json(report)))


def test_equal_reports_are_equal_files(faces: Faces) -> None:
    report = cpu_only()
    assert pdf_bytes(report, "zh", to_json(report), faces) == pdf_bytes(report, "zh", to_json(report), faces)


def test_every_page_is_numbered(faces: Faces) -> None:
    reader = made(full(), "en", faces)
    count = len(reader.pages)
    assert [f"{n} / {count}" in page.extract_text() for n, page in enumerate(reader.pages, 1)] == [True] * count


def sheet(faces: Faces) -> Sheet:
    return Sheet(faces, title="t", foot="f", made_at_s=0, language="en")


def test_a_long_table_repeats_its_head_on_every_page(faces: Faces) -> None:
    paper = sheet(faces)
    rows = [(f"row {n}", "x" * 200) for n in range(60)]
    paper.ruled_table(("name", "what"), rows, right=(False, True))
    pages = PdfReader(io.BytesIO(bytes(paper.output()))).pages
    texts = [page.extract_text() for page in pages]
    assert len(texts) > 1
    assert all(re.search(r"\bname\b", text) for text in texts)
    assert [n for n in range(60) if not any(re.search(rf"\brow {n}\b", text) for text in texts)] == []


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 20.0, ["one two", "three"]),
        ("算力达成情况报告，实测", 14.2, ["算力达", "成情况", "报告，", "实测"]),
        ("算力达成（情况）", 14.2, ["算力达", "成（情", "况）"]),
        ("GPU-0123456789abcdef", 20.0, ["GPU-012", "3456789", "abcdef"]),
        ("", 20.0, [""]),
    ],
)
def test_lines_break_where_they_may(faces: Faces, text: str, width: float, lines: list[str]) -> None:
    """At 12 points a Chinese letter of the made-up font is 4.23 mm wide, a Latin one 2.54."""
    paper = sheet(faces)
    paper.letters(12)
    assert paper.broken(text, width) == lines


# ---- fonts ---------------------------------------------------------------------------------------------------------


def test_without_any_font_the_package_and_the_option_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.capacity.fonts._CHINESE", ())
    monkeypatch.setattr("benchmarks.capacity.fonts._LATIN", ())
    for lang in LANGUAGES:
        with pytest.raises(NoFont, match=r"fonts-noto-cjk.*--font FILE"):
            write_all(cpu_only(), tmp_path / "out", languages=(lang,), formats=("json", "pdf"))
    assert not (tmp_path / "out").exists()


def test_a_font_without_chinese_is_refused_for_chinese_and_taken_for_english(tmp_path: Path) -> None:
    latin = write_font(tmp_path / "latin.ttf")
    with pytest.raises(NoFont, match="no glyphs for"):
        find_faces(("zh",), latin)
    assert find_faces(("en",), latin) == Faces(Face(latin), Face(latin))


@pytest.mark.parametrize(
    ("name", "content", "told"), [("none.ttf", None, "no such file"), ("bad.ttf", b"text", "cannot be read")]
)
def test_what_is_no_font_is_told(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NoFont, match=told):
        find_faces(("en",), tmp_path / name)


@pytest.mark.skipif(
    not Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc").exists(),
    reason="fonts-noto-cjk is not installed",
)
def test_debians_noto_collection_is_found_and_set_in_its_face_for_china() -> None:
    report = cpu_only()
    reader = PdfReader(io.BytesIO(pdf_bytes(report, "zh", to_json(report), find_faces(("zh",)))))
    # This reader does not know the character map of such a font and leaves a zero before each letter; pdftotext knows.
    assert "算力达成情况报告" in text_of(reader).replace("\0", "")
    fonts = {str(f.get_object()["/BaseFont"]) for page in reader.pages for f in page["/Resources"]["/Font"].values()}
    assert all("NotoSansCJKSC" in name for name in fonts), fonts
