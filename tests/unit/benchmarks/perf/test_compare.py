"""What is called a change, and what is not; and what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.perf import records
from benchmarks.perf.__main__ import bench, main
from benchmarks.perf.compare import (
    REFERENCE,
    Machine,
    Moved,
    NotARecord,
    Record,
    Timing,
    compared,
    record_json,
    record_of,
    short_name,
    timing_of,
    timings_of,
    told,
)

MACHINE = Machine("a cpu", 2, "3.11.7", "0123456789ab")
BEFORE = Record(MACHINE, "aaa", "2026-11-27T22:00:00Z", 0.5, {"numpy": "2.1"}, {"wire::a": Timing(1.0, 0.01, 100)})


def report(*rounds: float, name: str = "a") -> dict[str, Any]:
    """As pytest-benchmark writes it, what is read of it."""
    return {"benchmarks": [{"fullname": f"benchmarks/perf/test_wire.py::test_{name}", "stats": {"data": rounds}}]}


def moved(before: Timing, now: Timing) -> Moved:
    (row,) = compared({"a": before}, {"a": now})
    return row.moved


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (Timing(1.0, 0.0, 9), Timing(1.099, 0.0, 9), Moved.SAME),
        (Timing(1.0, 0.0, 9), Timing(1.101, 0.0, 9), Moved.SLOWER),
        (Timing(1.0, 0.0, 9), Timing(0.899, 0.0, 9), Moved.FASTER),
        (Timing(1.0, 0.1, 9), Timing(1.29, 0.0, 9), Moved.SAME),  # inside the noise of the earlier run
        (Timing(1.0, 0.0, 9), Timing(1.29, 0.1, 9), Moved.SAME),  # and of the later one
        (Timing(1.0, 0.1, 9), Timing(1.31, 0.05, 9), Moved.SLOWER),
        (Timing(1.0, 0.1, 9), Timing(0.69, 0.05, 9), Moved.FASTER),
    ],
)
def test_what_moved_differs_by_a_tenth_and_by_three_spreads(before: Timing, now: Timing, expected: Moved) -> None:
    assert moved(before, now) is expected


timings = st.builds(Timing, st.floats(1e-7, 1e2), st.floats(0.0, 1e2), st.integers(1, 1000))


@given(timings, timings)
def test_what_is_the_same_lies_within_the_bound_that_is_shown(before: Timing, now: Timing) -> None:
    (row,) = compared({"a": before}, {"a": now})
    assert row.bound is not None
    assert row.ratio is not None
    assert row.bound >= 0.1
    assert (row.moved is Moved.SAME) == (abs(row.ratio - 1.0) <= row.bound)


@given(timings)
def test_nothing_moves_against_itself(timing: Timing) -> None:
    assert moved(timing, timing) is Moved.SAME


def test_what_came_and_what_went_is_said() -> None:
    one = Timing(1.0, 0.0, 9)
    rows = compared({"gone": one, "stays": one}, {"stays": one, "new": one})
    assert [(row.name, row.moved) for row in rows] == [
        ("stays", Moved.SAME),
        ("new", Moved.NEW),
        ("gone", Moved.GONE),
    ]


def test_a_few_rounds_that_were_held_up_do_not_carry_the_spread_along() -> None:
    assert timing_of([1.0, 1.1, 0.9, 1.05, 0.95, 50.0, 70.0]) == Timing(1.05, pytest.approx(1.4826 * 0.1), 7)


def test_of_fewer_than_five_rounds_the_farthest_speaks() -> None:
    assert timing_of([1.0, 1.0, 4.0]) == Timing(1.0, 3.0, 3)


@pytest.mark.parametrize("rounds", [[], [0.0], [1.0, -1.0], [float("nan")], [float("inf")]])
def test_what_is_no_duration_is_refused(rounds: list[float]) -> None:
    with pytest.raises(NotARecord, match="rounds"):
        timing_of(rounds)


@pytest.mark.parametrize("wrong", [{}, {"benchmarks": []}, {"benchmarks": [{}]}, {"benchmarks": [{"fullname": "a"}]}])
def test_an_answer_of_another_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NotARecord):
        timings_of(wrong)


def test_names_are_short() -> None:
    assert short_name("benchmarks/perf/test_store.py::test_submissions[32]") == "store::submissions[32]"
    assert short_name("benchmarks/perf/test_planner.py::test_the_reference_loop") == REFERENCE


def test_a_record_is_read_as_it_was_written() -> None:
    assert record_of(json.loads(json.dumps(record_json(BEFORE)))) == BEFORE


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"schema": "another"},
        {"timings": {}},
        {"timings": {"a": {"median_s": 0.0, "spread_s": 0.0, "rounds": 1}}},
        {"timings": {"a": {"median_s": "1", "spread_s": 0.0, "rounds": 1}}},
        {"machine": {"cpu": "x"}},
        {"commit": 7},
    ],
)
def test_what_is_no_record_is_refused(wrong: Any) -> None:
    with pytest.raises(NotARecord):
        record_of(record_json(BEFORE) | wrong if isinstance(wrong, dict) else wrong)


def test_what_is_told_names_both_commits_and_what_else_changed() -> None:
    reference = {REFERENCE: Timing(1.0, 0.0, 9)}
    before = replace(BEFORE, timings={**BEFORE.timings, **reference})
    now = replace(
        BEFORE,
        commit="bbb-dirty",
        load=7.0,
        versions={"numpy": "2.2"},
        timings={"wire::a": Timing(2e-4, 0.0, 9), REFERENCE: Timing(1.5, 0.0, 9)},
    )
    text = "\n".join(told(before, now))
    assert "before  aaa, 2026-11-27T22:00:00Z" in text
    assert "now     bbb-dirty" in text
    assert "faster: wire::a" in text
    assert "reference loop took 1.50 times as long" in text
    assert "Other work ran now (load 7.0 on 2 cores)" in text
    assert "numpy 2.1, now 2.2" in text


def test_what_went_no_further_than_the_machine_is_named_as_such() -> None:
    before = {REFERENCE: 1.0, "wire::with_it": 1.0, "wire::beyond": 1.0, "wire::stays": 1.0}
    now = {REFERENCE: 1.7, "wire::with_it": 1.4, "wire::beyond": 3.0, "wire::stays": 1.05}
    both = (replace(BEFORE, timings={name: Timing(s, 0.0, 9) for name, s in of.items()}) for of in (before, now))
    assert told(*both)[-1].endswith("took 1.70 times as long; no further than that went wire::with_it.")


# ---- a run -------------------------------------------------------------------------------------------------------


class Pytest:
    """Stands in for pytest: leaves these figures, ends with this code."""

    def __init__(self, *rounds: float, code: int = 0) -> None:
        self.rounds, self.code, self.asked = rounds, code, 0

    def __call__(self, path: Path, matching: str) -> int:
        self.asked += 1
        path.write_text(json.dumps(report(*self.rounds)))
        return self.code


def kept(root: Path) -> list[Path]:
    return sorted(root.glob("*/*"))


def a_record(root: Path, **other: Any) -> Path:
    """An earlier one of this machine."""
    return records.keep(root, replace(BEFORE, **({"machine": records.this_machine()} | other)))


def test_the_first_run_says_so_and_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(Pytest(1.0), tmp_path / "records") == 0
    assert "no record of this machine yet" in capsys.readouterr().out
    (path,) = kept(tmp_path / "records")
    assert record_of(json.loads(path.read_text())).timings == {"wire::a": Timing(1.0, 0.0, 1)}


def test_the_next_is_set_against_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_record(tmp_path, at="2026-11-26T22:00:00Z", commit="older")
    a_record(tmp_path)
    assert bench(Pytest(2.0), tmp_path) == 0
    said = capsys.readouterr().out
    assert "before  aaa" in said
    assert "slower: wire::a" in said
    assert len(kept(tmp_path)) == 3


def test_an_older_one_can_be_named_by_its_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_record(tmp_path, at="2026-11-26T22:00:00Z", commit="older")
    a_record(tmp_path)
    assert bench(Pytest(2.0), tmp_path, against="old") == 0
    assert "before  older" in capsys.readouterr().out


def test_a_commit_that_nobody_recorded_is_said_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Pytest(1.0)
    assert bench(run, tmp_path, against="fff") == 1
    assert run.asked == 0
    assert "no record of commit fff" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "status"), [(1, 1), (2, 130), (3, 1), (4, 1), (5, 1)])
def test_a_run_that_failed_or_was_interrupted_is_not_recorded(tmp_path: Path, code: int, status: int) -> None:
    assert bench(Pytest(1.0, code=code), tmp_path) == status
    assert kept(tmp_path) == []


def test_a_part_is_compared_but_not_recorded_and_the_rest_is_not_called_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_record(tmp_path, timings={**BEFORE.timings, "wire::b": Timing(1.0, 0.0, 9)})
    assert bench(Pytest(1.0), tmp_path, matching="a", record=False) == 0
    assert "gone" not in capsys.readouterr().out
    assert len(kept(tmp_path)) == 1


def test_another_machine_is_another_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = records.this_machine()
    for other in (
        replace(mine, python="3.99"),
        replace(mine, cores=99),
        replace(mine, cpu="z"),
        replace(mine, host=""),
    ):
        a_record(tmp_path, machine=other)
    assert bench(Pytest(1.0), tmp_path) == 0
    assert "no record of this machine yet" in capsys.readouterr().out


def test_a_record_that_cannot_be_read_is_named_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = a_record(tmp_path)
    torn = whole.with_name("20261201T000000Z-torn.json")
    torn.write_text(whole.read_text()[:40])
    strange = whole.with_name("20261202T000000Z-other.json")
    strange.write_text(json.dumps(record_json(BEFORE)))
    assert bench(Pytest(1.0), tmp_path) == 0
    said = capsys.readouterr()
    assert "before  aaa" in said.out
    assert f"{torn} is passed over" in said.err
    assert f"{strange} is passed over: it is of another machine" in said.err


def test_a_record_that_cannot_be_kept_is_a_failure_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / records.this_machine().key).write_text("in the way")
    assert bench(Pytest(1.0), tmp_path) == 1
    assert "the record could not be kept" in capsys.readouterr().err


def test_figures_that_are_none_are_a_failure_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(Pytest(), tmp_path) == 1
    assert "left no figures" in capsys.readouterr().err
    assert kept(tmp_path) == []


def test_without_pytest_benchmark_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.perf.__main__.find_spec", lambda name: None)
    said = CliRunner().invoke(main, [])
    assert said.exit_code == 1
    assert "make setup" in said.output
