"""An auditor recomputes: what is true agrees, and every kind of change is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.capacity import write_all
from benchmarks.capacity.audit import read_log
from benchmarks.capacity.carried import NotAReport, read_document
from benchmarks.capacity.fonts import find_faces
from benchmarks.capacity.verify import Auditor, Told, Verification, compare_page, compare_pdf, verify
from benchmarks.capacity.verify_words import in_words
from benchmarks.capacity.words import LANGUAGES, Language
from benchmarks.history.store import HistoryStore
from benchmarks.raw_batches import RawBatches, sha256_of, to_line
from tests.fakes.bench_records import CATALOGUE, GOALS, SITES, T0, card, goal
from tests.fakes.capacity_reports import DAY_S, findings, full, logged, measured
from tests.fakes.tiny_font import CHINESE, write_font


def told(history: Any, nodes: Any, goals: Any) -> Told:
    return Told(**findings())


def auditor(home: Path, **more: Any) -> Auditor:
    values: dict[str, Any] = {"goals": GOALS, "sites": SITES, "catalogue": CATALOGUE, "told": told} | more
    return Auditor(home / "bench", **values)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_all(logged(tmp_path), tmp_path / "out", languages=("en",), formats=("json",))
    return tmp_path


def document(home: Path) -> dict[str, Any]:
    return read_document(home / "out" / "capacity.json")


def verified(home: Path, **more: Any) -> Verification:
    return verify(document(home), auditor(home, **more))


def places(found: Verification) -> list[str]:
    return [d.where for d in found.differences]


def change_log(home: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = HistoryStore(home / "bench").path
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def test_a_report_agrees_with_its_log(home: Path) -> None:
    found = verified(home)
    assert (found.ok, found.differences, found.raw.named) == (True, (), 0)
    assert found.compared > 500
    assert found.lines == 383


def test_the_digest_is_of_the_used_lines_in_their_order(home: Path) -> None:
    import hashlib

    lines = HistoryStore(home / "bench").path.read_bytes().splitlines(keepends=True)
    assert document(home)["log"]["sha256"] == hashlib.sha256(b"".join(lines)).hexdigest()


def test_lines_that_were_added_later_change_nothing(home: Path) -> None:
    HistoryStore(home / "bench").append([measured("GPU-00001", 9e5, T0 + 3 * DAY_S)])
    assert verified(home).ok


def test_a_rate_changed_in_the_log_is_found(home: Path) -> None:
    def faster(line: str) -> str:
        return re.sub(r'"gflops":\d+', '"gflops":990000', line) if '"GPU-00007"' in line else line

    change_log(home, lambda lines: [faster(line) for line in lines])
    wheres = places(verified(home))
    assert "log.sha256" in wheres
    assert "goals.g700.cards.GPU-00007.gflops" in wheres


def test_a_missing_line_of_the_log_is_found(home: Path) -> None:
    change_log(home, lambda lines: lines[:-20] + lines[-19:])
    found = verified(home)
    assert {"log.sha256", "log.lines", "goals.g700.measured.pflops"} <= set(places(found))
    assert any(d.recomputed == "(not there)" for d in found.differences)


def test_lines_put_elsewhere_are_found_by_their_digest(home: Path) -> None:
    change_log(home, lambda lines: [lines[1], lines[0], *lines[2:]])
    assert places(verified(home)) == ["log.sha256"]


def test_a_line_made_unreadable_is_found(home: Path) -> None:
    change_log(home, lambda lines: [*lines[:5], "{torn\n", *lines[6:]])
    assert {"log.sha256", "unreadable_history_lines"} <= set(places(verified(home)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("goals", 0, "measured", "pflops"), 700.0),
        (("goals", 0, "availability", "value"), 1.0),
        (("goals", 0, "missing_pflops"), 0.0),
        (("goals", 0, "energy_joules", "value"), 1.0),
        (("goals", 1, "window", "samples"), 10**9),
        (("goals", 0, "trend", "outlook"), "before_due"),
        (("goals", 0, "goal_pflops"), 7.0),
        (("cpu", "counts_towards_goals"), True),
        (("log", "lines"), 1),
    ],
)
def test_a_changed_figure_is_found_at_its_place(home: Path, place: tuple[Any, ...], value: Any) -> None:
    changed = document(home)
    holder = changed
    for step in place[:-1]:
        holder = holder[step]
    assert holder[place[-1]] != value
    holder[place[-1]] = value
    found = verify(changed, auditor(home))
    names = [str(changed["goals"][s]["name"]) if isinstance(s, int) else str(s) for s in place]
    assert places(found) == ["figures_sha256", ".".join(names)]


def test_a_figure_changed_together_with_the_files_digest_is_found(home: Path) -> None:
    from benchmarks.capacity.as_json import figures_sha256

    changed = document(home)
    changed["goals"][0]["measured"]["pflops"] = 700.0
    changed["figures_sha256"] = figures_sha256(changed)
    assert places(verify(changed, auditor(home))) == ["goals.g700.measured.pflops"]


def test_an_excluded_card_that_was_left_out_is_found(home: Path) -> None:
    changed = document(home)
    del changed["goals"][0]["exclusions"][0]
    assert "goals.g700.exclusions.GPU-00000" in places(verify(changed, auditor(home)))


def test_another_catalogue_is_found(home: Path) -> None:
    other = CATALOGUE | {"H100 SXM": card("H100 SXM", 989.0)}
    wheres = places(verified(home, catalogue=other))
    assert "inputs.catalogue.H100 SXM.fp16_bf16" in wheres
    assert "goals.g700.nominal.pflops" in wheres
    assert "goals.g700.measured.pflops" not in wheres


def test_a_card_more_in_the_catalogue_changes_nothing(home: Path) -> None:
    assert verified(home, catalogue=CATALOGUE | {"New": card("New", 5_000.0)}).ok


def test_another_goal_is_found(home: Path) -> None:
    wheres = places(verified(home, goals=(goal(pflops=600.0), *GOALS[1:])))
    assert {"goals.g700.goal_pflops", "goals.g700.missing_pflops"} <= set(wheres)


def test_other_findings_are_found(home: Path) -> None:
    wheres = places(verified(home, told=lambda _h, _n, _g: Told()))
    assert any(where.startswith("changes") for where in wheres)
    assert any(where.startswith("outliers") for where in wheres)
    assert "goals.g400.estimate" in wheres


def said(home: Path, changed: Mapping[str, Any] | None = None, **more: Any) -> str:
    stated = document(home) if changed is None else changed
    return "; ".join(in_words(stated, verify(stated, auditor(home, **more))))


def faster(line: str) -> str:
    return re.sub(r'"gflops":\d+', '"gflops":990000', line) if '"GPU-00007"' in line else line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines, ""),
        (lambda lines: [faster(line) for line in lines], "a line of the log was changed: it has "),
        (lambda lines: lines[:-20] + lines[-19:], "the log lacks 1 of the "),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "lines stand in another order, or one was changed where no"),
        (lambda lines: [*lines, lines[-1]], "the log has 1 more lines in the report's period than the "),
        (lambda lines: [*lines[:5], "{torn\n", *lines[6:]], "another number of lines that cannot be read"),
    ],
)
def test_what_was_done_to_the_log_is_said(home: Path, change: Callable[[list[str]], list[str]], words: str) -> None:
    change_log(home, change)
    told = said(home)
    assert words in told
    assert bool(told) is bool(words)
    assert "file was changed" not in told
    assert "catalogue" not in told


def test_what_was_done_to_the_file_or_to_the_site_is_said(home: Path) -> None:
    from benchmarks.capacity.as_json import figures_sha256

    changed = document(home)
    changed["goals"][0]["measured"]["pflops"] = 700.0
    assert said(home, changed).startswith("the report's file was changed after it was written")
    changed["figures_sha256"] = figures_sha256(changed)
    assert said(home, changed).startswith("the report states other figures than its log gives")
    other = CATALOGUE | {"H100 SXM": card("H100 SXM", 989.0)}
    assert said(home, catalogue=other).startswith("the catalogue has other peaks")
    assert said(home, goals=(goal(pflops=600.0), *GOALS[1:])) == (
        "the goals are not those that the report was made with: g700"
    )
    assert said(home, goals=GOALS[1:]).endswith("made with: g700")


# ---- raw batches ---------------------------------------------------------------------------------------------------


def raw(run: str, device: str, batches: int, **more: Any) -> str:
    """Batches of one second each, 3.2e15 FLOP: 570 of them in 600 s are 3,040,000 GFLOP/s."""
    began = (np.arange(batches) * 1_000_000).astype(np.int32)
    values: dict[str, Any] = {"flop_per_batch": 3_200_000_000_000_000, "window_s": 600.0, "precision": "bf16"} | more
    busy, check = np.full(batches, 950_000, np.int32), np.full(batches, 50_000, np.int32)
    return to_line(
        RawBatches(run, device, "gemm", window_start_s=T0, began_us=began, busy_us=busy, check_us=check, **values)
    )


def with_raw(tmp_path: Path, line: str, gflops: float, flop: int) -> Path:
    """A log with one card whose record names the line, and a report of it."""
    named = measured("GPU-00000", gflops, T0, raw_sha256=sha256_of(line), flop=flop)
    store = HistoryStore(tmp_path / "bench")
    store.append([named])
    (tmp_path / "bench" / "raw").mkdir()
    (tmp_path / "bench" / "raw" / f"{named.run}.jsonl").write_text(raw("other", "GPU-9", 3) + line)
    history, log = read_log(tmp_path / "bench", since_s=T0 - 1, until_s=T0 + 9e4)
    made = full(history=history, log=log, generated_at_s=T0 + 9e4)
    write_all(made, tmp_path / "out", languages=("en",), formats=("json",))
    return tmp_path


RUN = f"night-{int(T0 // DAY_S)}"
FLOP = 570 * 3_200_000_000_000_000


def test_from_batches_to_pflops(tmp_path: Path) -> None:
    found = verified(with_raw(tmp_path, raw(RUN, "GPU-00000", 570), FLOP / 600 / 1e9, FLOP))
    assert (found.ok, found.raw.named, found.raw.found, found.raw.told) == (True, 1, 1, ())


def test_batches_that_give_another_rate_are_told(tmp_path: Path) -> None:
    found = verified(with_raw(tmp_path, raw(RUN, "GPU-00000", 500), FLOP / 600 / 1e9, FLOP))
    assert not found.ok
    assert [text.split(":")[0] for text in found.raw.told] == ["GPU-00000", "GPU-00000"]
    assert any("from its raw batches" in text for text in found.raw.told)


@pytest.mark.parametrize(("run", "device"), [("another", "GPU-00000"), (RUN, "GPU-7")])
def test_batches_of_another_card_or_run_are_told(tmp_path: Path, run: str, device: str) -> None:
    assert verified(with_raw(tmp_path, raw(run, device, 570), FLOP / 600 / 1e9, FLOP)).raw.told


def test_raw_batches_that_are_gone_are_counted_and_contradict_nothing(tmp_path: Path) -> None:
    home = with_raw(tmp_path, raw(RUN, "GPU-00000", 570), FLOP / 600 / 1e9, FLOP)
    for path in (home / "bench" / "raw").iterdir():
        path.unlink()
    found = verified(home)
    assert (found.ok, found.raw.named, found.raw.found) == (True, 1, 0)


def test_a_raw_line_that_was_changed_is_not_the_one_that_is_named(tmp_path: Path) -> None:
    home = with_raw(tmp_path, raw(RUN, "GPU-00000", 570), FLOP / 600 / 1e9, FLOP)
    path = home / "bench" / "raw" / f"{RUN}.jsonl"
    path.write_text(path.read_text().replace('"flop_per_batch":32', '"flop_per_batch":33'))
    found = verified(home)
    assert (found.ok, found.raw.named, found.raw.found) == (False, 1, 0)
    assert "not those that the log names" in found.raw.told[0]


# ---- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_page_carries_what_is_needed_and_its_text_is_compared(tmp_path: Path, lang: Language) -> None:
    write_all(logged(tmp_path), tmp_path / "out", languages=(lang,), formats=("html",))
    path = tmp_path / "out" / "capacity.html"
    found = verify(read_document(path), auditor(tmp_path))
    assert found.ok
    page = path.read_text()
    assert compare_page(page, found) == ()
    (shown,) = re.findall(r'<p class="big"><strong>(11\.20)</strong>', page)
    (different,) = compare_page(page.replace(f"<strong>{shown}</strong> <span>", "<strong>99.9</strong> <span>"), found)
    assert (different.stated, different.recomputed) == ("99.9", "11.20")
    assert compare_page(page.replace('class="point" cx="', 'class="point" cx="1'), found)


def test_a_pdf_carries_what_is_needed_and_is_compared_whole(tmp_path: Path) -> None:
    font = write_font(tmp_path / "boxes.ttf", CHINESE)
    write_all(logged(tmp_path), tmp_path / "out", languages=("en",), formats=("pdf",), font=font)
    path = tmp_path / "out" / "capacity.pdf"
    found = verify(read_document(path), auditor(tmp_path))
    assert found.ok
    assert compare_pdf(path.read_bytes(), found, font) == ((), "")
    (different,), _ = compare_pdf(path.read_bytes() + b"\n%changed", found, font)
    assert different.where == "the pages"
    other = write_font(tmp_path / "other.ttf", CHINESE + "別")
    told_of, note = compare_pdf(path.read_bytes(), found, other)
    assert (told_of, "another font" in note) == ((), True)
    assert find_faces(("en",), other)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "cannot be read"),
        ("a.json", b'{"schema": "suanli/bench/1"}', "not a capacity report"),
        ("a.html", b"<html></html>", "neither"),
        ("a.html", b'<template id="suanli-capacity-json">AAAA</template>', "damaged"),
        ("a.pdf", b"%PDF-1.7 nothing", "attached"),
        ("a.xlsx", b"PK\x03\x04", "neither"),
    ],
)
def test_what_is_no_report_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotAReport, match=message):
        read_document(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "suanli/capacity/1"}, "carries what a recomputation needs"),
        ({"log": None}, "not made from a log"),
        ({"inputs": {"nodes": "x"}}, "inputs cannot be read"),
        ({"inventory": 3}, "inputs cannot be read"),
    ],
)
def test_what_cannot_be_recomputed_is_told(home: Path, change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(NotAReport, match=message):
        verify(document(home) | dict(change), auditor(home))


def test_a_log_that_is_not_there_is_told(home: Path) -> None:
    with pytest.raises(NotAReport, match="no results log"):
        verify(document(home), Auditor(home / "elsewhere", GOALS, SITES, CATALOGUE))


def test_months_of_a_log_are_read_in_their_order(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "bench")
    store.append([measured("a", 8e5, T0 - DAY_S), measured("a", 8e5, T0)])
    whole = read_log(store.path, since_s=0, until_s=T0 * 2)
    first, second = store.path.read_text().splitlines(keepends=True)
    (tmp_path / "bench" / "results.jsonl").write_text(first)
    (tmp_path / "bench" / "results-2027-01.jsonl").write_text(second)
    assert read_log(tmp_path / "bench", since_s=0, until_s=T0 * 2) == whole


def test_a_report_is_json_with_every_digit(home: Path) -> None:
    assert json.loads((home / "out" / "capacity.json").read_text()) == document(home)
