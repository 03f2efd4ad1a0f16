"""What the nights tell beside a report's figures comes from the same log, and an auditor finds the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.capacity import build, write_all
from benchmarks.capacity.audit import read_log
from benchmarks.capacity.by_nights import told_by_nights
from benchmarks.capacity.carried import read_document
from benchmarks.capacity.verify import Auditor, verify
from benchmarks.history.findings import OutlierKind
from benchmarks.history.store import History, HistoryStore
from tests.fakes.bench_records import CATALOGUE, GOALS, SITES, T0
from tests.fakes.capacity_reports import PROVENANCE, site_nodes, site_results

EVERY = site_results()


def test_a_card_slower_than_its_like_is_named_and_no_other() -> None:
    told = told_by_nights(History(tuple(EVERY), 0), site_nodes(), GOALS)
    slow = {o.series.device for o in told.outliers if o.kind is OutlierKind.SLOW_THAN_LIKE}
    assert slow == {"GPU-00005"}


def test_a_total_is_estimated_where_some_nodes_were_not_run() -> None:
    ran = [r for r in site_results(32) if r.recorded_at_s < T0 or r.record.node != "edge-3"]
    told = told_by_nights(History(tuple(ran), 0), site_nodes(32), GOALS)
    estimate = (told.estimates or {})["g700"]
    assert (estimate.sampled, estimate.cards) == (24, 32)
    assert estimate.low_pflops < estimate.pflops < estimate.high_pflops


def test_nothing_is_estimated_where_all_were_run_or_none() -> None:
    all_ran = [r for r in EVERY if r.recorded_at_s < T0]  # the nights before the last one
    assert "g700" not in (told_by_nights(History(tuple(all_ran), 0), site_nodes(), GOALS).estimates or {})
    assert told_by_nights(History((), 0), site_nodes(), GOALS).estimates == {}


def test_an_auditor_finds_the_same_with_racks_too(tmp_path: Path) -> None:
    HistoryStore(tmp_path / "bench").append(EVERY)
    history, log = read_log(tmp_path / "bench", since_s=0.0, until_s=T0 + 9e4)
    nodes = [replace(node, rack=f"R{n:03d}") for n, node in enumerate(site_nodes())]
    told = told_by_nights(history, nodes, GOALS)
    report = build(
        goals=GOALS,
        sites=SITES,
        catalogue=CATALOGUE,
        nodes=nodes,
        history=history,
        log=log,
        generated_at_s=T0 + 9e4,
        provenance=PROVENANCE,
        changes=told.changes,
        outliers=told.outliers,
        estimates=told.estimates,
    )
    write_all(report, tmp_path / "out", languages=("en",), formats=("json",))
    document = read_document(tmp_path / "out" / "capacity.json")
    found = verify(document, Auditor(tmp_path / "bench", GOALS, SITES, CATALOGUE, told_by_nights))
    assert found.ok, found.differences
    other = verify(document, Auditor(tmp_path / "bench", GOALS, SITES, CATALOGUE))
    assert not other.ok  # what the nights tell is compared as well
