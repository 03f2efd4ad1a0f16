"""The usage statement: the same page as ever, in each format and language; figures that follow from its entries; names
that no spreadsheet takes for a formula and no browser for markup.

After a wanted change: SUANLI_SNAPSHOTS=write pytest tests/unit/scheduler/billing, and look at what changed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import pytest

import configs
from scheduler.billing.report.document import UsageReport, VoucherPart, disagreements, report
from scheduler.billing.report.render import FORMATS, csv_text, html_text, json_text, markdown_text, write_reports
from scheduler.billing.report.sheets import workbook_bytes
from scheduler.billing.report.words import _WORDS, LANGUAGES
from scheduler.billing.vouchers import Booked, vouchers
from scheduler.cli.measured_rates import rates_in
from scheduler.core.usage_book import Correction, entry_from_json
from scheduler.schema.voucher_file import load_contracts, load_rules
from tests.fakes import usage_site
from tests.fakes.service_world import OPERATOR

SNAPSHOTS = Path(__file__).parents[3] / "data" / "usage_report"
CONFIGS = Path(next(iter(configs.__path__)))
Lang = Literal["en", "zh"]


def books(tmp_path: Path, *, tenant: str | None = None) -> tuple[dict[str, Any], list[Booked]]:
    """October, closed, and November with a correction of it."""
    usage_site.bench_history(tmp_path)
    store = usage_site.filled()
    control = usage_site.control(store)
    control.close(OPERATOR, "2026-10", rates_in(tmp_path / "bench", usage_site.NOVEMBER_S))
    store.commit((), [usage_site.run("1", usage_site.OCTOBER_S + usage_site.HOUR_S, 101.5)])
    found = []
    for month in ("2026-10", "2026-11"):
        head = control.entries(OPERATOR, month, tenant, 0, 1_000)
        entries = [entry_from_json(entry) for entry in head["entries"]]
        plain = [entry for entry in entries if not isinstance(entry, Correction)]
        corrections = [entry for entry in entries if isinstance(entry, Correction)]
        found.append(Booked(month, plain, corrections, rates_in(tmp_path / "bench", head["to_ms"] / 1000)))
    return head, found


@pytest.fixture
def made(tmp_path: Path) -> UsageReport:
    head, found = books(tmp_path)
    rules = load_rules(CONFIGS / "vouchers.yaml", usage_site.ZONE)
    contracts = load_contracts([CONFIGS / "contracts" / "example.yaml"], rules, usage_site.ZONE)
    contracts = tuple(  # whatever directory it was read in
        replace(c, file="c.yaml", prices=tuple(replace(p, where="c.yaml:1") for p in c.prices)) for c in contracts
    )
    part = VoucherPart(rules, vouchers(found, contracts, rules), ("2026-11",))
    return report(
        head,
        found[1],
        generated_s=usage_site.NOW_S,
        version="0",
        command="suanli report usage --month 2026-11",
        vouchers=part,
    )


def sheets_text(made: UsageReport, lang: Lang) -> str:
    """Of every sheet the cells, as text."""
    from openpyxl import load_workbook

    lines = []
    for sheet in load_workbook(io.BytesIO(workbook_bytes(made, lang))).worksheets:
        lines.append(f"# {sheet.title}")
        lines += ["\t".join("" if v is None else str(v) for v in row) for row in sheet.iter_rows(values_only=True)]
    return "\n".join(lines) + "\n"


def compare(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("SUANLI_SNAPSHOTS") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} is another than it was: see this file's first lines"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_pages_are_as_they_were(made: UsageReport, lang: Lang) -> None:
    compare(f"usage.{lang}.html", html_text(made, lang))
    compare(f"usage.{lang}.md", markdown_text(made, lang))
    compare(f"usage.{lang}.xlsx.txt", sheets_text(made, lang))


def test_data_is_as_it_was(made: UsageReport) -> None:
    compare("usage.json", json_text(made))
    compare("usage.csv", csv_text(made))


def test_all_files_are_written_and_replaced(made: UsageReport, tmp_path: Path) -> None:
    for _ in range(2):
        paths = write_reports(made, tmp_path / "out", "zh")
    assert [path.name for path in paths] == [
        *("usage.html", "usage.md", "usage.json", "usage.csv", "vouchers.csv", "usage.xlsx")
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    with pytest.raises(ValueError, match="not one of html"):
        write_reports(made, tmp_path, "zh", formats=["pdf"])
    assert {"html", "md", "json", "csv", "xlsx"} == set(FORMATS)


# ---- figures -------------------------------------------------------------------------------------------------------


def test_its_figures_follow_from_its_entries_and_a_changed_one_is_found(made: UsageReport) -> None:
    document = json.loads(json_text(made))
    assert disagreements(document) == []
    document["totals"][0]["device_seconds"] = "1.000000"
    assert disagreements(document) == ["totals is not what its entries come to"]
    again = json.loads(json_text(made))
    again["entries"][0]["to_ms"] += 1
    assert set(disagreements(again)) >= {
        "records_sha256 is not what its entries come to",
        "totals is not what its entries come to",
    }
    for bad in ({}, {"schema": "suanli/usage-report/1"}, {"schema": "x"}, again | {"entries": [{}]}):
        with pytest.raises(ValueError, match="not a suanli/usage-report/1 document"):
            disagreements(bad)


def test_a_closed_month_carries_the_hash_that_it_was_closed_with(tmp_path: Path) -> None:
    _, found = books(tmp_path)
    store = usage_site.filled()
    control = usage_site.control(store)
    control.close(OPERATOR, "2026-10", found[0].rates)
    head = control.entries(OPERATOR, "2026-10", None, 0, 1_000)
    closed = report(head, found[0], generated_s=0.0, version="0", command="x")
    assert closed.records_sha256 == head["closed"]["sha256"]
    assert "已结账" in html_text(closed, "zh")
    document = json.loads(json_text(closed))
    assert disagreements(document) == []
    document["closed"]["sha256"] = "0" * 64
    assert disagreements(document) == ["its entries are not those that the month was closed with"]
    broken = replace(closed, closed={**head["closed"], "intact": False})
    assert "THE ENTRIES ARE NOT THOSE" in html_text(broken, "en")


def test_simulated_figures_stand_in_no_total(made: UsageReport) -> None:
    real, simulated = made.totals
    assert (real.total.simulated, simulated.total.simulated) == (False, True)
    assert real.total.amounts.device_us == sum(t.real.total.amounts.device_us for t in made.tenants if t.real)
    page = html_text(made, "en")
    assert page.count("50,400.000") == 2  # device-seconds and the unmetered ones, in the box
    assert page.index("50,400.000") > page.index("simulated-box")


def test_an_empty_month(made: UsageReport) -> None:
    empty = replace(made, entries=(), corrections=(), tenants=(), totals=(), rates=(), unrated=(), vouchers=None)
    for lang in LANGUAGES:
        assert _WORDS["nothing"][LANGUAGES.index(lang)] in html_text(empty, lang)
        assert markdown_text(empty, lang)
        assert workbook_bytes(empty, lang)


def test_one_tenants_statement_shows_nobody_else(tmp_path: Path) -> None:
    head, found = books(tmp_path, tenant="hospital")
    mine = report(head, found[1], generated_s=0.0, version="0", command="x")
    page = html_text(mine, "en")
    assert "Usage statement 2026-11, hospital" in page
    assert "film-studio" not in page + json_text(mine) + csv_text(mine)


# ---- what tenants write --------------------------------------------------------------------------------------------

NASTY = '=HYPERLINK("x")<script>alert(1)</script>|`\x07\n工件'


def nasty(made: UsageReport) -> UsageReport:
    head = {"month": made.month.name, "from_ms": made.month.from_ms, "to_ms": made.month.to_ms, "zone": made.zone}
    head |= {"state": "open", "closed": None, "tenant": None, "goes_on": 0}  # type: ignore[dict-item]
    entries = [replace(e, name=NASTY) if hasattr(e, "name") else e for e in made.entries]  # type: ignore[call-arg,type-var]
    return report(head, Booked("x", entries, (), made.rates), generated_s=0.0, version="0", command="x")  # type: ignore[arg-type]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [
            value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")
        ]


def test_a_jobs_name_is_text_wherever_it_stands(made: UsageReport) -> None:
    from openpyxl import load_workbook

    bad = nasty(made)
    tags = Tags()
    tags.feed(html_text(bad, "en"))
    assert "script" not in tags.seen
    assert tags.loads == []  # the page is self-contained
    names = {row["name"] for row in csv.DictReader(io.StringIO(csv_text(bad))) if row["job"]}
    assert len(names) == 1
    assert names.pop().startswith("'=HYPERLINK")
    book = load_workbook(io.BytesIO(workbook_bytes(bad, "en")))
    cells = [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    assert any(str(cell.value).startswith("=HYPERLINK") for cell in cells)
    lines = markdown_text(bad, "en").splitlines()
    assert all("\x07" not in line for line in lines)
    table = [line for line in lines if "HYPERLINK" in line]
    assert table
    assert {line.replace("\\|", "").count("|") for line in table} == {14}


def test_every_word_is_there_in_both_languages() -> None:
    for key, (english, chinese) in _WORDS.items():
        assert english.strip(), key
        assert chinese.strip(), key
        fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, chinese)]
        assert fields[0] == fields[1], key
