"""The append-only record: private, durable, and honest about lines that cannot be read."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.history.columns import read_columns
from benchmarks.history.store import HistoryStore, latest_by_device, result_line
from benchmarks.protocol import Verdict
from benchmarks.raw_batches import RawBatches, to_line
from benchmarks.record import BadRecord
from tests.fakes.bench_records import T0, cpu, failed, record, simulated, stored


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "bench")
    first, second = stored(record("a")), stored(cpu(), run="run-2", at_s=T0 + 20)
    store.append([first])
    store.append([second, stored(simulated("s"), at_s=T0 + 30)])
    history = store.read()
    assert history.results[:2] == (first, second)
    assert (len(history.results), history.unreadable_lines) == (3, 0)


def test_it_is_private(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "bench")
    store.append([stored(record())])
    assert stat.S_IMODE(os.stat(store.path.parent).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o600


def test_every_append_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store = HistoryStore(tmp_path / "bench")
    store.append([stored(record())])
    assert synced == [str(store.path), str(store.path.parent)]


@pytest.mark.parametrize(
    "torn", ['{"schema":"suanli/bench-result/1","run', "not json\n", '{"schema":"other/1"}\n', "[]\n"]
)
def test_a_line_that_cannot_be_read_is_counted_and_harms_no_other(tmp_path: Path, torn: str) -> None:
    store = HistoryStore(tmp_path)
    store.append([stored(record("a"))])
    with store.path.open("a") as file:
        file.write(torn)
    store.append([stored(record("b"))])
    history = store.read()
    assert [r.record.device for r in history.results] == ["a", "b"]
    assert history.unreadable_lines == 1


def test_a_period_is_read(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append(stored(record("a"), at_s=T0 + day) for day in range(5))
    assert [r.recorded_at_s - T0 for r in store.read(since_s=T0 + 1, until_s=T0 + 3).results] == [1, 2, 3]


def test_no_history_yet_is_an_empty_one(tmp_path: Path) -> None:
    assert HistoryStore(tmp_path / "nowhere").read().results == ()
    HistoryStore(tmp_path / "nowhere").append([])
    assert not (tmp_path / "nowhere").exists()


def test_latest_is_by_device_and_precision_and_a_group_goes_as_one() -> None:
    results = [
        stored(record("a", 1.0), at_s=1),
        stored(record("a", 2.0), at_s=2),
        stored(record("a", 3.0, precision="fp16"), at_s=1),
        stored(cpu("c0", "c1"), at_s=1),
        stored(cpu("c0"), at_s=2),
    ]
    newest = latest_by_device(results)
    assert {(r.record.covers, r.record.precision, r.recorded_at_s) for r in newest} == {
        (("a",), "bf16", 2),
        (("a",), "fp16", 1),
        (("c0",), "fp32", 2),
    }


NOVEMBER, DECEMBER = 1_795_000_000.0, 1_797_000_000.0  # 2026-11-18 and 2026-12-11, UTC


def test_every_month_has_a_file_and_a_period_opens_only_its_own(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append([stored(record("d"), at_s=DECEMBER), stored(record("n"), at_s=NOVEMBER)])
    assert [path.name for path in store.files()] == ["results-2026-11.jsonl", "results-2026-12.jsonl"]
    assert [path.name for path in store.files(since_s=DECEMBER)] == ["results-2026-12.jsonl"]
    assert [path.name for path in store.files(until_s=NOVEMBER)] == ["results-2026-11.jsonl"]
    assert [r.record.device for r in store.read().results] == ["n", "d"]


def test_lines_of_before_there_were_months_are_read(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(result_line(stored(record("old"), at_s=NOVEMBER)))
    store = HistoryStore(tmp_path)
    store.append([stored(record("new"), at_s=DECEMBER)])
    assert [r.record.device for r in store.read().results] == ["old", "new"]


def test_one_run_is_read_without_the_others(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append([stored(record("a"), run="one"), stored(record("b"), run="two")])
    assert [r.record.device for r in store.read(run="two").results] == ["b"]


def test_what_is_null_is_left_out_and_comes_back_as_null() -> None:
    line = result_line(stored(record("a", rack=None, driver="570.86")))
    assert '"rack"' not in line
    assert '"driver":"570.86"' in line
    assert '"reason":null' in line  # required, and null


def raw(run: str = "run-1", device: str = "gpu-0", batches: int = 5) -> RawBatches:
    times = np.arange(batches, dtype=np.int32)
    return RawBatches(run, device, "gemm", "bf16", T0, 600.0, 10**12, times * 1000, times + 900, times * 0 + 9)


def test_raw_batches_come_back_by_run_whatever_was_torn(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append_raw([to_line(raw()), to_line(raw(device="gpu-1")), to_line(raw(run="run-2"))])
    with store.raw_path("run-1").open("a") as file:
        file.write('{"schema":"suanli/bench-ba')
    store.append_raw([to_line(raw(device="gpu-2"))])
    read = store.read_raw("run-1")
    assert [b.device for b in read.batches] == ["gpu-0", "gpu-1", "gpu-2"]
    assert read.unreadable_lines == 1
    assert read.batches[0].flop == raw().flop
    assert store.read_raw("never").batches == ()


@pytest.mark.parametrize("line", ["{}\n", "no\n", to_line(raw()) * 2, to_line(raw())[:-1], to_line(raw(run="../up"))])
def test_what_is_no_raw_line_is_refused_and_nothing_is_written(tmp_path: Path, line: str) -> None:
    store = HistoryStore(tmp_path / "bench")
    with pytest.raises(BadRecord):
        store.append_raw([to_line(raw()), line])
    assert not (tmp_path / "bench").exists()


def test_a_digest_stays_true_of_what_it_was_of(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append([stored(record("a"), at_s=NOVEMBER)])
    store.append_raw([to_line(raw())])
    before = store.log_digest(runs=["run-1", "without-raw"])
    assert [d.name for d in before.files] == ["raw/run-1.jsonl", "results-2026-11.jsonl"]
    store.append([stored(record("b"), at_s=NOVEMBER)])
    for digest in before.files:
        assert store.prefix_digest(digest.name, digest.size_bytes) == digest
    assert store.log_digest(runs=["run-1"]).sha256 != before.sha256
    text = store.path.read_text()
    store.path.write_text(text.replace("800000", "900000", 1))
    changed = before.files[1]
    assert store.prefix_digest(changed.name, changed.size_bytes) != changed
    assert store.prefix_digest(changed.name, 10**9) is None
    assert store.prefix_digest("../../etc/passwd", 5) is None


# ---- columns -----------------------------------------------------------------------------------------------------


def test_columns_say_what_whole_records_say(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append([stored(record("a", 700.0, rack="r1"), at_s=T0), stored(simulated("s", 650.0), at_s=T0)])
    store.append(
        [
            stored(record("a", 710.0, rack="r1"), run="run-2", at_s=T0 + 60),
            stored(failed("b", Verdict.WRONG_PRODUCT, "bad"), run="run-2", at_s=T0 + 60),
            stored(
                replace(record("a", workload="membw", value=3.1, unit="TB/s"), gflops=None), run="run-2", at_s=T0 + 60
            ),
        ]
    )
    with store.path.open("a") as file:
        file.write('torn {"\n{"schema":"other"}\n')
    columns = read_columns(store)
    told = [
        (columns.runs[r].name, columns.whose[w].device, columns.about[a].rack, columns.about[a].unit, rate)
        for r, w, a, rate in zip(columns.run, columns.who, columns.under, columns.rate.tolist(), strict=True)
    ]
    assert told == [
        ("run-1", "a", "r1", "GFLOP/s", 700.0),
        ("run-1", "s", "", "GFLOP/s", 650.0),
        ("run-2", "a", "r1", "GFLOP/s", 710.0),
        ("run-2", "a", "", "TB/s", 3.1),
    ]
    assert columns.failed == {"wrong_product": 1}
    assert columns.unreadable_lines == 2
    assert len(read_columns(store, since_s=T0 + 1)) == 2
    assert len(read_columns(HistoryStore(tmp_path / "nowhere"))) == 0
