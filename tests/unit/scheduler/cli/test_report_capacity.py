"""`suanli report capacity` and `report verify`: what may be asked for, what is refused, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.history.store import HistoryStore
from benchmarks.inventory import keep_inventory
from scheduler.cli.root import root
from scheduler.errors import Unavailable
from tests.fakes.bench_records import CATALOGUE, GOALS, SITES, T0
from tests.fakes.capacity_reports import site_nodes, site_results
from tests.fakes.tiny_font import CHINESE, write_font

NOW_S = T0 + 9e4
CONFIG: dict[str, Any] = {
    "sites": [{"name": s.name, "title_en": s.title_en, "title_zh": s.title_zh} for s in SITES.values()],
    "goals": [
        {
            name: getattr(g, name)
            for name in ("name", "title_en", "title_zh", "goal_pflops", "precision", "due", "source")
        }
        | {"sites": list(g.sites), "is_context": g.is_context}
        for g in GOALS
    ],
    "catalogue": [
        {"model": c.model, "vendor": c.vendor, "peak_tflops": dict(c.peak_tflops)} for c in CATALOGUE.values()
    ],
}


class Site:
    """A home with an inventory and a log, where no service answers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = HistoryStore(home / "bench")
        nodes = [
            {"name": n.name, "site": n.site, "state": n.state, "simulated": n.simulated}
            | {"devices": [{"uuid": d.uuid, "model": d.model, "vendor": d.vendor} for d in n.devices]}
            for n in site_nodes()
        ]
        keep_inventory(home / "bench", nodes=nodes, config=CONFIG, at_s=T0)

    def measured(self) -> Site:
        self.store.append(site_results())
        return self

    def run(self, *argv: str) -> Result:
        return CliRunner().invoke(root, ["report", *argv], prog_name="suanli")

    def report(self, out: Path, *argv: str) -> dict[str, Any]:
        result = self.run("capacity", "--out", str(out), "--format", "json", *argv)
        assert result.exit_code == 0, result.output
        document: dict[str, Any] = json.loads((out / "capacity.json").read_text())
        return document


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    def nobody(cls: type) -> None:
        raise Unavailable("no Suanli service is known here")

    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("scheduler.cli.client.Client.from_env", classmethod(nobody))
    monkeypatch.setattr("time.time", lambda: NOW_S)
    return Site(tmp_path / "home")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_format_is_written(site: Site, tmp_path: Path, lang: str) -> None:
    font = write_font(tmp_path / "boxes.ttf", CHINESE + "东阳子节点边缘云目标")
    argv = ("--format", "html,pdf,md,json,csv,xlsx", "--lang", lang, "--font", str(font), "--out", str(tmp_path / "o"))
    result = site.measured().run("capacity", *argv)
    assert result.exit_code == 0, result.output
    written = {p.name for p in (tmp_path / "o").iterdir()}
    endings = ("csv", "html", "json", "md", "pdf", "xlsx")
    assert written == {"capacity-cards.csv", *(f"capacity.{ending}" for ending in endings)}


def test_a_site_has_its_own_goals_and_cards(site: Site, tmp_path: Path) -> None:
    site.measured()
    document = site.report(tmp_path / "o", "--site", "edge-cloud")
    assert [g["name"] for g in document["goals"]] == ["g400"]
    assert [c["name"] for c in document["context"]] == ["city-900"]
    assert document["cpu"]["devices"] == 0
    assert [g["name"] for g in site.report(tmp_path / "p")["goals"]] == ["g700", "g400"]


@pytest.mark.parametrize(("since", "nights"), [("2027-01-10", 6), ("5d", 4), ("2020-01-01", 20)])
def test_since_a_day(site: Site, tmp_path: Path, since: str, nights: int) -> None:
    document = site.measured().report(tmp_path / "o", "--since", since)
    assert len(document["goals"][0]["nights"]) == nights


def test_no_history_is_a_report_that_says_so(site: Site, tmp_path: Path) -> None:
    result = site.run("capacity", "--out", str(tmp_path / "o"))
    assert result.exit_code == 0, result.output
    assert "Nothing was measured" in result.stdout
    document = json.loads((tmp_path / "o" / "capacity.json").read_text())
    assert document["label"] is None
    assert document["goals"][0]["measured"] == {"pflops": None, "devices": 0, "reason": "no_window"}
    assert {e["why"] for e in document["goals"][0]["exclusions"]} == {"never_run"}
    assert "Nothing was measured" in (tmp_path / "o" / "capacity.html").read_text()
    assert site.run("verify", str(tmp_path / "o" / "capacity.json")).exit_code == 2  # no log to compute it from


def test_damaged_lines_of_the_log_are_counted_and_shown(site: Site, tmp_path: Path) -> None:
    site.measured()
    with site.store.path.open("a") as log:
        log.write('{"schema": "suanli/bench-result/1", "run": "torn\n\x00\x01garbage\n')
    result = site.run("capacity", "--out", str(tmp_path / "o"))
    assert result.exit_code == 0, result.output
    assert "2 lines of the history could not be read" in result.stdout
    assert "2 lines of the history could not be read" in (tmp_path / "o" / "capacity.md").read_text()
    assert json.loads((tmp_path / "o" / "capacity.json").read_text())["unreadable_history_lines"] == 2


@pytest.mark.parametrize(
    ("argv", "exit_code", "told"),
    [
        (("--format", "docx"), 2, "docx"),
        (("--format", ","), 2, "names nothing"),
        (("--site", "hangzhou"), 2, "dongyang-subnode"),
        (("--lang", "fr"), 2, "--lang"),
        (("--since", "2027-02-01"), 2, "future"),
        (("--since", "yesterday"), 2, "2027-01-31"),
        (("--since", "3d", "--days", "3"), 2, "one of them"),
        (("--days", "0"), 2, "--days"),
        (("--format", "pdf", "--font", "/nowhere.ttf"), 2, "no such file"),
        (("--out", "/proc/nowhere"), 6, "--out"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], exit_code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = site.run("capacity", *argv)
    assert result.exit_code == exit_code, result.output
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


# ---- verify --------------------------------------------------------------------------------------------------------


def test_verify_agrees_with_what_was_written(site: Site, tmp_path: Path) -> None:
    site.measured().report(tmp_path / "o")
    result = site.run("verify", str(tmp_path / "o" / "capacity.json"))
    assert result.exit_code == 0, result.output
    assert "every figure agrees" in result.stdout
    elsewhere = ("--log", str(site.store.path.parent))
    assert site.run("verify", str(tmp_path / "o" / "capacity.json"), *elsewhere).exit_code == 0


def test_verify_tells_what_differs_and_fails(site: Site, tmp_path: Path) -> None:
    site.measured().report(tmp_path / "o")
    path = tmp_path / "o" / "capacity.json"
    document = json.loads(path.read_text())
    document["goals"][0]["measured"]["pflops"] = 700.0
    path.write_text(json.dumps(document))
    result = site.run("verify", str(path), "--home", str(site.home))
    assert result.exit_code == 1
    assert "goals.g700.measured.pflops: the report says 700.0; recomputed: 11.19" in result.stdout
    assert "that means: the report's file was changed after it was written" in result.stdout
    answer = json.loads(site.run("verify", str(path), "-o", "json").stdout)
    assert len(answer["means"]) == 1
    assert (answer["schema"], answer["ok"]) == ("suanli/capacity-verification/1", False)
    assert [d["where"] for d in answer["differences"]] == ["figures_sha256", "goals.g700.measured.pflops"]


def test_verify_with_another_catalogue(site: Site, tmp_path: Path) -> None:
    site.measured().report(tmp_path / "o")
    other = [dict(c, peak_tflops={"fp16_bf16": 989.0}) for c in CONFIG["catalogue"]]
    keep_inventory(site.home / "bench", nodes=[], config=CONFIG | {"catalogue": other}, at_s=T0)
    result = site.run("verify", str(tmp_path / "o" / "capacity.json"))
    assert result.exit_code == 1
    assert "inputs.catalogue.H100 SXM.fp16_bf16" in result.stdout


def test_a_page_whose_text_was_changed(site: Site, tmp_path: Path) -> None:
    site.measured().run("capacity", "--out", str(tmp_path / "o"), "--format", "html")
    path = tmp_path / "o" / "capacity.html"
    assert site.run("verify", str(path)).exit_code == 0
    path.write_text(path.read_text().replace("<strong>11.20</strong> <span>", "<strong>99.90</strong> <span>"))
    result = site.run("verify", str(path))
    assert result.exit_code == 1
    assert "the page's text: the report says 99.90; recomputed: 11.20" in result.stdout


@pytest.mark.parametrize(
    ("argv", "exit_code", "told"),
    [
        (("none.json",), 4, "does not exist"),
        (("text.json",), 2, "neither"),
        (("text.json", "--log", "a", "--home", "b"), 2, "one of them"),
        (("text.json", "--config", "none.yaml"), 2, "none.yaml"),
    ],
)
def test_verify_says_what_it_was_given(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], exit_code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("no report")
    result = site.run("verify", *argv)
    assert (result.exit_code, told in result.stderr) == (exit_code, True), result.output


def test_a_log_that_is_not_there(site: Site, tmp_path: Path) -> None:
    site.measured().report(tmp_path / "o")
    result = site.run("verify", str(tmp_path / "o" / "capacity.json"), "--log", str(tmp_path / "none"))
    assert (result.exit_code, "--log" in result.stderr) == (2, True)
