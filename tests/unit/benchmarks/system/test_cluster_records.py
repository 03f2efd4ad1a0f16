"""What is believed of workers: clocks measured from here, equal bits on equal cards, raw batches giving the figure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.card_facts import CardFacts
from benchmarks.inventory import parse_nodes
from benchmarks.measured import Setting
from benchmarks.protocol import Verdict, WindowPlan
from benchmarks.raw_batches import RawBatches, sha256_of, to_line
from benchmarks.record import DeviceRecord, WhichDevice
from benchmarks.served_record import served_record
from benchmarks.serving_window import run_serving
from benchmarks.suite import Measurement
from benchmarks.system.cluster_records import (
    LastFigure,
    Submitted,
    collected,
    equal_digests,
    left_alone,
    with_raw,
)
from benchmarks.system.meeting_place import ClockOffset
from tests.fakes.bench_records import record
from tests.fakes.fake_cluster import device, node
from tests.fakes.small_serving import TimedServing
from tests.fakes.small_work import ManualClock

GOOD, BAD = "ab" * 32, "cd" * 32


def verdicts(records: list[DeviceRecord]) -> list[Verdict]:
    return [r.verdict for r in records]


# ---- digests -------------------------------------------------------------------------------------------------------


def test_the_odd_one_of_equal_cards_counts_zero() -> None:
    made = equal_digests([record(f"gpu-{i}", digest=BAD if i == 2 else GOOD) for i in range(5)])
    assert verdicts(made) == [Verdict.OK, Verdict.OK, Verdict.DIGEST_MISMATCH, Verdict.OK, Verdict.OK]
    assert (made[2].gflops, made[2].verified) == (0.0, False)
    assert "4 of 5 equal cards" in (made[2].reason or "")


def test_where_there_is_no_majority_nobody_of_the_group_counts() -> None:
    made = equal_digests([record("a", digest=GOOD), record("b", digest=BAD), record("c", model="A100", digest=BAD)])
    assert verdicts(made) == [Verdict.DIGEST_MISMATCH, Verdict.DIGEST_MISMATCH, Verdict.OK]


@pytest.mark.parametrize(
    "unlike", [{"model": "A100"}, {"library": "torch 1"}, {"precision": "fp8"}, {"shape": (1, 1, 1)}, {"driver": "x"}]
)
def test_cards_of_another_model_or_software_are_not_compared(unlike: dict[str, Any]) -> None:
    made = equal_digests([record("a", digest=GOOD), record("b", digest=BAD, **unlike), record("c")])
    assert verdicts(made) == [Verdict.OK] * 3


# ---- raw batches ---------------------------------------------------------------------------------------------------


def raw_and_record(run: str = "run-1", batches: int = 3) -> tuple[str, DeviceRecord]:
    began = np.arange(batches, dtype=np.uint32) * 1_000_000
    busy = np.full(batches, 900_000, np.uint32)
    raw = RawBatches(run, "gpu-0", "gemm", "bf16", 1.0, 4.0, 10**15, began, busy, np.zeros(batches, np.uint32))
    line = to_line(raw)
    gflops = raw.flop / 4.0 / 1e9
    return line, record(gflops=gflops, flop=raw.flop, batches=batches, raw_sha256=sha256_of(line))


def test_a_figure_that_its_raw_batches_give_stands_and_another_does_not() -> None:
    line, sound = raw_and_record()
    assert with_raw([sound], [line, "of nobody"], "run-1") == ([line], [sound])
    for wrong in (replace(sound, flop=sound.flop + 1), replace(sound, batches=4)):
        _, (made,) = with_raw([wrong], [line], "run-1")
        assert (made.verdict, made.gflops) == (Verdict.NO_RESULT, 0.0)
    _, (other_run,) = with_raw([sound], [line], "run-2")
    assert other_run.verdict is Verdict.NO_RESULT


def test_requests_a_second_and_waits_must_follow_from_their_line() -> None:
    clock = ManualClock()
    work = TimedServing(clock)
    which = WhichDevice("gpu-0", ("gpu-0",), None, None, "m", "v", on="accelerator")
    outcome = run_serving(work, clock, WindowPlan(2.0, 1))
    sound, line = served_record(which, work, outcome, Setting("run-1", 1, None, "numpy"))
    assert with_raw([sound], [line], "run-1") == ([line], [sound])
    assert sound.serving is not None
    for wrong in (
        replace(sound, value=(sound.value or 0) * 1.01),
        replace(sound, batches=sound.batches + 1),
        replace(sound, serving=replace(sound.serving, latency_p99_ms=1.0)),
        replace(sound, serving=None),
    ):
        _, (made,) = with_raw([wrong], [line], "run-1")
        assert (made.verdict, made.value) == (Verdict.NO_RESULT, None)
    _, (other_run,) = with_raw([sound], [line], "run-2")
    assert other_run.verdict is Verdict.NO_RESULT


def test_a_figure_without_its_raw_batches_says_that_it_cannot_be_recomputed() -> None:
    _, sound = raw_and_record()
    kept, (made,) = with_raw([sound], [], "run-1")
    assert (kept, made.raw_sha256, made.verified) == ([], None, True)


def test_a_line_that_cannot_be_read_gives_no_figure() -> None:
    line = '{"schema": "other"}\n'
    _, (made,) = with_raw([record(raw_sha256=sha256_of(line))], [line], "run-1")
    assert made.verdict is Verdict.NO_RESULT


# ---- clocks, bounds ------------------------------------------------------------------------------------------------


def of_job(
    made: DeviceRecord,
    offsets: tuple[ClockOffset | None, ...] | None,
    *,
    window_s: float = 4.0,
    facts: dict[str, CardFacts] | None = None,
) -> DeviceRecord:
    (its_node,) = parse_nodes({"nodes": [node("edge-0", device("gpu-0"), rack="r1")]})
    view = {"state": "succeeded", "results": [{"attempt": 1, "worker": 0, "result": {"devices": [made.to_json()]}}]}
    job = Submitted(its_node, its_node.devices, "1")
    ((answer,), _) = collected(job, view, window_s, (Measurement(),), offsets, facts or {})
    return answer


def test_the_clock_is_the_one_measured_from_here() -> None:
    lies = record(clock_offset_s=0.0, clock_uncertainty_s=0.0)
    sound = of_job(lies, (ClockOffset(0.01, 0.001),))
    assert (sound.verified, sound.clock_offset_s, sound.rack) == (True, 0.01, "r1")
    skewed = of_job(lies, (ClockOffset(-0.3, 0.001),))
    assert (skewed.verdict, skewed.gflops) == (Verdict.CLOCK_SKEW, 0.0)
    assert "-300.0 ms" in (skewed.reason or "")


def test_a_long_window_whose_clock_was_never_compared_counts_zero() -> None:
    assert of_job(record(), None).verified
    long = of_job(record(window_s=600.0), None, window_s=600.0)
    assert (long.verdict, "--meet" in (long.reason or "")) == (Verdict.CLOCK_SKEW, True)
    assert of_job(record(window_s=600.0), (ClockOffset(0.0, 0.001),), window_s=600.0).verified


def test_a_rate_that_its_clock_does_not_allow_counts_zero() -> None:
    facts = {"H100 SXM": CardFacts({}, {"bf16": 540_672.0})}
    fast = record(gflops=900_000.0, mean_clock_megahertz=1_000.0)
    assert of_job(fast, None, facts=facts).verdict is Verdict.OVER_CLOCK_BOUND
    assert of_job(replace(fast, mean_clock_megahertz=1_800.0), None, facts=facts).clock_bound == "ok"
    assert (of_job(fast, None).clock_bound or "").startswith("not checked: the catalogue")


def test_mfu_is_against_the_catalogues_peak() -> None:
    facts = {"H100 SXM": CardFacts({"bf16": 1000.0}, {})}
    (its_node,) = parse_nodes({"nodes": [node("edge-0", device("gpu-0"))]})
    made = record(gflops=400_000.0, workload="training")
    view = {"state": "succeeded", "results": [{"attempt": 1, "worker": 0, "result": {"devices": [made.to_json()]}}]}
    job = Submitted(its_node, its_node.devices, "1")
    ((answer,), _) = collected(job, view, 4.0, (Measurement("training"),), None, facts)
    assert answer.mfu == 0.4


# ---- what was not covered ------------------------------------------------------------------------------------------


def test_what_is_left_alone_says_how_old_its_last_verified_figure_is() -> None:
    (busy,) = parse_nodes({"nodes": [node("edge-0", device("gpu-0", used_milli=1000), device("gpu-1", used_milli=1))]})
    last = {"gpu-0": LastFigure(1_000.0, "gemm", "bf16", 800_000.0)}
    told = left_alone(busy).with_last(last, 4_600.0).to_json()
    assert told["last_verified"] == {
        "gpu-0": {
            "at_s": 1_000.0,
            "age_s": 3_600.0,
            "workload": "gemm",
            "precision": "bf16",
            "gflops": 800_000.0,
            "value": None,
            "unit": None,
        }
    }
