"""Spreadsheets: numbers are numbers, nothing becomes a formula, every row is there."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from benchmarks.capacity.office import cards_csv_text, csv_text, safe_text, workbook_bytes
from benchmarks.capacity.words import LANGUAGES, Language, Words
from benchmarks.inventory import Node
from benchmarks.protocol import Verdict
from tests.fakes.bench_records import T0, failed, stored
from tests.fakes.capacity_reports import SUBNODE, cpu_only, devices, full, large, measured, report

EACH_LANGUAGE = pytest.mark.parametrize("lang", LANGUAGES)
HOSTILE = ('=HYPERLINK("x")', "+1+1", "-2", "@SUM(A1)", "\tx", "a\x00b\x1f")


def book(made: Any, lang: Language = "en") -> Any:
    return load_workbook(io.BytesIO(workbook_bytes(made, lang)))


def rows(sheet: Any) -> list[tuple[Any, ...]]:
    return list(sheet.iter_rows(values_only=True))


@EACH_LANGUAGE
def test_a_sheet_for_each_table_with_frozen_heads_and_evidence(lang: Language) -> None:
    words, made = Words(lang), book(full(), lang)
    titles = [words(k) for k in ("figures", "cards.sheet", "models", "missing_cards", "nights", "exclusions")]
    assert made.sheetnames[: len(titles)] == [t[:28] for t in titles]
    for sheet in made:
        assert sheet.freeze_panes == "A2"
    for name in titles[:5]:
        assert words("evidence") in rows(made[name[:28]])[0]


def test_numbers_are_numbers_with_formats() -> None:
    made = book(full())
    measured_row = next(r for r in made["Figures"].iter_rows() if r[1].value == "Measured")
    assert measured_row[3].value == pytest.approx(11.1966)
    assert measured_row[3].number_format == "#,##0.######"
    availability = next(r for r in rows(made["Figures"]) if r[1] == "Availability")
    assert availability[3] == 0.875
    night = rows(made["Accepted nights"])[1]
    assert night[1] == datetime(2027, 1, 15, 16, 0)
    assert isinstance(night[2], float)


def test_a_simulated_figure_says_so_in_its_evidence() -> None:
    simulated = [r for r in rows(book(cpu_only())["Figures"]) if r[1] == "Simulated"]
    assert [r[2] for r in simulated] == ["SIMULATED", "SIMULATED"]
    assert all("Counts for nothing" in r[6] for r in simulated)


def test_a_value_that_was_not_measured_is_empty_and_never_zero() -> None:
    energy = next(r for r in rows(book(cpu_only())["Figures"]) if r[1] == "Energy")
    assert energy[3] is None


def hostile() -> Any:
    names = [f"{text}{n}" for n, text in enumerate(HOSTILE)]
    nodes = [Node("=cmd|' /C calc'!A0", SUBNODE, "ready", False, devices(*names))]
    results = [measured(name, 8e5, T0) for name in names[:-1]]
    bad = failed(names[-1], Verdict.DEVICE_ERROR, "=1+1", window_s=600.0)
    return report(nodes, [*results, stored(bad, run=results[0].run)])


@EACH_LANGUAGE
def test_nothing_becomes_a_formula(lang: Language) -> None:
    made = book(hostile(), lang)
    for sheet in made:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type != "f", cell
                assert not str(cell.value).startswith(("=", "+", "@")), cell
    for text in (csv_text(hostile(), lang), cards_csv_text(hostile(), lang)):
        assert text.startswith("\ufeff")
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
        assert len({len(line) for line in lines}) == 1
        for line in lines:
            assert not any(field.startswith(("=", "+", "@", "\t")) for field in line), line


@given(st.text(max_size=60))
def test_any_text_is_safe(text: str) -> None:
    made = safe_text(text)
    assert not made.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert not any(ord(letter) < 32 and letter not in "\t\n\r" for letter in made)


def test_a_workbook_has_every_row_that_a_page_leaves_out() -> None:
    made = book(large(400))
    cards = [r for r in rows(made["Cards"]) if str(r[1]).startswith("GPU")]
    left_out = [r for r in rows(made["Not counted, and why"]) if str(r[1]).startswith("GPU")]
    assert len(cards) + len(left_out) == 400
    assert len(left_out) > 12
    assert len(cards_csv_text(large(400), "en").splitlines()) == len(rows(made["Cards"]))


def test_equal_reports_are_equal_files() -> None:
    assert workbook_bytes(full(), "zh") == workbook_bytes(full(), "zh")
