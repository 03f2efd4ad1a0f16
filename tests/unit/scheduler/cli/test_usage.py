"""`suanli usage`: tables, CSV and JSON of a month, and closing it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.billing.report.document import disagreements
from scheduler.cli.measured_rates import measured_rates
from tests.fakes.usage_site import NOW_S, OCTOBER_S, bench_history, measured
from tests.unit.scheduler.cli.conftest import Shell


@pytest.fixture
def history(shell: Shell) -> Iterator[None]:
    home = Path(os.environ["SUANLI_HOME"])
    bench_history(home)
    yield
    shutil.rmtree(home / "bench")


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


@pytest.mark.usefixtures("history")
def test_a_month_by_tenant(shell: Shell) -> None:
    text = shell.out("usage", "--month", "2026-11")
    assert text.startswith("2026-11 (Asia/Shanghai): open\n")
    found = {(row[0], row[1]): row for row in rows(text) if len(row) > 2}
    assert found["film-studio", "simulated"][3:] == [
        "50,400.000",
        "-",
        "not",
        "read",
        "0.000",
        "50,400.000",
        "5.600000",
        "-",
        "-",
    ]
    hospital = found["hospital", "real"]
    assert hospital[2:5] == ["1", "22,050.000", "22,050.000"]
    assert hospital[-3:] == ["3.748500", "-", "154,067"]
    assert "rate of H100 SXM: 612,000.000 GFLOP/s bf16, median of 3, run night-1 (2026-10-01)" in text
    assert "rate of SIM-1 (simulated): 400,000.000 GFLOP/s bf16, median of 1, run night-1 (2026-10-01)" in text
    assert "no measured rate: 910B, 72,000.000 device-seconds" in text
    assert "1,800.000 device-seconds are of runs whose end nobody saw" in text
    assert found["magnet-factory", "real"][-5:] == ["no", "measured", "rate", "72,000.000", "-"]


def test_without_any_measurement_there_are_no_pflops(shell: Shell) -> None:
    text = shell.out("usage", "--month", "2026-11", "--by", "class")
    assert "0.000000" not in text
    assert "rate of" not in text
    assert "no measured rate: H100 SXM, " in text
    assert "no measured rate: SIM-1 (simulated), 50,400.000 device-seconds" in text
    assert "ANSWERED" not in text


@pytest.mark.usefixtures("history")
def test_json_holds_exact_numbers_as_text(shell: Shell) -> None:
    answer = json.loads(shell.out("usage", "--month", "2026-11", "--by", "job", "-o", "json"))
    by_job = {each["name"]: each for each in answer["sums"]}
    assert answer["schema"] == "suanli/usage/1"
    assert by_job["7"]["device_seconds"] == "1028.572000"
    assert by_job["7"]["pflops_hours"] == "0.174857240"  # 1028.572 s of a device at 612 TFlops
    assert by_job["3"]["pflops_hours"] is None
    assert by_job["3"]["without_rate"] == [{"model": "910B", "device_seconds": "72000.000000"}]
    assert by_job["3"]["joules"] is None
    assert [rate["run"] for rate in answer["rates"]] == ["night-1", "night-1"]


@pytest.mark.usefixtures("history")
def test_csv_has_a_line_for_each_sum(shell: Shell) -> None:
    lines = list(csv.DictReader(io.StringIO(shell.out("usage", "--month", "2026-11", "--by", "service", "-o", "csv"))))
    assert [(line["name"], line["answered"], line["devices"]) for line in lines] == [
        ("hospital/ct-scan", "154067", "real")
    ]
    tenants = list(csv.DictReader(io.StringIO(shell.out("usage", "--month", "2026-11", "-o", "csv"))))
    assert {line["joules"] for line in tenants if line["devices"] == "simulated"} == {""}


@pytest.mark.usefixtures("history")
def test_a_closed_month_keeps_the_rates_that_it_was_closed_with(shell: Shell) -> None:
    closed = shell.run("usage", "close", "2026-10")
    assert closed.exit_code == 0, closed.output
    assert closed.stdout.startswith("2026-10 is closed: 3 entries, sha256 ")
    before = shell.out("usage", "--month", "2026-10")
    (Path(os.environ["SUANLI_HOME"]) / "bench" / "results.jsonl").write_text("")
    assert shell.out("usage", "--month", "2026-10") == before
    assert "closed on" in before
    assert "by olga" in before
    twice = shell.run("usage", "close", "2026-10")
    assert (twice.exit_code, "never changes" in twice.stderr) == (5, True)
    assert "612,000.000" in before


def test_whoever_is_no_operator_closes_nothing(shell: Shell) -> None:
    refused = shell.run("usage", "close", "2026-10", who="tenant")
    assert (refused.exit_code, "Traceback" in refused.output) == (3, False)
    assert shell.run("usage", "--month", "October").exit_code == 2
    assert shell.run("usage", "--tenant", "hospital", who="tenant").exit_code == 3


def test_the_newest_rate_before_a_moment_or_else_the_first_after_it() -> None:
    history = [
        measured("A", 100.0, at_s=OCTOBER_S, run="r1"),
        measured("A", 300.0, at_s=OCTOBER_S + 10, run="r2", device="a1"),
        measured("A", 100.5, at_s=OCTOBER_S + 10, run="r2", device="a2"),
        measured("A", 9.0, at_s=OCTOBER_S + 10, run="r2", device="a3", precision="fp16"),
        measured("A", 1.0, at_s=NOW_S, run="r3"),
        measured("B", 7.0, at_s=NOW_S, run="r3"),
        measured("C", 5.0, precision="fp32"),
        measured("D", 5.0, workload="attention"),
    ]
    rates = measured_rates(history, OCTOBER_S + 100)
    assert [(rate.model, rate.gflops, rate.run, rate.devices, rate.precision) for rate in rates] == [
        ("A", "200.250000", "r2", 2, "bf16"),
        ("B", "7.000000", "r3", 1, "bf16"),
    ]


# ---- vouchers ------------------------------------------------------------------------------------------------------

CONTRACT = """\
tenant: magnet-factory
contract: C-1
period: {from: 2026-04-01, until: 2027-03-31}
prices:
  - {model: H100 SXM, per: device-hour, cny: 12.50, source: "3.2"}
  - {per: pflops-hour, cny: 18, source: "3.3"}
vertical_training:
  - {chain: magnetic-materials, names: ["coercivity*"], source: annex 2}
"""


@pytest.fixture
def contracts(tmp_path: Path) -> list[str]:
    files = {"m.yaml": CONTRACT, "f.yaml": CONTRACT.replace("magnet-factory", "film-studio").replace("C-1", "C-2")}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in files]


@pytest.mark.usefixtures("history")
def test_vouchers_of_two_contracts(shell: Shell, contracts: list[str]) -> None:
    text = shell.out("usage", "vouchers", *contracts, "--year", "2026")
    found = {row[0]: row for row in rows(text) if len(row) > 2}
    assert found["magnet-factory"][1:7] == ["2026", "C-1", "1", "2,500.00", "2,500.00", "750.00"]
    assert "magnet-factory: 72,000.000 device-seconds left out: no measured rate (910B)" in text
    assert "film-studio: 50,400.000 device-seconds left out: simulated" in text
    assert "not closed yet, and may change: " in text
    assert "rounded to the fen" in text
    assert "action plan of 2026-01-15" in text
    assert "the contract's word was taken for its chain" in text


@pytest.mark.usefixtures("history")
def test_every_run_of_an_amount_is_named(shell: Shell, contracts: list[str]) -> None:
    text = shell.out("usage", "vouchers", contracts[1], "--year", "2026", "-o", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["job"], line["month"], line["device_seconds"]) for line in lines] == [
        ("2", "2026-10", "7200.000000"),
        ("2", "2026-11", "14400.000000"),
        ("6", "2026-11", "1800.000000"),
        ("7", "2026-11", "1028.572000"),
    ]
    assert (lines[0]["from"], lines[0]["to"]) == ("2026-10-31T23:00:00.000+08:00", "2026-11-01T00:00:00.000+08:00")
    assert lines[3]["amount_cny"] == "3.571431"
    answer = json.loads(shell.out("usage", "vouchers", contracts[1], "--year", "2026", "-o", "json"))
    (year,) = answer["years"]
    assert (year["executed_cny"], year["voucher_cny"], year["limited_by"]) == ("84.82", "25.44", "nothing")


def test_a_bad_contract_is_told_with_its_line(shell: Shell, contracts: list[str]) -> None:
    Path(contracts[0]).write_text(CONTRACT.replace("12.50", "free"))
    refused = shell.run("usage", "vouchers", *contracts)
    assert refused.exit_code == 2
    assert f"{contracts[0]}:5: prices[0].cny: expected CNY" in refused.stderr
    assert shell.run("usage", "vouchers").exit_code == 2
    nothing = shell.run("usage", "vouchers", contracts[1], "--year", "2031")
    assert (nothing.exit_code, "film-studio" in nothing.output) == (0, False)


# ---- the statement -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("history")
def test_the_statement_of_a_month_as_files(shell: Shell, contracts: list[str], tmp_path: Path) -> None:
    out = tmp_path / "statement"
    text = shell.out(
        *("report", "usage", "--month", "2026-11", "--lang", "zh", "--out", str(out)),
        *("--contract", contracts[0], "--contract", contracts[1]),
    )
    assert text.count("已写入") == 6
    document = json.loads((out / "usage.json").read_text())
    assert disagreements(document) == []
    assert document["command"].startswith("suanli report usage --month 2026-11 --lang zh")
    assert [year["voucher_cny"] for year in document["vouchers"]["years"]] == ["25.44", "750.00"]
    assert document["records_sha256"] in (out / "usage.html").read_text()
    only = shell.run("report", "usage", "--month", "2026-11", "--format", "json", "--out", str(out), who="tenant")
    assert only.exit_code == 0, only.output
    mine = json.loads((out / "usage.json").read_text())
    assert (mine["tenant"], {each["tenant"] for each in mine["tenants"]}) == ("film-studio", {"film-studio"})


@pytest.mark.usefixtures("history")
def test_what_is_wrong_with_a_statement(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, code in (
        (("--format", "pdf"), 2),
        (("--month", "2026-99"), 2),
        (("--contract", str(tmp_path / "none.yaml")), 2),
        (("--out", str(tmp_path / "file" / "x")), 6),
    ):
        refused = shell.run("report", "usage", *words)
        assert (refused.exit_code, "internal error" in refused.output) == (code, False), refused.output


@pytest.mark.parametrize("argv", [("usage",), ("report", "usage", "--out", "statement")])
def test_a_tenant_that_is_none_is_refused_with_those_that_there_are(shell: Shell, argv: tuple[str, ...]) -> None:
    refused = shell.run(*argv, "--month", "2026-11", "--tenant", "nobody")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "there is no tenant 'nobody'; there are: film-studio, hospital, lab, magnet-factory" in refused.stderr


def test_a_tenant_that_used_nothing_has_an_empty_table_that_says_so(shell: Shell) -> None:
    found = shell.run("usage", "--month", "2026-11", "--tenant", "lab")
    assert found.exit_code == 0
    assert "2026-11 (Asia/Shanghai), tenant lab: open" in found.stdout
    assert "tenant lab has used nothing in 2026-11" in found.stdout
    assert json.loads(shell.out("usage", "--month", "2026-11", "--tenant", "lab", "-o", "json"))["sums"] == []


def test_months_that_cannot_be_shown_or_closed_yet(shell: Shell) -> None:
    for argv in (("usage", "--month", "2026-12"), ("report", "usage", "--month", "2031-01", "--out", "statement")):
        refused = shell.run(*argv)
        assert refused.exit_code == 2, refused.output
        assert "has not begun: this month is 2026-11" in refused.stderr
    for month, told in (("2026-11", "is not over yet"), ("2026-12", "has not begun")):
        refused = shell.run("usage", "close", month)
        assert refused.exit_code in (2, 5), refused.output
        assert f"{month} {told}" in refused.stderr


@pytest.mark.parametrize("argv", [("--month", "2026-13"), ("close", "x"), ("--month", "2026-1")])
def test_a_month_that_is_none_is_refused_in_words(shell: Shell, argv: tuple[str, ...]) -> None:
    refused = shell.run("usage", *argv)
    assert refused.exit_code == 2
    assert "expected a year and a month, such as 2027-01" in refused.stderr
