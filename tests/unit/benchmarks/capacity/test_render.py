"""The three files: self-contained, complete in both languages, and incapable of passing simulated for measured."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest

from benchmarks.capacity import CapacityReport, render, write_all
from benchmarks.capacity.arithmetic import WhyNone
from benchmarks.capacity.as_json import json_text, to_json
from benchmarks.capacity.cards import WhyExcluded
from benchmarks.capacity.numbers import figure
from benchmarks.capacity.render import bar_width
from benchmarks.capacity.trend import Outlook
from benchmarks.capacity.words import LANGUAGES, Language, Words, keys
from benchmarks.history.findings import OutlierKind
from benchmarks.inventory import Node
from benchmarks.protocol import Verdict
from tests.fakes.bench_records import T0, cpu, failed, record, stored
from tests.fakes.capacity_reports import CPU_NODE, SIM_NODES, SIM_RESULTS, cpu_only, devices, full, report


def with_cards() -> CapacityReport:
    cards = Node("edge-0", "dongyang-subnode", "ready", False, devices(*(f"GPU-{i}" for i in range(16))))
    domestic = Node("edge-1", "edge-cloud", "ready", False, devices("NPU-0", model="Ascend 910B", vendor="huawei"))
    results = (
        *(stored(record(f"GPU-{i}", 800_000 + 1000 * i)) for i in range(1, 3)),
        stored(failed("GPU-0", Verdict.WRONG_PRODUCT, "residual 3 | <b>over</b> the tolerance")),
        stored(record("NPU-0", 300_000, model="Ascend 910B", vendor="huawei")),
        *SIM_RESULTS,
    )
    return report((cards, domestic, CPU_NODE, *SIM_NODES), results, inventory_from="kept", inventory_at_s=T0)


def html_text(made: CapacityReport, lang: Language) -> str:
    return render.html_text(made, lang, to_json(made))


def markdown_text(made: CapacityReport, lang: Language) -> str:
    return render.markdown_text(made, lang, to_json(made))


def written_json(made: CapacityReport) -> str:
    return json_text(to_json(made))


BOTH = pytest.mark.parametrize("made", [cpu_only, with_cards, full])
EACH_LANGUAGE = pytest.mark.parametrize("lang", LANGUAGES)


def without(page: str, tag: str, attribute: str) -> str:
    """The page without the elements of this tag and class (these do not nest)."""
    return re.sub(rf'<{tag} class="{attribute}".*?</{tag}>', "", page, flags=re.DOTALL)


# ---- JSON ----------------------------------------------------------------------------------------------------------


def test_json_on_a_machine_without_accelerators() -> None:
    document = json.loads(written_json(cpu_only()))
    assert document["schema"] == "suanli/capacity/2"
    assert document["generated_at"] == "2027-01-15T08:01:00Z"
    assert document["label"] == "smoke"
    assert {g["goal_pflops"]: g["site"] for g in document["goals"]} == {700: "dongyang-subnode", 400: "edge-cloud"}
    for g in document["goals"]:
        assert g["precision"] == "dense 16-bit"
        for evidence in ("measured", "nominal", "extrapolated"):  # absent with a reason, never 0
            assert g[evidence] == {"pflops": None, "devices": 0, "reason": "no_cards"}
        assert g["missing_pflops"] == g["goal_pflops"]
        assert g["availability"] == {"value": None, "reason": "no_cards"}
    assert document["goals"][0]["simulated"] == {
        "pflops": pytest.approx(1.59),
        "devices": 2,
        "installed": 2,
        "counts_towards_goal": False,
    }
    assert [c["goal_pflops"] for c in document["context"]] == [900]
    assert document["cpu"]["counts_towards_goals"] is False
    assert document["cpu"]["gflops"] == {"fp32": 120.0}


def test_json_has_no_sum_over_goals() -> None:
    """1,100 is what the two goals would add up to, and 1,500 or 2,000 with the city's."""
    document = json.loads(written_json(with_cards()))
    document.pop("provenance")
    numbers = {float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", json.dumps(document))}
    assert not numbers & {1100.0, 1300.0, 1600.0, 2000.0}
    assert document["goals"][0]["measured"]["pflops"] == pytest.approx(1.603)
    assert document["goals"][1]["measured"]["pflops"] == pytest.approx(0.3)


def test_json_lists_unrated_cards_and_exclusions() -> None:
    document = json.loads(written_json(with_cards()))
    assert [(u["model"], u["devices"]) for u in document["unrated_devices"]] == [("Ascend 910B", 1)]
    assert document["goals"][0]["exclusions"][0] == {
        "uuid": "GPU-0",
        "node": "edge-0",
        "model": "H100 SXM",
        "why": "wrong_product",
        "detail": "residual 3 | <b>over</b> the tolerance",
        "last_verified_at_s": None,
        "age_days": None,
    }
    assert len(document["goals"][0]["exclusions"]) == 14
    assert document["inventory"] == {"from": "kept", "at": "2027-01-15T08:00:00Z"}


# ---- pages ---------------------------------------------------------------------------------------------------------


@BOTH
@EACH_LANGUAGE
def test_html_loads_nothing(made: Any, lang: Language) -> None:
    page = html_text(made(), lang)
    assert not re.search(r"https?://|\bsrc\s*=|<link|<script|@import|url\((?!#)", page)
    assert page.startswith("<!doctype html>")
    assert f'<html lang="{"zh-Hans" if lang == "zh" else "en"}">' in page


@EACH_LANGUAGE
def test_nothing_is_measured_and_simulated_stands_apart_on_a_machine_without_accelerators(lang: Language) -> None:
    page, words = html_text(cpu_only(), lang), Words(lang)
    assert page.count(f'<strong class="none">–</strong> <span>{words("achieved.none", goal="700")}') == 1
    assert page.count('<strong class="none">–</strong>') == 2
    assert page.count(words("why.no_cards")) >= 8
    assert "<strong>0</strong>" not in page
    boxes = re.findall(r'<aside class="simulated-box".*?</aside>', page, re.DOTALL)
    assert len(boxes) == 2
    for box in boxes:
        assert words("watermark") in box
        assert words("simulated.means") in box
        assert 'class="watermark"' in box
        assert "url(#p-simulated)" in box
    # Outside their boxes simulated figures do not occur, and no bar but theirs has their pattern.
    outside = without(page, "aside", "simulated-box")
    assert "1.59" not in outside
    assert "0.304" not in outside
    assert "url(#p-simulated)" not in outside
    assert words("label.smoke") in page
    assert words("cpu.note") in page


@BOTH
@EACH_LANGUAGE
def test_evidence_differs_by_word_pattern_and_place(made: Any, lang: Language) -> None:
    page, words = html_text(made(), lang), Words(lang)
    for name in ("nominal", "measured", "extrapolated"):
        assert f'<div class="bar-row {name}">' in page
        assert f"<strong>{words(name)}</strong>" in page
        assert f'fill="url(#p-{name})"' in page
    assert 'class="bar-row simulated"' not in page


@EACH_LANGUAGE
def test_what_others_wrote_is_escaped(lang: Language) -> None:
    page, text = html_text(with_cards(), lang), markdown_text(with_cards(), lang)
    assert "<b>over</b>" not in page
    assert "&lt;b&gt;over&lt;/b&gt;" in page
    assert "edge&lt;1&gt;" in page
    assert "residual 3 \\| " in text


@BOTH
@EACH_LANGUAGE
def test_markdown_tables_are_whole(made: Any, lang: Language) -> None:
    text = markdown_text(made(), lang)
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 3
    for block in blocks:
        columns = {len(re.split(r"(?<!\\)\|", line.strip())) for line in block.splitlines()}
        assert len(columns) == 1, block
    assert "\n\n\n\n" not in text


def test_markdown_in_english_on_a_machine_without_accelerators() -> None:
    text = markdown_text(cpu_only(), "en")
    for line in (
        "# Achieved compute capacity",
        "**SMOKE RUN, under 600 s: not a proof of capacity**",
        "### Goal g700",
        "Goal: 700 PFlops, dense 16-bit, due 2029-03-15",
        "| **Measured** | **–** | 0 | no accelerator is installed here "
        "| verified inside one shared window, on accelerators |",
        "Missing to the goal: 700.0 PFlops",
        "- Availability: undefined (no accelerator is installed here)",
        "> **SIMULATED** Simulated, kept apart",
        "> 1.59 PFlops (simulated) · 2 of 2 simulated devices answered",
        "| host | Dongyang sub-node | EPYC | 2 | fp32 | 120.0 | yes | smoke · 4 s |",
        "- Goal city-900: 900 PFlops, dense 16-bit, due 2029-03-15",
    ):
        assert line in text.splitlines(), line


def test_markdown_in_chinese_on_a_machine_without_accelerators() -> None:
    text = markdown_text(cpu_only(), "zh")
    for line in (
        "# 算力达成情况报告",
        "**冒烟测试（不足 600 秒）：不能作为算力证明**",
        "### 目标 g700",
        "| **实测** | **–** | 0 | 此处没有安装加速卡 | 加速卡在同一窗口内完成并通过校验 |",
        "距目标还差 700.0 PFlops",
        "> **模拟数据** 模拟数据，单独列示",
    ):
        assert line in text.splitlines(), line


WRONG = {"verified": False, "verdict": Verdict.WRONG_PRODUCT, "reason": "a product differs from its check"}
CPU_FAILED = stored(cpu("c0", "c1", gflops=0.0, **WRONG))


def test_why_a_cpu_was_not_verified_is_said_in_the_language_of_the_page() -> None:
    made = report((CPU_NODE,), (CPU_FAILED,))
    for text in (html_text(made, "zh"), markdown_text(made, "zh")):
        assert "否：乘积错误" in text
        assert "a product differs" not in without(text, "template", "suanli-capacity-json")
    assert "NO: a product was wrong (a product differs from its check)" in markdown_text(made, "en")
    assert json.loads(written_json(made))["cpu"]["entries"][0]["reason"] == "a product differs from its check"


def test_another_workload_stands_in_a_table_of_its_own_and_in_no_total() -> None:
    """Also one that this version has never heard of, and one whose record counts FLOP."""
    nodes = (Node("edge-0", "dongyang-subnode", "ready", False, devices("a", "b")),)
    others = [
        stored(record(uuid, **more), run="others")
        for uuid in ("a", "b")
        for more in (
            {"workload": "serving", "gflops": None, "value": 1200.0 if uuid == "a" else 1400.0, "unit": "requests/s"},
            {"workload": "attention", "gflops": 555_000.0},
        )
    ]
    gemm = [stored(record("a", 8e5)), stored(record("b", 8e5))]
    plain, made = report(nodes, gemm), report(nodes, [*gemm, *others])
    with_others, without_others = json.loads(written_json(made)), json.loads(written_json(plain))
    assert with_others["goals"] == without_others["goals"]
    assert [(o["workload"], o["devices"], o["median"], o["unit"]) for o in with_others["other_workloads"]] == [
        ("attention", 2, 555_000.0, "GFLOP/s"),
        ("serving", 2, 1300.0, "requests/s"),
    ]
    text = markdown_text(made, "en")
    assert "| serving | bf16 | Dongyang sub-node | H100 SXM | 2 | 1,200 | 1,300 | 1,400 | requests/s |" in text
    assert "推理服务" in html_text(made, "zh")
    assert Words("en")("others") not in markdown_text(plain, "en")
    alone = report(nodes, others)
    assert [g.measured.pflops for g in alone.goals] == [None, None]
    assert alone.label is None


@pytest.mark.parametrize("made", [cpu_only, full, lambda: report((CPU_NODE,), (CPU_FAILED,))])
def test_a_chinese_page_has_no_english_sentence_of_ours(made: Any) -> None:
    page = html_text(made(), "zh")
    for key in keys():
        english = Words("en")(key)
        if len(english.split()) > 1 and "{" not in english:
            assert english not in page, key


@EACH_LANGUAGE
def test_reasons_and_exclusions_have_words(lang: Language) -> None:
    words = Words(lang)
    assert all(words(f"why.{why}") for why in WhyNone)
    assert all(words(f"excluded.{why}") for why in WhyExcluded)
    assert all(words(f"outlook.{outlook}") for outlook in Outlook)
    assert all(words(f"outlier.{kind}") for kind in OutlierKind)


def test_both_languages_fill_in_the_same_values() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key in keys():
        assert fields(Words("en")(key)) == fields(Words("zh")(key)), key


@EACH_LANGUAGE
def test_files_are_written_whole_and_replaced(tmp_path: Path, lang: Language) -> None:
    usual = ("json", "md", "html")
    paths = write_all(cpu_only(), tmp_path / "out", languages=(lang,), formats=usual)
    assert [p.name for p in paths] == ["capacity.json", "capacity.md", "capacity.html"]
    write_all(with_cards(), tmp_path / "out", languages=(lang,), formats=("json",))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["capacity.html", "capacity.json", "capacity.md"]
    assert json.loads(paths[0].read_text())["goals"][0]["measured"]["devices"] == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00794, "0.00794"), (1.5, "1.50"), (12.345, "12.35"), (794.52, "794.5"), (12661.2, "12,661")],
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("pflops", "width"), [(0, "0"), (0.001, "0.40%"), (350, "50.00%"), (700, "100.00%"), (9000, "100.00%")]
)
def test_bars(pflops: float, width: str) -> None:
    assert bar_width(pflops, 700) == width
