"""A report of simulated cards alone is marked on every page of every format; one with a real card is not."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from openpyxl import load_workbook
from pypdf import PdfReader

from benchmarks.capacity import CapacityReport, write_all
from benchmarks.capacity.words import LANGUAGES, Language, Words
from benchmarks.evidence import EvidenceKind
from benchmarks.history.findings import ChangePoint, Series
from benchmarks.inventory import Node
from tests.fakes.bench_records import T0, simulated, stored
from tests.fakes.capacity_reports import CPU_NODE, SIM_NODES, SIM_RESULTS, devices, report
from tests.fakes.tiny_font import CHINESE, write_font

SUBNODE = "dongyang-subnode"


def simulated_night() -> CapacityReport:
    """Of several PDF pages: 200 cards, and as many changes as a page shows."""
    cards = [f"sim-{n}" for n in range(200)]
    nodes = [Node(f"n{i}", SUBNODE, "ready", True, devices(*cards[8 * i : 8 * i + 8])) for i in range(25)]
    changes = [
        ChangePoint(
            Series(EvidenceKind.SIMULATED, "gemm", "bf16", SUBNODE, "H100 SXM", "R1", card),
            *(T0 - 86_400.0, 7.9e5, 7.3e5, "GFLOP/s", 0.001, 20, 9),
        )
        for card in cards[:30]
    ]
    return report(nodes, [stored(simulated(card)) for card in cards], changes=changes)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_page_of_every_format_is_marked(tmp_path: Path, lang: Language) -> None:
    words = Words(lang)
    mark, said = words("watermark"), words("simulated.only")
    font = write_font(tmp_path / "boxes.ttf", CHINESE + "东阳子节点边缘云目标")
    write_all(simulated_night(), tmp_path, languages=(lang,), font=font)
    pages = PdfReader(tmp_path / "capacity.pdf").pages
    assert len(pages) > 2
    for page in pages:  # across it, and once at its foot
        assert page.extract_text().count(mark) >= 11
    html = (tmp_path / "capacity.html").read_text()
    assert '<svg class="page-mark"' in html
    assert re.search(r"\.page-mark \{ position: fixed; inset: 0;", html)  # fixed: also on every sheet that is printed
    assert f"<title>{words('title')} · {mark}</title>" in html
    assert f'{words("title")} · {mark}"; font' in html
    assert f'<p class="label label-simulated">{said}' in html
    assert said in (tmp_path / "capacity.md").read_text()
    for sheet in load_workbook(tmp_path / "capacity.xlsx"):
        assert sheet.title.startswith(mark)
        assert sheet.oddHeader.center.text == mark
    for name in ("capacity.csv", "capacity-cards.csv"):
        rows = list(csv.reader(io.StringIO((tmp_path / name).read_bytes().decode("utf-8-sig"))))
        assert {mark, said} <= set(rows[1])
    document = json.loads((tmp_path / "capacity.json").read_text())
    assert document["simulated_only"] is True
    assert all(goal["measured"]["pflops"] is None for goal in document["goals"])


@pytest.mark.parametrize("nodes", [(CPU_NODE, *SIM_NODES), ()])
def test_a_report_with_a_real_device_or_of_nothing_has_marks_on_its_simulated_boxes_alone(
    tmp_path: Path, nodes: tuple[Node, ...]
) -> None:
    write_all(report(nodes, SIM_RESULTS), tmp_path, languages=("en",), formats=("json", "html", "xlsx"))
    html = (tmp_path / "capacity.html").read_text()
    assert '<svg class="page-mark"' not in html
    assert Words("en")("simulated.only") not in html
    assert json.loads((tmp_path / "capacity.json").read_text())["simulated_only"] is False
    assert not any(sheet.title.startswith("SIMULATED") for sheet in load_workbook(tmp_path / "capacity.xlsx"))
