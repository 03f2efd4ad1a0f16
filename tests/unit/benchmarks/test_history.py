"""The append-only record: private, durable, and honest about lines that cannot be read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from benchmarks.history.store import HistoryStore, latest_by_device
from tests.fakes.bench_records import T0, cpu, record, simulated, stored


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
